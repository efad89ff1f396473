//! What servers say, and what files say, that nobody should believe or show.

use std::sync::{Arc, Mutex};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;

use crate::support::{
    fake::{Fake, Reply},
    s3,
    user::{User, ended},
};

/// What the tests' connection sends; see [`Fake`].
const TOKEN: &str = "s3cret";

const ECHO: &str = "
name: shop
connection: { token: { secret: true, help: a token } }
base_url: https://shop.test/v1/
auth: { basic: { username: ann, password: '{{ token }}' } }
test: { get: /ping }
responses:
  - { status: 429, backoff: linear, attempts: 2, delay: 1ms }
  - { status: 403, in: child, then: skip_slice }
streams:
  orders: { doc: An order., get: /orders, key: [id], columns: { id: int }, feeds: { order_ids: id } }
  lines:
    doc: A line.
    for_each: order_ids
    get: /orders/{{ order_id }}/lines
    key: [order_id, id]
    columns: { order_id: { int: '{{ order_id }}' }, id: int }
";

#[tokio::test(start_paused = true)]
async fn a_server_that_repeats_the_credentials_gets_them_neither_printed_nor_stored() {
    let fake = Fake::new(ECHO, |asked| {
        let sent = asked.headers["authorization"].to_str().unwrap();
        assert_eq!(sent, format!("Basic {}", STANDARD.encode(format!("ann:{TOKEN}"))));
        let said = format!("{sent} is {TOKEN} \u{1b}[2J\u{202e}");
        match asked.path.as_str() {
            "/v1/orders" => Reply::json(&json!([{ "id": 1 }, { "id": 2 }, { "id": 3 }])),
            "/v1/orders/1/lines" => Reply::status(403, &json!({ "message": said })),
            "/v1/orders/2/lines" => Reply::raw(429, said),
            _ => Reply::json(&json!([])),
        }
    });
    let ran = fake.run().await;
    let errors = fake.rows("_weir_errors");
    let all = [
        serde_json::to_string(&ran.report).unwrap(),
        serde_json::to_string(&ran.events).unwrap(),
        serde_json::to_string(&errors).unwrap(),
    ];
    let encoded = STANDARD.encode(TOKEN);
    for text in all {
        assert!(!text.contains(TOKEN) && !text.contains(&encoded), "{text}");
        assert!(!text.contains(&STANDARD.encode(format!("ann:{TOKEN}"))), "{text}");
        assert!(!text.contains("\\u001b") && !text.contains('\u{202e}'), "{text}");
        assert!(text.contains("***"), "{text}");
    }
}

#[test]
fn an_unknown_setting_of_a_simulated_site_and_an_empty_item_of_a_list_are_refused() {
    let user = User::new();
    let replication = |inputs: &str, simulate: &str| {
        format!(
            "source: WIKI\ntarget: LOCAL\ndefaults: {{ inputs: {inputs} }}\nstreams: {{ spaces: }}\n\
             env: {{ WIKI: '{{spec: confluence, simulate: {simulate}}}' }}\n"
        )
    };
    let table = [
        ("{}", "{pages: 3}", None),
        ("{}", "{pagess: 3}", Some("pagess")),
        ("{ space_keys: [''] }", "{}", Some("the list `space_keys` has an empty value")),
        ("{ space_keys: [ENG, ' '] }", "{}", Some("an empty value")),
        ("{ space_keys: [null] }", "{}", Some("space_keys")),
    ];
    for (inputs, simulate, wrong) in table {
        user.write("r.yaml", &replication(inputs, simulate));
        let output = user.run(&["sync", "validate", "r.yaml"]);
        let (_, err) = ended(&output, if wrong.is_some() { 2 } else { 0 });
        assert!(err.contains(wrong.unwrap_or_default()), "{err}");
    }
    user.write("r.yaml", &replication("{ space_keys: ['${KEYS}'] }", "{}"));
    let output = user.weir(&["sync", "run", "r.yaml"]).env("KEYS", "").output().unwrap();
    assert!(ended(&output, 2).1.contains("an empty value"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_reached_by_its_usual_variables() {
    let bucket = Arc::new(Mutex::new(s3::Bucket::default()));
    let endpoint = s3::serve(Arc::clone(&bucket)).await;
    let user = User::new();
    user.write(
        "r.yaml",
        "source: WIKI\ntarget: OUT\nstreams: { spaces: { object: s.jsonl } }\n\
         env: { WIKI: '{spec: confluence, simulate: {pages: 3}}', OUT: 's3://b/pre' }\n",
    );
    let run = tokio::task::spawn_blocking(move || {
        let mut weir = user.weir(&["sync", "run", "r.yaml"]);
        weir.envs([
            ("AWS_ACCESS_KEY_ID", "AKIDTEST"),
            ("AWS_SECRET_ACCESS_KEY", "hunter2"),
            ("AWS_DEFAULT_REGION", "eu-central-1"),
            ("AWS_ENDPOINT_URL", endpoint.as_str()),
        ]);
        weir.output().unwrap()
    });
    ended(&run.await.unwrap(), 0);
    let bucket = bucket.lock().unwrap();
    assert!(bucket.objects.contains_key("pre/s.jsonl"), "{:?}", bucket.objects.keys());
    assert_eq!(bucket.unsigned, 0);
}
