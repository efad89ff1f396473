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
            "source: WIKI\ntarget: LOCAL\ndefaults: {{ object: s.jsonl, inputs: {inputs} }}\nstreams: {{ spaces: }}\n\
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

/// A connection whose token is what a command prints; the command leaves a file behind.
const RUNS: &str = "{spec: confluence, domain: a.test, email: a@a.test, api_token: \"command:touch ran; echo t0ken\", simulate: {pages: 3}}";

const LOOKED_AT: &str = "
source: WIKI
target: OUT
streams: { spaces: { object: s.jsonl } }
";

#[test]
fn looking_at_files_runs_nothing() {
    let own = format!("connections:\n  OWN: {RUNS}\n");
    let replication =
        format!("{LOOKED_AT}env: {{ OUT: '{{type: files, url: out}}', WIKI: '{RUNS}' }}\n");
    let by_variable = format!(
        "{LOOKED_AT}env: {{ OUT: '{{type: files, url: out}}', \
         WIKI: '{{spec: confluence, domain: a.test, email: \"${{EVIL}}\", api_token: \"${{EVIL}}\", simulate: {{}}}}' }}\n"
    );
    let looks = [
        &["conns", "list"][..],
        &["conns", "discover", "WIKI"],
        &["sync", "validate", "r.yaml"],
        &["sync", "run", "r.yaml", "--dry-run"],
        &["sync", "status", "r.yaml"],
        &["sync", "reset", "r.yaml", "--yes"],
    ];
    for (dot_env, replication) in [
        (format!("WIKI='{RUNS}'\nOUT='{{type: files, url: out}}'\n"), LOOKED_AT.to_owned()),
        (String::new(), replication),
        (String::new(), format!("{LOOKED_AT}env: {{ OUT: '{{type: files, url: out}}' }}\n")),
    ] {
        let user = User::new();
        std::fs::create_dir(user.path(".weir")).unwrap();
        let in_file = own.replace("OWN", "WIKI");
        let known = dot_env.is_empty() && !replication.contains("WIKI:");
        user.write(".weir/connections.yaml", if known { &in_file } else { &own });
        user.write(".env", &dot_env);
        user.write("r.yaml", &replication);
        for look in looks {
            let output = user.run(look);
            // A connection of a replication is known to that alone.
            if look[1] != "discover" {
                ended(&output, 0);
            }
            assert!(!user.path("ran").exists(), "{look:?} {replication}");
        }
    }
    let user = User::new();
    user.write("r.yaml", &by_variable);
    for look in [&["sync", "validate", "r.yaml"][..], &["sync", "run", "r.yaml"]] {
        let evil = "command:touch ran";
        user.weir(look).env("EVIL", evil).output().unwrap();
        assert!(!user.path("ran").exists(), "{look:?}");
    }
}

#[test]
fn commands_are_run_from_the_own_file_and_from_one_that_is_trusted() {
    let own = User::new();
    std::fs::create_dir(own.path(".weir")).unwrap();
    own.write(".weir/connections.yaml", &format!("connections:\n  WIKI: {RUNS}\n"));
    own.write("r.yaml", &format!("{LOOKED_AT}env: {{ OUT: '{{type: files, url: out}}' }}\n"));
    ended(&own.run(&["sync", "run", "r.yaml"]), 0);
    assert!(own.path("ran").exists());

    let user = User::new();
    let replication =
        format!("{LOOKED_AT}env: {{ OUT: '{{type: files, url: out}}', WIKI: '{RUNS}' }}\n");
    user.write("r.yaml", &replication);
    let (_, err) = ended(&user.run(&["sync", "run", "r.yaml"]), 2);
    assert!(err.contains("weir trust r.yaml") && !user.path("ran").exists(), "{err}");
    let (out, _) = ended(&user.run(&["trust", "r.yaml"]), 0);
    assert!(out.contains("touch ran"), "{out}");
    ended(&user.run(&["sync", "run", "r.yaml"]), 0);
    assert!(user.path("ran").exists());
    user.write("r.yaml", &format!("{replication}# changed\n"));
    ended(&user.run(&["sync", "run", "r.yaml"]), 2);

    let user = User::new();
    user.write("r.yaml", &format!("{LOOKED_AT}env: {{ OUT: '{{type: files, url: out}}' }}\n"));
    let output = user.weir(&["sync", "run", "r.yaml"]).env("WIKI", RUNS).output().unwrap();
    assert!(ended(&output, 2).1.contains("weir conns set"));
    user.write(".env", &format!("WIKI='{RUNS}'\n"));
    let (_, err) = ended(&user.run(&["sync", "run", "r.yaml"]), 2);
    assert!(err.contains(".env") && !user.path("ran").exists(), "{err}");
    ended(&user.run(&["trust", ".env"]), 0);
    ended(&user.run(&["sync", "run", "r.yaml"]), 0);
    assert!(user.path("ran").exists());
}

