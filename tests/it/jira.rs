//! The second spec: its streams come through the engine without a line of code of their own.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use weir::error::{Kind, Result};
use weir::http::access::AccessHooks;
use weir::http::exchange::{
    HeaderMap, HeaderValue, Request, Response, StatusCode, Transport, TransportError,
};
use weir::plan::{Documents, Plan, PlanOptions};
use weir::replication::Replication;
use weir::report::{NoticeKind, Silent};
use weir::run::services::Services;
use weir::secret::Secret;
use weir::spec::{EMBEDDED, Fields, Spec};
use weir::sync;
use weir::sync::report::{RunReport, RunStatus};
use weir::write::files::{Files, Settings};
use weir::yaml::Document;

const ISSUES: usize = 230;

/// A small Jira: each listing pages as the real one does.
#[derive(Default)]
struct Jira {
    /// Whether the token has expired: most of the API then answers as to an anonymous guest.
    expired: AtomicBool,
}

#[async_trait]
impl Transport for Jira {
    async fn send(&self, request: &Request) -> Result<Response, TransportError> {
        let query: BTreeMap<String, String> = request.url.query_pairs().into_owned().collect();
        let authorised =
            request.headers.get("authorization").is_some_and(HeaderValue::is_sensitive);
        let (status, body) = if self.expired.load(Ordering::Relaxed) {
            match request.url.path() {
                "/rest/api/3/myself" => (401, json!({ "message": "Client must be authenticated" })),
                _ => (200, json!({ "isLast": true, "total": 0, "values": [], "issues": [] })),
            }
        } else if authorised {
            answer(request.url.path(), &query)
        } else {
            (401, json!({ "message": "Client must be authenticated" }))
        };
        let status = StatusCode::from_u16(status).unwrap();
        Ok(Response { status, headers: HeaderMap::new(), body: Bytes::from(body.to_string()) })
    }
}

fn answer(path: &str, query: &BTreeMap<String, String>) -> (u16, Value) {
    let number = |name: &str| query.get(name).and_then(|text| text.parse().ok()).unwrap_or(0);
    let (start, size): (usize, usize) = (number("startAt"), number("maxResults"));
    let page =
        |items: Vec<Value>| -> Vec<Value> { items.into_iter().skip(start).take(size).collect() };
    let values = |items: Vec<Value>| {
        let last = start + size >= items.len();
        json!({ "isLast": last, "startAt": start, "values": page(items) })
    };
    let segments: Vec<&str> = path.trim_start_matches("/rest/").split('/').collect();
    let body = match segments.as_slice() {
        ["api", "3", "myself"] => json!({ "accountId": "a" }),
        ["api", "3", "project", "search"] => values(many(60, project)),
        ["api", "3", "search", "jql"] => {
            assert!(query["jql"].contains("created"));
            let from: usize = query.get("nextPageToken").map_or(0, |token| token.parse().unwrap());
            let issues: Vec<Value> = (from..(from + size).min(ISSUES)).map(issue).collect();
            let next = from + issues.len();
            if next < ISSUES {
                json!({ "issues": issues, "isLast": false, "nextPageToken": next.to_string() })
            } else {
                json!({ "issues": issues, "isLast": true })
            }
        }
        ["api", "3", "issue", id, "comment"] => {
            let all = many(
                if *id == "10003" { 250 } else { 1 },
                |n| json!({ "id": format!("{id}-{n}"), "created": "2026-01-12T09:30:11.204+0100" }),
            );
            json!({ "total": all.len(), "comments": page(all) })
        }
        ["api", "3", "issue", "10005", "worklog"] => {
            return (404, json!({ "errorMessages": ["Issue does not exist"] }));
        }
        ["api", "3", "issue", id, "worklog"] => {
            json!({ "total": 1, "worklogs": page(vec![json!({ "id": *id, "timeSpentSeconds": 60 })]) })
        }
        ["api", "3", "issue", id, "changelog"] => {
            let items = json!([{ "field": "status", "toString": "Done" }, { "field": "labels" }]);
            values(vec![
                json!({ "id": format!("c{id}"), "created": "2026-01-12T09:30:11.204+0000", "items": items }),
            ])
        }
        ["api", "3", "users", "search"] => Value::from(page(many(
            1500,
            |n| json!({ "accountId": n.to_string(), "active": n % 2 == 0 }),
        ))),
        ["agile", "1.0", "board"] => {
            values(many(55, |n| json!({ "id": n, "name": "b", "type": "scrum" })))
        }
        ["agile", "1.0", "board", id, "sprint"] if id.ends_with('7') => {
            return (400, json!({ "errorMessages": ["The board does not support sprints"] }));
        }
        ["agile", "1.0", "board", _, "sprint"] => {
            values(many(2, |n| json!({ "id": n, "state": "closed" })))
        }
        _ => return (404, json!({ "errorMessages": [format!("no route for {path}")] })),
    };
    (200, body)
}

