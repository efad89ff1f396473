//! What the Confluence spec makes of its inputs and of the API's refusals.

use std::collections::BTreeSet;

use serde_json::json;
use weir::http::exchange::{HeaderMap, Response, StatusCode};
use weir::http::response_rules::{Attempt, RequestOutcome, RetryDecision, Rules};
use weir::report::StreamStatus;
use weir::spec::{Meaning, Then};
use weir::sync::report::RunStatus;
use weir_sim::{Options, Wanted};

use crate::support::rig::{ALL, Rig, confluence};

const CONTENT: [&str; 3] = ["pages", "blog_posts", "attachments"];

fn rig(streams: &[&str]) -> Rig {
    let options = Options {
        pages: 120,
        blog_posts: 40,
        attachments: 120,
        heavy_parents: 0,
        ..Options::default()
    };
    Rig::new(options).only(streams)
}

fn inputs(text: &str) -> String {
    ALL.replace("defaults: {", &format!("defaults: {{ inputs: {text},"))
}

/// Ids of what the tenant has of these statuses.
fn truth(rig: &Rig, stream: &str, statuses: &[&str]) -> BTreeSet<String> {
    let statuses = Some(statuses.iter().map(|status| (*status).to_owned()).collect());
    let rows = rig.simulator.truth_of(stream, &Wanted { statuses, body_format: None }).unwrap();
    rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
}

fn found(rig: &Rig, stream: &str) -> BTreeSet<String> {
    rig.keys(stream).into_iter().collect()
}

#[tokio::test(start_paused = true)]
async fn statuses_are_read_as_asked_and_no_others() {
    let table: &[&[&str]] =
        &[&["current"], &["archived"], &["trashed"], &["deleted"], &["archived", "trashed"]];
    let mut seen = BTreeSet::new();
    for statuses in table {
        let rig = rig(&CONTENT);
        let run = rig.run(&inputs(&format!("{{ statuses: [{}] }}", statuses.join(", ")))).await;
        assert_eq!(run.status, RunStatus::Done, "{statuses:?}: {run:#?}");
        for stream in CONTENT {
            let expected = truth(&rig, stream, statuses);
            assert_eq!(found(&rig, stream), expected, "{stream}: {statuses:?}");
            if !expected.is_empty() {
                seen.insert((stream, statuses.join(",")));
            }
        }
    }
    assert_eq!(seen.len(), 4 + 3 + 4, "the tenant has some of each: {seen:?}");
}

#[tokio::test(start_paused = true)]
async fn comments_of_archived_pages_come_when_only_those_are_asked_for() {
    let streams = ["page_footer_comments", "page_inline_comments", "blog_post_footer_comments"];
    let rig = rig(&streams);
    let run = rig.run(&inputs("{ statuses: [archived] }")).await;
    assert_eq!(run.status, RunStatus::Done, "{run:#?}");
    for stream in streams {
        assert_eq!(found(&rig, stream), truth(&rig, stream, &["archived"]), "{stream}");
    }
    assert!(!found(&rig, "page_footer_comments").is_empty());
    assert_eq!(rig.rows("blog_post_footer_comments"), Some(Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn a_status_that_does_not_exist_fails_the_run() {
    let rig = rig(&CONTENT);
    let run = rig.run(&inputs("{ statuses: [current, archvied] }")).await;
    assert_eq!(run.status, RunStatus::Failed);
    for report in &run.streams {
        assert_eq!(report.status, StreamStatus::Failed, "{report:?}");
        assert!(report.error.as_ref().unwrap().contains("status"), "{report:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn space_keys_may_be_more_than_one_request_takes() {
    let rig = Rig::new(Options { spaces: 300, pages: 320, ..Options::default() });
    let rig = rig.only(&["spaces", "pages"]);
    let spaces = rig.simulator.truth_of("spaces", &Wanted::default()).unwrap();
    let keys: Vec<String> = spaces.iter().map(|space| space["key"].to_string()).collect();
    let run = rig.run(&inputs(&format!("{{ space_keys: [{}] }}", keys.join(", ")))).await;
    assert_eq!(run.status, RunStatus::Done, "{run:#?}");
    assert_eq!(rig.keys("spaces").len(), 300);
    assert_eq!(found(&rig, "pages"), truth(&rig, "pages", &["current", "archived"]));
    let listings = rig.simulator.log();
    let listings = listings.iter().filter(|request| request.path.ends_with("/spaces")).count();
    assert_eq!(listings, 2);
}

#[test]
fn refusals_are_told_apart() {
    let spec = confluence();
    let rules = Rules::new(&spec.responses, spec.limits.max_wait.0).unwrap();
    let named = |title: &str| json!({ "errors": [{ "status": 404, "title": title }] }).to_string();
    let page = "<!DOCTYPE html>\n<html><body>no</body></html>".to_owned();
    let gone = named("Cannot find a page with id [123]");
    let revoked = named("Not Found");
    let old = json!({ "message": "Current user not permitted to use Confluence" }).to_string();
    let caller = json!({ "message": "caller cannot access Confluence" }).to_string();
    let scope = json!({ "message": "Unauthorized; scope does not match" }).to_string();
    let (credentials, permission) = (Some(Meaning::Credentials), Some(Meaning::Permission));
    let egress = Some(Meaning::Egress);
    // Status, body, in a slice of a child, and what follows.
    let table = [
        (404, &revoked, false, Then::Fail, credentials),
        (404, &revoked, true, Then::Fail, credentials),
        (404, &gone, true, Then::Gone, None),
        (404, &gone, false, Then::Fail, None),
        (403, &gone, true, Then::SkipSlice, permission),
        (403, &gone, false, Then::Fail, permission),
        (403, &old, true, Then::Fail, credentials),
        (403, &caller, true, Then::Fail, credentials),
        (401, &scope, true, Then::Fail, permission),
        (401, &page, true, Then::Fail, credentials),
        (401, &old, false, Then::Fail, credentials),
        (403, &page, true, Then::Fail, egress),
        (407, &page, true, Then::Fail, egress),
        (404, &page, true, Then::Fail, None),
    ];
    for (status, body, child, then, means) in table {
        let response = Response {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: body.clone().into(),
        };
        let now = chrono::Utc::now();
        let attempt = Attempt { number: 1, child, random: 0.5, now, accepted: false };
        let verdict = rules.decide(&RequestOutcome::Response(&response), &attempt);
        let RetryDecision::GiveUp { then: found, means: meaning, hint } = verdict else {
            panic!("{status} {body}: {verdict:?}")
        };
        assert_eq!((found, meaning), (then, means), "{status}, child: {child}: {body}");
        assert!(then == Then::SkipSlice || hint.is_some() || *body == gone, "{status} {body}");
    }
}
