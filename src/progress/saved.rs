//! The saved state of a replication: what the store holds, as types. Status commands and resumed runs read it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::progress::versions;
use crate::state::{Change, Entries};

pub(crate) use crate::progress::open_run::RUN;
pub use crate::progress::open_run::{OpenRun, OpenStream, Reach, RecordCount};
pub(crate) use crate::progress::slices::OpenItem;
pub use crate::progress::slices::{OpenListing, OpenSlice};
pub(crate) use crate::progress::stream_state::STREAM;
pub use crate::progress::stream_state::{
    ChangeStats, Completeness, Doubt, FullReadStats, LastRun, Progress, RefusedSlice, StreamState,
};
pub use crate::report::counters::Counts;

/// Prefix of the keys of queues.
pub(crate) const QUEUE: &str = "queue/";
/// Key that states whether the table of errors has rows.
const ERRORS: &str = "_weir_errors";
/// Key of the version of the saved state's format.
const VERSION: &str = "version";
/// The version that this weir writes, and the newest that it reads. A state without the key has version 1.
const CURRENT_VERSION: u64 = 1;

const HINT: &str = "was it written by a newer weir? `weir sync reset` deletes it";

/// Checks that this weir can read the entries.
fn check_version(entries: &Entries) -> Result<()> {
    let Some(value) = entries.get(VERSION) else { return Ok(()) };
    let what = match value.as_u64() {
        Some(version) if version <= CURRENT_VERSION => return Ok(()),
        Some(version) => format!(
            "the saved state was written by a newer weir (version {version}); this weir reads versions up to \
             {CURRENT_VERSION}"
        ),
        None => format!("the version of the saved state is no number: {value}"),
    };
    Err(Error::target(what).with_hint(HINT))
}

/// The entries of a store, parsed.
#[derive(Clone, Debug, Default)]
pub struct SavedState {
    /// The run that has not ended.
    pub run: Option<OpenRun>,
    /// The streams, by name.
    pub streams: BTreeMap<String, StreamState>,
    /// Record counts that the API reported for the open run's estimate.
    pub counted: Vec<RecordCount>,
    /// All other entries, such as those of queues.
    pub(crate) rest: Entries,
}

impl SavedState {
    /// Parses the entries of a store.
    ///
    /// # Errors
    /// A newer weir wrote the state, or an entry cannot be parsed.
    pub fn read(entries: Entries) -> Result<Self> {
        check_version(&entries)?;
        let mut saved = Self::default();
        for (key, value) in entries {
            saved.insert(key, value)?;
        }
        Ok(saved)
    }

    /// Parses the entries that can be parsed, and returns the changes that remove the others. Of the state of a newer
    /// weir it parses none, since entries may look the same and have another meaning.
    pub fn read_leniently(entries: Entries) -> (Self, Vec<Change>) {
        let (mut saved, mut unknown) = (Self::default(), Vec::new());
        if check_version(&entries).is_err() {
            return (saved, entries.into_keys().map(Change::forget).collect());
        }
        for (key, value) in entries {
            if saved.insert(key.clone(), value).is_err() {
                unknown.push(Change::forget(key));
            }
        }
        (saved, unknown)
    }

    /// The state after changes that this process made.
    ///
    /// # Errors
    /// See [`SavedState::read`].
    pub fn with(&self, changes: &[Change]) -> Result<Self> {
        let mut saved = self.clone();
        for Change { key, value } in changes {
            if let Some(value) = value {
                saved.insert(key.clone(), value.clone())?;
            } else if key == RUN {
                saved.run = None;
            } else if let Some(name) = key.strip_prefix(STREAM) {
                saved.streams.remove(name);
            } else {
                saved.rest.remove(key);
            }
        }
        Ok(saved)
    }

