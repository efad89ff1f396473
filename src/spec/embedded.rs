//! The specs that weir includes. To add one, put its file into `specs/` and a line here.

/// Name and text of each included spec.
pub const EMBEDDED: [(&str, &str); 2] = [
    ("confluence", include_str!("../../specs/confluence.yaml")),
    ("jira", include_str!("../../specs/jira.yaml")),
];
