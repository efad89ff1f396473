//! Listings whose pages do not follow as the spec says.

use serde_json::{Value, json};
use weir::report::{NoticeKind, StreamStatus};

use crate::support::{
    fake::{Asked, Fake, Reply, RunResult},
    postgres::Database,
};

/// A spec with one stream of this request.
fn spec(request: &str) -> String {
    format!(
        "
name: shop
base_url: https://shop.test
test: {{ get: /ping }}
streams:
  orders:
    doc: An order.
    key: [id]
    columns: {{ id: int }}
    {}
",
        request.trim().replace('\n', "\n    ")
    )
}

/// Orders of these ids.
fn orders(ids: impl IntoIterator<Item = u64>) -> Value {
    ids.into_iter().map(|id| json!({ "id": id })).collect()
}

/// The error of the only stream, which failed.
#[track_caller]
fn error(ran: &RunResult) -> &str {
    let stream = ran.stream("orders");
    assert_eq!(stream.status, StreamStatus::Failed, "{stream:?}");
    stream.error.as_deref().unwrap()
}

#[track_caller]
fn has_notice(ran: &RunResult, kind: NoticeKind) {
    let notices = &ran.stream("orders").notices;
    assert!(notices.iter().any(|notice| notice.kind == kind), "{notices:?}");
}

const OLD: &str = "get: /orders\nrecords: results\npaginate: { next_url: { at: next } }";

#[tokio::test]
async fn what_is_no_list_of_records_empties_no_table() {
    let fake = Fake::new(&spec(OLD), |_| Reply::json(&json!({ "results": orders(1..=3) })));
    fake.run().await;
    for wrong in [
        json!({ "results": null }),
        json!({ "results": {} }),
        json!({ "results": { "items": [] } }),
        json!({ "results": [], "errors": [{ "message": "no rights" }] }),
        json!({ "results": [], "error": "no rights" }),
    ] {
        let shown = wrong.to_string();
        fake.answer(move |_| Reply::json(&wrong));
        let ran = fake.run().await;
        error(&ran);
        assert_eq!(ran.asked.len(), 1, "{shown}");
        assert_eq!(fake.rows("orders").len(), 3, "{shown}");
    }
}

#[tokio::test]
async fn null_is_an_empty_list_where_the_spec_says_so() {
    let lenient = spec(&format!("{OLD}\nnull_means_none: true"));
    let fake = Fake::new(&lenient, |_| Reply::json(&json!({ "results": null })));
    let ran = fake.run().await;
    assert_eq!(ran.stream("orders").status, StreamStatus::Done);
    assert!(ran.stream("orders").complete);
}

#[tokio::test]
async fn errors_beside_records_make_the_reading_incomplete() {
    let body = json!({ "results": orders(1..=3), "errors": [{ "message": "shard 3 is down" }] });
    let fake = Fake::new(&spec(OLD), move |_| Reply::json(&body));
    let ran = fake.run().await;
    assert!(!ran.stream("orders").complete);
    has_notice(&ran, NoticeKind::AnswerErrors);
    assert_eq!(fake.rows("orders").len(), 3);
}

#[tokio::test]
async fn a_request_without_paginate_says_that_there_is_more() {
    for (more, kind) in [
        (json!({ "next": "/orders?page=2" }), NoticeKind::MissingPages),
        (json!({ "_links": { "next": { "href": "/x" } } }), NoticeKind::MissingPages),
        (json!({ "has_more": true }), NoticeKind::MissingPages),
        (json!({ "total": 26 }), NoticeKind::MissingPages),
        (json!({ "isLast": false }), NoticeKind::MissingPages),
        (json!({}), NoticeKind::FullPage),
    ] {
        let mut body = more.clone();
        body["results"] = orders(1..=25);
        let fake = Fake::new(&spec("get: /orders\nrecords: results"), move |_| Reply::json(&body));
        let ran = fake.run().await;
        assert_eq!(ran.stream("orders").status, StreamStatus::Done, "{more}");
        assert_eq!(ran.stream("orders").complete, kind == NoticeKind::FullPage, "{more}");
        has_notice(&ran, kind);
    }
    let quiet = json!({ "results": orders(1..=25), "next": null, "total": 25, "isLast": true });
    let told = spec("get: /orders\nrecords: results\npaginate: none");
    let fake = Fake::new(&told, move |_| Reply::json(&quiet));
    assert!(fake.run().await.stream("orders").notices.is_empty());
}

