//! The surface: every path the simulator serves, with the parameters it honours.

use super::tenant::Kind;

/// One path, as Atlassian's documents spell it, below the site's origin.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// Path with `{…}` where an id stands.
    pub path: &'static str,
    /// Granular OAuth scope it needs; empty when it needs none.
    pub scope: &'static str,
    /// Query parameters it honours; others are ignored.
    pub parameters: &'static [Parameter],
    pub(super) answer: Answer,
}

/// A query parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Name.
    pub name: &'static str,
    /// What it takes.
    pub form: Form,
}

/// What a query parameter takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Token of a page.
    Cursor,
    /// Rows per page: least, most, default.
    Limit(u64, u64, u64),
    /// Any text.
    Text,
    /// Any text, without which the request is refused.
    Required,
    /// `true` or `false`, with its default.
    Flag(bool),
    /// A 64-bit integer.
    Integer,
    /// At most this many 64-bit integers.
    Integers(usize),
    /// At most this many texts.
    Texts(usize),
    /// One of these.
    One(&'static [&'static str]),
    /// Any of these.
    Many(&'static [&'static str]),
}

/// What answers a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Spaces,
    Pages,
    BlogPosts,
    Attachments,
    Tasks,
    Custom,
    Comments(Kind),
    Replies(Kind),
    AllLabels,
    Labelled(Kind),
    Labels(Kind),
    Versions(Kind),
    Properties(Kind),
    /// Root comments of the second kind on a content of the first.
    RootComments(Kind, Kind),
    AttachmentsOf(Kind),
    /// Child nodes of a page; `true`: the deprecated list of pages only.
    Children(bool),
    SpaceLabels,
    SpacePermissions,
    SpaceProperties,
    SpacePages,
    SpaceBlogPosts,
    Single(Kind),
    Groups,
    CurrentUser,
    TenantInfo,
}

const fn of(name: &'static str, form: Form) -> Parameter {
    Parameter { name, form }
}

const CURSOR: Parameter = of("cursor", Form::Cursor);
const LIMIT: Parameter = of("limit", Form::Limit(1, 250, 25));
const LIMIT_50: Parameter = of("limit", Form::Limit(1, 250, 50));
const BODY: Parameter = of("body-format", Form::One(&["storage", "atlas_doc_format"]));
const RAW_BODY: Parameter = of("body-format", Form::One(&["raw", "storage", "atlas_doc_format"]));
const ANY_BODY: Parameter = of(
    "body-format",
    Form::One(&[
        "storage",
        "atlas_doc_format",
        "view",
        "export_view",
        "anonymous_export_view",
        "styled_view",
        "editor",
    ]),
);
const SPACE_IDS: Parameter = of("space-id", Form::Integers(100));
const TITLE: Parameter = of("title", Form::Text);
const IDS: Parameter = of("id", Form::Integers(250));
const TYPE: Parameter = of("type", Form::Required);
const KEY: Parameter = of("key", Form::Text);

const BY_TIME: Parameter =
    of("sort", Form::One(&["created-date", "-created-date", "modified-date", "-modified-date"]));
const BY_ID: Parameter = of(
    "sort",
    Form::One(&["id", "-id", "created-date", "-created-date", "modified-date", "-modified-date"]),
);
const BY_TITLE: Parameter = of(
    "sort",
    Form::One(&[
        "id",
        "-id",
        "created-date",
        "-created-date",
        "modified-date",
        "-modified-date",
        "title",
        "-title",
    ]),
);
const BY_NAME: Parameter =
    of("sort", Form::One(&["created-date", "-created-date", "id", "-id", "name", "-name"]));
const BY_KEY: Parameter = of("sort", Form::One(&["key", "-key"]));
const BY_MODIFIED: Parameter = of("sort", Form::One(&["modified-date", "-modified-date"]));
const BY_POSITION: Parameter = of(
    "sort",
    Form::One(&[
        "created-date",
        "-created-date",
        "id",
        "-id",
        "modified-date",
        "-modified-date",
        "child-position",
        "-child-position",
        "title",
        "-title",
    ]),
);
const BY_OLD_POSITION: Parameter = of(
    "sort",
    Form::One(&[
        "created-date",
        "-created-date",
        "id",
        "-id",
        "child-position",
        "-child-position",
        "modified-date",
        "-modified-date",
    ]),
);
const BY_SPACE_KEY: Parameter =
    of("sort", Form::One(&["id", "-id", "key", "-key", "name", "-name"]));