    fn insert(&mut self, key: String, value: Value) -> Result<()> {
        let unknown = |error: serde_json::Error| {
            Error::target(format!("the saved state has an entry `{key}` that is not understood"))
                .because(error)
                .with_hint(HINT)
        };
        if key == RUN {
            let run: OpenRun = serde_json::from_value(value).map_err(unknown)?;
            self.counted.clone_from(&run.counted);
            self.run = Some(run);
        } else if let Some(name) = key.strip_prefix(STREAM) {
            let state = serde_json::from_value(value).map_err(unknown)?;
            self.streams.insert(name.to_owned(), state);
        } else {
            self.rest.insert(key, value);
        }
        Ok(())
    }

    /// The change that saves the version of the format.
    pub fn version() -> Change {
        Change::set(VERSION, Value::from(CURRENT_VERSION))
    }

    /// Whether the table of errors may have rows.
    pub fn has_errors(&self) -> bool {
        self.rest.get(ERRORS).and_then(Value::as_bool).unwrap_or_default()
    }

    /// The change that saves whether the table of errors has rows.
    pub fn errors(any: bool) -> Change {
        if any { Change::set(ERRORS, Value::from(true)) } else { Change::forget(ERRORS) }
    }

    /// The state of a stream; the default for one that no run has read.
    pub fn stream(&self, name: &str) -> StreamState {
        self.streams.get(name).cloned().unwrap_or_default()
    }

    /// Number of records of a stream whose fingerprints are saved.
    pub(crate) fn fingerprint_count(&self, name: &str) -> u64 {
        versions::fingerprint_count(name, &self.rest)
    }

    /// The changes that remove the versions of a stream's parents or records that an open run has saved.
    pub fn without_parts(&self, name: &str) -> impl Iterator<Item = Change> {
        versions::parts(name, &self.rest).map(Change::forget)
    }

    /// Notes that the target has lost rows of a stream: the next run reads the stream from the start.
    pub fn invalidate(&mut self, name: &str) {
        if let Some(state) = self.streams.get_mut(name) {
            state.writes.clear();
        }
    }

    /// The changes that remove the open run.
    pub fn without_run(&self) -> Vec<Change> {
        let queues = self.rest.keys().filter(|key| key.starts_with(QUEUE));
        let mut changes: Vec<Change> = queues.map(Change::forget).collect();
        let names = self.streams.keys();
        changes.extend(names.flat_map(|name| self.without_parts(name)));
        for (name, state) in self.streams.iter().filter(|(_, state)| state.open.is_some()) {
            if state.open.as_ref().is_some_and(|open| open.publishing) {
                // The rows of the open run may be visible already.
                changes.extend(versions::forgotten(name));
            }
            let state = StreamState { open: None, ..state.clone() };
            changes.push(state.change(name));
        }
        changes.push(Change::forget(RUN));
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The saved state of a stream with every field, as weir 0.1 writes it.
    const STREAM_STATE: &str = r#"{
        "reads":"r1","writes":"w1","shape":"s1","cursor":1767225600000000,"gate":1767225600000001,
        "complete_at":"2026-01-31T12:00:00Z","parents_at":"2026-01-31T12:00:01Z",
        "no_deletes":"the inputs changed",
        "failed":[{
            "request":1,"number":7,"values":["a"],"carried":["[\"x\"]"],
            "error":{"stream":"kids","slice":"id=a","url":"https://acme.test/a","status":403,
                "message":"Forbidden"},
            "recurs":true
        }],
        "last":{
            "run_id":"r-1","at":"2026-01-31T12:00:02Z","started_at":"2026-01-31T12:00:00Z",
            "report":{
                "stream":"kids","status":"done","object":"kids","rows":1,"deleted":2,"requests":3,
                "points":4,"retries":5,"bytes":6,"duplicates":7,"misfits":8,"skipped":9,
                "complete":false,"reach":"everything","route":"default","route_refused":false,
                "earlier":false,"seconds":1.5
            },
            "supply":"bounded"
        },
        "succeeded":null,"committed":"r-1",
        "open":{
            "run_id":"r-2","reach":{"range":[1,2]},"staged":11,"publishing":true,
            "finished":[[[0,3],[5,9]]],
            "open":[{
                "request":0,"from":3,"to":5,"number":0,"attempt":1,
                "items":[["a",5,"[\"x\"]"]],
                "listings":[{"depth":0,"with":["b"],"at":{"token":"t"},"part":[0,1],"total":20}]
            }],
            "newest":12,"newest_parent":13,"void":[-1,3],"failed":[],"gaps":["a row limit"],
            "notices":[],
            "columns":{"n":{"type":"int","values":3,"misfits":1,"kept":true,"replaced":2}},
            "counts":{"requests":1,"retries":2,"bytes":3,"rows":4,"duplicates":5,"misfits":6,
                "done":7,"skipped":8,"points":9,"shared":10,"shared_points":11,"derived":12,
                "changed":13,"borne":14},
            "page_sizes":[100],"refused":["probed"],"confirmed":true,
            "doubtful":[{
                "kind":"kids","child":true,
                "failed":{
                    "request":0,"number":1,"values":[],"carried":[],
                    "error":{"stream":"kids","slice":"","url":"https://acme.test/b","status":null,
                        "message":"gone"},
                    "recurs":false
                }
            }]
        },
        "learnt":{"route":"default","slices":1,"rows":2,"requests":3,"points":4,"shared":5,
            "shared_points":6,"derived":7,"bearer":true},
        "changes":{"days":0.5,"rows":1,"parents":2,"derived":3},
        "refused":{"probed":"2026-01-31T12:00:03Z"}
    }"#;