#[tokio::test]
async fn a_link_header_says_that_there_is_more_too() {
    let fake = Fake::new(&spec("get: /orders"), |_| {
        Reply::json(&orders(1..=3)).header("link", "</orders?page=2>; rel=\"next\"")
    });
    let ran = fake.run().await;
    has_notice(&ran, NoticeKind::MissingPages);
    assert!(!ran.stream("orders").complete);
}

/// Ten orders to a page, 25 in all, and what tells of a next page.
fn pages(asked: &Asked, more: impl Fn(u64) -> Value) -> Reply {
    let page: u64 = asked.param("page").parse().unwrap_or(1);
    let ids = (page - 1) * 10 + 1..=(page * 10).min(25);
    let mut body = if page < 3 { more(page + 1) } else { json!({}) };
    body["results"] = orders(ids);
    Reply::json(&body)
}

#[tokio::test]
async fn the_obvious_forms_of_a_next_page_are_followed() {
    let link: fn(u64) -> Value =
        |next| json!({ "next": { "href": format!("/orders?page={next}") } });
    let escaped: fn(u64) -> Value =
        |next| json!({ "next": format!("/orders?a=1&amp;page={next}") });
    for more in [link, escaped] {
        let fake = Fake::new(&spec(OLD), move |asked| pages(asked, more));
        let ran = fake.run().await;
        assert!(ran.stream("orders").complete);
        assert_eq!(fake.rows("orders").len(), 25);
    }
    let numbered =
        "get: /orders\nrecords: results\npaginate: { page: { param: page, last: last } }";
    for words in [[json!("false"), json!("true")], [json!(0), json!(1)]] {
        let fake = Fake::new(&spec(numbered), move |asked| {
            let last = usize::from(asked.param("page") == "3");
            let mut body = json!({ "last": words[last] });
            let page: u64 = asked.param("page").parse().unwrap();
            body["results"] = orders((page - 1) * 10 + 1..=(page * 10).min(25));
            Reply::json(&body)
        });
        assert_eq!(fake.run().await.asked.len(), 3);
        assert_eq!(fake.rows("orders").len(), 25);
    }
}

#[tokio::test]
async fn a_next_page_of_another_shape_is_an_error_that_shows_it() {
    for other in [json!(true), json!(["/orders?page=2"]), json!({ "uri": "/orders?page=2" })] {
        let shown = other.to_string();
        let fake = Fake::new(&spec(OLD), move |asked| {
            let other = other.clone();
            pages(asked, move |_| json!({ "next": other }))
        });
        let ran = fake.run().await;
        assert!(error(&ran).contains(&shown), "{}", error(&ran));
        assert!(fake.rows("orders").is_empty());
    }
}

#[tokio::test]
async fn a_next_link_keeps_the_parameters_of_the_first_request() {
    for follow in ["url", "query"] {
        let request = format!(
            "get: /orders\nquery: {{ fields: all, state: open }}\nrecords: results
paginate: {{ next_url: {{ at: next, follow: {follow} }} }}"
        );
        let fake = Fake::new(&spec(&request), |asked| {
            assert_eq!((asked.param("fields"), asked.param("state")), ("all", "open"));
            pages(asked, |next| json!({ "next": format!("/orders?page={next}") }))
        });
        fake.run().await;
        assert_eq!(fake.rows("orders").len(), 25, "{follow}");
    }
}

