//! Snapshots into what cannot take the same rows twice.

use serde_json::json;
use weir::error::Kind;
use weir::plan::PlanOptions;
use weir::sync::run_options::RunOptions;

use crate::support::{
    fake::{Fake, How, Reply, RunResult},
    postgres::Database,
};

const SPEC: &str = "
name: shop
base_url: https://shop.test/v1/
test: { get: /ping }
streams:
  orders: { doc: An order., get: /orders, key: [id], columns: { id: int } }
";

const SNAPSHOT: &str = "source: A\ntarget: B\ndefaults: { mode: snapshot }\nstreams: { '*': }\n";

fn shop() -> Fake {
    Fake::new(SPEC, |_| Reply::json(&json!([{ "id": 1 }])))
}

async fn snapshot(fake: &Fake) -> Result<RunResult, weir::error::Error> {
    let options = PlanOptions::default();
    let beginning = RunOptions::now();
    fake.try_run(How { replication: SNAPSHOT, options: &options, beginning }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_with_a_key_is_refused_before_the_first_request() {
    let database = Database::new().await;
    let fake = shop().into_postgres(database.options());
    fake.run_with("source: A\ntarget: B\ndefaults: { mode: incremental }\nstreams: { '*': }\n")
        .await;
    fake.answer(|asked| panic!("{} is asked for", asked.path));
    let error = snapshot(&fake).await.err().unwrap();
    assert_eq!(error.kind(), Kind::Input);
    assert!(error.chain().contains("allows each (\"id\") only once"), "{}", error.chain());
    assert!(error.hint().unwrap_or_default().contains("`object`"));
    assert_eq!(database.text("SELECT count(*) FROM orders").await, "1");
    fake.answer(|_| Reply::json(&json!([{ "id": 1 }])));
    database.execute("ALTER TABLE orders DROP CONSTRAINT orders_pkey").await;
    assert_eq!(snapshot(&fake).await.unwrap().stream("orders").rows, 1);
    assert_eq!(database.text("SELECT count(*) FROM orders").await, "2");
}

#[tokio::test]
async fn one_file_that_exists_is_refused_before_the_first_request() {
    let fake = shop();
    assert_eq!(snapshot(&fake).await.unwrap().stream("orders").rows, 1);
    fake.answer(|asked| panic!("{} is asked for", asked.path));
    let error = snapshot(&fake).await.err().unwrap();
    assert_eq!(error.kind(), Kind::Input);
    assert!(error.chain().contains("orders.jsonl"), "{}", error.chain());
    assert!(error.hint().unwrap_or_default().contains("put a `*`"));
    assert_eq!(fake.rows("orders").len(), 1);
}
