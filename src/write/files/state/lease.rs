//! The lock on a replication in an object store: a lease that its holder renews.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use object_store::{ObjectStore, PutMode, PutOptions, PutPayload, UpdateVersion, path::Path};
use serde::{Deserialize, Serialize};
use tokio::{sync::Mutex, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::state::{Holder, Lock};

/// Time for which a lease holds.
const LEASE_TIME: TimeDelta = TimeDelta::seconds(60);
/// Time after which its holder renews a lease.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(20);
/// Longest wait for the release of a lease; after it, the lease expires by itself.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(10);

/// The lease as an object in the store.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Lease {
    /// The run that took it.
    pub(crate) holder: Holder,
    /// When it expires.
    pub(crate) until: DateTime<Utc>,
}

impl Lease {
    /// A lease that begins now.
    pub(crate) fn new(holder: &Holder) -> Self {
        Self { holder: holder.clone(), until: Utc::now() + LEASE_TIME }
    }

    /// Whether it holds at this time.
    pub(crate) fn is_held(&self) -> bool {
        self.until > Utc::now() && !self.holder.is_dead()
    }

    /// The object's content.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a lease of texts, numbers and times is JSON")
    }
}

/// How long a lease of this process holds.
#[derive(Debug)]
pub(crate) struct Term {
    /// Milliseconds since 1970; 0 when the lease is lost.
    until: AtomicI64,
    /// Cancelled when the lease is to be released.
    ended: CancellationToken,
}

impl Term {
    pub(crate) fn new(until: DateTime<Utc>) -> Self {
        Self { until: until.timestamp_millis().into(), ended: CancellationToken::new() }
    }

    /// Whether the lease holds.
    pub(crate) fn is_held(&self) -> bool {
        Utc::now().timestamp_millis() < self.until.load(Ordering::Relaxed)
    }

    /// Whether the lease was lost without being released.
    pub(crate) fn is_lost(&self) -> bool {
        !self.ended.is_cancelled() && !self.is_held()
    }

    fn set(&self, until: DateTime<Utc>) {
        self.until.store(until.timestamp_millis(), Ordering::Relaxed);
    }
}

/// Writes an object over this version of it; without a version, only where there is no object.
pub(crate) async fn put_over(
    bucket: &Arc<dyn ObjectStore>,
    path: &Path,
    bytes: Vec<u8>,
    version: Option<UpdateVersion>,
) -> object_store::Result<UpdateVersion> {
    let mode = version.map_or(PutMode::Create, PutMode::Update);
    let options = PutOptions::from(mode);
    let done = bucket.put_opts(path, PutPayload::from(bytes), options).await?;
    Ok(UpdateVersion { e_tag: done.e_tag, version: done.version })
}

/// Whether another process has written the object meanwhile.
pub(crate) fn is_conflict(error: &object_store::Error) -> bool {
    matches!(
        error,
        object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }
    )
}

/// A lease of this process; released when dropped.
pub(crate) struct RemoteLock {
    term: Arc<Term>,
    /// The task that renews the lease, and releases it at the end.
    renewal: Mutex<Option<JoinHandle<()>>>,
}

impl RemoteLock {
    /// Keeps a lease that was just written as this version of its object.
    pub(crate) fn new(renewal: Renewal, version: UpdateVersion) -> Self {
        let term = Arc::clone(&renewal.term);
        Self { term, renewal: Mutex::new(Some(tokio::spawn(renewal.run(version)))) }
    }
}

#[async_trait]
impl Lock for RemoteLock {
    fn is_held(&self) -> bool {
        self.term.is_held()
    }

    async fn release(&self) {
        self.term.ended.cancel();
        if let Some(renewal) = self.renewal.lock().await.take() {
            timeout(RELEASE_TIMEOUT, renewal).await.ok();
        }
    }
}

impl Drop for RemoteLock {
    fn drop(&mut self) {
        self.term.ended.cancel();
    }
}

/// Renews a lease until it is released or lost.
pub(crate) struct Renewal {
    pub(crate) bucket: Arc<dyn ObjectStore>,
    /// Path of the lease's object.
    pub(crate) path: Path,
    pub(crate) holder: Holder,
    pub(crate) term: Arc<Term>,
}

impl Renewal {
    async fn run(self, mut version: UpdateVersion) {
        loop {
            tokio::select! {
                () = self.term.ended.cancelled() => break,
                () = tokio::time::sleep(RENEWAL_INTERVAL) => {}
            }
            let until = Utc::now() + LEASE_TIME;
            match self.put(until, version.clone()).await {
                Ok(new) => {
                    self.term.set(until);
                    version = new;
                }
                Err(error) if is_conflict(&error) || !self.term.is_held() => {
                    return self.term.set(DateTime::UNIX_EPOCH);
                }
                // The lease still holds for a while: try again.
                Err(_) => {}
            }
        }
        // Overwrites the lease with one that has expired, on condition that it is still this version: stores
        // know no such condition for a deletion. When the write fails, the lease expires by itself.
        self.term.set(DateTime::UNIX_EPOCH);
        self.put(DateTime::UNIX_EPOCH, version).await.ok();
    }

    async fn put(
        &self,
        until: DateTime<Utc>,
        version: UpdateVersion,
    ) -> object_store::Result<UpdateVersion> {
        let lease = Lease { holder: self.holder.clone(), until };
        put_over(&self.bucket, &self.path, lease.bytes(), Some(version)).await
    }
}