const PAGE_STATUS: Parameter =
    of("status", Form::Many(&["current", "archived", "deleted", "trashed"]));
const BLOG_STATUS: Parameter = of("status", Form::Many(&["current", "deleted", "trashed"]));
const FILE_STATUS: Parameter = of("status", Form::Many(&["current", "archived", "trashed"]));
const PAGE_COMMENT_STATUS: Parameter =
    of("status", Form::Many(&["current", "archived", "trashed", "deleted", "historical", "draft"]));
const BLOG_COMMENT_STATUS: Parameter =
    of("status", Form::Many(&["current", "deleted", "trashed", "historical", "draft"]));
const RESOLUTION: Parameter =
    of("resolution-status", Form::Many(&["resolved", "open", "dangling", "reopened"]));
const PREFIX: Parameter = of("prefix", Form::One(&["my", "team", "global", "system"]));
const SPACE_PREFIX: Parameter = of("prefix", Form::One(&["my", "team"]));
const MEDIA: Parameter = of("mediaType", Form::Text);
const FILENAME: Parameter = of("filename", Form::Text);

const LABEL_LIST: &[Parameter] = &[PREFIX, BY_NAME, CURSOR, LIMIT];
const PROPERTY_LIST: &[Parameter] = &[KEY, BY_KEY, CURSOR, LIMIT];
const VERSION_LIST: &[Parameter] = &[BODY, CURSOR, LIMIT, BY_MODIFIED];
const COMMENT_LIST: &[Parameter] = &[BODY, BY_TIME, CURSOR, LIMIT];
const FILE_LIST: &[Parameter] = &[BY_TIME, CURSOR, FILE_STATUS, MEDIA, FILENAME, LIMIT_50];
const LABELLED_LIST: &[Parameter] = &[SPACE_IDS, BODY, BY_TITLE, CURSOR, LIMIT];
const SINGLE: &[Parameter] = &[
    ANY_BODY,
    of("include-labels", Form::Flag(false)),
    of("include-properties", Form::Flag(false)),
    of("include-versions", Form::Flag(false)),
    of("include-version", Form::Flag(true)),
];
const fn route(
    path: &'static str,
    scope: &'static str,
    parameters: &'static [Parameter],
    answer: Answer,
) -> Route {
    Route { path, scope, parameters, answer }
}

const SPACE: &str = "read:space:confluence";
const PAGE: &str = "read:page:confluence";
const FILE: &str = "read:attachment:confluence";
const COMMENT: &str = "read:comment:confluence";

use Answer as A;
use Kind as K;

