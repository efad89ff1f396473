//! Decides what happens after a response: retry after a wait, skip, stop or fail. It is pure: the
//! caller waits.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use crate::http::exchange::{HeaderValue, Response, StatusCode, TransportError, header};
use crate::path::{Path, PathError};
use crate::secret::shown_start;
use crate::spec::{Backoff, Meaning, ResponseRule, StatusPattern, Then, Where};

/// Number of attempts of a retrying rule without `attempts`.
const ATTEMPTS: u32 = 6;
/// First wait of a rule without `delay`.
const DELAY: Duration = Duration::from_secs(1);
/// Maximum wait of a rule without `max_delay`.
const MAX_DELAY: Duration = Duration::from_mins(1);
/// Maximum length of a server's message, in characters.
const MESSAGE: usize = 300;
/// Number of characters of a server's message that weir examines.
const LOOKED_AT: usize = 16 * 1024;

/// The outcome of a request.
#[derive(Clone, Copy, Debug)]
pub enum RequestOutcome<'answer> {
    /// A response with any status.
    Response(&'answer Response),
    /// No complete response.
    NoResponse(&'answer TransportError),
}

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum RetryDecision {
    /// Send the request again after a wait.
    Retry {
        /// Time to wait.
        wait: Duration,
        /// Whether the server requested the wait, so that it applies to the whole connection.
        asked: bool,
    },
    /// Stop trying.
    GiveUp {
        /// What happens then.
        then: Then,
        /// Meaning of the response for the connection.
        means: Option<Meaning>,
        /// Hint for the user.
        hint: Option<String>,
    },
}

/// The rules for responses in the order of precedence; weir's built-in rules are the last ones.
#[derive(Debug, Default)]
pub struct Rules {
    rules: Vec<Rule>,
    max_wait: Duration,
}

#[derive(Debug)]
struct Rule {
    rule: ResponseRule,
    at: Option<Path>,
}

/// The context of a failed request.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// Number of this attempt, from 1.
    pub number: u32,
    /// Whether it belongs to a slice of a child stream.
    pub child: bool,
    /// A random number from 0 (inclusive) to 1 (exclusive), for jitter.
    pub random: f64,
    /// The current time, for `Retry-After` dates.
    pub now: DateTime<Utc>,
    /// Whether the API is known to accept the credentials. Rules that blame the credentials then do
    /// not apply.
    pub accepted: bool,
}

