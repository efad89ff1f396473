//! What weir once passed over without a word: names that do not exist, variables that are wrong, waits.

use std::fs::{self, File};

use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};
use weir::http::exchange::TransportError;
use weir::quota::account::LedgerQuery;
use weir::quota::ledger::Ledger;
use weir::report::{Event, StreamStatus};
use weir::write::files::LocalLedger;

use crate::support::{
    fake::{Fake, Reply},
    user::{Site, TO_FILES, User, ended},
};

const SIMULATED: &str = "{type: api, spec: confluence, simulate: {}}";

const SPEC: &str = "
name: shop
base_url: https://shop.test/v1
test: { get: /ping }
inputs: { keys: { list: text } }
streams:
  shops:
    doc: S.
    for_each: { input: keys, chunk: 2, as: some, found_at: info.key }
    get: /shops
    query: { keys: \"{{ some | join(',') }}\" }
    min_rows: keys | unique | length
    key: [id]
    feeds: { shop_ids: id }
    columns: { id: int }
  orders:
    { doc: O., for_each: shop_ids, get: '/shops/{{ shop_id }}/orders', key: [id], columns: { id: int }, unique_ids: true }
";

#[tokio::test(start_paused = true)]
async fn names_that_were_asked_for_and_did_not_come_are_named() {
    let fake = Fake::new(SPEC, |asked| {
        if asked.path != "/v1/shops" {
            return Reply::json(&json!([{ "id": 1 }]));
        }
        let there = [("ENG", 1), ("OPS", 2)].into_iter();
        let wanted = there.filter(|(key, _)| asked.param("keys").to_uppercase().contains(key));
        Reply::json(&wanted.map(|(key, id)| json!({ "id": id, "info": { "key": key } })).collect())
    });
    let run = async |streams: &str, keys: &str| {
        let text = format!(
            "source: A\ntarget: B\ndefaults: {{ inputs: {{ keys: {keys} }} }}\nstreams: {{ {streams}: }}\n"
        );
        fake.run_with(&text).await
    };
    // A stream whose rows are written, and one that only feeds another.
    for streams in ["shops", "orders"] {
        let ran = run(streams, "[NOPE, eng, OPS, ZIP]").await;
        let error = ran.stream("shops").error.clone().unwrap();
        let told = "`keys`: not found, or not visible to this account: `NOPE`, `ZIP`";
        assert!(error.contains(told), "{streams}: {error}");
    }
    let ran = run("shops", "[eng, OPS]").await;
    assert_eq!(ran.stream("shops").status, StreamStatus::Done);
}

#[test]
fn streams_without_a_name_are_not_all_streams() {
    let user = User::new();
    user.write("r.yaml", TO_FILES);
    for wanted in ["", " ", ",", " , "] {
        for arguments in [
            &["sync", "run", "r.yaml", "--streams", wanted][..],
            &["sync", "plan", "r.yaml", "--streams", wanted],
            &["sync", "retry-failed", "r.yaml", "--streams", wanted],
            &["sync", "reset", "r.yaml", "--yes", "--streams", wanted],
        ] {
            let output = user.weir(arguments).env("WIKI", SIMULATED).output().unwrap();
            let (_, err) = ended(&output, 2);
            assert!(err.contains("`--streams` names no stream"), "{arguments:?}: {err}");
        }
    }
    assert!(!user.path("out").exists());
}

#[test]
fn variables_of_the_network_that_are_wrong_are_refused() {
    let user = User::new();
    let site = Site::start(&[]);
    let certificates = user.path("certificates");
    fs::create_dir(&certificates).unwrap();
    user.write("empty.pem", "nothing");
    let folder = certificates.display().to_string();
    let test = |variables: &[(&str, &str)]| {
        let mut command = user.weir(&["conns", "test", "WIKI"]);
        command.env("WIKI", site.connection("any")).envs(variables.iter().copied());
        command.output().unwrap()
    };
    ended(&test(&[]), 0);
    for (variables, name) in [
        (&[("SSL_CERT_FILE", "/none.pem"), ("SSL_CERT_DIR", folder.as_str())][..], "SSL_CERT_FILE"),
        (&[("SSL_CERT_FILE", "empty.pem")], "SSL_CERT_FILE"),
        (&[("SSL_CERT_DIR", "/none")], "SSL_CERT_DIR"),
        (&[("HTTP_PROXY", "htp:/ann:s3cret@proxy")], "HTTP_PROXY"),
        (&[("https_proxy", "http://bad host:x")], "https_proxy"),
        (&[("ALL_PROXY", "ftp://ann:s3cret@proxy.test")], "ALL_PROXY"),
    ] {
        let (_, err) = ended(&test(variables), 2);
        assert!(err.contains(name) && !err.contains("s3cret"), "{variables:?}: {err}");
    }
    ended(&test(&[("HTTPS_PROXY", "proxy.test:3128"), ("ALL_PROXY", "")]), 0);
}

#[test]
fn whoever_waits_is_told_for_what() {
    let user = User::new();
    user.write("r.yaml", TO_FILES);
    let site = Site::start(&["--latency-ms", "4000"]);
    let connection = site.connection("any");
    for (arguments, told) in [
        (&["conns", "test", "WIKI"][..], "waiting for a response from confluence at "),
        (&["sync", "plan", "r.yaml", "--streams", "spaces"], "waiting for responses from the API"),
    ] {
        let output = user.weir(arguments).env("WIKI", &connection).output().unwrap();
        let (_, err) = ended(&output, 0);
        assert!(err.contains(told), "{err}");
        let quiet = [arguments, &["-q"]].concat();
        let output = user.weir(&quiet).env("WIKI", &connection).output().unwrap();
        assert_eq!(ended(&output, 0).1, "", "{arguments:?}");
    }
    fs::create_dir(user.path(".weir")).unwrap();
    let slow = connection.replace("api_token: any", "api_token: 'command:sleep 4; echo any'");
    user.write(".weir/connections.yaml", &format!("connections: {{ WIKI: {slow} }}"));
    let (_, err) = ended(&user.run(&["sync", "run", "r.yaml", "--streams", "spaces"]), 0);
    assert!(err.contains("waiting for the values of connection `WIKI`"), "{err}");
}

const ORDERS: &str = "
name: shop
base_url: https://shop.test/v1
test: { get: /ping }
streams: { orders: { doc: O., get: /orders, key: [id], columns: { id: int } } }
";

#[tokio::test(start_paused = true)]
async fn what_another_try_does_not_mend_is_not_called_a_broken_connection() {
    let utf_16: Vec<u8> = "\u{feff}[]".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let cut = || Reply::raw(200, r#"[{ "id": 1 }"#).header("content-length", "12");
    let tries = async |answer: Box<dyn Fn() -> Reply + Send + Sync>| {
        let fake = Fake::new(ORDERS, move |asked| match asked.path.as_str() {
            "/v1/orders" => answer(),
            _ => Reply::json(&json!([])),
        });
        let ran = fake.run().await;
        let tries = ran.asked.iter().filter(|asked| asked.path == "/v1/orders").count();
        (tries, ran.stream("orders").error.clone().unwrap())
    };
    for (answer, told, most) in [
        (
            Box::new(cut) as Box<dyn Fn() -> Reply + Send + Sync>,
            "ends before its JSON is complete",
            2,
        ),
        (Box::new(move || Reply::raw(200, utf_16.clone())), "is UTF-16", 1),
    ] {
        let (sent, error) = tries(answer).await;
        assert_eq!(sent, most, "{error}");
        assert!(error.contains(told) && !error.contains("connection was lost"), "{error}");
    }
    let large = || Reply::none(TransportError::TooLarge(64 << 20));
    let (_, error) = tries(Box::new(large)).await;
    assert!(
        error.contains("is larger than 64 MiB") && !error.contains("did not answer"),
        "{error}"
    );
}

#[test]
fn arguments_that_are_wrong_are_told_as_json_too() {
    let user = User::new();
    for arguments in
        [&["sync", "run", "r.yaml", "--mode", "bogus", "--json"][..], &["--json", "no"]]
    {
        let (out, err) = ended(&user.run(arguments), 2);
        let found: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}"));
        assert_eq!((&found["status"], &found["exit_code"]), (&"failed".into(), &2.into()));
        let message = found["errors"][0]["message"].as_str().unwrap();
        assert!(!message.is_empty() && err.contains(message), "{message}: {err}");
    }
    let full = || File::options().write(true).open("/dev/full").unwrap();
    for arguments in [&["--help"][..], &["sync", "run", "--help"], &["--version"]] {
        ended(&user.weir(arguments).stdout(full()).output().unwrap(), 1);
    }
}

#[tokio::test]
async fn a_ledger_that_is_damaged_says_how_it_is_mended() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("wiki.json"), "{ not json").unwrap();
    let ledger = LocalLedger::new(folder.path());
    let at = LedgerQuery { window: TimeDelta::hours(1), now: Utc::now() };
    let error = ledger.peek("wiki", at).await.err().unwrap();
    assert!(error.hint().is_some_and(|hint| hint.contains("weir quota reset")), "{error:?}");
    assert!(ledger.lift("wiki").await.unwrap());
    assert!(ledger.peek("wiki", at).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn the_rows_that_are_published_are_told_as_they_are() {
    let fake = Fake::new(ORDERS, |_| Reply::json(&json!([{ "id": 1 }, { "id": 2 }])));
    let ran = fake.run().await;
    let told = ran.events.iter().find_map(|event| match event {
        Event::Doing { what, .. } if what.starts_with("publishing") => Some(what.clone()),
        _ => None,
    });
    assert!(told.as_ref().is_some_and(|told| told.starts_with("publishing 2 rows")), "{told:?}");
}

#[test]
fn mistakes_that_are_common_are_told_with_what_to_do() {
    let user = User::new();
    let set = |more: &[&str]| {
        let output = user.run(&[&["conns", "set", "X"], more].concat());
        ended(&output, 2).1
    };
    for (properties, told) in [
        (&["mysql://ann:s3cret@db.test/x"][..], "weir cannot use `mysql://`"),
        (&["url=ftp://ann:s3cret@host/x"], "weir cannot use `ftp://`"),
        (&["type=postgres", "host=db", "username=ann"], "did you mean `user`?"),
    ] {
        let err = set(properties);
        assert!(err.contains(told) && !err.contains("s3cret"), "{properties:?}: {err}");
    }
    let simulated = SIMULATED.replace("{}", "{pages: many}");
    let output = user.weir(&["conns", "test", "WIKI"]).env("WIKI", simulated).output().unwrap();
    let (_, err) = ended(&output, 2);
    assert!(err.contains("`many` is not a whole number"), "{err}");
    let validate = |text: &str| {
        user.write("r.yaml", text);
        let output = user.weir(&["sync", "validate", "r.yaml"]).env("WIKI", SIMULATED).output();
        ended(&output.unwrap(), 2).1
    };
    for (streams, told) in [
        ("streams: [{ spaces: }]", "write `spaces:` instead of `- spaces`"),
        ("streams: { spaces: incremental }", "write { mode: incremental }"),
        ("max_errors: 3\nstreams: { spaces: }", "`max_errors` belongs under `defaults`"),
        ("streams: { spaces: { object: '' } }", "`object` is empty"),
        ("streams: { spaces: { columns: { id: integer } } }", "did you mean `int`?"),
        ("streams: { spaces: { sql: x, tags: [a] } }", "delete the line"),
    ] {
        let err = validate(&format!(
            "source: WIKI\ntarget: OUT\nenv: {{ OUT: '{{type: files, url: out}}' }}\n{streams}\n"
        ));
        assert!(err.contains(told), "{streams}: {err}");
    }
    user.write("r.yaml", TO_FILES);
    let hint = |arguments: &[&str]| ended(&user.run(arguments), 2).1;
    let err = hint(&["run", "--src-conn", "A", "--src-stream", "pages"]);
    assert!(err.contains("hint: write source, target and streams into a file"), "{err}");
    let err = hint(&["sync", "run", "r.yaml", "--mode", "bogus"]);
    assert!(!err.contains("hint: weir sync run"), "{err}");
    let err = hint(&["run", "-r", "r.yaml"]);
    assert!(err.contains("hint: weir sync run r.yaml"), "{err}");
}
