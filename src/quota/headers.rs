//! Quota headers of responses: the limit, the remaining amount, and the reset time.

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};

use reqwest::header::{HeaderMap, HeaderName};

/// The quota headers of one response.
///
/// Two families of headers are supported: `X-RateLimit-*`, and the draft standard's `RateLimit` and
/// `RateLimit-Policy` ([IETF draft]). Both are supported in the forms that Atlassian documents for
/// Confluence Cloud: the prefix `Beta-` for limits that are not enforced yet, reset times without
/// seconds, and several policies in one header.
///
/// [IETF draft]: https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReportedQuota {
    /// The limit of a window.
    pub limit: Option<u64>,
    /// The remaining amount.
    pub remaining: Option<u64>,
    /// When the next window begins.
    pub reset: Option<DateTime<Utc>>,
    /// Whether the server states that little remains.
    pub near: bool,
    /// The server's name of the limit.
    pub reason: Option<String>,
    /// Whether the limit is enforced; a server may announce a limit first.
    pub binding: bool,
}

impl ReportedQuota {
    /// Reads the headers of a response received at `now`; `None` if they contain no quota.
    pub fn read(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Self> {
        [("", true), ("beta-", false)].into_iter().find_map(|(prefix, binding)| {
            let quota = Self { binding, ..Self::standard(headers, prefix, now) };
            let prefix = if binding { "x-ratelimit-" } else { "x-beta-ratelimit-" };
            let quota = quota.or(&Self::older(headers, prefix));
            let has_quota = Self { binding, ..Self::default() } != quota;
            has_quota.then(|| Self {
                reason: text(headers, "ratelimit-reason").map(str::to_owned),
                ..quota
            })
        })
    }

    /// `RateLimit-Policy: "name";q=65000;w=3600` and `RateLimit: "name";r=11000;t=600`.
    fn standard(headers: &HeaderMap, prefix: &str, now: DateTime<Utc>) -> Self {
        let all = |name: &str| {
            let values = headers.get_all(format!("{prefix}{name}"));
            let texts = values.iter().filter_map(|value| value.to_str().ok());
            texts.flat_map(|text| text.split(',')).map(HeaderItem::parse).collect::<Vec<_>>()
        };
        let (policies, states) = (all("ratelimit-policy"), all("ratelimit"));
        // Of several policies, the one with the smallest remaining amount applies.
        let state = states.iter().min_by_key(|state| state.number("r").unwrap_or(u64::MAX));
        let policy = state
            .and_then(|state| policies.iter().find(|policy| policy.name == state.name))
            .or(policies.first());
        let seconds = state.and_then(|state| state.number("t"));
        let wait = seconds.and_then(|seconds| TimeDelta::try_seconds(i64::try_from(seconds).ok()?));
        Self {
            limit: policy.and_then(|policy| policy.number("q")),
            remaining: state.and_then(|state| state.number("r")),
            reset: wait.and_then(|wait| now.checked_add_signed(wait)),
            ..Self::default()
        }
    }

    /// `X-RateLimit-Limit`, `-Remaining`, `-Reset`, `-NearLimit`.
    fn older(headers: &HeaderMap, prefix: &str) -> Self {
        let own = |name: &str| text(headers, &format!("{prefix}{name}"));
        Self {
            limit: own("limit").and_then(|text| text.parse().ok()),
            remaining: own("remaining").and_then(|text| text.parse().ok()),
            reset: own("reset").and_then(instant),
            near: own("nearlimit").is_some_and(|text| text.eq_ignore_ascii_case("true")),
            ..Self::default()
        }
    }

    fn or(self, other: &Self) -> Self {
        Self {
            limit: self.limit.or(other.limit),
            remaining: self.remaining.or(other.remaining),
            reset: self.reset.or(other.reset),
            near: self.near || other.near,
            ..self
        }
    }
}

/// One item of a structured header: `"name";key=1;other=2`.
struct HeaderItem<'text> {
    name: &'text str,
    parameters: Vec<(&'text str, &'text str)>,
}

impl<'text> HeaderItem<'text> {
    fn parse(text: &'text str) -> Self {
        let mut parts = text.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default().trim_matches('"');
        Self { name, parameters: parts.filter_map(|part| part.split_once('=')).collect() }
    }

