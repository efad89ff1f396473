//! Values on their way from records into requests and rows.

use serde_json::{Value, json};
use weir::{report::StreamStatus, spec::Spec};

use crate::support::fake::{Fake, Reply};

const START: &str =
    "name: shop\nbase_url: https://shop.test\ntest: { get: /ping }\ndefaults: { paginate: none }\n";

fn spec(streams: &str) -> String {
    format!("{START}streams:\n{streams}")
}

/// What is wrong with a spec.
#[track_caller]
fn wrong(streams: &str) -> String {
    Spec::load("spec.yaml", &spec(streams)).map(|_| ()).unwrap_err().to_string()
}

#[tokio::test]
async fn what_was_not_carried_leaves_no_hole_in_a_path() {
    let fake = Fake::new(
        &spec(
            "
  projects: { get: /projects, key: [id], feeds: { project_ids: id }, columns: { id: int } }
  tasks:
    for_each: { queue: project_ids, carry: { org: org.name } }
    get: '/orgs/{{ org }}/projects/{{ project_id }}'
    key: [id]
    columns: { id: int }
",
        ),
        |asked| {
            assert!(!asked.path.contains("//"), "{}", asked.path);
            if asked.path == "/projects" {
                return Reply::json(&json!([{ "id": 1, "org": { "name": "a" } }, { "id": 2 }]));
            }
            Reply::json(&json!([{ "id": 1 }]))
        },
    );
    let ran = fake.run().await;
    let tasks = ran.stream("tasks");
    assert_eq!(tasks.status, StreamStatus::Failed);
    assert!(tasks.error.as_deref().unwrap().contains("`org` is empty"), "{:?}", tasks.error);
}

#[tokio::test]
async fn having_holds_for_children_of_every_level() {
    let answer = |path: &str| {
        let record = |id: u64, state: &str| json!({ "id": id, "state": state });
        match path {
            "/notes" => json!([record(1, "open"), record(2, "shut")]),
            "/notes/1/replies" => json!([record(3, "shut"), record(4, "open")]),
            "/notes/4/replies" => json!([record(5, "shut"), record(6, "open")]),
            _ => json!([]),
        }
    };
    for (own, ids) in [("", vec![1, 4, 6]), ("\n      filter: {}", vec![1, 3, 4, 5, 6])] {
        let fake = Fake::new(
            &spec(&format!(
                "
  notes:
    get: /notes
    filter: {{ state: open }}
    children:
      with: {{ note_id: id }}
      get: '/notes/{{{{ note_id }}}}/replies'{own}
    key: [id]
    columns: {{ id: int }}
"
            )),
            move |asked| Reply::json(&answer(&asked.path)),
        );
        fake.run().await;
        let mut found: Vec<u64> =
            fake.column("notes", "id").iter().map(|id| id.as_u64().unwrap()).collect();
        found.sort_unstable();
        assert_eq!(found, ids);
    }
}

