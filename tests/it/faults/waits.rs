//! Waits that somebody else asked for, and locks that somebody else holds.

use std::{process::Command, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use object_store::{ObjectStore, ObjectStoreExt, memory::InMemory, path::Path as Key};
use serde_json::{Value, json};
use weir::error::Kind;
use weir::plan::PlanOptions;
use weir::state::Holder;
use weir::sync::run_options::RunOptions;
use weir::write::files::{Files, Settings};
use weir::write::{Disposition, Target};

use crate::support::{
    fake::{Fake, How, REPLICATION, Reply},
    target_contract::table,
    user::{TO_FILES, User, ended},
};

#[test]
fn a_wait_of_an_earlier_version_is_bounded_shown_and_lifted() {
    let user = User::new();
    let set = ["conns", "set", "WIKI", "type=api", "spec=confluence", "domain=acme.test"];
    let more = ["email=ann@acme.test", "api_token=t", "quota=points"];
    ended(&user.run(&[&set[..], &more[..]].concat()), 0);
    let show = || {
        let (out, _) = ended(&user.run(&["quota", "show", "WIKI", "--json"]), 0);
        serde_json::from_str::<Value>(&out).unwrap()
    };
    let file = show()["kept_in"].as_str().unwrap().to_owned();
    assert!(file.starts_with(user.path(".weir/ledger").to_str().unwrap()), "{file}");
    let now = Utc::now();
    let spender = json!({ "spent": 40, "holds": 2, "seen": now });
    let account = json!({
        "start": weir::quota::account::start_of(chrono::TimeDelta::hours(1), now),
        "processes": { "p": spender },
        "hold": "9999-12-31T23:59:59Z",
    });
    std::fs::create_dir_all(user.path(".weir/ledger")).unwrap();
    std::fs::write(&file, account.to_string()).unwrap();
    let held = show();
    assert_eq!(held["spent"], 42);
    assert!(held["waits_until"].is_string(), "{held}");
    let (out, _) = ended(&user.run(&["quota", "reset", "WIKI"]), 0);
    assert!(out.contains(&file), "{out}");
    let lifted = show();
    assert_eq!((&lifted["waits_until"], &lifted["spent"]), (&Value::Null, &json!(42)));
    let (out, _) = ended(&user.run(&["quota", "show", "WIKI"]), 0);
    assert!(out.contains("42 of 65,000 points are spent"), "{out}");
}

const LOCK: &str = "lock.json";

async fn lease(store: &InMemory) -> Key {
    use futures_util::TryStreamExt;
    let all: Vec<_> = store.list(None).try_collect().await.unwrap();
    all.into_iter().map(|meta| meta.location).find(|key| key.as_ref().ends_with(LOCK)).unwrap()
}

async fn put(store: &InMemory, lease: &Key, holder: &Holder, until: DateTime<Utc>) {
    let text = json!({ "holder": holder, "until": until }).to_string();
    store.put(lease, text.into()).await.unwrap();
}

#[tokio::test]
async fn a_lease_whose_holder_is_dead_is_replaced_at_once() {
    let store = Arc::new(InMemory::new());
    let bucket: Arc<dyn ObjectStore> = Arc::<InMemory>::clone(&store);
    let state = Files::in_store(bucket, "", "s3://b", Settings::default()).store("r").unwrap();
    state.lock(&Holder::here("first")).await.unwrap().release().await;
    let (lease, until) = (lease(&store).await, Utc::now() + Duration::from_secs(50));
    let mut child = Command::new("/bin/true").spawn().unwrap();
    child.wait().unwrap();
    let dead = Holder { process: child.id(), ..Holder::here("dead") };
    // On another machine nobody knows whether it lives; nor do those that do not tell their boot.
    for unknown in [
        Holder { host: "elsewhere".to_owned(), ..dead.clone() },
        Holder { boot: Some("another boot".to_owned()), ..dead.clone() },
        Holder { boot: None, ..dead.clone() },
        Holder::here("alive"),
    ] {
        put(&store, &lease, &unknown, until).await;
        let error = state.lock(&Holder::here("next")).await.err().unwrap();
        assert_eq!(error.kind(), Kind::Busy);
        let hint = error.hint().unwrap_or_default();
        let ends = until.format("the lock expires at %H:%M:%S UTC").to_string();
        assert!(hint.contains(&ends) && hint.contains("--wait"), "{hint}");
    }
    put(&store, &lease, &dead, until).await;
    assert!(state.lock(&Holder::here("next")).await.unwrap().is_held());
}

const SPEC: &str = "
name: shop
base_url: https://shop.test/v1/
test: { get: /ping }
streams:
  orders: { doc: An order., get: /orders, key: [id], columns: { id: int } }
";

#[tokio::test]
async fn a_run_that_may_wait_waits_for_the_lock_of_another() {
    let fake = Fake::new(SPEC, |_| Reply::json(&json!([{ "id": 1 }])));
    let name = fake.run().await.report;
    assert_eq!(name.streams[0].rows, 1);
    let folder = fake.folder().to_owned();
    let held = std::fs::read_dir(folder.join(".weir/state")).unwrap().next().unwrap().unwrap();
    let path = held.path().join("lock");
    let file = std::fs::File::open(&path).unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let options = PlanOptions::default();
    let how = |wait| How {
        replication: REPLICATION,
        options: &options,
        beginning: RunOptions { wait, ..RunOptions::now() },
    };
    let refused = fake.try_run(how(Duration::ZERO)).await.err().unwrap();
    assert_eq!(refused.kind(), Kind::Busy);
    let waiting = fake.try_run(how(Duration::from_mins(5)));
    let holder = async move {
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(file);
    };
    let (ran, ()) = tokio::join!(waiting, holder);
    assert_eq!(ran.unwrap().stream("orders").rows, 1);
}

/// Another replication is writing the only table of a run.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_tables_are_being_written_is_busy() {
    let user = User::new();
    user.write("r.yaml", TO_FILES);
    let target = Files::in_folder(user.path("out"), Settings::default());
    let other = table("spaces.jsonl", Disposition::Replace);
    let writer = target.open(&other, None).await.unwrap().unwrap();
    let site = "{type: api, spec: confluence, simulate: {pages: 3}}";
    let run = |code| {
        let mut command = user.weir(&["sync", "run", "r.yaml", "--streams", "spaces"]);
        ended(&command.env("WIKI", site).output().unwrap(), code)
    };
    let (_, err) = run(4);
    assert!(err.contains("another run is writing `spaces.jsonl`"), "{err}");
    writer.discard().await.unwrap();
    run(0);
}
