//! What people write in replications and specs, and are understood or told.

use serde_json::json;
use weir::report::StreamStatus;

use crate::support::{
    fake::{Fake, Reply},
    postgres::Database,
    user::{TO_FILES, User, ended, visible},
};

const SITE: &str = "{type: api, spec: confluence, simulate: {pages: 3, spaces: 2}}";

/// What a command says that is refused.
#[track_caller]
fn refused(user: &User, arguments: &[&str]) -> String {
    let output = user.weir(arguments).env("WIKI", SITE).output().unwrap();
    ended(&output, 2).1
}

#[test]
fn a_missing_object_is_an_error_with_an_example() {
    let user = User::new();
    let text = TO_FILES.replace("defaults: { object: '{stream_name}.jsonl' }\n", "");
    user.write("r.yaml", &text);
    for command in [&["sync", "run", "r.yaml"][..], &["sync", "validate", "r.yaml"]] {
        let err = refused(&user, command);
        for part in [
            "`object` is missing: it names the table or file for the rows of `spaces` and others",
            "object: \"wiki.{stream_name}\"",
            "object: \"wiki/{stream_name}.parquet\"",
        ] {
            assert!(err.contains(part), "{part}: {err}");
        }
    }
    assert!(!user.path("out").exists());
    // Who says it of each stream that is read has said it.
    let own = "{ '*': { disabled: true }, spaces: { disabled: false, object: a.jsonl } }";
    user.write("r.yaml", &text.replace("{ '*': }", own));
    let run = user.weir(&["sync", "run", "r.yaml"]).env("WIKI", SITE).output().unwrap();
    ended(&run, 0);
    assert_eq!(visible(&user.path("out")), ["a.jsonl"]);
}

#[test]
fn a_target_may_be_a_url_and_its_password_is_not_shown() {
    let user = User::new();
    let out = user.path("there").display().to_string();
    user.write("r.yaml", &TO_FILES.replace("OUT\n", &format!("file://{out}\n")));
    let run = ["sync", "run", "r.yaml", "--streams", "spaces"];
    ended(&user.weir(&run).env("WIKI", SITE).output().unwrap(), 0);
    assert_eq!(visible(&user.path("there")), ["spaces.jsonl"]);
    for url in ["postgres://ann:s3cret@127.0.0.1:1/wh", "mysql://ann:s3cret@db/wh"] {
        user.write("r.yaml", &TO_FILES.replace("OUT\n", &format!("{url}\n")));
        let output = user.weir(&run).env("WIKI", SITE).output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && !err.contains("s3cret"), "{err}");
        assert!(url.starts_with("postgres") || err.contains("mysql://db/wh"), "{err}");
    }
}

#[test]
fn blanks_between_streams_do_no_harm_and_what_is_not_there_is_told_apart() {
    let user = User::new();
    let streams = "{ spaces: , pages: , page_labels: { disabled: true } }";
    user.write("r.yaml", &TO_FILES.replace("{ '*': }", streams));
    let run = ["sync", "run", "r.yaml", "--dry-run", "--streams", "spaces, pages ,"];
    let (out, _) = ended(&user.weir(&run).env("WIKI", SITE).output().unwrap(), 0);
    assert!(out.contains("spaces.jsonl") && out.contains("pages.jsonl"), "{out}");
    for (streams, told) in [
        ("pagse", "the spec `confluence` has no such stream"),
        ("tasks", "the replication has no such stream"),
        ("task*", "the replication has no such stream"),
        ("page_labels", "`page_labels` is disabled in the replication"),
    ] {
        let err = refused(&user, &["sync", "run", "r.yaml", "--streams", streams]);
        assert!(err.contains(told), "{streams}: {err}");
    }
}

#[test]
fn values_in_quotes_and_single_values_are_what_they_are_meant_as() {
    let user = User::new();
    let streams = "{ spaces: { select: key, disabled: \"false\", max_errors: \"5\" } }";
    let text = TO_FILES.replace("{ '*': }", streams);
    let inputs = "defaults: { inputs: { space_keys: SPACE1, version_titles: \"true\" }, ";
    user.write("r.yaml", &text.replace("defaults: { ", inputs));
    let run = user.weir(&["sync", "run", "r.yaml"]).env("WIKI", SITE).output().unwrap();
    let err = String::from_utf8(run.stderr).unwrap();
    // Whether there is such a space is another question.
    assert_ne!(run.status.code(), Some(2), "{err}");
}

/// An API whose columns have names of every kind, and no request to test it by.
const NAMES: &str = "
name: shop
base_url: https://shop.test/v1
streams:
  orders:
    get: /orders
    key: [\"Order No.\"]
    columns:
      \"Order No.\": int
      createdAt: { timestamp: created }
      \"größe\": text
      \"a\\\"b\": text
      select: text
";

#[tokio::test]
async fn columns_may_have_any_name_and_a_spec_needs_no_test() {
    let row = json!({ "Order No.": 7, "created": "2026-01-01T00:00:00Z", "größe": "L", "a\"b": "x", "select": "y" });
    let answer = row.clone();
    let database = Database::new().await;
    let files = Fake::new(NAMES, move |_| Reply::json(&json!([row])));
    let ran = files.run().await;
    assert_eq!(ran.stream("orders").status, StreamStatus::Done);
    let rows = files.rows("orders");
    assert_eq!(rows[0]["Order No."], 7, "{rows:?}");
    assert_eq!((&rows[0]["größe"], &rows[0]["a\"b"]), (&json!("L"), &json!("x")));
    let tables = Fake::new(NAMES, move |_| Reply::json(&json!([answer])));
    let tables = tables.into_postgres(database.options());
    assert_eq!(tables.run().await.stream("orders").status, StreamStatus::Done);
    let query = "SELECT \"Order No.\" || \"größe\" || \"a\"\"b\" || \"select\" FROM public.orders";
    assert_eq!(database.text(query).await, "7Lxy");
}

#[test]
fn a_connection_is_tested_by_the_first_stream_where_the_spec_names_no_request() {
    let user = User::new();
    user.write("shop.yaml", NAMES);
    ended(&user.run(&["trust", "shop.yaml"]), 0);
    let shop = "{type: api, spec: shop.yaml}";
    ended(&user.run(&["trust", "shop.yaml"]), 0);
    let output = user.weir(&["conns", "test", "SHOP"]).env("SHOP", shop).output().unwrap();
    let (_, err) = ended(&output, 1);
    assert!(err.contains("https://shop.test/v1/orders"), "{err}");
    let (_, err) = ended(&user.run(&["spec", "validate", "shop.yaml"]), 0);
    assert_eq!(err, "");
}
