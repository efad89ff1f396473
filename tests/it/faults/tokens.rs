//! Token servers that do not behave, and clients that prove who they are otherwise.

use std::sync::atomic::{AtomicU32, Ordering};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use weir::report::StreamStatus;
use weir::sync::report::RunStatus;

use crate::support::fake::{Asked, Fake, Reply};

const SPEC: &str = "
name: shop
connection: { token: { secret: true, required: true } }
base_url: https://shop.test/v1
auth:
  oauth2:
    grant: client_credentials
    token_url: https://shop.test/token
    client_id: me and you
    client_secret: '{{ token }}'
    MORE
test: { get: /ping }
streams: { orders: { doc: O., get: /orders, key: [id], columns: { id: int } } }
";

fn token(expires_in: &Value) -> Reply {
    Reply::json(&json!({ "access_token": "t", "expires_in": expires_in }))
}

fn orders(asked: &Asked) -> Reply {
    assert_eq!(asked.headers["authorization"], "Bearer t");
    Reply::json(&json!([{ "id": 1 }]))
}

#[tokio::test(start_paused = true)]
async fn lifetimes_may_be_texts_and_fractions() {
    for lifetime in [json!("3600"), json!(3600), json!(3599.5), json!(null), json!("soon")] {
        let fake = Fake::new(&SPEC.replace("MORE", ""), move |asked| match asked.path.as_str() {
            "/token" => token(&lifetime),
            _ => orders(asked),
        });
        assert_eq!(fake.run().await.report.status, RunStatus::Done);
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_server_in_trouble_is_asked_again_and_the_secret_is_not_blamed() {
    for status in [502, 429] {
        let tries = AtomicU32::new(0);
        let fake = Fake::new(&SPEC.replace("MORE", ""), move |asked| match asked.path.as_str() {
            "/token" if tries.fetch_add(1, Ordering::Relaxed) < 3 => Reply::raw(status, "<html>"),
            "/token" => token(&json!(60)),
            _ => orders(asked),
        });
        assert_eq!(fake.run().await.report.status, RunStatus::Done);
    }
    let fake =
        Fake::new(&SPEC.replace("MORE", ""), |_| Reply::raw(502, "<html>bad gateway</html>"));
    let ran = fake.run().await;
    let orders = ran.stream("orders");
    assert_eq!(orders.status, StreamStatus::Failed);
    let (error, hint) = (orders.error.clone().unwrap(), orders.hint.clone().unwrap());
    assert!(error.contains("after 5 attempts: it answered 502"), "{error}");
    assert!(hint.contains("was not checked"), "{hint}");
}

#[tokio::test(start_paused = true)]
async fn a_client_may_prove_itself_by_http_basic() {
    let spec = SPEC.replace("MORE", "client_auth: basic");
    let fake = Fake::new(&spec, |asked| match asked.path.as_str() {
        "/token" => {
            // Each part is encoded as in a form.
            let expected = format!("Basic {}", STANDARD.encode("me+and+you:s3cret"));
            assert_eq!(asked.headers["authorization"], expected.as_str());
            assert!(!asked.body.contains("client_secret"), "{}", asked.body);
            token(&json!(60))
        }
        _ => orders(asked),
    });
    assert_eq!(fake.run().await.report.status, RunStatus::Done);
}
