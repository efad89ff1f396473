//! The routes of the simulator, with their parameters.

use crate::api::parameters::{
    BLOG_COMMENT_STATUS, BLOG_STATUS, BODY, BY_ID, BY_MODIFIED, BY_NAME, BY_OLD_POSITION,
    BY_POSITION, BY_SPACE_KEY, BY_TIME, BY_TITLE, COMMENT_LIST, CURSOR, FILE_LIST, IDS, KEY,
    LABEL_LIST, LABELLED_LIST, LIMIT, PAGE_COMMENT_STATUS, PAGE_STATUS, PROPERTY_LIST, Parameter,
    ParameterForm, RAW_BODY, RESOLUTION, SINGLE_BLOG, SINGLE_PAGE, SPACE_IDS, SPACE_PREFIX, TITLE,
    TYPE, VERSION_LIST, of,
};
use crate::tenant::ids::ObjectKind;

/// A route: a path below the site's origin, as in Atlassian's documentation.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// Path with `{…}` in place of an ID.
    pub path: &'static str,
    /// Required granular OAuth scope; empty if none is required.
    pub scope: &'static str,
    /// Supported query parameters. Others are ignored.
    pub parameters: &'static [Parameter],
    pub(crate) handler: Handler,
}

/// The handler of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handler {
    Spaces,
    Pages,
    BlogPosts,
    Attachments,
    Tasks,
    Custom,
    Comments(ObjectKind),
    Replies(ObjectKind),
    AllLabels,
    Labelled(ObjectKind),
    Labels(ObjectKind),
    Versions(ObjectKind),
    Properties(ObjectKind),
    /// Root comments of the second kind on a content of the first.
    RootComments(ObjectKind, ObjectKind),
    AttachmentsOf(ObjectKind),
    /// Child nodes of a page; `true` for the deprecated list of pages only.
    Children(bool),
    SpaceLabels,
    SpacePermissions,
    SpaceProperties,
    SpacePages,
    SpaceBlogPosts,
    Single(ObjectKind),
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
    handler: Handler,
) -> Route {
    Route { path, scope, parameters, handler }
}

const SPACE: &str = "read:space:confluence";
const PAGE: &str = "read:page:confluence";
const FILE: &str = "read:attachment:confluence";
const COMMENT: &str = "read:comment:confluence";

use Handler as A;
use ObjectKind as K;

/// Every route.
pub const ROUTES: &[Route] = &[
    route(
        "/wiki/api/v2/spaces",
        SPACE,
        &[
            of("ids", ParameterForm::Integers(250)),
            of("keys", ParameterForm::Texts(250)),
            of(
                "type",
                ParameterForm::One(&[
                    "global",
                    "collaboration",
                    "knowledge_base",
                    "personal",
                    "system",
                    "onboarding",
                    "xflow_sample_space",
                ]),
            ),
            of("status", ParameterForm::One(&["current", "archived", "trashed"])),
            BY_SPACE_KEY,
            of("description-format", ParameterForm::One(&["plain", "view"])),
            of("include-icon", ParameterForm::Flag(false)),
            CURSOR,
            LIMIT,
        ],
        A::Spaces,
    ),
    route(
        "/wiki/api/v2/spaces/{id}",
        SPACE,
        &[
            of("description-format", ParameterForm::One(&["plain", "view"])),
            of("include-icon", ParameterForm::Flag(false)),
            of("include-properties", ParameterForm::Flag(false)),
            of("include-permissions", ParameterForm::Flag(false)),
            of("include-labels", ParameterForm::Flag(false)),
            of("include-operations", ParameterForm::Flag(false)),
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
            of("depth", ParameterForm::One(&["all", "root"])),
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
            of("subtype", ParameterForm::One(&["live", "page"])),
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
            of("include-labels", ParameterForm::Flag(false)),
            of("include-properties", ParameterForm::Flag(false)),
            of("include-versions", ParameterForm::Flag(false)),
            of("include-version", ParameterForm::Flag(true)),
            of("include-operations", ParameterForm::Flag(false)),
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
            of("status", ParameterForm::One(&["complete", "incomplete"])),
            of("task-id", ParameterForm::Integers(250)),
            of("space-id", ParameterForm::Integers(250)),
            of("page-id", ParameterForm::Integers(250)),
            of("blogpost-id", ParameterForm::Integers(250)),
            of("created-by", ParameterForm::Texts(250)),
            of("assigned-to", ParameterForm::Texts(250)),
            of("completed-by", ParameterForm::Texts(250)),
            of("created-at-from", ParameterForm::Integer),
            of("created-at-to", ParameterForm::Integer),
            of("due-at-from", ParameterForm::Integer),
            of("due-at-to", ParameterForm::Integer),
            of("completed-at-from", ParameterForm::Integer),
            of("completed-at-to", ParameterForm::Integer),
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
            of("label-id", ParameterForm::Integers(usize::MAX)),
            of("prefix", ParameterForm::Texts(usize::MAX)),
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
            of("start", ParameterForm::Limit(0, u64::MAX, 0)),
            of("limit", ParameterForm::Limit(0, u64::MAX, 200)),
            of("accessType", ParameterForm::One(&["user", "admin", "site-admin"])),
        ],
        A::Groups,
    ),
    route(
        "/wiki/rest/api/content/search",
        "search:confluence",
        &[
            of("cql", ParameterForm::Required),
            of("expand", ParameterForm::Texts(usize::MAX)),
            CURSOR,
            of("limit", ParameterForm::Limit(0, u64::MAX, 25)),
        ],
        A::Search,
    ),
    route(
        "/wiki/rest/api/search",
        "search:confluence",
        &[
            of("cql", ParameterForm::Required),
            CURSOR,
            of("limit", ParameterForm::Limit(0, u64::MAX, 25)),
            of("start", ParameterForm::Limit(0, u64::MAX, 0)),
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
        let found = |path| find(path).map(|(route, id)| (route.handler, id));
        assert_eq!(found("/wiki/api/v2/pages"), Some((Handler::Pages, "")));
        assert_eq!(found("/wiki/api/v2/pages/7"), Some((Handler::Single(ObjectKind::Page), "7")));
        assert_eq!(
            found("/wiki/api/v2/attachments/att7/labels"),
            Some((Handler::Labels(ObjectKind::Attachment), "att7"))
        );
        assert_eq!(found("/wiki/api/v2/pages/"), None);
        assert_eq!(found("/wiki/api/v2/pages/7/labels/8"), None);
    }
}