#[tokio::test]
async fn digits_are_kept_on_their_way_into_queries_and_bodies() {
    const LONG: &str = "123456789012345678901234567890";
    let raw = |text: String| Reply::raw(200, text);
    let fake = Fake::new(
        &format!(
            "name: shop
base_url: https://shop.test
test: {{ get: /ping }}
setup: [{{ get: /site, capture: {{ site: id }} }}]
defaults: {{ paginate: none }}
streams:
  orgs: {{ get: /orgs, key: [id], feeds: {{ org_ids: id }}, columns: {{ id: text }} }}
  kids:
    for_each: org_ids
    post: /kids
    query: {{ site: '{{{{ site }}}}', org: '{{{{ org_id }}}}', fixed: {LONG}, version: 1.10, zip: 007 }}
    body: {{ json: {{ org: '{{{{ org_id }}}}', fixed: {LONG} }} }}
    key: [id]
    columns: {{ id: text }}
  pages:
    get: /pages
    paginate: {{ cursor: {{ at: next, param: after }} }}
    records: results
    key: [id]
    columns: {{ id: int }}
"
        ),
        move |asked| match (asked.path.as_str(), asked.param("after")) {
            ("/site", _) => raw(format!("{{\"id\":{LONG}}}")),
            ("/orgs", _) => raw(format!("[{{\"id\":{LONG}}}]")),
            ("/kids", _) => {
                assert_eq!(asked.param("site"), LONG);
                assert_eq!(asked.param("org"), LONG);
                assert_eq!(asked.param("fixed"), LONG);
                assert_eq!((asked.param("version"), asked.param("zip")), ("1.10", "007"));
                let body: Value = serde_json::from_str(&asked.body).unwrap();
                assert_eq!((&body["org"], &body["fixed"]), (&json!(LONG), &json!(LONG)));
                Reply::json(&json!([{ "id": "1" }]))
            }
            ("/pages", "") => raw(format!("{{\"results\":[{{\"id\":1}}],\"next\":{LONG}}}")),
            ("/pages", LONG) => Reply::json(&json!({ "results": [{ "id": 2 }] })),
            other => panic!("{other:?}"),
        },
    );
    let ran = fake.run().await;
    for stream in ["orgs", "kids", "pages"] {
        assert_eq!(ran.stream(stream).status, StreamStatus::Done, "{:?}", ran.stream(stream));
    }
    assert_eq!(fake.column("orgs", "id"), [LONG]);
    assert_eq!(fake.rows("pages").len(), 2);
}

#[tokio::test]
async fn computed_columns_see_columns_of_every_type() {
    let fake = Fake::new(
        &spec(
            "
  orders:
    get: /orders
    key: [id]
    columns:
      id: int
      at: timestamp
      day: date
      price: decimal
      whole: decimal
      paid: bool
      rate: float
      raw: bytes
      more: json
      all: { text: '{{ row.at }} {{ row.day }} {{ row.price }} {{ row.whole }} {{ row.paid }} {{ row.rate }} {{ row.raw }} {{ row.more }}' }
",
        ),
        |_| {
            Reply::json(&json!([{
                "id": 1, "at": "2026-03-01T10:00:00Z", "day": "2026-03-01", "price": 1.50,
                "whole": 100, "paid": true, "rate": 0.5, "raw": "aGk=", "more": { "a": 1 },
            }]))
        },
    );
    let ran = fake.run().await;
    assert_eq!(ran.stream("orders").error, None);
    let all = "2026-03-01T10:00:00Z 2026-03-01 1.5 100 true 0.5 aGk= {\"a\":1}";
    assert_eq!(fake.column("orders", "all"), [all]);
}

#[tokio::test]
async fn the_whole_record_is_a_json_column() {
    let streams = "  orders: { get: /orders, key: [id], columns: { id: int, all: { json: '' } } }";
    let fake = Fake::new(&spec(streams), |_| Reply::json(&json!([{ "id": 1, "a": [2] }])));
    fake.run().await;
    assert_eq!(fake.column("orders", "all"), [json!({ "id": 1, "a": [2] })]);
}

#[test]
fn what_could_never_work_is_found_by_validation() {
    let column = |source: &str| {
        wrong(&format!("  a: {{ get: /a, records: 'r[].k', columns: {{ id: {source} }} }}\n"))
    };
    assert!(column("{ text: ^.^.id }").contains("has more `^`"));
    assert!(column("{ text: [^.id, id] }").contains("same record"));
    assert!(column("{ text: 'x[].y' }").contains("many values"));
    assert!(column("{ text: '' }").contains("the whole record"));
    assert!(column("{ text: '{{ row.id | nosuch }}' }").contains("no filter `nosuch`"));
    let feeds = "  a: { get: /a, feeds: { ids: ^.id }, columns: { id: text } }\n";
    assert!(wrong(feeds).contains("`^` is allowed"));
    let unknown = "  a: { get: /a, unknown: add_columns, columns: { id: text } }\n";
    assert!(wrong(unknown).contains("add_columns"));
}
