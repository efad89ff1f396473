//! A whole life of a replication under simulated time: runs against a simulated tenant into memory,
//! killed at any step, until a last clean run; one seed makes one history.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use arrow_array::RecordBatch;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use weir::{
    engine::Services,
    error::Result,
    fetch::{Request, Response, Transport, TransportError},
    plan::{AccessHooks, Documents, Options as PlanOptions, Plan, Run},
    replication::Replication,
    report::{Event, Recorded},
    sim::Simulator,
    spec::{Fields, Spec},
    state::{Change, Entries, Holder, Lock, Store},
    sync::{self, Beginning, RunReport},
    write::{Committed, Ending, Table, Target, Writer, memory::Memory},
    yaml::Document,
};

/// Counts steps, and ends the process's life at one of them.
#[derive(Debug)]
pub(crate) struct Fate {
    /// Steps until death; below 0: none is to come.
    left: AtomicI64,
    died: Notify,
}

impl Fate {
    pub(crate) fn new(steps: Option<i64>) -> Arc<Self> {
        let left = AtomicI64::new(steps.unwrap_or(i64::MAX));
        Arc::new(Self { left, died: Notify::new() })
    }

    /// Takes a step; dies before it or never.
    async fn step(&self) {
        if self.left.fetch_sub(1, Ordering::SeqCst) <= 0 {
            self.died.notify_one();
            std::future::pending::<()>().await;
        }
    }
}

/// A thing whose every step may be the last.
#[derive(Clone)]
struct Mortal<T> {
    inner: T,
    fate: Arc<Fate>,
}

#[async_trait]
impl Transport for Mortal<Simulator> {
    async fn send(&self, request: &Request) -> Result<Response, TransportError> {
        self.fate.step().await;
        self.inner.send(request).await
    }
}

#[async_trait]
impl Target for Mortal<Memory> {
    fn accepts(&self, table: &Table) -> Result<()> {
        self.inner.accepts(table)
    }

    async fn check(&self) -> Result<()> {
        self.inner.check().await
    }

    async fn open(&self, table: &Table, staged: Option<u64>) -> Result<Option<Box<dyn Writer>>> {
        self.fate.step().await;
        let writer = self.inner.open(table, staged).await?;
        let fate = Arc::clone(&self.fate);
        Ok(writer.map(|inner| Box::new(Mortal { inner, fate }) as Box<dyn Writer>))
    }

    async fn define(&self, table: &Table) -> Result<String> {
        self.inner.define(table).await
    }

    fn store(&self, replication: &str) -> Result<Arc<dyn Store>> {
        let inner = self.inner.store(replication)?;
        Ok(Arc::new(Mortal { inner, fate: Arc::clone(&self.fate) }))
    }
}

#[async_trait]
impl Writer for Mortal<Box<dyn Writer>> {
    async fn write(&mut self, batch: RecordBatch) -> Result<()> {
        self.fate.step().await;
        self.inner.write(batch).await
    }

    fn staged(&self) -> u64 {
        self.inner.staged()
    }

    async fn checkpoint(&mut self, state: &[Change]) -> Result<()> {
        self.fate.step().await;
        self.inner.checkpoint(state).await?;
        self.fate.step().await;
        Ok(())
    }

    async fn commit(self: Box<Self>, ending: &Ending, state: &[Change]) -> Result<Committed> {
        self.fate.step().await;
        let committed = self.inner.commit(ending, state).await?;
        self.fate.step().await;
        Ok(committed)
    }

    async fn discard(self: Box<Self>) -> Result<()> {
        self.inner.discard().await
    }
}

#[async_trait]
impl Store for Mortal<Arc<dyn Store>> {
    async fn lock(&self, holder: &Holder) -> Result<Box<dyn Lock>> {
        self.inner.lock(holder).await
    }

    async fn load(&self) -> Result<Entries> {
        self.inner.load().await
    }

    async fn save(&self, changes: &[Change]) -> Result<()> {
        self.fate.step().await;
        self.inner.save(changes).await?;
        self.fate.step().await;
        Ok(())
    }
}

/// A tenant, what runs against it, and where its rows go.
pub(crate) struct World {
    pub(crate) simulator: Simulator,
    pub(crate) memory: Memory,
    pub(crate) spec: Spec,
    pub(crate) fields: Fields,
    /// Keeps the state apart from the rows.
    pub(crate) elsewhere: Option<Memory>,
    pub(crate) options: PlanOptions,
    pub(crate) events: Arc<Recorded>,
}

impl World {
    pub(crate) fn new(simulator: Simulator) -> Self {
        let rig = super::rig::Rig::new(weir::sim::Options::default());
        Self {
            simulator,
            memory: Memory::new(),
            spec: super::rig::confluence(),
            fields: rig.fields.clone(),
            elsewhere: None,
            options: PlanOptions::default(),
            events: Arc::default(),
        }
    }

