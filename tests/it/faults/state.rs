//! State that something else has damaged: cut short, bits flipped. The rows are right after the next run. And
//! state of a newer weir.

use std::{fs, path::Path};

use serde_json::{Value, json};
use weir::plan::PlanOptions;
use weir::report::StreamStatus;
use weir::state::{Change, Holder};
use weir::sync::run_options::RunOptions;
use weir::write::Target;
use weir::write::files::{Files, Settings};

use crate::support::{
    dice::Dice,
    fake::{Asked, Fake, How, Reply},
};

const SPEC: &str = "
name: shop
base_url: https://shop.test/v1/
test: { get: /ping }
defaults: { paginate: { cursor: { at: next, param: after } }, records: data }
streams:
  orders: { doc: An order., get: /orders, key: [id], feeds: { order_ids: id }, columns: { id: int, state: text } }
  items:
    doc: An item of an order.
    for_each: order_ids
    get: /orders/{{ order_id }}/items
    replaces: order_id
    key: [order_id, id]
    columns: { order_id: { int: \"{{ order_id }}\" }, id: int }
";

/// Everything is saved at once, so that the journal has many records.
fn replication(mode: &str) -> String {
    format!(
        "source: A\ntarget: B\ndefaults: {{ mode: {mode}, metadata: {{ synced_at: false }} }}\n\
         checkpoint: {{ size: 0MiB, every: 0s }}\nstreams: {{ '*': }}\n"
    )
}

/// Three pages of two records each.
fn page(asked: &Asked) -> Reply {
    let number: u64 = asked.param("after").parse().unwrap_or(1);
    let next = (number < 3).then(|| (number + 1).to_string());
    let record = |id: u64| json!({ "id": id, "state": "new" });
    let data = [record(2 * number), record(2 * number + 1)];
    Reply::json(&json!({ "data": data, "next": next }))
}

fn rows(fake: &Fake) -> Vec<Vec<String>> {
    let sorted = |stream: &str| {
        let mut texts: Vec<String> = fake.rows(stream).iter().map(Value::to_string).collect();
        texts.sort();
        texts
    };
    vec![sorted("orders"), sorted("items")]
}

fn copied(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let goal = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copied(&entry.path(), &goal);
        } else {
            fs::copy(entry.path(), goal).unwrap();
        }
    }
}

/// Cuts a file of the state short, or flips a bit in it.
fn damage(root: &Path, dice: &mut Dice) -> String {
    let folders = fs::read_dir(root.join(".weir/state")).unwrap();
    let mut folders = folders.map(|entry| entry.unwrap().path());
    let folder = folders.find(|folder| folder.join("journal.jsonl").exists()).unwrap();
    // Mostly the journal, which is far longer.
    let name = if dice.below(8) == 0 { "state.json" } else { "journal.jsonl" };
    let path = folder.join(name);
    let mut bytes = fs::read(&path).unwrap();
    let at = usize::try_from(dice.below(bytes.len() as u64)).unwrap();
    let what = if dice.below(2) == 0 {
        bytes.truncate(at);
        format!("{name} cut to {at} bytes")
    } else {
        bytes[at] ^= 1 << dice.below(8);
        format!("a bit of byte {at} of {name} flipped")
    };
    fs::write(&path, bytes).unwrap();
    what
}

async fn is_right_after_damage(mode: &str) {
    let fake = Fake::new(SPEC, page);
    fake.run_with(&replication(mode)).await;
    let wanted = rows(&fake);
    assert_eq!((wanted[0].len(), wanted[1].len()), (6, 36));
    let kept = tempfile::tempdir().unwrap();
    copied(fake.folder(), kept.path());
    let mut dice = Dice(7);
    let mut told = 0;
    for number in 0..60 {
        fs::remove_dir_all(fake.folder()).unwrap();
        copied(kept.path(), fake.folder());
        let what = damage(fake.folder(), &mut dice);
        // Each is another process, which knows nothing of the one before.
        let fake = fake.another_process();
        let ran = fake.run_with(&replication(mode)).await;
        let failed = ran.report.streams.iter().find(|one| one.status == StreamStatus::Failed);
        assert!(failed.is_none(), "{mode} {number}: {what}: {failed:?}");
        assert!(rows(&fake) == wanted, "{mode} {number}: {what}: rows differ");
        told += u64::from(ran.report.notices.iter().any(|one| one.to_string().contains("damaged")));
    }
    // All but those that were cut between two records, or to nothing.
    assert!(told > 48, "{told}");
}

#[tokio::test]
async fn after_any_damage_to_the_state_the_next_full_refresh_leaves_the_right_rows() {
    is_right_after_damage("full-refresh").await;
}

#[tokio::test]
async fn after_any_damage_to_the_state_the_next_incremental_run_leaves_the_right_rows() {
    is_right_after_damage("incremental").await;
}

#[tokio::test]
async fn the_state_of_a_newer_weir_is_an_error_until_a_fresh_run_replaces_it() {
    let fake = Fake::new(SPEC, page);
    fake.run_with(&replication("incremental")).await;
    let store = || Files::in_folder(fake.folder(), Settings::default()).store("fake").unwrap();
    assert_eq!(store().load().await.unwrap()["version"], 1, "every run writes it");
    let newer = store();
    let lock = newer.lock(&Holder::here("newer")).await.unwrap();
    // The newer weir also writes entries that this one cannot parse, and those come before the version.
    let unknown = Change::set("stream/items", json!({ "cursor": ["of", "another", "form"] }));
    newer.save(&[Change::set("version", 2.into()), unknown]).await.unwrap();
    lock.release().await;
    drop((lock, newer));
    let (definition, options) = (replication("incremental"), PlanOptions::default());
    let begun = |fresh| How {
        replication: &definition,
        options: &options,
        beginning: RunOptions { fresh, ..RunOptions::now() },
    };
    let error = fake.another_process().try_run(begun(false)).await.err().unwrap();
    assert!(error.chain().contains("written by a newer weir (version 2)"), "{}", error.chain());
    assert!(error.hint().unwrap().contains("weir sync reset"));
    let ran = fake.another_process().try_run(begun(true)).await.unwrap();
    assert!(ran.report.streams.iter().all(|one| one.status == StreamStatus::Done));
    assert_eq!(store().load().await.unwrap()["version"], 1);
}
