//! What a server answers besides the records that were asked for.

use serde_json::json;
use weir::plan::PlanOptions;
use weir::report::StreamStatus;
use weir::sync::run_options::RunOptions;

use crate::support::{
    fake::{Fake, How, REPLICATION, Reply},
    postgres::Database,
};

const SPEC: &str = "
name: shop
base_url: https://shop.test/v1/
test: { get: /ping }
streams:
  orders: { doc: An order., get: /orders, key: [id], columns: { id: int, state: text } }
";

#[tokio::test]
async fn a_server_that_fails_later_leaves_what_came_before() {
    let fake = Fake::new(SPEC, |asked| {
        assert_eq!((asked.method.as_str(), asked.path.as_str()), ("GET", "/v1/orders"));
        assert!(asked.param("page").is_empty() && asked.body.is_empty());
        assert!(asked.headers.get("authorization").is_none());
        Reply::json(&json!([{ "id": 1, "state": "new" }]))
    });
    let ran = fake.run().await;
    assert_eq!(ran.stream("orders").status, StreamStatus::Done);
    assert_eq!(fake.column("orders", "state"), ["new"]);
    assert!(fake.folder().join("orders.jsonl").exists());

    fake.answer(|_| Reply::raw(400, "no").header("x-reason", "maintenance"));
    let ran = fake.run_with(REPLICATION).await;
    assert_eq!(ran.stream("orders").status, StreamStatus::Failed);
    assert_eq!(ran.asked.len(), 1);
    assert!(ran.warnings().is_empty(), "{:?}", ran.warnings());
    assert_eq!(fake.rows("orders").len(), 1);
}

#[tokio::test]
async fn a_server_that_fails_later_leaves_a_table_as_it_was() {
    let database = Database::new().await;
    let fake = Fake::new(SPEC, |_| Reply::json(&json!([{ "id": 1, "state": "new" }])));
    let fake = fake.into_postgres(database.options());
    fake.run().await;
    fake.answer(|_| Reply::status(400, &json!({ "message": "no" })));
    let options = PlanOptions::default();
    let how = How { replication: REPLICATION, options: &options, beginning: RunOptions::now() };
    let ran = fake.try_run(how).await.unwrap();
    assert_eq!(ran.stream("orders").status, StreamStatus::Failed);
    let client = database.client().await;
    let row = client.query_one("SELECT count(*) FROM public.orders", &[]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 1);
}
