//! The options of a simulated tenant: sizes, behaviour, credentials.

use std::time::Duration;

use chrono::{DateTime, Utc};

use secrecy::SecretString;

use crate::churn_options::Churning;
use crate::fault_rules::Faults;

/// Size and behaviour of a simulated tenant. Equal options produce equal bytes until something changes.
/// The times of changes follow [`Options::now`].
#[derive(Clone, Debug)]
pub struct Options {
    /// Seed of the random content.
    pub seed: u64,
    /// Number of spaces. The first is personal: its key starts with `~`.
    pub spaces: usize,
    /// Number of pages of all statuses, including the home page of each space.
    pub pages: usize,
    /// Number of blog posts of all statuses.
    pub blog_posts: usize,
    /// Number of attachments of pages and blog posts, of all statuses.
    pub attachments: usize,
    /// Number of user groups.
    pub groups: usize,
    /// Number of inline tasks on pages and blog posts.
    pub tasks: usize,
    /// Number of custom content objects, spread over [`CUSTOM_CONTENT_TYPES`] except the last type.
    pub custom_content: usize,
    /// Number of distinct labels.
    pub labels: usize,
    /// Average size of the storage body of a page or blog post, in bytes.
    pub body_bytes: usize,
    /// Average number of children per parent.
    pub children: ChildCounts,
    /// Number of parents of each kind that have more than 250 children of each kind.
    pub heavy_parents: usize,
    /// Whether `/footer-comments` and `/inline-comments` also list replies.
    pub replies_in_global_lists: bool,
    /// Share of result pages of v2 and of the search, from 0 to 1, with fewer rows than requested although
    /// more follow.
    pub short_pages: f64,
    /// Whether the links to next pages contain only the cursor, without the parameters of the request.
    pub bare_links: bool,
    /// Whether embedded objects (`include-…`, labels in search results) cost no points. The API's
    /// documentation does not specify this. By default they cost the same as in lists.
    pub embedded_are_free: bool,
    /// Delay of the search index: the search does not find objects modified within this time.
    pub index_lag: Duration,
    /// Paths that are always rejected, each with status 400, 403, 404 or 410. A path is that of one of
    /// [`ROUTES`](crate::ROUTES), optionally with `?` and the name of one of its parameters.
    pub refuses: Vec<(String, u16)>,
    /// The only accepted credentials; `None` accepts all requests.
    pub credentials: Option<Credentials>,
    /// Scheme and host of `_links.base`, without a final slash.
    pub site: String,
    /// The site's ID on the gateway (`/ex/confluence/{cloud_id}`).
    pub cloud_id: String,
    /// The points quota; `None` for no quota, as for API tokens.
    pub quota: Option<PointsQuota>,
    /// The faults.
    pub faults: Faults,
    /// Number of random changes made before the start, chosen by the seed. A tenant with more changes has
    /// the same first changes.
    pub changes: usize,
    /// Random changes made as requests arrive.
    pub churn: Option<Churning>,
    /// Start time of the tenant's clock; `None` for the machine's time. Only changes show this time. The
    /// initial objects are older than 2026-08-01, which is therefore the earliest start time.
    pub now: Option<DateTime<Utc>>,
    /// Latency of every response.
    pub latency: Duration,
    /// Maximum number of log entries; the oldest are dropped. `None`: 1,000,000 in process, 0 over a
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
            children: ChildCounts::default(),
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
pub struct ChildCounts {
    /// Labels per page, blog post or attachment.
    pub labels: f64,
    /// Versions per page, blog post or attachment; at least one.
    pub versions: f64,
    /// Footer comments per page or blog post, including replies.
    pub footer_comments: f64,
    /// Inline comments per page or blog post, including replies.
    pub inline_comments: f64,
    /// Properties per page, blog post or attachment.
    pub properties: f64,
    /// Labels per space.
    pub space_labels: f64,
    /// Permissions per space.
    pub space_permissions: f64,
    /// Properties per space.
    pub space_properties: f64,
}

impl Default for ChildCounts {
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

/// The accepted credentials and their scopes.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// User name of Basic authentication.
    pub email: String,
    /// Password of Basic authentication, or token of Bearer authentication.
    pub token: SecretString,
    /// `true` for a token with scopes, which only the gateway accepts.
    pub scoped: bool,
    /// Scopes that a scoped token lacks, such as `read:space:confluence`.
    pub lacks: Vec<String>,
}

/// The types of custom content. The last type has no objects.
pub const CUSTOM_CONTENT_TYPES: [&str; 3] = [
    "ac:com.example.diagrams:diagram",
    "forge:1b2c3d4e:9f8e7d6c:board",
    "ac:com.example.forms:form",
];

/// A points quota as the API documents it for OAuth, Forge and Connect apps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PointsQuota {
    /// Points that may be spent in a clock hour.
    pub per_hour: u64,
    /// Names of the response headers.
    pub headers: QuotaHeaders,
    /// Points that other clients have already spent at the start of each hour.
    pub others: u64,
}

/// Header names of a points quota, as spelled in various parts of the API's documentation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QuotaHeaders {
    /// `RateLimit` and `RateLimit-Policy`.
    #[default]
    Standard,
    /// The same with the prefix `Beta-`.
    Beta,
    /// `X-RateLimit-*`; the reset time has seconds.
    Older,
    /// `X-RateLimit-*`; the reset time has no seconds.
    OlderShort,
    /// No quota headers, and no `Retry-After` with a 429.
    Silent,
}