/// Every route.
pub const ROUTES: &[Route] = &[
    route(
        "/wiki/api/v2/spaces",
        SPACE,
        &[
            of("ids", Form::Integers(250)),
            of("keys", Form::Texts(250)),
            of(
                "type",
                Form::One(&[
                    "global",
                    "collaboration",
                    "knowledge_base",
                    "personal",
                    "system",
                    "onboarding",
                    "xflow_sample_space",
                ]),
            ),
            of("status", Form::One(&["current", "archived", "trashed"])),
            BY_SPACE_KEY,
            of("description-format", Form::One(&["plain", "view"])),
            of("include-icon", Form::Flag(false)),
            CURSOR,
            LIMIT,
        ],
        A::Spaces,
    ),
    route(
        "/wiki/api/v2/spaces/{id}",
        SPACE,
        &[
            of("description-format", Form::One(&["plain", "view"])),
            of("include-icon", Form::Flag(false)),
            of("include-properties", Form::Flag(false)),
            of("include-permissions", Form::Flag(false)),
            of("include-labels", Form::Flag(false)),
        ],
        A::Single(K::Space),
    ),
    route(
        "/wiki/api/v2/spaces/{id}/labels",
        SPACE,
        &[SPACE_PREFIX, BY_NAME, CURSOR, LIMIT],
        A::SpaceLabels,
    ),
    route("/wiki/api/v2/spaces/{id}/permissions", SPACE, &[CURSOR, LIMIT], A::SpacePermissions),
    route(
        "/wiki/api/v2/spaces/{space-id}/properties",
        SPACE,
        &[KEY, CURSOR, LIMIT],
        A::SpaceProperties,
    ),
    route(
        "/wiki/api/v2/spaces/{id}/pages",
        PAGE,
        &[
            of("depth", Form::One(&["all", "root"])),
            BY_TITLE,
            PAGE_STATUS,
            TITLE,
            BODY,
            CURSOR,
            LIMIT,
        ],
        A::SpacePages,
    ),
    route(
        "/wiki/api/v2/spaces/{id}/blogposts",
        PAGE,
        &[BY_ID, BLOG_STATUS, TITLE, BODY, CURSOR, LIMIT],
        A::SpaceBlogPosts,
    ),
    route(
        "/wiki/api/v2/pages",
        PAGE,
        &[
            IDS,
            SPACE_IDS,
            BY_TITLE,
            PAGE_STATUS,
            TITLE,
            BODY,
            of("subtype", Form::One(&["live", "page"])),
            CURSOR,
            LIMIT,
        ],
        A::Pages,
    ),
    route("/wiki/api/v2/pages/{id}", PAGE, SINGLE, A::Single(K::Page)),
    route("/wiki/api/v2/pages/{id}/labels", PAGE, LABEL_LIST, A::Labels(K::Page)),
    route("/wiki/api/v2/pages/{id}/versions", PAGE, VERSION_LIST, A::Versions(K::Page)),
    route("/wiki/api/v2/pages/{page-id}/properties", PAGE, PROPERTY_LIST, A::Properties(K::Page)),
    route(
        "/wiki/api/v2/pages/{id}/footer-comments",
        COMMENT,
        &[BODY, PAGE_COMMENT_STATUS, BY_TIME, CURSOR, LIMIT],
        A::RootComments(K::Page, K::Footer),
    ),
    route(
        "/wiki/api/v2/pages/{id}/inline-comments",
        COMMENT,
        &[BODY, PAGE_COMMENT_STATUS, RESOLUTION, BY_TIME, CURSOR, LIMIT],
        A::RootComments(K::Page, K::Inline),
    ),
    route("/wiki/api/v2/pages/{id}/attachments", FILE, FILE_LIST, A::AttachmentsOf(K::Page)),
    route(
        "/wiki/api/v2/pages/{id}/direct-children",
        "read:hierarchical-content:confluence",
        &[CURSOR, LIMIT, BY_POSITION],
        A::Children(false),
    ),
    route(
        "/wiki/api/v2/pages/{id}/children",
        PAGE,
        &[CURSOR, LIMIT, BY_OLD_POSITION],
        A::Children(true),
    ),
    route(
        "/wiki/api/v2/blogposts",
        PAGE,
        &[IDS, SPACE_IDS, BY_ID, BLOG_STATUS, TITLE, BODY, CURSOR, LIMIT],
        A::BlogPosts,
    ),
    route("/wiki/api/v2/blogposts/{id}", PAGE, SINGLE, A::Single(K::BlogPost)),
    route("/wiki/api/v2/blogposts/{id}/labels", PAGE, LABEL_LIST, A::Labels(K::BlogPost)),
    route("/wiki/api/v2/blogposts/{id}/versions", PAGE, VERSION_LIST, A::Versions(K::BlogPost)),
    route(
        "/wiki/api/v2/blogposts/{blogpost-id}/properties",
        PAGE,
        PROPERTY_LIST,
        A::Properties(K::BlogPost),
    ),
    route(
        "/wiki/api/v2/blogposts/{id}/footer-comments",
        COMMENT,
        &[BODY, BLOG_COMMENT_STATUS, BY_TIME, CURSOR, LIMIT],
        A::RootComments(K::BlogPost, K::Footer),
    ),
    route(
        "/wiki/api/v2/blogposts/{id}/inline-comments",
        COMMENT,
        &[BODY, BLOG_COMMENT_STATUS, RESOLUTION, BY_TIME, CURSOR, LIMIT],
        A::RootComments(K::BlogPost, K::Inline),
    ),
    route(
        "/wiki/api/v2/blogposts/{id}/attachments",
        FILE,
        FILE_LIST,
        A::AttachmentsOf(K::BlogPost),
    ),
    route("/wiki/api/v2/attachments", FILE, FILE_LIST, A::Attachments),
    route(
        "/wiki/api/v2/attachments/{id}",
        FILE,
        &[
            of("include-labels", Form::Flag(false)),
            of("include-properties", Form::Flag(false)),
            of("include-versions", Form::Flag(false)),
            of("include-version", Form::Flag(true)),
        ],
        A::Single(K::Attachment),
    ),
    route("/wiki/api/v2/attachments/{id}/labels", FILE, LABEL_LIST, A::Labels(K::Attachment)),
    route(
        "/wiki/api/v2/attachments/{id}/versions",
        FILE,
        &[CURSOR, LIMIT, BY_MODIFIED],
        A::Versions(K::Attachment),
    ),
    route(
        "/wiki/api/v2/attachments/{attachment-id}/properties",
        FILE,
        PROPERTY_LIST,
        A::Properties(K::Attachment),
    ),
    route(
        "/wiki/api/v2/tasks",
        "read:task:confluence",
        &[
            BODY,
            of("status", Form::One(&["complete", "incomplete"])),
            of("task-id", Form::Integers(250)),
            of("space-id", Form::Integers(250)),
            of("page-id", Form::Integers(250)),
            of("blogpost-id", Form::Integers(250)),
            of("created-by", Form::Texts(250)),
            of("assigned-to", Form::Texts(250)),
            of("completed-by", Form::Texts(250)),
            of("created-at-from", Form::Integer),
            of("created-at-to", Form::Integer),
            of("due-at-from", Form::Integer),
            of("due-at-to", Form::Integer),
            of("completed-at-from", Form::Integer),
            of("completed-at-to", Form::Integer),
            CURSOR,
            LIMIT,
        ],
        A::Tasks,
    ),
    route(
        "/wiki/api/v2/custom-content",
        "read:custom-content:confluence",
        &[TYPE, IDS, SPACE_IDS, BY_TITLE, CURSOR, LIMIT, RAW_BODY],
        A::Custom,
    ),
    route("/wiki/api/v2/footer-comments", COMMENT, COMMENT_LIST, A::Comments(K::Footer)),
    route(
        "/wiki/api/v2/footer-comments/{id}/children",
        COMMENT,
        COMMENT_LIST,
        A::Replies(K::Footer),
    ),
    route("/wiki/api/v2/inline-comments", COMMENT, COMMENT_LIST, A::Comments(K::Inline)),
    route(
        "/wiki/api/v2/inline-comments/{id}/children",
        COMMENT,
        COMMENT_LIST,
        A::Replies(K::Inline),
    ),
    route(
        "/wiki/api/v2/labels",
        "read:label:confluence",
        &[
            of("label-id", Form::Integers(usize::MAX)),
            of("prefix", Form::Texts(usize::MAX)),
            CURSOR,
            BY_NAME,
            LIMIT,
        ],
        A::AllLabels,
    ),
    route("/wiki/api/v2/labels/{id}/pages", PAGE, LABELLED_LIST, A::Labelled(K::Page)),
    route(
        "/wiki/api/v2/labels/{id}/blogposts",
        PAGE,
        &[SPACE_IDS, BODY, BY_ID, CURSOR, LIMIT],
        A::Labelled(K::BlogPost),
    ),
    route(
        "/wiki/api/v2/labels/{id}/attachments",
        FILE,
        &[BY_TIME, CURSOR, LIMIT],
        A::Labelled(K::Attachment),
    ),
    route(
        "/wiki/rest/api/group",
        "read:group:confluence",
        &[
            of("start", Form::Limit(0, u64::MAX, 0)),
            of("limit", Form::Limit(0, u64::MAX, 200)),
            of("accessType", Form::One(&["user", "admin", "site-admin"])),
        ],
        A::Groups,
    ),
    route("/wiki/rest/api/user/current", "read:content-details:confluence", &[], A::CurrentUser),
    route("/_edge/tenant_info", "", &[], A::TenantInfo),
];

