//! Objects that name what is weir's own, or lie elsewhere than they seem to.

use serde_json::json;
use weir::error::Kind;
use weir::plan::PlanOptions;
use weir::sync::run_options::RunOptions;

use crate::support::fake::{Fake, How, Reply};

const SPEC: &str = "
name: shop
base_url: https://shop.test/v1/
test: { get: /ping }
streams:
  orders: { doc: An order., get: /orders, key: [id], columns: { id: int } }
";

fn shop() -> Fake {
    Fake::new(SPEC, |_| Reply::json(&json!([{ "id": 1 }])))
}

#[tokio::test]
async fn an_object_cannot_name_what_is_weirs_own() {
    let fake = shop();
    for object in [
        "_weir_state",
        "raw._weir_streams",
        "raw.\"_weir_ledger\"",
        "_weir.orders",
        "_WEIR_errors.jsonl",
        ".weir/state/orders.jsonl",
        "wiki/.weir/orders.jsonl",
        "_weir_orders/*.parquet",
    ] {
        let replication =
            format!("source: A\ntarget: B\nstreams: {{ orders: {{ object: '{object}' }} }}\n");
        let options = PlanOptions::default();
        let how =
            How { replication: &replication, options: &options, beginning: RunOptions::now() };
        let error = fake.try_run(how).await.err().unwrap_or_else(|| panic!("{object} is taken"));
        assert_eq!(error.kind(), Kind::Input, "{object}: {error:?}");
        assert!(error.to_string().contains("a name that weir reserves"), "{object}: {error:?}");
    }
    let fine = "source: A\ntarget: B\nstreams: { orders: { object: 'weir_orders.jsonl' } }\n";
    assert_eq!(fake.run_with(fine).await.stream("orders").rows, 1);
}

#[tokio::test]
async fn a_folder_that_is_a_link_is_not_followed_out_of_the_output() {
    for (object, link) in [
        ("in/orders.jsonl", "in"),
        ("in/deep/orders.jsonl", "in"),
        ("in/*.parquet", "in"),
        ("a/in/*.jsonl", "a/in"),
    ] {
        let (fake, elsewhere) = (shop(), tempfile::tempdir().unwrap());
        let link = fake.folder().join(link);
        std::fs::create_dir_all(link.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), &link).unwrap();
        let replication =
            format!("source: A\ntarget: B\nstreams: {{ orders: {{ object: '{object}' }} }}\n");
        let ran = fake.run_with(&replication).await;
        let error = ran.stream("orders").error.clone().unwrap_or_default();
        assert!(error.contains("is a link that leads out of"), "{object}: {error}");
        assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0, "{object}");
    }
    // One that stays inside is the user's own affair.
    let fake = shop();
    std::fs::create_dir(fake.folder().join("real")).unwrap();
    std::os::unix::fs::symlink("real", fake.folder().join("in")).unwrap();
    let inside = "source: A\ntarget: B\nstreams: { orders: { object: 'in/orders.jsonl' } }\n";
    assert_eq!(fake.run_with(inside).await.stream("orders").rows, 1);
}