    fn number(&self, key: &str) -> Option<u64> {
        let (_, value) = self.parameters.iter().find(|(name, _)| *name == key)?;
        value.trim().parse().ok()
    }
}

fn text<'headers>(headers: &'headers HeaderMap, name: &str) -> Option<&'headers str> {
    let name = HeaderName::try_from(name).ok()?;
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// Smallest number that is read as milliseconds since 1970; smaller ones are seconds. As seconds,
/// it would be in the year 5138.
const MILLIS: i64 = 100_000_000_000;

/// An instant in ISO 8601, optionally without seconds, or in seconds or milliseconds since 1970.
fn instant(text: &str) -> Option<DateTime<Utc>> {
    let exact = DateTime::parse_from_rfc3339(text).ok().map(|time| time.to_utc());
    let short = || NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%MZ").ok();
    let epoch = || {
        let number: i64 = text.parse().ok()?;
        match number {
            MILLIS.. => DateTime::from_timestamp_millis(number),
            _ => DateTime::from_timestamp(number, 0),
        }
    };
    exact.or_else(|| short().map(|time| time.and_utc())).or_else(epoch)
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;

    fn now() -> DateTime<Utc> {
        "2026-03-26T15:30:00Z".parse().unwrap()
    }

    fn read(headers: &[(&str, &str)]) -> Option<ReportedQuota> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name = HeaderName::try_from(*name).unwrap();
            map.append(name, HeaderValue::from_str(value).unwrap());
        }
        ReportedQuota::read(&map, now())
    }

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn an_answer_without_such_headers_says_nothing() {
        assert_eq!(read(&[("content-type", "application/json"), ("retry-after", "5")]), None);
    }

    #[test]
    fn the_older_family_is_read_with_and_without_seconds() {
        let quota = read(&[
            ("X-RateLimit-Limit", "40000"),
            ("X-RateLimit-Remaining", "0"),
            ("X-RateLimit-Reset", "2026-03-26T16:00Z"),
            ("X-RateLimit-NearLimit", "true"),
            ("RateLimit-Reason", "confluence-quota-global-based"),
        ])
        .unwrap();
        assert_eq!((quota.limit, quota.remaining), (Some(40_000), Some(0)));
        assert_eq!((quota.reset, quota.near), (Some(at("2026-03-26T16:00:00Z")), true));
        assert_eq!(quota.reason.as_deref(), Some("confluence-quota-global-based"));
        assert!(quota.binding);
        let with = read(&[("X-RateLimit-Reset", "2026-03-26T16:00:05Z")]).unwrap();
        assert_eq!(with.reset, Some(at("2026-03-26T16:00:05Z")));
        assert_eq!(read(&[("X-RateLimit-Reset", "soon")]), None);
    }

    #[test]
    fn the_standard_family_is_read_policy_by_policy() {
        let quota = read(&[
            (
                "RateLimit-Policy",
                "\"tenant-app-quota\";q=100000;w=3600, \"global-app-quota\";q=65000;w=3600",
            ),
            ("RateLimit", "\"global-app-quota\";r=11000;t=600"),
        ])
        .unwrap();
        assert_eq!((quota.limit, quota.remaining), (Some(65_000), Some(11_000)));
        assert_eq!(quota.reset, Some(at("2026-03-26T15:40:00Z")));
        let early = read(&[("RateLimit", "\"global-app-quota\";t=3200")]).unwrap();
        assert_eq!((early.remaining, early.limit), (None, None));
        assert_eq!(early.reset, Some(at("2026-03-26T16:23:20Z")));
    }

    #[test]
    fn what_is_only_announced_does_not_bind_and_gives_way_to_what_does() {
        let announced = [("Beta-RateLimit-Policy", "\"global-app-quota\";q=65000;w=3600")];
        let quota = read(&announced).unwrap();
        assert_eq!((quota.limit, quota.binding), (Some(65_000), false));
        let older = read(&[("X-Beta-RateLimit-Remaining", "7")]).unwrap();
        assert_eq!((older.remaining, older.binding), (Some(7), false));
        let both = read(&[announced[0], ("X-RateLimit-Limit", "100")]).unwrap();
        assert_eq!((both.limit, both.binding), (Some(100), true));
    }
}
