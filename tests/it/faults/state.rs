//! State that something else has damaged: cut short, bits flipped. The rows are right after the next run.

use std::{collections::BTreeMap, fs, path::Path};

use weir::{
    report::StreamStatus,
    sim::Options,
    sync::RunReport,
    write::files::{Files, Settings},
};

use crate::support::{dice::Dice, rig::Rig};

/// Streams whose rows depend on each other's progress.
const STREAMS: [&str; 4] = ["pages", "page_labels", "page_versions", "page_footer_comments"];

/// Everything is saved at once, so that the journal has many records.
fn replication(mode: &str) -> String {
    format!(
        "
source: WIKI
target: OUT
defaults: {{ mode: {mode}, object: '{{stream_name}}.jsonl', metadata: {{ synced_at: false }} }}
limits: {{ requests_per_second: 0, concurrency: 8 }}
checkpoint: {{ mib: 0, seconds: 0 }}
streams: {{ '*': }}
"
    )
}

fn rig() -> Rig {
    let options = Options {
        pages: 14,
        spaces: 2,
        blog_posts: 1,
        attachments: 1,
        body_bytes: 50,
        ..Options::default()
    };
    Rig::new(options).by_own_requests().only(&STREAMS)
}

type Rows = BTreeMap<String, Vec<String>>;

fn rows(rig: &Rig) -> Rows {
    let sorted = |stream: &str| {
        let rows = rig.rows(stream).unwrap_or_default();
        let mut texts: Vec<String> =
            rows.iter().map(|row| serde_json::to_string(row).unwrap()).collect();
        texts.sort();
        texts
    };
    STREAMS.iter().map(|stream| ((*stream).to_owned(), sorted(stream))).collect()
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

async fn run(rig: &Rig, mode: &str) -> RunReport {
    rig.run_into(Files::in_folder(rig.folder.path(), Settings::default()), &replication(mode)).await
}

/// Cuts a file of the state short, or flips a bit in it.
fn damage(state: &Path, dice: &mut Dice) -> String {
    let folder = fs::read_dir(state).unwrap().next().unwrap().unwrap().path();
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

#[tokio::test]
async fn after_any_damage_to_the_state_the_next_run_leaves_the_right_rows() {
    for mode in ["full-refresh", "incremental"] {
        let rig = rig();
        assert!(run(&rig, mode).await.streams.iter().all(|one| one.status == StreamStatus::Done));
        let wanted = rows(&rig);
        let kept = tempfile::tempdir().unwrap();
        copied(rig.folder.path(), kept.path());
        let mut dice = Dice(7);
        for number in 0..250 {
            fs::remove_dir_all(rig.folder.path()).unwrap();
            copied(kept.path(), rig.folder.path());
            let what = damage(&rig.folder.path().join(".weir_state"), &mut dice);
            let report = run(&rig, mode).await;
            let failed = report.streams.iter().find(|one| one.error.is_some());
            assert!(failed.is_none(), "{mode} {number}: {what}: {failed:?}");
            assert!(rows(&rig) == wanted, "{mode} {number}: {what}: rows differ");
        }
    }
}