#[tokio::test]
async fn a_missing_token_is_no_end_where_a_sign_says_more() {
    let request = "get: /orders\nrecords: results
paginate: { cursor: { at: 'results[11].id', param: page, more: has_more } }";
    let fake = Fake::new(&spec(request), |asked| pages(asked, |_| json!({ "has_more": true })));
    let ran = fake.run().await;
    assert!(error(&ran).contains("`has_more` states that there are more pages"), "{}", error(&ran));

    let silent = "get: /orders\nrecords: results\npage_size: { param: size, max: 10 }
paginate: { cursor: { at: no.such.place, param: page } }";
    let fake = Fake::new(&spec(silent), |asked| pages(asked, |_| json!({})));
    let ran = fake.run().await;
    has_notice(&ran, NoticeKind::FullPage);
}

#[tokio::test]
async fn a_server_that_ignores_the_page_ends_the_listing_with_an_error() {
    for paginate in ["page: { param: page }", "offset: { param: startAt }"] {
        let request = format!("get: /orders\nrecords: results\npaginate: {{ {paginate} }}");
        let fake =
            Fake::new(&spec(&request), |_| Reply::json(&json!({ "results": orders(1..=10) })));
        let ran = fake.run().await;
        assert!(error(&ran).contains("contains only records of earlier pages"), "{}", error(&ran));
        assert_eq!(ran.asked.len(), 2);
        assert!(fake.rows("orders").is_empty());
    }
}

#[tokio::test]
async fn a_page_may_repeat_others_where_the_spec_says_so() {
    let request = "get: /orders\nrecords: results\nmay_repeat: true
paginate: { page: { param: page, pages: pages } }";
    let fake = Fake::new(&spec(request), |_| {
        Reply::json(&json!({ "results": orders(1..=10), "pages": 2 }))
    });
    let ran = fake.run().await;
    assert_eq!(ran.stream("orders").status, StreamStatus::Done);
    assert_eq!(fake.rows("orders").len(), 10);
}

#[tokio::test]
async fn rows_that_move_while_others_go_are_read_again() {
    let request = "get: /orders\nrecords: results\npage_size: { param: size, max: 10 }
paginate: { offset: { param: from, total: total } }";
    // Orders 1 to 3 go after the first page was read.
    let fake = Fake::new(&spec(request), |asked| {
        let from: usize = asked.param("from").parse().unwrap();
        let all: Vec<u64> = if from == 0 { (1..=25).collect() } else { (4..=25).collect() };
        let page = all.iter().copied().skip(from).take(10);
        Reply::json(&json!({ "results": orders(page), "total": all.len() }))
    });
    let ran = fake.run().await;
    assert!(ran.stream("orders").complete);
    let ids: Vec<u64> = fake.column("orders", "id").iter().map(|id| id.as_u64().unwrap()).collect();
    assert_eq!(ids.len(), 25, "{ids:?}");
    assert!((11..=13).all(|id| ids.contains(&id)), "{ids:?}");
}

/// However many records go, wherever, the listing is read to its end, and nothing that stayed is missing.
#[tokio::test]
async fn records_that_go_by_whole_pages_end_no_listing() {
    let paged = "paginate: { page: { param: page, total: total } }";
    let by_offset = "paginate: { offset: { param: from, total: total } }";
    for (paginate, gone, before) in [
        (paged, 1..=3_u64, 2),
        (paged, 1..=20, 2),
        (by_offset, 1..=10, 1),
        (by_offset, 1..=20, 2),
        (by_offset, 51..=62, 3),
    ] {
        let request = format!(
            "get: /orders\nrecords: results\npage_size: {{ param: size, max: 10 }}\n{paginate}"
        );
        let answers = std::sync::atomic::AtomicUsize::new(0);
        let left = gone.clone();
        let fake = Fake::new(&spec(&request), move |asked| {
            let number = answers.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let is_there = |id: &u64| number < before || !left.contains(id);
            let all: Vec<u64> = (1..=65).filter(is_there).collect();
            let of = |name: &str| asked.param(name).parse::<usize>().ok();
            let from = of("from").or_else(|| of("page").map(|page| (page - 1) * 10)).unwrap_or(0);
            let page = all.iter().copied().skip(from).take(10);
            Reply::json(&json!({ "results": orders(page), "total": all.len() }))
        });
        let ran = fake.run().await;
        let stream = ran.stream("orders");
        assert_eq!(stream.status, StreamStatus::Done, "{paginate} {gone:?}: {:?}", stream.error);
        assert!(stream.complete, "{stream:?}");
        let ids = fake.column("orders", "id");
        let missing: Vec<u64> =
            (1..=65).filter(|id| !gone.contains(id) && !ids.contains(&json!(id))).collect();
        assert!(missing.is_empty(), "{paginate} {gone:?}: {missing:?}");
    }
}