fn many(count: usize, make: impl Fn(usize) -> Value) -> Vec<Value> {
    (0..count).map(make).collect()
}

fn project(number: usize) -> Value {
    json!({ "id": number.to_string(), "key": format!("P{number}"), "lead": { "accountId": "a" }, "avatarUrls": {} })
}

fn issue(number: usize) -> Value {
    let fields = json!({
        "summary": format!("Issue {number}"), "project": { "id": "1" }, "labels": ["a"], "duedate": "2026-02-03",
        "created": "2026-01-12T09:30:11.204+0100", "customfield_10011": 5,
    });
    json!({ "id": (10_000 + number).to_string(), "key": format!("P-{number}"), "fields": fields })
}

/// Runs the streams that match into JSONL files.
async fn run(jira: &Arc<Jira>, streams: &str, folder: &Path) -> Result<RunReport> {
    let (name, text) = EMBEDDED.iter().find(|(name, _)| *name == "jira").unwrap();
    let spec = Spec::load(name, text).unwrap_or_else(|problems| panic!("{problems}"));
    let yaml = format!("source: JIRA\ntarget: OUT\nstreams: {{ '{streams}': }}\n");
    let replication = Replication::load(&Document::parse("r.yaml", &yaml).unwrap()).unwrap();
    let open = [
        ("domain", "acme.atlassian.net"),
        ("email", "a@b.c"),
        ("token", "classic"),
        ("cloud_id", ""),
        ("site_url", ""),
    ];
    let open = open.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let secret = BTreeMap::from([("api_token".to_owned(), Secret::new("t0ken"))]);
    let fields = Fields { open, secret };
    let documents = Documents {
        spec: &spec,
        replication: &replication,
        fields: &fields,
        default_object: "{stream_name}.jsonl",
        default_name: "jira",
    };
    let plan = |run| Plan::new(documents, &PlanOptions::default(), run, &AccessHooks::default());
    let transport: Arc<dyn Transport> = Arc::<Jira>::clone(jira);
    let services = Services {
        transport,
        target: Arc::new(Files::in_folder(folder, Settings::default())),
        state: None,
        ledger: None,
        reporter: Arc::new(Silent),
        cancel: CancellationToken::new(),
    };
    sync::run(&plan, services, sync::run_options::RunOptions::now()).await
}

#[tokio::test(start_paused = true)]
async fn every_jira_stream_arrives() {
    let folder = tempfile::tempdir().unwrap();
    let report = run(&Arc::default(), "*", folder.path()).await.unwrap();
    assert_eq!(report.status, RunStatus::Done, "{report:#?}");
    let counts: BTreeMap<&str, u64> =
        report.streams.iter().map(|stream| (stream.stream.as_str(), stream.rows)).collect();
    let expected = [
        ("projects", 60),
        ("issues", 230),
        ("comments", 229 + 250),
        ("worklogs", 229),
        ("changelogs", 230),
        ("changelog_items", 460),
        ("users", 1500),
        ("boards", 55),
        ("sprints", 50 * 2),
    ];
    assert_eq!(counts, BTreeMap::from(expected));
    // One issue was deleted before its worklogs were asked for.
    let notices = report.streams.iter().flat_map(|stream| &stream.notices);
    let gone = notices.filter(|notice| notice.kind == NoticeKind::Gone).map(|notice| notice.count);
    assert_eq!(gone.sum::<u64>(), 1);
    let first = |stream: &str| -> Value {
        let text = fs::read_to_string(folder.path().join(format!("{stream}.jsonl"))).unwrap();
        serde_json::from_str(text.lines().next().unwrap()).unwrap()
    };
    let issue = first("issues");
    assert_eq!(issue["created_at"], "2026-01-12T08:30:11.204Z");
    assert_eq!((&issue["due_date"], &issue["labels"]), (&json!("2026-02-03"), &json!(["a"])));
    assert_eq!(issue["fields"]["customfield_10011"], 5);
    let item = first("changelog_items");
    assert_eq!((&item["field"], &item["to_text"]), (&json!("status"), &json!("Done")));
    assert!(item["changelog_id"].as_str().unwrap().starts_with("c1"));
}

#[tokio::test(start_paused = true)]
async fn an_expired_token_empties_no_table() {
    let jira = Arc::new(Jira::default());
    let folder = tempfile::tempdir().unwrap();
    run(&jira, "projects", folder.path()).await.unwrap();
    let before = fs::read_to_string(folder.path().join("projects.jsonl")).unwrap();
    assert_eq!(before.lines().count(), 60);
    jira.expired.store(true, Ordering::Relaxed);
    let error = run(&jira, "projects", folder.path()).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Credentials, "{error:?}");
    assert!(error.hint().unwrap().contains("token"), "{error:?}");
    assert_eq!(fs::read_to_string(folder.path().join("projects.jsonl")).unwrap(), before);
}