/// A spec that somebody else wrote.
fn foreign(base_url: &str) -> String {
    format!(
        "
name: shop
connection:
  token: {{ secret: true, required: true, env: SHOP_TOKEN, help: a token }}
  note: {{ env: AWS_SECRET_ACCESS_KEY, required: true, help: a note }}
base_url: {base_url}
auth: {{ bearer: '{{{{ token }}}}' }}
test: {{ get: /ping }}
streams:
  orders: {{ doc: An order., get: /orders, key: [id], columns: {{ id: int }} }}
"
    )
}

#[test]
fn a_spec_of_somebody_else_sends_nothing_until_it_is_trusted() {
    let user = User::new();
    user.write("shop.yaml", &foreign("https://collect.invalid/v1"));
    user.write("r.yaml", "source: SHOP\ntarget: LOCAL\nstreams: { orders: { object: o.jsonl } }\n");
    let weir = |arguments: &[&str], connection: &str| {
        let mut weir = user.weir(arguments);
        weir.env("SHOP_TOKEN", "t0ken-of-shop").env("AWS_SECRET_ACCESS_KEY", "hunter2");
        weir.env("SHOP", connection).output().unwrap()
    };
    let (bare, named) =
        ("{spec: shop.yaml}", "{spec: shop.yaml, note: '${AWS_SECRET_ACCESS_KEY}'}");
    // Only what the user names, and what carries the spec's prefix.
    let (_, err) = ended(&weir(&["sync", "validate", "r.yaml"], bare), 2);
    assert!(
        err.contains("`note` is missing") && err.contains("does not read the variable"),
        "{err}"
    );
    assert!(!err.contains("`token`"), "{err}");
    ended(&weir(&["sync", "validate", "r.yaml"], named), 0);
    for sends in [
        &["sync", "run", "r.yaml"][..],
        &["sync", "plan", "r.yaml"],
        &["sync", "retry-failed", "r.yaml"],
        &["conns", "test", "SHOP"],
    ] {
        let (out, err) = ended(&weir(sends, named), 2);
        assert!(err.contains("https://collect.invalid"), "{out}{err}");
        assert!(err.contains("weir trust shop.yaml") && !err.contains("hunter2"), "{err}");
    }
    let (out, _) = ended(&user.run(&["trust", "shop.yaml", "--json"]), 0);
    let told: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(told["origins"], json!(["https://collect.invalid"]));
    assert_eq!(told["variables"], json!(["SHOP_TOKEN"]));
    let (_, err) = ended(&weir(&["conns", "test", "SHOP"], named), 1);
    assert!(!err.contains("weir trust"), "{err}");
    user.write("shop.yaml", &foreign("https://other.invalid/v1"));
    ended(&weir(&["conns", "test", "SHOP"], named), 2);
    // What stays on this machine needs no trust.
    user.write("shop.yaml", &foreign("http://127.0.0.1:9/v1"));
    ended(&weir(&["conns", "test", "SHOP"], named), 1);
}