#[tokio::test]
async fn deletes_that_follow_from_numbered_pages_without_a_total_are_told() {
    let replication = "source: A\ntarget: B\ndefaults: { mode: incremental }\nstreams: { '*': }\n";
    for (total, told) in [("", 3), (", total: total", 0)] {
        let request = format!(
            "get: /orders\nrecords: results\nrefresh: 0s\npage_size: {{ param: size, max: 10 }}
paginate: {{ offset: {{ param: from{total} }} }}"
        );
        let answer = |last: u64| {
            move |asked: &Asked| {
                let from: u64 = asked.param("from").parse().unwrap();
                let page = (from + 1..=(from + 10).min(last)).collect::<Vec<_>>();
                Reply::json(&json!({ "results": orders(page), "total": last }))
            }
        };
        let fake = Fake::new(&spec(&request), answer(25));
        fake.run_with(replication).await;
        fake.answer(answer(22));
        let ran = fake.run_with(replication).await;
        let report = ran.stream("orders");
        assert_eq!((report.deleted, report.reach.as_str()), (3, "everything"));
        let assumed = report.notices.iter().find(|one| one.kind == NoticeKind::DeletesAssumed);
        assert_eq!(assumed.map_or(0, |notice| notice.count), told, "{total}");
    }
}

#[tokio::test]
async fn pages_of_unknown_size_are_planned_within_a_range_and_closely_once_they_were_read() {
    let request = "get: /orders\nrecords: results\npaginate: { offset: { param: from } }";
    let fake = Fake::new(&spec(request), |asked| {
        let from: u64 = asked.param("from").parse().unwrap();
        Reply::json(&json!({ "results": orders(from + 1..=(from + 20).min(900)) }))
    });
    let first = fake.run().await;
    let (planned, sent) = (first.report.planned.unwrap(), first.asked.len() as u64);
    let [least, most] = planned.requests_range;
    assert!(planned.assumed && (least..=most).contains(&sent), "{planned:?}: {sent}");
    let planned = fake.run().await.report.planned.unwrap();
    assert!(planned.requests.abs_diff(sent) <= sent / 4, "{planned:?}: {sent}");
}

#[tokio::test]
async fn fewer_records_than_the_total_are_a_gap() {
    let request =
        "get: /orders\nrecords: results\npaginate: { offset: { param: from, total: total } }";
    let fake = Fake::new(&spec(request), |asked| {
        let from: u64 = asked.param("from").parse().unwrap();
        let page = if from == 0 { orders(1..=10) } else { json!([]) };
        Reply::json(&json!({ "results": page, "total": 25 }))
    });
    let ran = fake.run().await;
    has_notice(&ran, NoticeKind::MissingPages);
    assert!(!ran.stream("orders").complete);
}

