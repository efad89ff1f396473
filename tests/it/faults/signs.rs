//! Answers that say more than the spec reads: more pages, a failure, another place.

use serde_json::{Value, json};
use weir::report::{NoticeKind, StreamStatus};
use weir::spec::Spec;
use weir::sync::report::RunStatus;

use crate::support::fake::{Fake, Reply, RunResult};

fn spec(request: &str) -> String {
    format!(
        "
name: shop
base_url: https://shop.test
test: {{ get: /ping }}
streams:
  orders:
    key: [id]
    columns: {{ id: int }}
    records: results
    {}
",
        request.trim().replace('\n', "\n    ")
    )
}

const INCREMENTAL: &str =
    "source: A\ntarget: B\ndefaults: { mode: incremental, refresh: 0s }\nstreams: { '*': }\n";

/// Orders, each with lines.
const LINES: &str = "
name: shop
base_url: https://shop.test
test: { get: /ping }
defaults: { paginate: none, unique_ids: true }
streams:
  orders: { get: /orders, records: results, key: [id], feeds: { order_ids: id }, columns: { id: text } }
  lines:
    for_each: order_ids
    get: /orders/{{ order_id }}/lines
    records: results
    key: [id]
    columns: { id: int }
";

fn orders(ids: std::ops::RangeInclusive<u64>) -> Value {
    ids.map(|id| json!({ "id": id })).collect()
}

#[track_caller]
fn is_incomplete(ran: &RunResult, what: &str) {
    let stream = ran.stream("orders");
    assert_eq!(
        (stream.status, stream.deleted, stream.complete),
        (StreamStatus::Done, 0, false),
        "{what}"
    );
    assert!(
        stream.notices.iter().any(|one| one.kind == NoticeKind::MissingPages),
        "{what}: {stream:?}"
    );
    assert_eq!(ran.report.status, RunStatus::DoneWithErrors, "{what}");
}

/// An API gives its next pages another name, or counts its pages from another number.
#[tokio::test]
async fn a_first_page_that_shows_more_marks_nothing_as_deleted() {
    let signs = [
        json!({ "meta": { "next_page": 2 } }),
        json!({ "pagination": { "total_count": 25 } }),
        json!({ "totalPages": 3 }),
        json!({ "pageInfo": { "hasNextPage": true } }),
        json!({ "links": [{ "rel": "next", "href": "https://shop.test/orders?page=2" }] }),
        json!({ "total": 25 }),
    ];
    for paginate in ["", "paginate: { cursor: { param: c, at: next_token } }"] {
        for sign in &signs {
            let fake = Fake::new(&spec(&format!("get: /orders\n{paginate}")), |_| {
                Reply::json(&json!({ "results": orders(1..=25) }))
            });
            fake.run_with(INCREMENTAL).await;
            let mut answer = sign.clone();
            answer["results"] = orders(1..=10);
            fake.answer(move |_| Reply::json(&answer));
            is_incomplete(&fake.run_with(INCREMENTAL).await, &format!("{paginate} {sign}"));
        }
    }
    for (name, value) in [("X-Total-Count", "25"), ("X-Total-Pages", "3"), ("X-Next-Page", "2")] {
        let fake = Fake::new(&spec("get: /orders"), move |_| {
            Reply::json(&json!({ "results": orders(1..=10) })).header(name, value)
        });
        is_incomplete(&fake.run_with(INCREMENTAL).await, name);
    }
}

