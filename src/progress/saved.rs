//! The saved state of a replication: what the store holds, as types. Status commands and resumed runs read it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::progress::versions;
use crate::state::{Change, Entries};

pub(crate) use crate::progress::open_run::RUN;
pub use crate::progress::open_run::{OpenRun, OpenStream, Reach, RecordCount, Way};
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
        let mut saved = Self::default();
        for (key, value) in entries {
            saved.insert(key, value)?;
        }
        Ok(saved)
    }

    /// Parses the entries that can be parsed, and returns the changes that remove the others.
    pub fn read_leniently(entries: Entries) -> (Self, Vec<Change>) {
        let (mut saved, mut unknown) = (Self::default(), Vec::new());
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
        const HINT: &str = "was it written by a newer weir? `weir sync reset` forgets it";
        let unknown = |error: serde_json::Error| {
            Error::target(format!("the saved state has an entry `{key}` that is not understood"))
                .because(error)
                .with_hint(HINT)
        };
        if key == VERSION {
            let version: u64 = serde_json::from_value(value.clone()).map_err(unknown)?;
            if version > CURRENT_VERSION {
                let what = format!(
                    "the saved state was written by a newer weir (version {version}); this weir reads \
                     versions up to {CURRENT_VERSION}"
                );
                return Err(Error::target(what).with_hint(HINT));
            }
            self.rest.insert(key, value);
        } else if key == RUN {
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
    pub(crate) fn looks(&self, name: &str) -> u64 {
        versions::looks(name, &self.rest)
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
