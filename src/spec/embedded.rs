//! The specs that come with the program. A new one is a file in `specs/` and a line here.

/// Name and text of each.
pub const EMBEDDED: [(&str, &str); 2] = [
    ("confluence", include_str!("../../specs/confluence.yaml")),
    ("jira", include_str!("../../specs/jira.yaml")),
];
