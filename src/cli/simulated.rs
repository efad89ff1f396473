//! The simulated API in this process.

use std::time::Duration;

use async_trait::async_trait;
use weir_sim::{
    Churning, FaultRule, Faults, IncomingRequest, Options, PointsQuota, QuotaHeaders, Reply,
    RetryAfter, Simulator, What, When, refusal,
};

use crate::cli::args::Site;
use crate::error::{Error, Result};
use crate::http::exchange::{Request, Response, Transport, TransportError, header};
use crate::report::{StreamReport, StreamStatus};
use crate::yaml::Document;

/// A simulated tenant as the API of a run, in this process and without a socket.
#[derive(Clone, Debug)]
pub struct SimulatedApi(pub Simulator);

#[async_trait]
impl Transport for SimulatedApi {
    async fn send(&self, request: &Request) -> Result<Response, TransportError> {
        let authorization = request.headers.get(header::AUTHORIZATION);
        let call = IncomingRequest {
            method: &request.method,
            path: request.url.path(),
            query: request.url.query().unwrap_or_default(),
            authorization: authorization.and_then(|value| value.to_str().ok()),
        };
        let reply = self.0.answer(&call).await;
        let Reply { status, headers, body, .. } =
            reply.map_err(|broken| TransportError::Broken(broken.to_string()))?;
        Ok(Response { status, headers, body })
    }
}

/// Delay of a request with the fault `slow` or `halt`.
const SLOW: Duration = Duration::from_secs(2);

/// Command that queries the rows of a simulated site, after a run that wrote its pages and their labels as Parquet.
pub(crate) fn next_step(streams: &[StreamReport]) -> Option<String> {
    let file = |name: &str| {
        let done = |one: &&StreamReport| one.stream == name && one.status == StreamStatus::Done;
        let object = streams.iter().find(done)?.object.as_deref();
        object.filter(|path| path.ends_with(".parquet") && !path.contains(['\'', '"', '*']))
    };
    let (pages, labels) = (file("pages")?, file("page_labels")?);
    Some(format!(
        "next: look at the rows, for example with DuckDB: the labels that most pages have, and when one of these \
         pages was last edited\n  \
         duckdb -c \"SELECT l.name AS label, count(*) AS pages, max(p.version_created_at) AS last_edit \
         FROM '{labels}' l JOIN '{pages}' p ON p.id = l.page_id GROUP BY label ORDER BY pages DESC LIMIT 5\""
    ))
}

/// Options of a simulated tenant, from a connection's `simulate`.
pub(crate) fn options(settings: &serde_json::Value) -> Result<Options> {
    let text = if settings.is_null() { "{}".to_owned() } else { settings.to_string() };
    // JSON is also YAML, and the YAML reader has better error messages.
    let site = Document::parse("simulate", &text).and_then(|document| document.read::<Site>());
    let site = site.map_err(|problems| {
        Error::from(problems).within("`simulate` of the connection is not valid")
    })?;
    tenant(&site)
}

/// Options of a simulated tenant, from the options of `weir sim`.
pub(crate) fn tenant(site: &Site) -> Result<Options> {
    let usual = Options::default();
    let seed = site.seed.unwrap_or(usual.seed);
    let rules = site.faults.iter().map(|text| fault(text)).collect::<Result<_>>()?;
    Ok(Options {
        seed,
        spaces: site.spaces.unwrap_or(usual.spaces),
        pages: site.pages.unwrap_or(usual.pages),
        blog_posts: site.blog_posts.unwrap_or(usual.blog_posts),
        attachments: site.attachments.unwrap_or(usual.attachments),
        body_bytes: site.body_bytes.unwrap_or(usual.body_bytes),
        latency: Duration::from_millis(site.latency_ms.unwrap_or(0)),
        faults: Faults { rules, requests_per_second: site.burst, ..Faults::default() },
        refuses: site.refuses.iter().map(|text| refused(text)).collect::<Result<_>>()?,
        changes: site.changes.unwrap_or(0),
        quota: site.points_per_hour.map(|per_hour| PointsQuota {
            per_hour,
            headers: QuotaHeaders::default(),
            others: 0,
        }),
        churn: site.churn_every.map(|requests| Churning::every(requests, seed)),
        ..usual
    })
}

/// Reads `KIND=SHARE[@PART]`.
fn fault(text: &str) -> Result<FaultRule> {
    let wrong = |what: &str| {
        Error::input(format!("the fault `{text}` {what}"))
            .with_hint("for example: 429=0.05, 503=0.02, reset=0.01, missing=0.1@/labels")
    };
    let (kind, rest) = text.split_once('=').ok_or_else(|| wrong("is not KIND=SHARE"))?;
    let (share, part) = rest.split_once('@').unwrap_or((rest, ""));
    let share: f64 = share
        .parse()
        .ok()
        .filter(|share| (0.0..=1.0).contains(share))
        .ok_or_else(|| wrong("has a share that is not between 0 and 1"))?;
    let what = match kind {
        "429" => What::TooMany(RetryAfter::Seconds(1)),
        "missing" => What::Missing,
        "deleted" => What::Deleted,
        "slow" => What::Slow(SLOW),
        "halt" => What::Halt(SLOW),
        "reset" => What::Reset,
        "truncate" => What::Truncate,
        "malformed" => What::Malformed,
        "repeat" => What::RepeatCursor,
        "expired" => What::ExpiredCursor,
        _ => match kind.parse() {
            Ok(status @ (403 | 500..=599)) => What::Status(status),
            _ => return Err(wrong("has an unknown kind")),
        },
    };
    Ok(FaultRule { part: part.to_owned(), when: When::Share(share), what })
}

/// Reads `PATH=STATUS`: a path that the tenant always rejects, and the status.
fn refused(text: &str) -> Result<(String, u16)> {
    refusal(text).map_err(|error| {
        Error::input(error.to_string()).with_hint(
            "for example: /wiki/rest/api/content/search=410, /wiki/api/v2/pages/{id}?include-labels=400",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read() {
        let read = |text| fault(text).map(|fault| (fault.what, fault.when, fault.part));
        let (share, part) = (When::Share(0.25), String::new());
        assert_eq!(read("503=0.25").unwrap(), (What::Status(503), share.clone(), part));
        let part = "/pages?limit=1".to_owned();
        assert_eq!(read("missing=0.25@/pages?limit=1").unwrap(), (What::Missing, share, part));
        for wrong in ["503", "503=2", "503=-1", "503=x", "200=0.1", "404=1", "=1", "slow=NaN"] {
            let error = read(wrong).unwrap_err();
            assert!(error.chain().contains(wrong) && error.hint().is_some(), "{error:?}");
        }
    }

    #[test]
    fn a_simulated_connection_has_defaults() {
        let settings = serde_json::json!({
            "pages": 7, "latency_ms": 3, "changes": 5, "churn_every": 9, "faults": ["429=0.5"]
        });
        let tenant = options(&settings).unwrap();
        assert_eq!((tenant.pages, tenant.latency.as_millis()), (7, 3));
        assert_eq!(tenant.faults.rules.len(), 1);
        assert_eq!((tenant.changes, tenant.churn.map(|churn| churn.every_requests)), (5, Some(9)));
        assert_eq!(tenant.spaces, options(&serde_json::Value::Null).unwrap().spaces);
        assert!(options(&serde_json::json!({ "sites": 1 })).is_err());
    }
}