#[tokio::test]
async fn a_post_turns_its_pages_in_the_body() {
    for (paginate, field, values) in [
        ("page: { param: page, start: 1 }", "page", [json!(1), json!(2), json!(3), json!(4)]),
        ("offset: { param: from }", "from", [json!(0), json!(10), json!(20), json!(25)]),
    ] {
        let request = format!(
            "post: /orders\nbody: {{ json: {{ kind: open }} }}\nrecords: results
page_size: {{ param: size, max: 10 }}\npaginate: {{ {paginate} }}"
        );
        let wanted = values.clone();
        let fake = Fake::new(&spec(&request), move |asked| {
            let body: Value = serde_json::from_str(&asked.body).unwrap();
            assert_eq!((&body["kind"], &body["size"]), (&json!("open"), &json!(10)));
            let page = wanted.iter().position(|value| *value == body[field]).unwrap() as u64;
            Reply::json(&json!({ "results": orders(page * 10 + 1..=(page * 10 + 10).min(25)) }))
        });
        let ran = fake.run().await;
        assert_eq!(ran.asked.len(), values.len(), "{paginate}");
        assert!(ran.asked.iter().all(|asked| asked.query.is_empty()), "{paginate}");
        assert_eq!(fake.rows("orders").len(), 25);
    }
    let cursor = "post: /orders\nbody: { json: {} }\nrecords: results
paginate: { cursor: { at: next, param: token } }";
    let fake = Fake::new(&spec(cursor), |asked| {
        let body: Value = serde_json::from_str(&asked.body).unwrap();
        if body["token"] == json!("b") {
            return Reply::json(&json!({ "results": orders(3..=4) }));
        }
        Reply::json(&json!({ "results": orders(1..=2), "next": "b" }))
    });
    let ran = fake.run().await;
    assert!(ran.asked.iter().all(|asked| asked.query.is_empty()));
    assert_eq!(fake.rows("orders").len(), 4);
}

#[tokio::test]
async fn what_is_not_json_is_told_once_as_what_it_is() {
    for (status, body, told) in [
        (200, "id,name\n1,x\n", "begins with"),
        (200, "{\"id\":1}\n{\"id\":2}\n", "newline-delimited"),
        (200, "<?xml version=\"1.0\"?><orders/>", "XML"),
        (204, "", "empty"),
    ] {
        let fake = Fake::new(&spec("get: /orders"), move |_| Reply::raw(status, body));
        let ran = fake.run().await;
        let report = ran.stream("orders");
        assert_eq!(report.status, StreamStatus::Failed, "{body}");
        assert!(report.error.as_deref().unwrap().contains(told), "{:?}", report.error);
        assert_eq!(ran.asked.len(), 1, "{body}");
    }
}

#[tokio::test]
async fn rules_hold_for_answers_that_would_be_read() {
    let request = "get: /orders\nrecords: results
responses:
  - { status: 204, then: empty }
  - { status: 200, body: { at: ok, equals: 'false' }, then: fail }";
    let fake = Fake::new(&spec(request), |_| Reply::raw(204, ""));
    let ran = fake.run().await;
    assert_eq!(ran.stream("orders").status, StreamStatus::Done);
    assert!(ran.stream("orders").complete);
    fake.answer(|_| Reply::json(&json!({ "ok": false, "error": "invalid_auth" })));
    assert!(error(&fake.run().await).contains("invalid_auth"));
}

