//! Runs that go on although something about them has changed.

use std::fs;

use serde_json::json;
use weir::report::StreamStatus;

use crate::support::fake::{Asked, Fake, Reply};

const SPEC: &str = "
name: shop
base_url: https://shop.test/v1/
test: { get: /ping }
defaults: { paginate: { cursor: { at: next, param: after } }, records: data }
streams:
  orders: { doc: An order., get: /orders, key: [id], columns: { id: int, state: text } }
  refunds: { doc: A refund., get: /refunds, key: [id], columns: { id: int, state: text } }
";

fn replication(select: &str) -> String {
    format!(
        "source: A\ntarget: B\ndefaults: {{ metadata: {{ synced_at: false }} }}\n\
         streams: {{ orders: {{ select: [{select}] }}, refunds: }}\n"
    )
}

/// Three pages of one record each; the third is refused as long as `open` is false.
fn page(asked: &Asked, open: bool) -> Reply {
    let number: u64 = asked.param("after").parse().unwrap_or(1);
    if number == 3 && !open {
        return Reply::raw(401, "who are you?");
    }
    let next = (number < 3).then(|| (number + 1).to_string());
    Reply::json(&json!({ "data": [{ "id": number, "state": "new" }], "next": next }))
}

#[tokio::test]
async fn another_select_throws_away_the_progress_of_its_stream_alone() {
    let fake = Fake::new(SPEC, |asked| page(asked, false));
    let first = fake.run_with(&replication("id")).await;
    assert!(first.report.resumable);
    fake.answer(|asked| page(asked, true));
    let second = fake.run_with(&replication("id, state")).await;
    assert!(second.report.continued);
    let pages = |path: &str| second.asked.iter().filter(|asked| asked.path == path).count();
    assert_eq!((pages("/v1/orders"), pages("/v1/refunds")), (3, 1));
    for stream in ["orders", "refunds"] {
        assert_eq!(second.stream(stream).status, StreamStatus::Done);
        assert_eq!(fake.column(stream, "state"), ["new", "new", "new"]);
    }
    assert!(
        second.warnings().iter().any(|one| one.contains("the stream is read again from the start"))
    );
}

#[tokio::test]
async fn staged_rows_that_are_gone_are_read_again_in_the_same_run() {
    let fake = Fake::new(SPEC, |asked| page(asked, false));
    fake.run_with(&replication("id")).await;
    let staged =
        fs::read_dir(fake.folder().join(".weir/stage")).unwrap().map(|entry| entry.unwrap().path());
    let staged = staged.filter(|path| path.to_string_lossy().contains(".weir/stage/orders"));
    staged.for_each(|path| fs::remove_dir_all(path).unwrap());
    fake.answer(|asked| page(asked, true));
    let second = fake.run_with(&replication("id")).await;
    assert!(second.report.continued);
    assert_eq!(second.stream("orders").status, StreamStatus::Done);
    assert_eq!(fake.column("orders", "id"), [1, 2, 3]);
}
