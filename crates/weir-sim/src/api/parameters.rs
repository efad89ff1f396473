//! Query parameters of the routes, as declared in the API's documentation.

/// A query parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// Name.
    pub name: &'static str,
    /// Accepted values.
    pub form: ParameterForm,
}

/// The accepted values of a query parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterForm {
    /// Token of a page.
    Cursor,
    /// Rows per page: minimum, maximum, default.
    Limit(u64, u64, u64),
    /// Any text.
    Text,
    /// Any text. The parameter is required.
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

pub(crate) const fn of(name: &'static str, form: ParameterForm) -> Parameter {
    Parameter { name, form }
}

pub(crate) const CURSOR: Parameter = of("cursor", ParameterForm::Cursor);
pub(crate) const LIMIT: Parameter = of("limit", ParameterForm::Limit(1, 250, 25));
pub(crate) const LIMIT_50: Parameter = of("limit", ParameterForm::Limit(1, 250, 50));
pub(crate) const BODY: Parameter =
    of("body-format", ParameterForm::One(&["storage", "atlas_doc_format"]));
pub(crate) const RAW_BODY: Parameter =
    of("body-format", ParameterForm::One(&["raw", "storage", "atlas_doc_format"]));
pub(crate) const ANY_BODY: Parameter = of(
    "body-format",
    ParameterForm::One(&[
        "storage",
        "atlas_doc_format",
        "view",
        "export_view",
        "anonymous_export_view",
        "styled_view",
        "editor",
    ]),
);
pub(crate) const SPACE_IDS: Parameter = of("space-id", ParameterForm::Integers(100));
pub(crate) const TITLE: Parameter = of("title", ParameterForm::Text);
pub(crate) const IDS: Parameter = of("id", ParameterForm::Integers(250));
pub(crate) const TYPE: Parameter = of("type", ParameterForm::Required);
pub(crate) const KEY: Parameter = of("key", ParameterForm::Text);

pub(crate) const BY_TIME: Parameter = of(
    "sort",
    ParameterForm::One(&["created-date", "-created-date", "modified-date", "-modified-date"]),
);
pub(crate) const BY_ID: Parameter = of(
    "sort",
    ParameterForm::One(&[
        "id",
        "-id",
        "created-date",
        "-created-date",
        "modified-date",
        "-modified-date",
    ]),
);
pub(crate) const BY_TITLE: Parameter = of(
    "sort",
    ParameterForm::One(&[
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
pub(crate) const BY_NAME: Parameter = of(
    "sort",
    ParameterForm::One(&["created-date", "-created-date", "id", "-id", "name", "-name"]),
);
pub(crate) const BY_KEY: Parameter = of("sort", ParameterForm::One(&["key", "-key"]));
pub(crate) const BY_MODIFIED: Parameter =
    of("sort", ParameterForm::One(&["modified-date", "-modified-date"]));
pub(crate) const BY_POSITION: Parameter = of(
    "sort",
    ParameterForm::One(&[
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
pub(crate) const BY_OLD_POSITION: Parameter = of(
    "sort",
    ParameterForm::One(&[
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
pub(crate) const BY_SPACE_KEY: Parameter =
    of("sort", ParameterForm::One(&["id", "-id", "key", "-key", "name", "-name"]));

pub(crate) const PAGE_STATUS: Parameter =
    of("status", ParameterForm::Many(&["current", "archived", "deleted", "trashed"]));
pub(crate) const BLOG_STATUS: Parameter =
    of("status", ParameterForm::Many(&["current", "deleted", "trashed"]));
pub(crate) const FILE_STATUS: Parameter =
    of("status", ParameterForm::Many(&["current", "archived", "trashed"]));
pub(crate) const PAGE_COMMENT_STATUS: Parameter = of(
    "status",
    ParameterForm::Many(&["current", "archived", "trashed", "deleted", "historical", "draft"]),
);
pub(crate) const BLOG_COMMENT_STATUS: Parameter =
    of("status", ParameterForm::Many(&["current", "deleted", "trashed", "historical", "draft"]));
pub(crate) const RESOLUTION: Parameter =
    of("resolution-status", ParameterForm::Many(&["resolved", "open", "dangling", "reopened"]));
pub(crate) const PREFIX: Parameter =
    of("prefix", ParameterForm::One(&["my", "team", "global", "system"]));
pub(crate) const SPACE_PREFIX: Parameter = of("prefix", ParameterForm::One(&["my", "team"]));
pub(crate) const MEDIA: Parameter = of("mediaType", ParameterForm::Text);
pub(crate) const FILENAME: Parameter = of("filename", ParameterForm::Text);

pub(crate) const LABEL_LIST: &[Parameter] = &[PREFIX, BY_NAME, CURSOR, LIMIT];
pub(crate) const PROPERTY_LIST: &[Parameter] = &[KEY, BY_KEY, CURSOR, LIMIT];
pub(crate) const VERSION_LIST: &[Parameter] = &[BODY, CURSOR, LIMIT, BY_MODIFIED];
pub(crate) const COMMENT_LIST: &[Parameter] = &[BODY, BY_TIME, CURSOR, LIMIT];
pub(crate) const FILE_LIST: &[Parameter] =
    &[BY_TIME, CURSOR, FILE_STATUS, MEDIA, FILENAME, LIMIT_50];
pub(crate) const LABELLED_LIST: &[Parameter] = &[SPACE_IDS, BODY, BY_TITLE, CURSOR, LIMIT];
pub(crate) const SINGLE_BLOG: &[Parameter] = &[
    ANY_BODY,
    of("include-labels", ParameterForm::Flag(false)),
    of("include-properties", ParameterForm::Flag(false)),
    of("include-versions", ParameterForm::Flag(false)),
    of("include-version", ParameterForm::Flag(true)),
    of("include-operations", ParameterForm::Flag(false)),
    of("include-likes", ParameterForm::Flag(false)),
];
pub(crate) const SINGLE_PAGE: &[Parameter] = &[
    ANY_BODY,
    of("include-labels", ParameterForm::Flag(false)),
    of("include-properties", ParameterForm::Flag(false)),
    of("include-versions", ParameterForm::Flag(false)),
    of("include-version", ParameterForm::Flag(true)),
    of("include-operations", ParameterForm::Flag(false)),
    of("include-likes", ParameterForm::Flag(false)),
    of("include-direct-children", ParameterForm::Flag(false)),
];