/// A full page with nothing after it may be the last one: nothing follows from what it does not hold.
#[tokio::test]
async fn a_listing_that_ends_with_a_full_page_concludes_no_deletes() {
    let request = "get: /orders\npage_size: { param: size, max: 10 }\npaginate: { cursor: { param: c, at: next } }";
    let fake = Fake::new(&spec(request), |asked| {
        let second = asked.param("c") == "2";
        let page = if second { orders(11..=15) } else { orders(1..=10) };
        let next = if second { Value::Null } else { json!("2") };
        Reply::json(&json!({ "results": page, "next": next }))
    });
    fake.run_with(INCREMENTAL).await;
    fake.answer(|_| Reply::json(&json!({ "results": orders(1..=10), "next_token": "2" })));
    let ran = fake.run_with(INCREMENTAL).await;
    let stream = ran.stream("orders");
    assert_eq!((stream.status, stream.deleted), (StreamStatus::Done, 0), "{stream:?}");
    assert!(stream.notices.iter().any(|one| one.kind == NoticeKind::FullPage), "{stream:?}");
}

#[tokio::test]
async fn an_answer_that_says_that_it_has_failed_empties_no_table() {
    for failed in [
        json!({ "success": false, "results": [] }),
        json!({ "ok": false, "results": [] }),
        json!({ "status": "error", "message": "x", "results": [] }),
    ] {
        let fake = Fake::new(&spec("get: /orders\npaginate: none"), |_| {
            Reply::json(&json!({ "results": orders(1..=3), "success": true, "status": "ok" }))
        });
        fake.run().await;
        let answer = failed.clone();
        fake.answer(move |_| Reply::json(&answer));
        let ran = fake.run().await;
        let stream = ran.stream("orders");
        assert_eq!(stream.status, StreamStatus::Failed, "{failed}");
        assert!(stream.error.as_ref().unwrap().contains("states that it has failed"), "{stream:?}");
        assert_eq!(fake.column("orders", "id"), [1, 2, 3]);
    }
}

#[tokio::test]
async fn a_link_header_of_another_form_is_no_last_page() {
    let request = "get: /orders\npaginate: link_header";
    let fake = Fake::new(&spec(request), |_| {
        let link = "https://shop.test/orders?page=2; rel=\"next\"";
        Reply::json(&json!({ "results": orders(1..=10) })).header("Link", link)
    });
    let ran = fake.run().await;
    assert!(
        ran.stream("orders").error.as_ref().unwrap().contains("`Link` header"),
        "{:?}",
        ran.report
    );
}

#[tokio::test]
async fn a_value_that_is_two_dots_leads_to_no_other_place() {
    let fake = Fake::new(LINES, |_| Reply::json(&json!({ "results": [{ "id": ".." }] })));
    let ran = fake.run().await;
    let paths: Vec<&str> = ran.asked.iter().map(|asked| asked.path.as_str()).collect();
    assert_eq!(paths, ["/orders"]);
    assert!(
        ran.stream("lines").error.as_ref().unwrap().contains("have a different path"),
        "{:?}",
        ran.report
    );
}

/// One object is refused with 401 while others are answered, and the connection's test is.
#[tokio::test]
async fn a_401_for_one_child_is_a_refused_slice() {
    let fake = Fake::new(LINES, |asked| match asked.path.as_str() {
        "/orders" => Reply::json(&json!({ "results": orders(1..=3) })),
        "/orders/2/lines" => Reply::status(401, &json!({ "error": "no" })),
        "/ping" => Reply::json(&json!({})),
        path => {
            Reply::json(&json!({ "results": [{ "id": path.len() + path.as_bytes()[8] as usize }] }))
        }
    });
    let ran = fake.run().await;
    let stream = ran.stream("lines");
    assert_eq!(
        (stream.status, stream.skipped, stream.rows),
        (StreamStatus::Done, 1, 2),
        "{stream:?}"
    );
}

#[test]
fn a_spec_that_says_nothing_of_pages_is_warned_about() {
    let text = spec("get: /orders");
    let loaded = Spec::load("a.yaml", &text).unwrap();
    let warnings = loaded.warnings("a.yaml", &text).to_string();
    assert!(warnings.contains("`paginate` is missing"), "{warnings}");
    let text = spec("get: /orders\npaginate: none");
    assert_eq!(Spec::load("a.yaml", &text).unwrap().warnings("a.yaml", &text).to_string(), "");
}
