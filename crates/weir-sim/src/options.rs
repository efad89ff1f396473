//! What a simulated tenant is like: its sizes, its manners, its credentials.

use std::time::Duration;

use chrono::{DateTime, Utc};

use secrecy::SecretString;

use crate::churn_options::Churning;
use crate::fault_rules::Faults;

/// Size and behaviour of a simulated tenant. Equal options give equal bytes as long as nothing
/// changes; the times of changes follow [`Options::now`].
#[derive(Clone, Debug)]
pub struct Options {
    /// Where all that looks random comes from.
    pub seed: u64,
    /// Spaces; the first is personal, its key starts with `~`.
    pub spaces: usize,
    /// Pages of all statuses, the home page of each space among them.
    pub pages: usize,
    /// Blog posts of all statuses.
    pub blog_posts: usize,
    /// Attachments of pages and blog posts, of all statuses.
    pub attachments: usize,
    /// User groups.
    pub groups: usize,
    /// Inline tasks on pages and blog posts.
    pub tasks: usize,
    /// Custom content, spread over [`CUSTOM_CONTENT_TYPES`] but for the last, which has none.
    pub custom_content: usize,
    /// Distinct labels.
    pub labels: usize,
    /// Mean size of a page's or blog post's storage body, in bytes.
    pub body_bytes: usize,
    /// Mean number of children per parent.
    pub children: Children,
    /// Parents of each kind that have more than 250 children of each kind.
    pub heavy_parents: usize,
    /// Whether `/footer-comments` and `/inline-comments` list replies too.
    pub replies_in_global_lists: bool,
    /// Share of pages of v2 and of the search, 0 to 1, that bring fewer rows than asked for although more follow.
    pub short_pages: f64,
    /// Whether the links to next pages hold the cursor alone, without the parameters of the request.
    pub bare_links: bool,
    /// Whether objects inside of others (`include-…`, the labels of what a search finds) cost no
    /// points. The API's documentation does not say; by default they cost what they do in lists.
    pub embedded_are_free: bool,
    /// The search does not find what was modified within this time.
    pub index_lag: Duration,
    /// What is refused whoever asks, and with which status, 400, 403, 404 or 410: the path of one of
    /// [`ROUTES`](crate::ROUTES), perhaps with `?` and the name of one of its parameters.
    pub refuses: Vec<(String, u16)>,
    /// Whom to let in; `None` lets everybody in.
    pub credentials: Option<Credentials>,
    /// Scheme and host of `_links.base`, without a final slash.
    pub site: String,
    /// The site's id on the gateway (`/ex/confluence/{cloud_id}`).
    pub cloud_id: String,
    /// The quota of points; `None` where there is none, as for API tokens.
    pub quota: Option<PointsQuota>,
    /// What goes wrong.
    pub faults: Faults,
    /// Random changes that were made by the start, chosen by the seed: the first so many that a
    /// tenant with more of them has as well.
    pub changes: usize,
    /// What changes as requests come in.
    pub churn: Option<Churning>,
    /// The time at the start, from which the tenant's clock goes on; it shows in what changes only.
    /// `None`: that of the machine. What there is at first lies before 2026-08-01, as does no
    /// clock: an earlier time counts as that.
    pub now: Option<DateTime<Utc>>,
    /// Time that every response takes.
    pub latency: Duration,
    /// Requests that the log keeps, the oldest give way. `None`: 1,000,000 in process, none over a
    /// socket.
    pub log_entries: Option<usize>,
}

impl Default for Options {
    /// A small demonstration tenant.
    fn default() -> Self {
        Self {
            seed: 1,
            spaces: 4,
            pages: 60,
            blog_posts: 12,
            attachments: 20,
            groups: 7,
            tasks: 30,
            custom_content: 9,
            labels: 300,
            body_bytes: 2048,
            children: Children::default(),
            heavy_parents: 1,
            replies_in_global_lists: true,
            short_pages: 0.0,
            bare_links: false,
            embedded_are_free: false,
            index_lag: Duration::ZERO,
            refuses: Vec::new(),
            credentials: None,
            site: "https://acme.atlassian.net".to_owned(),
            cloud_id: "2f1c6a52-0000-4000-8000-00000000c10d".to_owned(),
            quota: None,
            faults: Faults::default(),
            changes: 0,
            churn: None,
            now: None,
            latency: Duration::ZERO,
            log_entries: None,
        }
    }
}

/// Mean number of children per parent; the counts have a long tail.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Children {
    /// Labels of a page, blog post or attachment.
    pub labels: f64,
    /// Versions of a page, blog post or attachment; never less than one.
    pub versions: f64,
    /// Footer comments of a page or blog post, replies among them.
    pub footer_comments: f64,
    /// Inline comments of a page or blog post, replies among them.
    pub inline_comments: f64,
    /// Properties of a page, blog post or attachment.
    pub properties: f64,
    /// Labels of a space.
    pub space_labels: f64,
    /// Permissions of a space.
    pub space_permissions: f64,
    /// Properties of a space.
    pub space_properties: f64,
}

impl Default for Children {
    fn default() -> Self {
        Self {
            labels: 2.0,
            versions: 3.0,
            footer_comments: 2.0,
            inline_comments: 1.0,
            properties: 2.0,
            space_labels: 2.0,
            space_permissions: 40.0,
            space_properties: 2.0,
        }
    }
}

/// Who may ask, and for what.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// User name of Basic authentication.
    pub email: String,
    /// Its password, or the token of Bearer authentication.
    pub token: SecretString,
    /// `true` for a token with scopes, which only the gateway accepts.
    pub scoped: bool,
    /// Scopes that a scoped token lacks, such as `read:space:confluence`.
    pub lacks: Vec<String>,
}

/// The types of custom content the tenant knows; the last has no instances.
pub const CUSTOM_CONTENT_TYPES: [&str; 3] = [
    "ac:com.example.diagrams:diagram",
    "forge:1b2c3d4e:9f8e7d6c:board",
    "ac:com.example.forms:form",
];

/// A quota as the API documents it for OAuth, Forge and Connect apps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PointsQuota {
    /// Points that may be spent in a clock hour.
    pub per_hour: u64,
    /// In which words the headers tell of it.
    pub headers: QuotaHeaders,
    /// Points that others spend in each hour before anything else is.
    pub others: u64,
}

/// The spellings that the API's documentation has for the headers of a quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QuotaHeaders {
    /// `RateLimit` and `RateLimit-Policy`.
    #[default]
    Standard,
    /// The same with `Beta-` in front.
    Beta,
    /// `X-RateLimit-*`, the reset with seconds.
    Older,
    /// `X-RateLimit-*`, the reset without seconds.
    OlderShort,
    /// None, and no `Retry-After` with a 429 either.
    Silent,
}