/// The route of a path, and the id in it.
pub(super) fn find(path: &str) -> Option<(&'static Route, &str)> {
    ROUTES.iter().find_map(|route| Some((route, matches(route.path, path)?)))
}

/// The id where the template has `{…}`; empty when it has none.
fn matches<'a>(template: &str, path: &'a str) -> Option<&'a str> {
    let Some((before, rest)) = template.split_once('{') else {
        return (template == path).then_some("");
    };
    let after = rest.split_once('}').map_or("", |(_, after)| after);
    let id = path.strip_prefix(before)?.strip_suffix(after)?;
    (!id.is_empty() && !id.contains('/')).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_finds_its_route_and_id() {
        let found = |path| find(path).map(|(route, id)| (route.answer, id));
        assert_eq!(found("/wiki/api/v2/pages"), Some((Answer::Pages, "")));
        assert_eq!(found("/wiki/api/v2/pages/7"), Some((Answer::Single(Kind::Page), "7")));
        assert_eq!(
            found("/wiki/api/v2/attachments/att7/labels"),
            Some((Answer::Labels(Kind::Attachment), "att7"))
        );
        assert_eq!(found("/wiki/api/v2/pages/"), None);
        assert_eq!(found("/wiki/api/v2/pages/7/labels/8"), None);
    }
}
