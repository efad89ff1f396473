//! What the spec language can say that the specs in the repository do not need.

use std::{
    collections::BTreeMap,
    fs,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use weir::http::access::AccessHooks;
use weir::http::exchange::{
    HeaderMap, HeaderValue, Request, Response, StatusCode, Transport, TransportError,
};
use weir::plan::{Documents, Plan, PlanOptions};
use weir::replication::Replication;
use weir::report::{Silent, StreamStatus};
use weir::run::services::Services;
use weir::secret::Secret;
use weir::spec::{Fields, Spec};
use weir::sync;
use weir::sync::report::RunReport;
use weir::write::files::{Files, Settings};
use weir::yaml::Document;

/// An API that answers by a function, and remembers what it was asked.
struct Api {
    answer: fn(&Request, &BTreeMap<String, String>) -> (u16, Value),
    asked: Mutex<Vec<String>>,
}

#[async_trait]
impl Transport for Api {
    async fn send(&self, request: &Request) -> Result<Response, TransportError> {
        let query: BTreeMap<String, String> = request.url.query_pairs().into_owned().collect();
        let (status, body) = (self.answer)(request, &query);
        self.asked.lock().unwrap().push(format!("{} {}", request.method, request.url.path()));
        let mut headers = HeaderMap::new();
        if let Some(link) = body.get("link").and_then(Value::as_str) {
            headers.insert("link", HeaderValue::from_str(link).unwrap());
        }
        let status = StatusCode::from_u16(status).unwrap();
        Ok(Response { status, headers, body: Bytes::from(body.to_string()) })
    }
}

struct RunResult {
    report: RunReport,
    rows: BTreeMap<String, Vec<Value>>,
    asked: Vec<String>,
}

async fn run(
    spec: &str,
    api: fn(&Request, &BTreeMap<String, String>) -> (u16, Value),
) -> RunResult {
    let spec = Spec::load("spec.yaml", spec).unwrap_or_else(|problems| panic!("{problems}"));
    let yaml =
        "source: A\ntarget: B\ndefaults: { metadata: { synced_at: false } }\nstreams: { '*': }\n";
    let replication = Replication::load(&Document::parse("r.yaml", yaml).unwrap()).unwrap();
    let secret = BTreeMap::from([("token".to_owned(), Secret::new("s3cret"))]);
    let fields = Fields { open: BTreeMap::new(), secret };
    let documents = Documents {
        spec: &spec,
        replication: &replication,
        fields: &fields,
        default_object: "{stream_name}.jsonl",
        default_name: "language",
    };
    let plan = |run| Plan::new(documents, &PlanOptions::default(), run, &AccessHooks::default());
    let folder = tempfile::tempdir().unwrap();
    let api = Arc::new(Api { answer: api, asked: Mutex::default() });
    let services = Services {
        transport: Arc::<Api>::clone(&api),
        target: Arc::new(Files::in_folder(folder.path(), Settings::default())),
        state: None,
        ledger: None,
        reporter: Arc::new(Silent),
        cancel: CancellationToken::new(),
    };
    let report = sync::run(&plan, services, sync::run_options::RunOptions::now()).await.unwrap();
    let mut rows = BTreeMap::new();
    for stream in &report.streams {
        let path = folder.path().join(format!("{}.jsonl", stream.stream));
        let text = fs::read_to_string(path).unwrap_or_default();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        rows.insert(stream.stream.clone(), lines);
    }
    let asked = api.asked.lock().unwrap().clone();
    RunResult { report, rows, asked }
}

const HEAD: &str = "
name: shop
base_url: https://shop.test/v1/
connection: { token: { secret: true, help: the token } }
test: { get: /ping }
";

fn column(ran: &RunResult, stream: &str, name: &str) -> Vec<Value> {
    ran.rows[stream].iter().map(|row| row[name].clone()).collect()
}

#[tokio::test(start_paused = true)]
async fn setup_captures_and_teardown_follows_whatever_happened() {
    let spec = format!(
        "{HEAD}
auth: {{ bearer: '{{{{ token }}}}' }}
setup: [{{ post: /sessions, body: {{ json: {{ ttl: 5 }} }}, capture: {{ session: id }} }}]
teardown: [{{ delete: '/sessions/{{{{ session }}}}' }}]
streams:
  orders:
    doc: An order.
    get: /orders
    headers: {{ X-Session: '{{{{ session }}}}' }}
    columns: {{ id: int }}
  broken: {{ doc: Never there., get: /broken, columns: {{ id: int }} }}
"
    );
    let ran = run(&spec, |request, _| {
        assert!(request.headers["authorization"].is_sensitive());
        assert!(!format!("{request:?}").contains("s3cret"));
        match request.url.path() {
            "/v1/sessions" => (200, json!({ "id": "s/1" })),
            "/v1/orders" => {
                assert_eq!(request.headers["x-session"], "s/1");
                (200, json!([{ "id": 1 }]))
            }
            "/v1/sessions/s%2F1" => (200, json!({})),
            _ => (400, json!({ "message": "no" })),
        }
    })
    .await;
    assert_eq!(column(&ran, "orders", "id"), [1]);
    assert_eq!(ran.asked.first().unwrap(), "POST /v1/sessions");
    assert_eq!(ran.asked.last().unwrap(), "DELETE /v1/sessions/s%2F1");
}

#[tokio::test(start_paused = true)]
async fn slices_come_from_values_ranges_and_chunks_of_queues() {
    let spec = format!(
        "{HEAD}
streams:
  years: {{ doc: A year., for_each: {{ range: {{ from: 2024, to: '2026' }}, as: year }}, get: '/years/{{{{ year }}}}', columns: {{ year: {{ int: '{{{{ year }}}}' }}, total: decimal }} }}
  regions: {{ doc: A region., for_each: {{ values: [eu, us], as: region }}, get: '/regions', query: {{ region: '{{{{ region }}}}' }}, columns: {{ region: text }}, feeds: {{ region_ids: id }} }}
  shops:
    doc: A shop.
    for_each: {{ queue: region_ids, chunk: 3 }}
    get: /shops
    query: {{ ids: \"{{{{ region_ids | join('+') }}}}\" }}
    columns: {{ ids: text, upper: {{ text: '{{{{ row.ids | upper }}}}' }} }}
"
    );
    let ran = run(&spec, |request, query| {
        let body = match request.url.path() {
            "/v1/regions" => json!([{ "region": query["region"], "id": 1 }, { "region": "x", "id": 2 }, { "region": "y", "id": format!("3{}", query["region"]) }]),
            "/v1/shops" => json!({ "ids": query["ids"] }),
            path => json!({ "total": format!("{}.5", path.rsplit('/').next().unwrap()) }),
        };
        (200, body)
    })
    .await;
    let mut years = column(&ran, "years", "year");
    years.sort_by_key(Value::as_i64);
    assert_eq!(years, [2024, 2025, 2026]);
    assert_eq!(ran.rows["regions"].len(), 6);
    // Values 1 and 2 come twice and are asked for once.
    let shops = column(&ran, "shops", "upper");
    assert_eq!(shops.len(), 2);
    let ids: usize = shops.iter().map(|ids| ids.as_str().unwrap().split('+').count()).sum();
    assert_eq!(ids, 4);
    assert!(shops.iter().any(|ids| ids.as_str().unwrap().contains("EU")));
}

#[tokio::test(start_paused = true)]
async fn cursors_go_into_the_body_of_a_post_and_links_into_headers() {
    let spec = format!(
        "{HEAD}
streams:
  found:
    doc: A hit.
    post: /search
    body: {{ json: {{ q: '{{{{ stream_name }}}}', size: 2 }} }}
    records: hits
    paginate: {{ cursor: {{ at: next, param: after }} }}
    columns: {{ id: int }}
  linked: {{ doc: An item., get: /items, records: items, paginate: {{ link_header: {{}} }}, columns: {{ id: int }} }}
"
    );
    let ran = run(&spec, |request, query| match request.url.path() {
        "/v1/search" => {
            let body: Value = serde_json::from_slice(request.body.as_ref().unwrap()).unwrap();
            assert_eq!((&body["q"], &body["size"]), (&json!("found"), &json!(2)));
            match body["after"].as_str() {
                None => (200, json!({ "hits": [{ "id": 1 }], "next": "n" })),
                Some("n") => (200, json!({ "hits": [{ "id": 2 }] })),
                Some(other) => (400, json!({ "message": other })),
            }
        }
        _ if query.contains_key("page") => (200, json!({ "items": [{ "id": 4 }] })),
        _ => (200, json!({ "items": [{ "id": 3 }], "link": "</v1/items?page=2>; rel=\"next\"" })),
    })
    .await;
    assert_eq!(column(&ran, "found", "id"), [1, 2]);
    assert_eq!(column(&ran, "linked", "id"), [3, 4]);
}

#[tokio::test(start_paused = true)]
async fn answers_lead_where_the_rules_say() {
    let spec = format!(
        "{HEAD}
defaults: {{ records: items, paginate: {{ page: {{ param: page, pages: pages }} }} }}
streams:
  gaps: {{ doc: Gaps., get: /gaps, columns: {{ id: int }}, responses: [{{ status: 500, then: skip_page }}] }}
  ends: {{ doc: Ends., get: /ends, columns: {{ id: int }}, responses: [{{ status: 410, then: stop_stream }}] }}
  none: {{ doc: None., get: /none, columns: {{ id: int }}, responses: [{{ status: 404, then: empty }}] }}
  closed: {{ doc: Closed., get: /closed, columns: {{ id: int }}, unknown: fail }}
"
    );
    let ran = run(&spec, |request, query| {
        let page: u64 = query["page"].parse().unwrap();
        let items = json!({ "items": [{ "id": page }], "pages": 3 });
        match (request.url.path(), page) {
            ("/v1/gaps", 2) => (500, json!({})),
            ("/v1/ends", 3) => (410, json!({ "message": "the rest is gone" })),
            ("/v1/none", _) => (404, json!({})),
            ("/v1/closed", _) => (200, json!({ "items": [{ "id": 1, "odd": 2 }], "pages": 1 })),
            _ => (200, items),
        }
    })
    .await;
    assert_eq!(column(&ran, "gaps", "id"), [1, 3]);
    assert_eq!(column(&ran, "ends", "id"), [1, 2]);
    assert_eq!(column(&ran, "none", "id"), Vec::<Value>::new());
    let report =
        |name: &str| ran.report.streams.iter().find(|stream| stream.stream == name).unwrap();
    assert!(!report("gaps").complete && !report("ends").complete && report("none").complete);
    assert_eq!(report("closed").status, StreamStatus::Failed);
    assert!(report("closed").error.as_ref().unwrap().contains("`odd`"));
    assert_eq!(ran.report.errors.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn tokens_are_fetched_once_and_sent_along() {
    let spec = format!(
        "{HEAD}
auth: {{ oauth2: {{ grant: client_credentials, token_url: 'https://id.test/token', client_id: me, client_secret: '{{{{ token }}}}', scopes: [read] }} }}
streams:
  one: {{ doc: One., get: /one, columns: {{ id: int }} }}
  two: {{ doc: Two., get: /two, columns: {{ id: int }} }}
"
    );
    let ran = run(&spec, |request, _| {
        if request.url.host_str() == Some("id.test") {
            let form = String::from_utf8(request.body.clone().unwrap().to_vec()).unwrap();
            assert_eq!(
                form,
                "grant_type=client_credentials&client_id=me&client_secret=s3cret&scope=read"
            );
            return (200, json!({ "access_token": "t", "expires_in": 3600 }));
        }
        assert_eq!(request.headers["authorization"], "Bearer t");
        (200, json!([{ "id": 1 }]))
    })
    .await;
    assert_eq!(ran.asked.iter().filter(|asked| *asked == "POST /token").count(), 1);
    assert_eq!(column(&ran, "two", "id"), [1]);
}
