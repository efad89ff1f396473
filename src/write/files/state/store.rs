//! The state of replications in an object store: one object, overwritten only in the version that was read.

use std::sync::{Arc, PoisonError};

use async_trait::async_trait;
use object_store::{ObjectStore, ObjectStoreExt, UpdateVersion, path::Path};
use tokio::sync::Mutex;

use crate::error::{Error, Result};
use crate::state::{Change, Entries, Holder, Lock, Store};
use crate::write::files::state::journal::{self, Loaded};
use crate::write::files::state::lease::{Lease, RemoteLock, Renewal, Term, is_conflict, put_over};
use crate::write::files::state::paths;
use crate::write::storage::bucket::failed;

/// Name of the object with the state.
const STATE: &str = "state.json";
/// Name of the object with the lease.
const LOCK: &str = "lock.json";

/// The state of one replication in an object store.
#[derive(Debug)]
pub(crate) struct RemoteStore {
    bucket: Arc<dyn ObjectStore>,
    /// Path below which the state is.
    path: Path,
    /// How messages name the root of the target.
    shown: String,
    replication: String,
    /// The object as it was last read or written; `None` before, and after a failed write.
    cached: Mutex<Option<StateObject>>,
    /// The lease that was taken last.
    term: std::sync::Mutex<Option<Arc<Term>>>,
    /// What was damaged when the state was last read.
    damage: std::sync::Mutex<Option<String>>,
}

/// The state as an object.
#[derive(Debug)]
struct StateObject {
    entries: Entries,
    /// Version of the object; `None` when there is no object.
    version: Option<UpdateVersion>,
}

impl RemoteStore {
    pub(crate) fn new(
        bucket: &Arc<dyn ObjectStore>,
        path: Path,
        shown: &str,
        replication: &str,
    ) -> Self {
        Self {
            bucket: Arc::clone(bucket),
            path,
            shown: shown.to_owned(),
            replication: replication.to_owned(),
            cached: Mutex::default(),
            term: std::sync::Mutex::default(),
            damage: std::sync::Mutex::default(),
        }
    }

    /// Fails when this process has taken a lease and lost it: another process may write by now.
    pub(crate) fn check_lock(&self) -> Result<()> {
        let term = self.term.lock().unwrap_or_else(PoisonError::into_inner);
        if !term.as_ref().is_some_and(|term| term.is_lost()) {
            return Ok(());
        }
        let replication = &self.replication;
        Err(Error::target(format!("the lock on `{replication}` was lost"))
            .with_hint("nothing was changed: run again"))
    }

    async fn read(&self, name: &str) -> Result<Option<(Vec<u8>, UpdateVersion)>> {
        let wrong = |error: object_store::Error| failed("read", &self.shown, &error);
        match self.bucket.get(&self.path.clone().join(name)).await {
            Ok(found) => {
                let version = UpdateVersion {
                    e_tag: found.meta.e_tag.clone(),
                    version: found.meta.version.clone(),
                };
                Ok(Some((found.bytes().await.map_err(wrong)?.to_vec(), version)))
            }
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(wrong(error)),
        }
    }

    async fn read_state(&self) -> Result<StateObject> {
        let Some((bytes, version)) = self.read(STATE).await? else {
            return Ok(StateObject { entries: Entries::new(), version: None });
        };
        let Loaded { entries, damage, .. } = journal::read(Some(&bytes), &[]);
        if let Some(damage) = damage {
            let damage =
                format!("the state in `{}/{}` is damaged: {damage}", self.shown, self.path);
            *self.damage.lock().unwrap_or_else(PoisonError::into_inner) = Some(damage);
        }
        Ok(StateObject { entries, version: Some(version) })
    }

    async fn put(
        &self,
        name: &str,
        bytes: Vec<u8>,
        version: Option<UpdateVersion>,
    ) -> object_store::Result<UpdateVersion> {
        put_over(&self.bucket, &self.path.clone().join(name), bytes, version).await
    }
}

fn refused(shown: &str, error: &object_store::Error) -> Error {
    match error {
        object_store::Error::NotImplemented { .. } | object_store::Error::NotSupported { .. } => {
            Error::target(format!("`{shown}` has no conditional writes, which the state needs"))
                .with_hint("keep it elsewhere: `state:` in the replication, a folder or a database")
        }
        error => failed("write", shown, error),
    }
}

#[async_trait]
impl Store for RemoteStore {
    async fn lock(&self, holder: &Holder) -> Result<Box<dyn Lock>> {
        let found = self.read(LOCK).await?;
        let lease = found.as_ref().and_then(|(bytes, _)| serde_json::from_slice(bytes).ok());
        if let Some(Lease { holder, until }) = lease.filter(Lease::is_held) {
            return Err(paths::taken(&self.replication, Some(&holder)).with_hint(format!(
                "the lock expires at {} if that run was killed; run again then or when the run has ended, \
                 or wait with `--wait 90s`",
                until.format("%H:%M:%S UTC")
            )));
        }
        let lease = Lease::new(holder);
        let version = found.map(|(_, version)| version);
        let version = match self.put(LOCK, lease.bytes(), version).await {
            Ok(version) => version,
            Err(error) if is_conflict(&error) => {
                return Err(paths::taken(&self.replication, None));
            }
            Err(error) => return Err(refused(&self.shown, &error)),
        };
        let term = Arc::new(Term::new(lease.until));
        *self.term.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&term));
        let renewal = Renewal {
            bucket: Arc::clone(&self.bucket),
            path: self.path.clone().join(LOCK),
            holder: holder.clone(),
            term,
        };
        Ok(Box::new(RemoteLock::new(renewal, version)))
    }

    async fn load(&self) -> Result<Entries> {
        // The guard is held during the read, so that the cache never loses what is saved meanwhile.
        let mut cached = self.cached.lock().await;
        let state = cached.insert(self.read_state().await?);
        Ok(state.entries.clone())
    }

    async fn save(&self, changes: &[Change]) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let mut cached = self.cached.lock().await;
        let StateObject { mut entries, version } = match cached.take() {
            Some(state) => state,
            None => self.read_state().await?,
        };
        for change in changes {
            match &change.value {
                Some(value) => entries.insert(change.key.clone(), value.clone()),
                None => entries.remove(&change.key),
            };
        }
        let bytes = journal::snapshot(0, &entries)?;
        let version = self.put(STATE, bytes, version).await.map_err(|error| {
            if is_conflict(&error) {
                let what =
                    format!("another process has written the state of `{}`", self.replication);
                Error::target(what)
                    .with_hint("two runs of one replication must not run at the same time")
            } else {
                refused(&self.shown, &error)
            }
        })?;
        *cached = Some(StateObject { entries, version: Some(version) });
        Ok(())
    }

    fn damage(&self) -> Option<String> {
        self.damage.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