impl Rules {
    /// Compiles rules. `max_wait` is the longest `Retry-After` that weir waits for.
    pub fn new<'rule>(
        rules: impl IntoIterator<Item = &'rule ResponseRule>,
        max_wait: Duration,
    ) -> Result<Self, PathError> {
        let rules = rules.into_iter().cloned().chain(built_in()).map(|rule| {
            let at = rule.body.as_ref().and_then(|body| body.at.as_deref());
            let at = at.map(Path::parse).transpose()?;
            Ok(Rule { rule, at })
        });
        Ok(Self { rules: rules.collect::<Result<_, PathError>>()?, max_wait })
    }

    /// Whether the rules apply to a response: it is not 2xx, or a rule that names its status
    /// matches.
    pub fn concern(&self, response: &Response, child: bool) -> bool {
        let status = response.status.as_u16();
        let names = |rule: &ResponseRule| {
            let patterns = rule.status.iter().flat_map(|patterns| &patterns.0);
            patterns.into_iter().any(|pattern| pattern.fits(status))
        };
        let outcome = RequestOutcome::Response(response);
        !response.status.is_success()
            || self.rules.iter().any(|rule| names(&rule.rule) && rule.matches(&outcome, child))
    }

    /// Decides what happens after a response that is not 2xx, or that a rule names.
    pub fn decide(&self, outcome: &RequestOutcome<'_>, attempt: &Attempt) -> RetryDecision {
        let success = matches!(outcome, RequestOutcome::Response(one) if one.status.is_success());
        let rule = self.rules.iter().find(|rule| {
            let refuted = attempt.accepted && rule.rule.means == Some(Meaning::Credentials);
            // A rule without `status` applies to failures only.
            let concerned = !success || rule.rule.status.is_some();
            !refuted && concerned && rule.matches(outcome, attempt.child)
        });
        let usual = match outcome {
            RequestOutcome::NoResponse(error) => error.hint().map(str::to_owned),
            RequestOutcome::Response(_) => None,
        };
        let Some(Rule { rule, .. }) = rule else {
            return RetryDecision::GiveUp { then: Then::Fail, means: None, hint: usual };
        };
        let give = |hint: Option<String>| {
            let hint = hint.or_else(|| rule.hint.clone()).or_else(|| usual.clone());
            RetryDecision::GiveUp { then: rule.then, means: rule.means, hint }
        };
        let Some(backoff) = rule.backoff else { return give(None) };
        let most = match outcome {
            RequestOutcome::NoResponse(error) => error.max_tries(),
            RequestOutcome::Response(_) => None,
        };
        let attempts = rule.attempts.unwrap_or(ATTEMPTS);
        if attempt.number >= most.map_or(attempts, |most| most.min(attempts)) {
            return give(None);
        }
        let asked = match outcome {
            // A reset time is not binding: one beyond the maximum wait is ignored.
            RequestOutcome::Response(response) => {
                retry_after(response, attempt.now).or_else(|| {
                    reset_after(response, attempt.now).filter(|wait| *wait <= self.max_wait)
                })
            }
            RequestOutcome::NoResponse(_) => None,
        };
        match asked {
            Some(wait) if wait > self.max_wait => give(Some(format!(
                "the server requests a wait of {} s, longer than `limits.max_wait` allows; run again later",
                wait.as_secs()
            ))),
            Some(wait) => {
                // Adds jitter, but never waits less than requested.
                let spread = Duration::from_secs(1).mul_f64(attempt.random);
                RetryDecision::Retry { wait: wait + spread, asked: true }
            }
            None => RetryDecision::Retry { wait: delay(rule, backoff, attempt), asked: false },
        }
    }
}

/// Wait after an attempt: exponential or linear growth up to a limit, then multiplied by 0.7 to
/// 1.3.
fn delay(rule: &ResponseRule, backoff: Backoff, attempt: &Attempt) -> Duration {
    let first = rule.delay.map_or(DELAY, |delay| delay.0);
    let most = rule.max_delay.map_or(MAX_DELAY, |delay| delay.0);
    let factor = match backoff {
        Backoff::Exponential => 2_u32.saturating_pow(attempt.number - 1),
        Backoff::Linear => attempt.number,
    };
    first.saturating_mul(factor).min(most).mul_f64(0.7 + 0.6 * attempt.random)
}

impl Rule {
    fn matches(&self, outcome: &RequestOutcome<'_>, child: bool) -> bool {
        let rule = &self.rule;
        let here = match rule.applies {
            Where::Anywhere => true,
            Where::Root => !child,
            Where::Child => child,
        };
        // `gone` does not apply to a whole listing.
        let here = here && (child || rule.then != Then::Gone);
        here && match outcome {
            RequestOutcome::NoResponse(error) => rule.no_response && error.is_transient(),
            RequestOutcome::Response(response) => self.matches_response(response),
        }
    }

    fn matches_response(&self, response: &Response) -> bool {
        let rule = &self.rule;
        let status = response.status.as_u16();
        let status_fits = rule
            .status
            .as_ref()
            .map(|patterns| patterns.0.iter().any(|pattern| pattern.fits(status)));
        let header_fits = rule.header.as_ref().map(|wanted| {
            let value = response.headers.get(&wanted.name).map(HeaderValue::as_bytes);
            value.is_some_and(|value| {
                let text = wanted.contains.as_deref().unwrap_or_default();
                contains(&String::from_utf8_lossy(value), text)
            })
        });
        let body_fits = rule.body.as_ref().map(|wanted| {
            let text = self.text_of(response);
            text.is_some_and(|text| {
                wanted.equals.as_ref().is_none_or(|equals| text == *equals)
                    && wanted.contains.as_ref().is_none_or(|part| contains(&text, part))
            })
        });
        let conditions = [status_fits, header_fits, body_fits];
        conditions.iter().flatten().all(|fits| *fits) && conditions.iter().any(Option::is_some)
    }