    /// An open run with every field, as weir 0.1 writes it.
    const OPEN_RUN: &str = r#"{
        "id":"r-2","started_at":"2026-01-31T12:00:00Z","retry":false,
        "streams":{"kids":{"reads":"r1","writes":"w1","shape":"s1","object":"kids",
            "reach":{"since":5},"route":"default"}},
        "planned":{"requests":1,"points":2,"assumed":true,"requests_range":[1,3],
            "points_range":[2,4]},
        "counted":[{"streams":["kids"],"records":50}]
    }"#;

    fn compact(text: &str) -> String {
        text.lines().map(str::trim).collect()
    }

    #[test]
    fn a_state_of_version_1_is_read_and_written_back_equal() {
        let parse = |text: &str| serde_json::from_str::<Value>(&compact(text)).unwrap();
        let entries = Entries::from([
            ("stream/kids".to_owned(), parse(STREAM_STATE)),
            ("run".to_owned(), parse(OPEN_RUN)),
        ]);
        let saved = SavedState::read(entries).unwrap();
        let stream = saved.streams["kids"].change("kids");
        assert_eq!(stream.key, "stream/kids");
        assert_eq!(stream.value.unwrap().to_string(), compact(STREAM_STATE));
        let run = saved.run.unwrap().change();
        assert_eq!(run.value.unwrap().to_string(), compact(OPEN_RUN));
        for (name, value) in [
            ("complete", Completeness::Complete),
            ("bounded", Completeness::ChangesOnly),
            ("partial", Completeness::Incomplete),
            ("interrupted", Completeness::Interrupted),
            ("failed", Completeness::Failed),
        ] {
            assert_eq!(serde_json::to_value(value).unwrap(), name);
        }
    }

    #[test]
    fn a_state_of_a_newer_version_is_an_error_unless_it_is_reset() {
        let entries = |version: u64| Entries::from([(VERSION.to_owned(), Value::from(version))]);
        assert!(SavedState::read(Entries::new()).is_ok(), "no version means version 1");
        assert!(SavedState::read(entries(CURRENT_VERSION)).is_ok());
        let error = SavedState::read(entries(CURRENT_VERSION + 1)).unwrap_err();
        assert!(error.to_string().contains("written by a newer weir (version 2)"), "{error}");
        assert!(error.hint().unwrap().contains("weir sync reset"));
        let (_, changes) = SavedState::read_leniently(entries(CURRENT_VERSION + 1));
        assert_eq!(changes, [Change::forget(VERSION)]);
    }
}
