//! The state of replications in an object store: one object, written only over the version that was
//! read, and a lease that its holder renews.

use std::{
    sync::{
        Arc, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use object_store::{
    ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion, path::Path,
};
use serde::{Deserialize, Serialize};
use tokio::{sync::Mutex, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    home,
    journal::{self, Loaded},
    store::failed,
};
use crate::error::{Error, Result};
use crate::state::{Change, Entries, Holder, Lock, Store};

/// Time for which a lease holds, and after which it is renewed.
const LASTS: TimeDelta = TimeDelta::seconds(60);
const RENEWED: Duration = Duration::from_secs(20);
/// Time that giving a lease up may take; after that it ends by itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// The state of one replication in an object store.
#[derive(Debug)]
pub(super) struct RemoteStore {
    bucket: Arc<dyn ObjectStore>,
    place: Path,
    shown: String,
    replication: String,
    /// What the object holds, and its version; `None` until it is read.
    known: Mutex<Option<(Entries, Option<UpdateVersion>)>>,
    /// The lease that was taken last.
    term: std::sync::Mutex<Option<Arc<Term>>>,
    /// What was damaged when it was read last.
    damage: std::sync::Mutex<Option<String>>,
}

/// How long a lease holds.
#[derive(Debug)]
struct Term {
    /// Milliseconds since 1970; 0 when it is lost.
    until: AtomicI64,
    /// Cancelled when it is to be given up.
    ended: CancellationToken,
}

impl Term {
    fn is_held(&self) -> bool {
        Utc::now().timestamp_millis() < self.until.load(Ordering::Relaxed)
    }

    fn set(&self, until: DateTime<Utc>) {
        self.until.store(until.timestamp_millis(), Ordering::Relaxed);
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Lease {
    holder: Holder,
    until: DateTime<Utc>,
}

impl RemoteStore {
    pub(super) fn new(
        bucket: &Arc<dyn ObjectStore>,
        place: Path,
        shown: &str,
        replication: &str,
    ) -> Self {
        Self {
            bucket: Arc::clone(bucket),
            place,
            shown: shown.to_owned(),
            replication: replication.to_owned(),
            known: Mutex::default(),
            term: std::sync::Mutex::default(),
            damage: std::sync::Mutex::default(),
        }
    }

    /// Refuses when a lease was taken here and is lost: somebody else may write by now.
    pub(super) fn check(&self) -> Result<()> {
        let term = self.term.lock().unwrap_or_else(PoisonError::into_inner);
        if term.as_ref().is_none_or(|term| term.ended.is_cancelled() || term.is_held()) {
            return Ok(());
        }
        let replication = &self.replication;
        Err(Error::target(format!("the lock on `{replication}` was lost"))
            .with_hint("nothing was changed: run again"))
    }

    async fn read(&self, name: &str) -> Result<Option<(Vec<u8>, UpdateVersion)>> {
        let wrong = |error: object_store::Error| failed("read", &self.shown, &error);
        match self.bucket.get(&self.place.clone().join(name)).await {
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

    async fn entries(&self) -> Result<(Entries, Option<UpdateVersion>)> {
        let Some((bytes, version)) = self.read("state.json").await? else {
            return Ok((Entries::new(), None));
        };
        let Loaded { entries, damage, .. } = journal::read(Some(&bytes), &[]);
        if let Some(damage) = damage {
            let damage =
                format!("the state in `{}/{}` is damaged: {damage}", self.shown, self.place);
            *self.damage.lock().unwrap_or_else(PoisonError::into_inner) = Some(damage);
        }
        Ok((entries, Some(version)))
    }

    async fn put(
        &self,
        name: &str,
        bytes: Vec<u8>,
        over: Option<UpdateVersion>,
    ) -> object_store::Result<UpdateVersion> {
        put(&self.bucket, &self.place.clone().join(name), bytes, over).await
    }
}

/// Writes an object over this version of it, or where there is none.
async fn put(
    bucket: &Arc<dyn ObjectStore>,
    path: &Path,
    bytes: Vec<u8>,
    over: Option<UpdateVersion>,
) -> object_store::Result<UpdateVersion> {
    let mode = over.map_or(PutMode::Create, PutMode::Update);
    let options = PutOptions::from(mode);
    let done = bucket.put_opts(path, PutPayload::from(bytes), options).await?;
    Ok(UpdateVersion { e_tag: done.e_tag, version: done.version })
}

/// Whether somebody else has written meanwhile.
fn is_conflict(error: &object_store::Error) -> bool {
    matches!(
        error,
        object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }
    )
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
        let found = self.read("lock.json").await?;
        let lease = found.as_ref().and_then(|(bytes, _)| serde_json::from_slice(bytes).ok());
        let holds = |lease: &Lease| lease.until > Utc::now() && !lease.holder.is_dead();
        if let Some(Lease { holder, until }) = lease.filter(holds) {
            return Err(home::taken(&self.replication, Some(&holder)).with_hint(format!(
                "if that run has died, its lock ends at {}: wait until then, or until it is done; \
                 `--wait 90s` does",
                until.format("%H:%M:%S UTC")
            )));
        }
        let until = Utc::now() + LASTS;
        let bytes = written(holder, until);
        let version = match self.put("lock.json", bytes, found.map(|(_, version)| version)).await {
            Ok(version) => version,
            Err(error) if is_conflict(&error) => {
                return Err(home::taken(&self.replication, None));
            }
            Err(error) => return Err(refused(&self.shown, &error)),
        };
        let until = until.timestamp_millis().into();
        let term = Arc::new(Term { until, ended: CancellationToken::new() });
        *self.term.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&term));
        let renewal = Renewal {
            bucket: Arc::clone(&self.bucket),
            path: self.place.clone().join("lock.json"),
            holder: holder.clone(),
            term: Arc::clone(&term),
        };
        let renewal = Mutex::new(Some(tokio::spawn(renewal.run(version))));
        Ok(Box::new(RemoteLock { term, renewal }))
    }

    async fn load(&self) -> Result<Entries> {
        // Held while it reads, so that it does not forget what is saved meanwhile.
        let mut known = self.known.lock().await;
        let found = known.insert(self.entries().await?);
        Ok(found.0.clone())
    }

    async fn save(&self, changes: &[Change]) -> Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let mut known = self.known.lock().await;
        let (mut entries, version) = match known.take() {
            Some(known) => known,
            None => self.entries().await?,
        };
        for change in changes {
            match &change.value {
                Some(value) => entries.insert(change.key.clone(), value.clone()),
                None => entries.remove(&change.key),
            };
        }
        let bytes = journal::snapshot(0, &entries)?;
        let version = self.put("state.json", bytes, version).await.map_err(|error| {
            if is_conflict(&error) {
                Error::target("somebody else has written the replication's state")
                    .with_hint("two runs of one replication must not go at the same time")
            } else {
                refused(&self.shown, &error)
            }
        })?;
        *known = Some((entries, Some(version)));
        Ok(())
    }

    fn damage(&self) -> Option<String> {
        self.damage.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn written(holder: &Holder, until: DateTime<Utc>) -> Vec<u8> {
    let lease = Lease { holder: holder.clone(), until };
    serde_json::to_vec(&lease).unwrap_or_default()
}

struct RemoteLock {
    term: Arc<Term>,
    /// The task that renews the lease, and ends it when told.
    renewal: Mutex<Option<JoinHandle<()>>>,
}

#[async_trait]
impl Lock for RemoteLock {
    fn is_held(&self) -> bool {
        self.term.is_held()
    }

    async fn release(&self) {
        self.term.ended.cancel();
        if let Some(renewal) = self.renewal.lock().await.take() {
            timeout(PATIENCE, renewal).await.ok();
        }
    }
}

impl Drop for RemoteLock {
    fn drop(&mut self) {
        self.term.ended.cancel();
    }
}

struct Renewal {
    bucket: Arc<dyn ObjectStore>,
    path: Path,
    holder: Holder,
    term: Arc<Term>,
}

impl Renewal {
    async fn run(self, mut version: UpdateVersion) {
        loop {
            tokio::select! {
                () = self.term.ended.cancelled() => break,
                () = tokio::time::sleep(RENEWED) => {}
            }
            let until = Utc::now() + LASTS;
            match self.put(until, version.clone()).await {
                Ok(new) => {
                    self.term.set(until);
                    version = new;
                }
                Err(error) if is_conflict(&error) || !self.term.is_held() => {
                    return self.term.set(DateTime::UNIX_EPOCH);
                }
                // It still holds for a while: try again.
                Err(_) => {}
            }
        }
        // Written over as one that has ended, which a store does only while it is still this one: a
        // removal knows no such condition. Who cannot do it leaves it to end by itself.
        self.term.set(DateTime::UNIX_EPOCH);
        self.put(DateTime::UNIX_EPOCH, version).await.ok();
    }

    async fn put(
        &self,
        until: DateTime<Utc>,
        version: UpdateVersion,
    ) -> object_store::Result<UpdateVersion> {
        put(&self.bucket, &self.path, written(&self.holder, until), Some(version)).await
    }
}