    fn text_of(&self, response: &Response) -> Option<String> {
        let Some(path) = &self.at else {
            return Some(String::from_utf8_lossy(&response.body).into_owned());
        };
        let body: Value = serde_json::from_slice(response.json()).ok()?;
        match path.find(&body)? {
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    }
}

/// The server's message as shown to users: the message of a JSON error, or the text, truncated.
/// HTML is only named.
pub fn message(response: &Response) -> String {
    const PLACES: [&str; 8] = [
        "errors[0].title",
        "errors[0].message",
        "errorMessages[0]",
        "error.message",
        "error_description",
        "message",
        "title",
        "error",
    ];
    let reason = response.status.canonical_reason().unwrap_or("no reason given");
    let Ok(body) = serde_json::from_slice::<Value>(response.json()) else {
        let text = String::from_utf8_lossy(&response.body);
        let text = text.trim();
        return match text {
            "" => reason.to_owned(),
            _ if text.starts_with('<') => format!("{reason} (an HTML page)"),
            _ => shorten(text),
        };
    };
    let said = PLACES.iter().filter_map(|place| Path::parse(place).ok()).find_map(|path| {
        path.find(&body)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
    });
    shorten(&said.unwrap_or_else(|| reason.to_owned()))
}

/// The start of a text on one line. Known secrets are masked before it is truncated, because a part
/// of a secret would not be recognized.
fn shorten(text: &str) -> String {
    let text = shown_start(text, LOOKED_AT);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let end = line.char_indices().nth(MESSAGE).map(|(end, _)| end);
    end.and_then(|end| line.get(..end)).map_or(line.clone(), |start| format!("{start}…"))
}

/// Time that a `Retry-After` header requests: seconds, or an HTTP date (RFC 9110 §10.2.3). `None`
/// for zero and for a date in the past: immediate retries would use up all attempts at once.
pub fn retry_after(response: &Response, now: DateTime<Utc>) -> Option<Duration> {
    let text = response.headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => until(DateTime::from(httpdate::parse_http_date(text).ok()?), now)?,
    };
    Some(wait).filter(|wait| !wait.is_zero())
}

/// Headers with the reset time of a rate limit.
const RESETS: [&str; 3] = ["ratelimit-reset", "x-ratelimit-reset", "x-rate-limit-reset"];
/// Headers with the remaining requests of a rate limit.
const REMAINING: [&str; 3] =
    ["ratelimit-remaining", "x-ratelimit-remaining", "x-rate-limit-remaining"];

/// Time until a rate limit is reset, according to the headers of a 429. `None` if they do not state
/// it, or if they state that requests remain: then another limit was exceeded.
fn reset_after(response: &Response, now: DateTime<Utc>) -> Option<Duration> {
    if response.status != StatusCode::TOO_MANY_REQUESTS {
        return None;
    }
    let text = |name: &str| Some(response.headers.get(name)?.to_str().ok()?.trim());
    let left = REMAINING.into_iter().find_map(text).and_then(|left| left.parse::<f64>().ok());
    if left.is_some_and(|left| left > 0.0) {
        return None;
    }
    until(instant(RESETS.into_iter().find_map(text)?, now)?, now)
}

