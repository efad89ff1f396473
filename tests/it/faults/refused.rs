//! What a server refuses, loses, or cannot render, while the rest of it answers.

use std::{
    sync::atomic::{AtomicU32, AtomicUsize, Ordering},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::time::Instant;
use weir::plan::PlanOptions;
use weir::report::{Event, NoticeKind, StreamStatus};
use weir::sync::report::RunStatus;
use weir::sync::run_options::RunOptions;

use crate::support::{
    fake::{Asked, Fake, How, Reply, RunResult},
    user::{Site, TO_FILES, User, ended},
};

const HEAD: &str = "
name: shop
base_url: https://shop.test/v1
test: { get: /ping }
defaults: { records: items }
";

fn spec(rest: &str) -> String {
    format!("{HEAD}{rest}")
}

fn items(ids: impl IntoIterator<Item = u64>) -> Reply {
    let items: Vec<Value> =
        ids.into_iter().map(|id| json!({ "id": id, "body": format!("body of {id}") })).collect();
    Reply::json(&json!({ "items": items }))
}

fn refusal(status: u16, what: &str) -> Reply {
    Reply::status(status, &json!({ "message": what }))
}

fn gone(ran: &RunResult, stream: &str) -> u64 {
    let notices = ran.stream(stream).notices.iter();
    notices.filter(|notice| notice.kind == NoticeKind::Gone).map(|notice| notice.count).sum()
}

fn ids(fake: &Fake, stream: &str) -> Vec<u64> {
    let mut ids: Vec<u64> = fake.column(stream, "id").iter().filter_map(Value::as_u64).collect();
    ids.sort_unstable();
    ids
}

const CHILDREN: &str = "
streams:
  parents: { doc: P., get: /parents, key: [id], feeds: { parent_ids: id }, columns: { id: int } }
  kids:
    doc: K.
    for_each: parent_ids
    get: /parents/{{ parent_id }}/kids
    paginate: { next_url: { at: next } }
    replaces: parent_id
    key: [parent_id, id]
    columns: { parent_id: { int: '{{ parent_id }}' }, id: int }
";

/// Four parents with two kids each, but for what `otherwise` says.
fn family(
    otherwise: impl Fn(&str) -> Option<Reply> + Send + Sync + 'static,
) -> impl Fn(&Asked) -> Reply + Send + Sync + 'static {
    move |asked| {
        let path = asked.path.trim_start_matches("/v1");
        if let Some(reply) = otherwise(path) {
            return reply;
        }
        match path.split('/').collect::<Vec<_>>().as_slice() {
            ["", "ping"] => Reply::json(&json!({})),
            ["", "parents"] => items(1..=4),
            ["", "parents", id, "kids"] => {
                let id: u64 = id.parse().unwrap();
                items([id * 10, id * 10 + 1])
            }
            _ => refusal(404, "no such thing"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_parent_that_is_deleted_while_it_is_read_fails_nothing() {
    for status in [404, 410] {
        let answer = family(move |path| {
            (path == "/parents/2/kids").then(|| refusal(status, "there is no parent 2"))
        });
        let fake = Fake::new(&spec(CHILDREN), answer);
        let ran = fake.run().await;
        assert_eq!(ran.report.status, RunStatus::Done, "{:?}", ran.report.errors);
        assert_eq!(ids(&fake, "kids"), [10, 11, 30, 31, 40, 41]);
        assert!(ran.stream("kids").complete);
        assert_eq!(gone(&ran, "kids"), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn requests_that_are_answered_by_404_alone_are_wrong() {
    let answer = family(|path| path.ends_with("/kids").then(|| refusal(404, "no such path")));
    let fake = Fake::new(&spec(CHILDREN), answer);
    let ran = fake.run().await;
    let kids = ran.stream("kids");
    assert_eq!(kids.status, StreamStatus::Failed);
    assert!(kids.error.as_ref().unwrap().contains("all 4 slices were refused: no such path"));
}

#[tokio::test(start_paused = true)]
async fn a_bare_404_for_one_child_does_not_accuse_credentials_that_others_show_to_be_good() {
    let rules = "responses: [{ status: 404, means: credentials, hint: the token is wrong }]";
    let spec = spec(&format!("{rules}{CHILDREN}"));
    let bare = |path: &str| (path == "/parents/2/kids").then(|| refusal(404, "Not Found"));
    let fake = Fake::new(&spec, family(bare));
    let ran = fake.run().await;
    assert_eq!(ran.report.status, RunStatus::Done, "{:?}", ran.stream("kids"));
    assert_eq!(gone(&ran, "kids"), 1);
    assert_eq!(ran.asked.iter().filter(|asked| asked.path == "/v1/ping").count(), 1);

    // From some request on they are not good any more: nobody says that all the rest is gone.
    let asked = AtomicUsize::new(0);
    let revoked = family(move |_| {
        let number = asked.fetch_add(1, Ordering::Relaxed);
        (number > 2).then(|| refusal(404, "Not Found"))
    });
    let ran = Fake::new(&spec, revoked).run().await;
    let kids = ran.stream("kids");
    let hint = Some("the token is wrong");
    assert_eq!((kids.status, kids.hint.as_deref()), (StreamStatus::Failed, hint));
}

const TREE: &str = "
streams:
  comments:
    doc: C.
    get: /comments
    key: [id]
    columns: { id: int }
    children: { with: { comment_id: id }, get: '/comments/{{ comment_id }}/children' }
";

#[tokio::test(start_paused = true)]
async fn a_record_that_is_deleted_before_its_children_are_read_takes_them_along() {
    let tree = |asked: &Asked| match asked.path.as_str() {
        "/v1/comments" => items(1..=3),
        "/v1/comments/2/children" => refusal(404, "no comment 2"),
        "/v1/comments/3/children" => items([30]),
        "/v1/comments/30/children" => refusal(410, "no comment 30"),
        _ => items([]),
    };
    let fake = Fake::new(&spec(TREE), tree);
    let ran = fake.run().await;
    assert_eq!(ran.report.status, RunStatus::Done, "{:?}", ran.stream("comments"));
    assert_eq!(ids(&fake, "comments"), [1, 2, 3, 30]);
    assert_eq!(gone(&ran, "comments"), 2);

    // Where no record's children are ever found, that is not because all are gone.
    let fake = Fake::new(&spec(TREE), |asked| match asked.path.as_str() {
        "/v1/comments" => items(1..=3),
        _ => refusal(404, "no such path"),
    });
    let ran = fake.run().await;
    assert_eq!(ran.report.status, RunStatus::DoneWithErrors);
    let comments = ran.stream("comments");
    assert!(!comments.complete && comments.gaps[0].contains("no such path"), "{comments:?}");
    assert_eq!((ran.report.errors.len(), gone(&ran, "comments")), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn a_parent_that_is_gone_between_two_pages_takes_its_rows_along() {
    let answer = family(|path| match path {
        "/parents/2/kids" => Some(Reply::json(
            &json!({ "items": [{ "id": 20 }], "next": "/v1/parents/2/kids/more" }),
        )),
        "/parents/2/kids/more" => Some(refusal(404, "gone")),
        _ => None,
    });
    let fake = Fake::new(&spec(CHILDREN), answer);
    let ran = fake.run().await;
    assert_eq!(ran.report.status, RunStatus::Done);
    assert_eq!(ids(&fake, "kids"), [10, 11, 30, 31, 40, 41]);
}

#[tokio::test(start_paused = true)]
async fn one_parent_that_is_refused_is_a_recorded_slice() {
    for status in [400, 422, 500, 503] {
        let answer = family(move |path| {
            (path == "/parents/2/kids").then(|| refusal(status, "cannot do that"))
        });
        let fake = Fake::new(&spec(CHILDREN), answer);
        let ran = fake.run().await;
        assert_eq!(ran.report.status, RunStatus::DoneWithErrors, "{status}");
        assert_eq!(ids(&fake, "kids"), [10, 11, 30, 31, 40, 41]);
        let error = &ran.report.errors[0];
        assert_eq!((error.status, error.slice.as_str()), (Some(status), "parent_id=2"));
        let told = ran.events.iter().filter(|event| matches!(event, Event::SliceSkipped { .. }));
        assert_eq!(told.count(), 1);
    }
    // More than may be refused fail the stream.
    let refused = |path: &str| {
        (path.ends_with("/kids") && path != "/parents/1/kids").then(|| refusal(400, "no"))
    };
    let fake = Fake::new(&spec(CHILDREN), family(refused));
    let few = "source: A\ntarget: B\nstreams: { '*': { max_errors: 2 } }\n";
    let ran = fake.run_with(few).await;
    assert_eq!(ran.stream("kids").status, StreamStatus::Failed);
}

#[tokio::test(start_paused = true)]
async fn an_api_that_is_down_fails_the_stream_and_is_not_taken_for_refused_slices() {
    let down = family(|path| {
        (path.ends_with("/kids") || path == "/ping").then(|| refusal(503, "maintenance"))
    });
    let ran = Fake::new(&spec(CHILDREN), down).run().await;
    assert_eq!(ran.stream("kids").status, StreamStatus::Failed);
    assert!(ran.report.errors.is_empty(), "{:?}", ran.report.errors);
}

const HEAVY: &str = "
streams:
  pages:
    doc: P.
    get: /pages
    query: { with: bodies }
    paginate: PAGINATE
    page_size: { param: limit, max: 16, costly: with }
    key: [id]
    columns: { id: int, body: text }
";

/// Forty records; the server fails on any page with bodies that holds number 17.
fn heavy(asked: &Asked, from: u64) -> Reply {
    let limit: u64 = asked.param("limit").parse().unwrap();
    let page: Vec<u64> = (from..(from + limit).min(41)).collect();
    let bodies = asked.param("with") == "bodies";
    if bodies && page.contains(&17) {
        return refusal(500, "cannot render");
    }
    let body = |id| if bodies { json!(format!("body of {id}")) } else { Value::Null };
    let items: Vec<Value> = page.iter().map(|id| json!({ "id": id, "body": body(*id) })).collect();
    let next = from + limit;
    let next = (next < 41).then(|| format!("{next}"));
    Reply::json(&json!({ "items": items, "next": next, "total": 40 }))
}

#[tokio::test(start_paused = true)]
async fn a_record_that_cannot_be_rendered_comes_without_its_body_and_the_others_whole() {
    let token = "{ cursor: { at: next, param: after } }";
    let offset = "{ offset: { param: after, total: total } }";
    for (paginate, first) in [(token, 1), (offset, 0)] {
        let fake = Fake::new(&spec(&HEAVY.replace("PAGINATE", paginate)), move |asked| {
            if asked.path == "/v1/ping" {
                return Reply::json(&json!({}));
            }
            let after = asked.param("after").parse().unwrap_or(first);
            heavy(asked, after + 1 - first)
        });
        let ran = fake.run().await;
        assert_eq!(ran.report.status, RunStatus::DoneWithErrors, "{:?}", ran.stream("pages"));
        assert_eq!(ids(&fake, "pages"), (1..=40).collect::<Vec<_>>());
        let without = fake.rows("pages").into_iter().filter(|row| row["body"].is_null());
        assert_eq!(without.map(|row| row["id"].clone()).collect::<Vec<_>>(), [17]);
        let error = &ran.report.errors[0];
        assert_eq!((error.status, error.slice.as_str()), (Some(500), "id=17"));
        assert!(error.message.contains("without `with`"), "{}", error.message);
        // Pages grow again: the last ones are not asked for one by one.
        assert!(ran.asked.len() < 45, "{}", ran.asked.len());
        assert!(ran.stream("pages").complete);
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_that_cannot_be_had_at_all_is_passed_over_where_the_pagination_allows() {
    let heavy_spec = HEAVY
        .replace("PAGINATE", "{ offset: { param: after, total: total } }")
        .replace(", costly: with", "");
    let fake = Fake::new(&spec(&heavy_spec), |asked| match asked.path.as_str() {
        "/v1/ping" => Reply::json(&json!({})),
        _ => heavy(asked, asked.param("after").parse::<u64>().unwrap() + 1),
    });
    let ran = fake.run().await;
    assert_eq!(ran.report.status, RunStatus::DoneWithErrors, "{:?}", ran.stream("pages"));
    let all_but_one: Vec<u64> = (1..=40).filter(|id| *id != 17).collect();
    assert_eq!(ids(&fake, "pages"), all_but_one);
    assert!(!ran.stream("pages").complete);
}

const CHUNKS: &str = "
inputs: { keys: { list: text, default: KEYS } }
streams:
  spaces:
    doc: S.
    for_each: { input: keys, chunk: 250, as: some }
    get: /spaces
    query: { keys: \"{{ some | join(',') }}\" }
    key: [key]
    columns: { key: text }
";

fn keys(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("~70121a0c2f3d4e5f60718293a4b5c6d7e8f9{number:04}")).collect()
}

fn spaces(asked: &Asked) -> Reply {
    let keys = asked.param("keys").split(',').map(|key| json!({ "key": key }));
    Reply::json(&json!({ "items": keys.collect::<Vec<_>>() }))
}

#[tokio::test(start_paused = true)]
async fn a_query_is_never_longer_than_servers_take() {
    let many = keys(240);
    let spec = spec(&CHUNKS.replace("KEYS", &json!(many).to_string()));
    let fake = Fake::new(&spec, |asked| {
        let keys = asked.param("keys").len();
        assert!(keys < 6000, "{keys}");
        spaces(asked)
    });
    let ran = fake.run().await;
    assert_eq!(ran.report.status, RunStatus::Done);
    assert_eq!(fake.rows("spaces").len(), 240);
}

#[tokio::test(start_paused = true)]
async fn a_query_that_is_too_long_for_the_server_is_halved() {
    let many = keys(240);
    let spec = spec(&CHUNKS.replace("KEYS", &json!(many).to_string()));
    for status in [400, 413, 414, 431] {
        let fake = Fake::new(&spec, move |asked| match asked.param("keys").len() {
            2500.. => refusal(status, "too long"),
            _ => spaces(asked),
        });
        let ran = fake.run().await;
        assert_eq!(ran.report.status, RunStatus::Done, "{status}: {:?}", ran.stream("spaces"));
        assert_eq!(fake.rows("spaces").len(), 240);
    }
    // One value that the server does not take is left out alone.
    let fake = Fake::new(&spec, |asked| {
        if asked.param("keys").contains("f90017") { refusal(400, "bad key") } else { spaces(asked) }
    });
    let ran = fake.run().await;
    assert_eq!(ran.report.status, RunStatus::DoneWithErrors, "{:?}", ran.stream("spaces"));
    assert_eq!((fake.rows("spaces").len(), ran.report.errors.len()), (239, 1));
}

const LIST: &str =
    "streams: { orders: { doc: O., get: /orders, key: [id], columns: { id: int } } }";

#[tokio::test(start_paused = true)]
async fn what_another_try_does_not_mend_is_tried_twice() {
    let bodies: [(&[u8], &str); 3] = [
        (b"<!doctype html><html>Log in</html>", "is an HTML page"),
        (b"{\"items\": [{\"id\": \"\xff\xfe\"}]}", "not valid UTF-8"),
        (b"{\"items\": [{\"id\": nothing}]}", "is not JSON"),
    ];
    for (body, said) in bodies {
        let fake = Fake::new(&spec(LIST), move |_| Reply::raw(200, body));
        let ran = fake.run().await;
        let error = ran.stream("orders").error.clone().unwrap();
        assert!(error.contains(said) && !error.contains("connection was lost"), "{error}");
        assert_eq!(listed(&ran), 2, "{said}");
    }
    // A body that was cut short is another thing.
    let fake = Fake::new(&spec(LIST), |_| Reply::raw(200, "{\"items\": [{\"id\": 1}, {\"i"));
    assert_eq!(listed(&fake.run().await), 6);
}

/// Requests aside from that which tests the connection.
fn listed(ran: &RunResult) -> usize {
    ran.asked.iter().filter(|asked| !asked.path.ends_with("/ping")).count()
}

#[tokio::test]
async fn a_byte_order_mark_is_passed_over() {
    let fake = Fake::new(&spec(LIST), |_| Reply::raw(200, "\u{feff}{\"items\": [{\"id\": 1}]}"));
    let ran = fake.run().await;
    assert_eq!(ran.report.status, RunStatus::Done, "{:?}", ran.stream("orders"));
    assert_eq!(ids(&fake, "orders"), [1]);
}

#[tokio::test(start_paused = true)]
async fn a_retry_after_in_the_past_leaves_the_declared_back_off() {
    let rules = "responses: [{ status: 429, backoff: linear, attempts: 4, delay: 10s }]\n";
    let tries = AtomicU32::new(0);
    let fake = Fake::new(&spec(&format!("{rules}{LIST}")), move |_| {
        match tries.fetch_add(1, Ordering::Relaxed) {
            0..3 => refusal(429, "slow").header("retry-after", "Thu, 01 Jan 2015 00:00:00 GMT"),
            _ => items([1]),
        }
    });
    let before = Instant::now();
    let ran = fake.run().await;
    assert_eq!(ran.report.status, RunStatus::Done);
    // Ten, twenty and thirty seconds, each spread by up to three tenths.
    let waited = before.elapsed();
    assert!(waited > Duration::from_secs(42) && waited < Duration::from_secs(80), "{waited:?}");
}

#[test]
fn a_wrong_token_is_told_once_for_all_streams() {
    let user = User::new();
    user.write("r.yaml", TO_FILES);
    let site = Site::start(&["--email", "ann@acme.test", "--token", "the-right-one"]);
    let wrong = site.connection("the-wrong-one");
    let output = user.weir(&["sync", "run", "r.yaml"]).env("WIKI", wrong).output().unwrap();
    let (_, err) = ended(&output, 1);
    let told: Vec<&str> = err.lines().filter(|line| line.contains("does not accept")).collect();
    assert_eq!(told.iter().filter(|line| line.starts_with("error: ")).count(), 1, "{err}");
    assert_eq!(err.matches("hint: ").count(), 1, "{err}");
    assert!(!err.contains("which feed"), "{err}");
    assert!(err.lines().count() < 20, "{err}");
}

/// A stream without a key is no obstacle to asking again for what another one was refused.
#[tokio::test]
async fn refused_slices_are_asked_for_again_beside_streams_without_a_key() {
    const SPEC: &str = "
name: shop
base_url: https://shop.test
test: { get: /ping }
defaults: { paginate: none, unique_ids: true }
streams:
  log: { get: /log, records: results, columns: { text: text } }
  orders: { get: /orders, records: results, key: [id], feeds: { order_ids: id }, columns: { id: int } }
  lines:
    for_each: order_ids
    get: /orders/{{ order_id }}/lines
    records: results
    key: [order_id, id]
    replaces: order_id
    columns: { id: int, order_id: { int: '{{ order_id }}' } }
";
    let site = |refuses: bool| {
        move |asked: &Asked| match asked.path.as_str() {
            "/orders" => Reply::json(&json!({ "results": [{ "id": 1 }, { "id": 2 }] })),
            "/orders/2/lines" if refuses => Reply::status(422, &json!({ "error": "no" })),
            "/orders/2/lines" => Reply::json(&json!({ "results": [{ "id": 7 }] })),
            _ => Reply::json(&json!({ "results": [{ "id": 8, "text": "x" }] })),
        }
    };
    let replication = "source: A\ntarget: B\nstreams: { '*': }\n";
    let fake = Fake::new(SPEC, site(true));
    assert_eq!(fake.run_with(replication).await.stream("lines").skipped, 1);
    fake.answer(site(false));
    let options = PlanOptions { retry: true, ..PlanOptions::default() };
    let beginning = RunOptions { retry: true, ..RunOptions::now() };
    let ran = fake.try_run(How { replication, options: &options, beginning }).await.unwrap();
    assert_eq!(ran.asked.len(), 1, "{:?}", ran.report);
    assert_eq!(fake.column("lines", "id").len(), 2);
}