    /// Runs a replication in a process of its own that lives for so many steps; `None`: it was
    /// killed. Time stands still but for what is slept.
    pub(crate) fn live(
        &self,
        replication: &str,
        steps: Option<i64>,
        beginning: Beginning,
    ) -> Option<Result<RunReport>> {
        let fate = Fate::new(steps);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let document = Document::parse("replication.yaml", replication).unwrap();
        let replication = Replication::load(&document).unwrap();
        let prepare = |run: Run| {
            let documents = Documents {
                spec: &self.spec,
                replication: &replication,
                fields: &self.fields,
                default_object: "{stream_name}",
                default_name: "life",
            };
            Plan::new(documents, &self.options, run, &AccessHooks::default())
        };
        let mortal = |inner: &Memory| Mortal { inner: inner.clone(), fate: Arc::clone(&fate) };
        let state = self.elsewhere.as_ref().map(|memory| mortal(memory).store("life").unwrap());
        let services = Services {
            transport: Arc::new(Mortal { inner: self.simulator.clone(), fate: Arc::clone(&fate) }),
            target: Arc::new(mortal(&self.memory)),
            state,
            reporter: Arc::<Recorded>::clone(&self.events),
            cancel: CancellationToken::new(),
        };
        let ended = runtime.block_on(async {
            tokio::select! {
                biased;
                () = fate.died.notified() => None,
                report = sync::run(&prepare, services, beginning) => Some(report),
            }
        });
        drop(runtime);
        ended
    }

    /// Rows of a table that the source still has, by the text of their key.
    pub(crate) fn rows(&self, stream: &str) -> BTreeMap<String, BTreeMap<String, Value>> {
        let key = &self.spec.streams[stream].key;
        let mut rows = BTreeMap::new();
        for batch in self.memory.batches(stream).unwrap_or_default() {
            for row in super::rows::read(&batch) {
                if !row.get("_weir_deleted_at").is_none_or(Value::is_null) {
                    continue;
                }
                let text = super::rig::key_of(&row, key);
                let row: BTreeMap<String, Value> = row.into_iter().collect();
                assert!(rows.insert(text.clone(), row).is_none(), "{stream}: {text} comes twice");
            }
        }
        rows
    }

    /// What is wrong with a stream's table: nothing, when it has what the tenant has.
    pub(crate) fn faults(&self, stream: &str) -> Vec<String> {
        let key = &self.spec.streams[stream].key;
        let wanted = weir::sim::Wanted { statuses: None, body_format: Some("storage".to_owned()) };
        let truth = self.simulator.truth_of(stream, &wanted).unwrap();
        let mut expected = BTreeMap::new();
        for row in truth {
            let mut row = row;
            if stream == "child_pages" {
                let parent = row.remove("page_id").unwrap();
                row.insert("parent_page_id".to_owned(), parent);
            }
            expected.insert(super::rig::key_of(&row, key), row);
        }
        let found = self.rows(stream);
        let names = |keys: BTreeSet<&String>| keys.into_iter().take(3).cloned().collect::<Vec<_>>();
        let mut faults = Vec::new();
        let missing: BTreeSet<_> =
            expected.keys().filter(|key| !found.contains_key(*key)).collect();
        if !missing.is_empty() {
            faults.push(format!(
                "{stream}: {} rows are missing: {:?}",
                missing.len(),
                names(missing)
            ));
        }
        let extra: BTreeSet<_> = found.keys().filter(|key| !expected.contains_key(*key)).collect();
        if !extra.is_empty() {
            faults.push(format!("{stream}: {} rows too many: {:?}", extra.len(), names(extra)));
        }
        for (key, row) in &found {
            let Some(truth) = expected.get(key) else { continue };
            for (column, path) in [
                ("title", "/title"),
                ("status", "/status"),
                ("space_id", "/spaceId"),
                ("parent_id", "/parentId"),
                ("body", "/body/storage/value"),
                ("version_number", "/version/number"),
            ] {
                let (Some(found), Some(truth)) =
                    (row.get(column), Value::Object(truth.clone()).pointer(path).cloned())
                else {
                    continue;
                };
                if *found != truth {
                    faults.push(format!("{stream}: {key}: {column} is {found}, not {truth}"));
                }
            }
        }
        faults.truncate(5);
        faults
    }

    /// Requests that the tenant has answered.
    pub(crate) fn requests(&self) -> u64 {
        self.simulator.counters().requests
    }
}

/// A run at this time.
pub(crate) fn at(now: DateTime<Utc>) -> Beginning {
    Beginning { now, fresh: false, retry: false }
}

/// Warnings of all runs so far.
pub(crate) fn warnings(events: &Recorded) -> Vec<String> {
    let events = events.events().into_iter();
    let warning = |event| match event {
        Event::Warning { message, .. } => Some(message),
        _ => None,
    };
    events.filter_map(warning).collect()
}