/// A time in the forms of such headers: ISO 8601, seconds or milliseconds since 1970, or seconds
/// from now.
fn instant(text: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    /// Three years: a larger number of seconds cannot be a wait.
    const LONGEST_WAIT: f64 = 1e8;
    const LATEST_SECOND: f64 = 1e11;
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.to_utc());
    }
    let number = text.parse::<f64>().ok().filter(|number| *number >= 0.0)?;
    let since = |seconds: f64| Duration::try_from_secs_f64(seconds).ok();
    match number {
        _ if number < LONGEST_WAIT => {
            now.checked_add_signed(TimeDelta::from_std(since(number)?).ok()?)
        }
        _ if number < LATEST_SECOND => Some(DateTime::UNIX_EPOCH + since(number)?),
        _ => {
            DateTime::UNIX_EPOCH.checked_add_signed(TimeDelta::from_std(since(number / 1e3)?).ok()?)
        }
    }
}

/// Time until an instant; `None` if it has passed.
fn until(then: DateTime<Utc>, now: DateTime<Utc>) -> Option<Duration> {
    then.signed_duration_since(now).to_std().ok().filter(|wait| !wait.is_zero())
}

fn contains(text: &str, part: &str) -> bool {
    text.to_lowercase().contains(&part.to_lowercase())
}

/// The built-in rules.
fn built_in() -> [ResponseRule; 4] {
    let limited = ResponseRule {
        status: one(StatusPattern::Exact(StatusCode::TOO_MANY_REQUESTS.as_u16())),
        backoff: Some(Backoff::Exponential),
        attempts: Some(10),
        hint: Some("the API limits the rate of requests; lower `limits` or run later".to_owned()),
        ..ResponseRule::default()
    };
    let failing = ResponseRule {
        status: Some(crate::spec::OneOrMany(vec![
            StatusPattern::Class(5),
            StatusPattern::Exact(StatusCode::REQUEST_TIMEOUT.as_u16()),
        ])),
        backoff: Some(Backoff::Linear),
        hint: Some("the API has a problem; run again later".to_owned()),
        ..ResponseRule::default()
    };
    let silent = ResponseRule {
        no_response: true,
        backoff: Some(Backoff::Linear),
        hint: Some("check the network, the host name and the proxy".to_owned()),
        ..ResponseRule::default()
    };
    let gone = ResponseRule {
        status: Some(crate::spec::OneOrMany(vec![
            StatusPattern::Exact(StatusCode::NOT_FOUND.as_u16()),
            StatusPattern::Exact(StatusCode::GONE.as_u16()),
        ])),
        then: Then::Gone,
        ..ResponseRule::default()
    };
    [limited, failing, silent, gone]
}

