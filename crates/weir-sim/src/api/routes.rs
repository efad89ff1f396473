//! The routes of the simulator, with their parameters.

use crate::api::parameters::{
    BLOG_COMMENT_STATUS, BLOG_STATUS, BODY, BY_ID, BY_MODIFIED, BY_NAME, BY_OLD_POSITION,
    BY_POSITION, BY_SPACE_KEY, BY_TIME, BY_TITLE, COMMENT_LIST, CURSOR, FILE_LIST, Form, IDS, KEY,
    LABEL_LIST, LABELLED_LIST, LIMIT, PAGE_COMMENT_STATUS, PAGE_STATUS, PROPERTY_LIST, Parameter,
    RAW_BODY, RESOLUTION, SINGLE_BLOG, SINGLE_PAGE, SPACE_IDS, SPACE_PREFIX, TITLE, TYPE,
    VERSION_LIST, of,
};
use crate::tenant::ids::Kind;

/// A route: a path below the site's origin, as in Atlassian's documentation.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// Path with `{…}` in place of an ID.
    pub path: &'static str,
    /// Required granular OAuth scope; empty if none is required.
    pub scope: &'static str,
    /// Supported query parameters. Others are ignored.
    pub parameters: &'static [Parameter],
    pub(crate) answer: Answer,
}

/// The handler of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
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
    /// Child nodes of a page; `true` for the deprecated list of pages only.
    Children(bool),
    SpaceLabels,
    SpacePermissions,
    SpaceProperties,
    SpacePages,
    SpaceBlogPosts,
    Single(Kind),
    Groups,
    CurrentUser,
    Search,
    SearchAll,
    TenantInfo,
}

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
            of("include-operations", Form::Flag(false)),
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
    route("/wiki/api/v2/pages/{id}", PAGE, SINGLE_PAGE, A::Single(K::Page)),
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
    route("/wiki/api/v2/blogposts/{id}", PAGE, SINGLE_BLOG, A::Single(K::BlogPost)),
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
            of("include-operations", Form::Flag(false)),
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
    route(
        "/wiki/rest/api/content/search",
        "search:confluence",
        &[
            of("cql", Form::Required),
            of("expand", Form::Texts(usize::MAX)),
            CURSOR,
            of("limit", Form::Limit(0, u64::MAX, 25)),
        ],
        A::Search,
    ),
    route(
        "/wiki/rest/api/search",
        "search:confluence",
        &[
            of("cql", Form::Required),
            CURSOR,
            of("limit", Form::Limit(0, u64::MAX, 25)),
            of("start", Form::Limit(0, u64::MAX, 0)),
        ],
        A::SearchAll,
    ),
    route("/wiki/rest/api/user/current", "read:content-details:confluence", &[], A::CurrentUser),
    route("/_edge/tenant_info", "", &[], A::TenantInfo),
];

/// Finds the route of a path, and the ID in the path.
pub(crate) fn find(path: &str) -> Option<(&'static Route, &str)> {
    ROUTES.iter().find_map(|route| Some((route, matches(route.path, path)?)))
}

/// The ID in place of `{…}` in the template; empty if the template has none.
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