/// The offset moves over a record that is still there, because another one has gone; a third is gone too.
#[tokio::test]
async fn rows_that_did_not_come_are_asked_for_once_before_they_count_as_gone() {
    const LISTED: &str = "get: /orders\nrecords: results\nrefresh: 0s\n\
        page_size: { param: size, max: 10 }\npaginate: { offset: { param: from } }\n\
        confirm_deletes: { get: '/orders/{{ id }}' }";
    // Ids like `o 1`, which are no JSON and no path as they are.
    let order = |id: u64| json!({ "id": format!("o {id}"), "note": "n" });
    let listed = move |gone: &'static [u64], passed_over: &'static [u64]| {
        move |asked: &Asked| {
            let id = asked.path.strip_prefix("/orders/o%20").map(|id| id.parse::<u64>().unwrap());
            if let Some(id) = id {
                let status = if gone.contains(&id) { 404 } else { 200 };
                return Reply::status(status, &order(id));
            }
            assert_eq!(asked.path, "/orders");
            let from: usize = asked.param("from").parse().unwrap();
            let missing = |id: &u64| gone.contains(id) || passed_over.contains(id);
            let left: Vec<u64> = (1..=25).filter(|id| !missing(id)).collect();
            let page: Vec<Value> = left.into_iter().skip(from).take(10).map(order).collect();
            Reply::json(&json!({ "results": page }))
        }
    };
    let spec = spec(LISTED).replace("columns: { id: int }", "columns: { id: text, note: text }");
    let replication = |settings: &str| {
        format!("source: A\ntarget: B\ndefaults: {{ {settings} }}\nstreams: {{ '*': }}\n")
    };
    let database = Database::new().await;
    for in_postgres in [false, true] {
        let fake = Fake::new(&spec, listed(&[], &[]));
        let fake = if in_postgres { fake.into_postgres(database.options()) } else { fake };
        let single = async |settings: &str, wanted: &[&str], deleted: u64| {
            let ran = fake.run_with(&replication(settings)).await;
            let report = ran.stream("orders");
            let assumed = report.notices.iter().any(|one| one.kind == NoticeKind::DeletesAssumed);
            let told = (report.status, report.deleted, assumed);
            assert_eq!(told, (StreamStatus::Done, deleted, false), "{settings}: {report:?}");
            let asked =
                ran.asked.iter().filter_map(|asked| asked.path.strip_prefix("/orders/o%20"));
            let mut asked: Vec<&str> = asked.collect();
            asked.sort_unstable();
            assert_eq!(asked, wanted, "{settings}");
        };
        single("mode: incremental", &[], 0).await;
        fake.answer(listed(&[3, 4], &[11, 12]));
        single("mode: incremental", &["11", "12", "3", "4"], 2).await;
        // Those that are gone are not asked for again.
        single("mode: incremental", &["11", "12"], 0).await;
        // Where no row counts as gone, nothing is asked.
        single("mode: incremental, deletes: ignore", &[], 0).await;
        single("mode: full-refresh", &[], 0).await;
    }
}

/// A table that has a column more, or lacks the mark of deleted rows, is asked about like any other.
#[tokio::test]
async fn rows_of_tables_of_other_columns_are_asked_for_too() {
    let request =
        "get: /orders\nrecords: results\nrefresh: 0s\nconfirm_deletes: { get: '/orders/{{ id }}' }";
    let spec = spec(request).replace("columns: { id: int }", "columns: { id: int, note: text }");
    let replication = |settings: &str| {
        format!(
            "source: A\ntarget: B\ndefaults: {{ mode: incremental, {settings} }}\nstreams: {{ '*': }}\n"
        )
    };
    let listed = |ids: std::ops::RangeInclusive<u64>| {
        move |asked: &Asked| match asked.path.as_str() {
            "/orders" => Reply::json(&json!({ "results": orders(ids.clone()) })),
            "/ping" => Reply::json(&json!({})),
            // The credentials are not good for a single record.
            _ => Reply::status(401, &json!({ "error": "scope" })),
        }
    };
    let database = Database::new().await;
    for in_postgres in [false, true] {
        let fake = Fake::new(&spec, listed(1..=3));
        let fake = if in_postgres { fake.into_postgres(database.options()) } else { fake };
        fake.run_with(&replication("deletes: remove")).await;
        fake.answer(listed(1..=2));
        for settings in ["deletes: mark", "deletes: mark, select: [id]"] {
            let ran = fake.run_with(&replication(settings)).await;
            let report = ran.stream("orders");
            assert_eq!((report.status, report.deleted), (StreamStatus::Done, 0), "{report:?}");
        }
    }
}