#[expect(clippy::unnecessary_wraps, reason = "the type of the field in a rule")]
fn one(pattern: StatusPattern) -> Option<crate::spec::OneOrMany<StatusPattern>> {
    Some(crate::spec::OneOrMany(vec![pattern]))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::http::exchange::HeaderMap;

    fn response(status: u16, headers: &[(&'static str, &str)], body: &'static str) -> Response {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        let status = StatusCode::from_u16(status).unwrap();
        Response { status, headers: map, body: Bytes::from_static(body.as_bytes()) }
    }

    fn rules(yaml: &str) -> Rules {
        let document = crate::yaml::Document::parse("rules.yaml", yaml).unwrap();
        let rules: Vec<ResponseRule> = document.read().unwrap();
        Rules::new(&rules, Duration::from_hours(1)).unwrap()
    }

    fn attempt(number: u32, child: bool) -> Attempt {
        Attempt { number, child, random: 0.5, now: DateTime::UNIX_EPOCH, accepted: false }
    }

    fn waits(rules: &Rules, response: &Response) -> Vec<u128> {
        let outcome = RequestOutcome::Response(response);
        (1..20)
            .map_while(|number| match rules.decide(&outcome, &attempt(number, false)) {
                RetryDecision::Retry { wait, .. } => Some(wait.as_millis()),
                RetryDecision::GiveUp { .. } => None,
            })
            .collect()
    }

    fn then(rules: &Rules, response: &Response, child: bool) -> Option<Then> {
        match rules.decide(&RequestOutcome::Response(response), &attempt(1, child)) {
            RetryDecision::GiveUp { then, .. } => Some(then),
            RetryDecision::Retry { .. } => None,
        }
    }

    #[test]
    fn waits_grow_as_declared_and_end() {
        let rules = rules(
            "[{ status: 429, backoff: exponential, attempts: 5, delay: 1s, max_delay: 3s }, { status: 5xx, backoff: linear, attempts: 4, delay: 100ms }]",
        );
        assert_eq!(waits(&rules, &response(429, &[], "")), [1000, 2000, 3000, 3000]);
        assert_eq!(waits(&rules, &response(503, &[], "")), [100, 200, 300]);
    }

    #[test]
    fn retry_after_always_wins() {
        let rules = rules("[]");
        let asked = |value: &str| {
            let limited = response(429, &[("retry-after", value)], "");
            rules.decide(&RequestOutcome::Response(&limited), &attempt(1, false))
        };
        let wait = |milliseconds| RetryDecision::Retry {
            wait: Duration::from_millis(milliseconds),
            asked: true,
        };
        assert_eq!(asked("1847"), wait(1_847_500));
        assert_eq!(asked("Thu, 01 Jan 1970 00:00:30 GMT"), wait(30_500));
        assert!(matches!(
            asked("3601"),
            RetryDecision::GiveUp { then: Then::Fail, hint: Some(_), .. }
        ));
        assert!(matches!(asked("nonsense"), RetryDecision::Retry { asked: false, .. }));
    }

    #[test]
    fn a_retry_after_that_asks_for_no_wait_leaves_the_declared_back_off() {
        let rules = rules("[{ status: 429, backoff: exponential, attempts: 4, delay: 2s }]");
        for nothing in ["Thu, 01 Jan 1970 00:00:00 GMT", "Tue, 01 Jan 1963 00:00:00 GMT", "0"] {
            let limited = response(429, &[("retry-after", nothing)], "");
            assert_eq!(waits(&rules, &limited), [2000, 4000, 8000], "{nothing}");
        }
    }

    #[test]
    fn a_429_with_only_a_reset_time_waits_until_then() {
        let rules = rules("[{ status: 429, backoff: linear, delay: 1s }]");
        let now: DateTime<Utc> = "2026-03-26T15:30:00Z".parse().unwrap();
        let wait = |status, headers: &[(&'static str, &str)]| {
            let limited = response(status, headers, "");
            let attempt = Attempt { now, ..attempt(1, false) };
            match rules.decide(&RequestOutcome::Response(&limited), &attempt) {
                RetryDecision::Retry { wait, .. } => Some(wait.as_millis()),
                RetryDecision::GiveUp { .. } => None,
            }
        };
        let epoch = now.timestamp() + 40;
        let milliseconds = format!("{}", epoch * 1000);
        let seconds = format!("{epoch}");
        for reset in [seconds.as_str(), &milliseconds, "40", "2026-03-26T15:30:40Z"] {
            for name in RESETS {
                assert_eq!(wait(429, &[(name, reset)]), Some(40_500), "{name}: {reset}");
            }
        }
        let reset = ("x-rate-limit-reset", "40");
        assert_eq!(wait(429, &[reset, ("x-rate-limit-remaining", "0")]), Some(40_500));
        assert_eq!(wait(429, &[reset, ("retry-after", "7")]), Some(7500));
        // Another limit, a time beyond the maximum wait, a time in the past, another status.
        for other in [
            vec![reset, ("x-rate-limit-remaining", "12")],
            vec![("x-ratelimit-reset", "9999-12-31T00:00:00Z")],
            vec![("x-ratelimit-reset", "1372700873")],
        ] {
            assert_eq!(wait(429, &other), Some(1000), "{other:?}");
        }
        assert_eq!(wait(503, &[reset]), Some(1000));
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let rules = rules(
            "[{ status: 404, body: { at: 'errors[0].title', equals: Not Found }, then: fail, means: credentials },
              { status: [403, 404], in: child, then: skip_slice },
              { status: 400, body: { contains: does not support SPRINTS }, then: empty },
              { header: { name: x-failure, contains: auth }, then: stop_stream }]",
        );
        let bare = response(404, &[], r#"{"errors":[{"title":"Not Found"}]}"#);
        let named =
            response(404, &[], r#"{"errors":[{"title":"Cannot find a page with id [1]"}]}"#);
        assert_eq!(then(&rules, &bare, true), Some(Then::Fail));
        assert_eq!(then(&rules, &named, true), Some(Then::SkipSlice));
        assert_eq!(then(&rules, &named, false), Some(Then::Fail));
        let sprints = response(400, &[], "The board does not support sprints");
        assert_eq!(then(&rules, &sprints, true), Some(Then::Empty));
        assert_eq!(
            then(&rules, &response(418, &[("x-failure", "AUTH")], ""), false),
            Some(Then::StopStream)
        );
        assert_eq!(then(&rules, &response(500, &[], ""), false), None);
    }

    #[test]
    fn a_rule_that_names_a_success_concerns_it_and_no_other_does() {
        let rules = rules(
            "[{ status: 200, body: { at: ok, equals: 'false' }, then: fail },
              { status: 204, then: empty },
              { body: { contains: gone }, then: skip_slice }]",
        );
        let refused = response(200, &[], r#"{"ok":false,"error":"invalid_auth"}"#);
        assert!(rules.concern(&refused, false));
        assert_eq!(then(&rules, &refused, false), Some(Then::Fail));
        assert_eq!(message(&refused), "invalid_auth");
        assert!(!rules.concern(&response(200, &[], r#"{"ok":true}"#), false));
        assert!(!rules.concern(&response(200, &[], r#"["gone"]"#), false));
        let none = response(204, &[], "");
        assert!(rules.concern(&none, true));
        assert_eq!(then(&rules, &none, true), Some(Then::Empty));
    }

    #[test]
    fn only_broken_connections_are_worth_another_try() {
        let rules = rules("[]");
        let decide = |error| rules.decide(&RequestOutcome::NoResponse(&error), &attempt(1, false));
        assert!(matches!(decide(TransportError::Timeout), RetryDecision::Retry { .. }));
        assert!(matches!(decide(TransportError::TooLarge(5)), RetryDecision::GiveUp { .. }));
        let html = TransportError::Unreadable("a page of HTML".to_owned());
        let tries = (1..9).map_while(|number| {
            let verdict = rules.decide(&RequestOutcome::NoResponse(&html), &attempt(number, false));
            matches!(verdict, RetryDecision::Retry { .. }).then_some(number)
        });
        assert_eq!(tries.count(), 1);
    }

    #[test]
    fn an_object_may_be_gone_and_a_listing_may_not() {
        let blames = rules("[{ status: 404, means: credentials }]");
        let missing = response(404, &[], "");
        for (status, child, expected) in
            [(404, true, Then::Gone), (410, true, Then::Gone), (404, false, Then::Fail)]
        {
            assert_eq!(then(&rules("[]"), &response(status, &[], ""), child), Some(expected));
        }
        assert_eq!(then(&blames, &missing, true), Some(Then::Fail));
        let accepted = Attempt { accepted: true, ..attempt(1, true) };
        let verdict = blames.decide(&RequestOutcome::Response(&missing), &accepted);
        assert_eq!(verdict, RetryDecision::GiveUp { then: Then::Gone, means: None, hint: None });
    }

    #[test]
    fn what_the_server_said_is_found() {
        let table = [
            (r#"{"errors":[{"title":"Bad limit"}]}"#, "Bad limit"),
            (r#"{"errorMessages":["no such board"]}"#, "no such board"),
            (r#"{"message":"x\n  y"}"#, "x y"),
            ("<html>…</html>", "Forbidden (an HTML page)"),
            ("", "Forbidden"),
            ("plain words", "plain words"),
        ];
        for (body, said) in table {
            assert_eq!(message(&response(403, &[], body)), said, "{body}");
        }
    }
}
