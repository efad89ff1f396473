//! Sessions: requests before the streams that are refused, and those that the API takes no longer after a while.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use serde_json::json;
use weir::report::StreamStatus;
use weir::sync::connection_test::TestFinding;
use weir::sync::report::RunStatus;

use crate::support::fake::{Asked, Fake, Reply};

const SPEC: &str = "
name: shop
base_url: https://shop.test/v1
test: { get: /ping, query: { s: '{{ sess }}' } }
setup: [{ post: /login, capture: { sess: token } }]
teardown: [{ delete: '/sessions/{{ sess }}' }]
streams:
  orders:
    { doc: O., get: /orders, headers: { X-S: '{{ sess }}' }, key: [id], feeds: { order_ids: id }, columns: { id: int } }
  lines:
    doc: L.
    for_each: order_ids
    get: /lines/{{ order_id }}
    headers: { X-S: '{{ sess }}' }
    key: [id]
    unique_ids: true
    columns: { id: int }
";

const ORDERS: u64 = 30;

/// An API whose sessions are good for so many requests.
struct Api {
    logins: AtomicU64,
    left: AtomicU64,
    lifetime: u64,
}

impl Api {
    fn new(lifetime: u64) -> Arc<Self> {
        Arc::new(Self { logins: AtomicU64::new(0), left: AtomicU64::new(0), lifetime })
    }

    fn answer(&self, asked: &Asked) -> Reply {
        if asked.path == "/v1/login" {
            self.left.store(self.lifetime, Ordering::SeqCst);
            let number = self.logins.fetch_add(1, Ordering::SeqCst) + 1;
            return Reply::json(&json!({ "token": format!("session-{number}") }));
        }
        if asked.method == "DELETE" {
            return Reply::json(&json!({}));
        }
        let present = format!("session-{}", self.logins.load(Ordering::SeqCst));
        let given = asked.headers.get("x-s").map(|value| value.to_str().unwrap().to_owned());
        let given = given.unwrap_or_else(|| asked.param("s").to_owned());
        let left =
            self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if given != present || left.is_err() {
            return Reply::status(401, &json!({ "message": format!("{given} has expired") }));
        }
        match asked.path.rsplit_once('/').unwrap() {
            (_, "orders") => Reply::json(&(1..=ORDERS).map(|id| json!({ "id": id })).collect()),
            (_, id) => Reply::json(&json!([{ "id": id.parse::<u64>().unwrap_or(0) }])),
        }
    }
}

fn logins(asked: &[Asked]) -> usize {
    asked.iter().filter(|one| one.path == "/v1/login").count()
}

#[tokio::test(start_paused = true)]
async fn the_test_of_a_connection_sends_what_a_run_sends_before_its_streams() {
    let api = Api::new(10);
    let own = Arc::clone(&api);
    let fake = Fake::new(SPEC, move |asked| own.answer(asked));
    let (diagnosis, asked) = fake.probe().await.unwrap();
    assert!(diagnosis.ok, "{diagnosis:?}");
    let sent: Vec<String> =
        asked.iter().map(|one| format!("{} {}", one.method, one.path)).collect();
    assert_eq!(sent, ["POST /v1/login", "GET /v1/ping", "DELETE /v1/sessions/session-1"]);

    fake.answer(|asked| match asked.path.as_str() {
        "/v1/login" => Reply::status(403, &json!({ "message": "no entry" })),
        _ => Reply::json(&json!([])),
    });
    let (diagnosis, asked) = fake.probe().await.unwrap();
    assert_eq!((diagnosis.ok, diagnosis.finding), (false, TestFinding::NoPermission));
    assert!(
        diagnosis.url.ends_with("/v1/login") && diagnosis.message == "no entry",
        "{diagnosis:?}"
    );
    assert_eq!(asked.len(), 1);

    fake.answer(|_| Reply::json(&json!({})));
    let error = fake.probe().await.unwrap_err();
    assert!(error.chain().contains("no value at `token`"), "{}", error.chain());
}

#[tokio::test(start_paused = true)]
async fn a_session_that_expires_is_replaced_and_the_request_repeated() {
    let api = Api::new(8);
    let own = Arc::clone(&api);
    let fake = Fake::new(SPEC, move |asked| own.answer(asked));
    let ran = fake.run().await;
    assert_eq!(ran.report.status, RunStatus::Done, "{:?}", ran.report.streams);
    assert_eq!(fake.rows("lines").len() as u64, ORDERS);
    // 31 requests in sessions of 8 each.
    assert_eq!(logins(&ran.asked), 4);
    let last = ran.asked.last().unwrap();
    assert_eq!((last.method.as_str(), last.path.as_str()), ("DELETE", "/v1/sessions/session-4"));
}

#[tokio::test(start_paused = true)]
async fn credentials_that_were_never_good_are_not_tried_again() {
    let fake = Fake::new(SPEC, |asked| match asked.path.as_str() {
        "/v1/login" => Reply::json(&json!({ "token": "session-1" })),
        _ => Reply::status(401, &json!({ "message": "who are you?" })),
    });
    let ran = fake.run().await;
    assert_eq!(ran.report.status, RunStatus::Failed);
    assert_eq!(logins(&ran.asked), 1);
    let error = ran.stream("orders").error.as_ref().unwrap();
    assert!(error.contains("the API does not accept the credentials"), "{error}");
    assert_eq!(ran.stream("lines").error.as_ref(), Some(error));
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_in_every_session_ends_after_few_logins() {
    let spec = SPEC.replace(
        "test:",
        "responses: [{ status: 401, in: child, then: skip_slice, means: credentials }]\ntest:",
    );
    let api = Api::new(1000);
    let own = Arc::clone(&api);
    let fake = Fake::new(&spec, move |asked| match asked.path.as_str() {
        "/v1/lines/3" | "/v1/lines/7" => Reply::status(401, &json!({ "message": "not you" })),
        _ => own.answer(asked),
    });
    let ran = fake.run().await;
    assert!(logins(&ran.asked) <= 4, "{}", logins(&ran.asked));
    let refused =
        |id: u64| ran.asked.iter().filter(|one| one.path.ends_with(&format!("/{id}"))).count();
    assert_eq!((refused(3), refused(7)), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_session_that_cannot_be_replaced_is_one_error() {
    let api = Api::new(5);
    let own = Arc::clone(&api);
    let fake = Fake::new(SPEC, move |asked| match asked.path.as_str() {
        "/v1/login" if own.logins.load(Ordering::SeqCst) > 0 => {
            Reply::status(401, &json!({ "message": "password changed" }))
        }
        _ => own.answer(asked),
    });
    let ran = fake.run().await;
    let lines = ran.stream("lines");
    assert_eq!(lines.status, StreamStatus::Failed);
    let error = lines.error.as_ref().unwrap();
    assert!(
        error.contains("the session has expired") && error.contains("password changed"),
        "{error}"
    );
    assert_eq!(logins(&ran.asked), 2);
}
