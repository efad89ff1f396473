//! A replication under simulated time: a simulated tenant, runs against it into memory, and their deaths
//! at any step. All that happens follows from what a test asks for, so that it can happen again.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use arrow_array::RecordBatch;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio::{runtime::Runtime, sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;
use weir::cli::simulated::SimulatedApi;
use weir::error::Result;
use weir::http::access::AccessHooks;
use weir::http::exchange::{Request, Response, Transport, TransportError};
use weir::plan::{Documents, Plan, PlanOptions, Run};
use weir::progress::saved::SavedState;
use weir::quota::ledger::MemoryLedger as Ledger;
use weir::replication::Replication;
use weir::report::{Event, Recorded};
use weir::run::services::Services;
use weir::spec::{Fields, Spec};
use weir::state::{Change, Entries, Holder, Lock, Store};
use weir::sync;
use weir::sync::report::RunReport;
use weir::sync::run_options::RunOptions;
use weir::write::memory::Memory;
use weir::write::{CommitInfo, Committed, ExistingTable, Leftovers, Table, Target, Watch, Writer};
use weir::yaml::Document;
use weir_sim::{Churn, Simulator};

/// Counts the steps of a process, and ends its life at one of them.
#[derive(Default)]
struct Fate {
    /// Steps until death.
    left: AtomicI64,
    died: Notify,
    /// What the process holds, and loses when it dies.
    locks: Mutex<Vec<Arc<Held>>>,
    answers: Mutex<Vec<Answer>>,
}

/// An answer that came whole and well.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) at: Instant,
    pub(crate) url: String,
}

type Held = Mutex<Option<Box<dyn Lock>>>;

/// A lock that goes with its process.
struct MortalLock(Arc<Held>);

impl Lock for MortalLock {
    fn is_held(&self) -> bool {
        self.0.lock().unwrap().as_ref().is_some_and(|lock| lock.is_held())
    }
}

impl Drop for MortalLock {
    fn drop(&mut self) {
        self.0.lock().unwrap().take();
    }
}

impl Fate {
    fn new(steps: Option<i64>) -> Arc<Self> {
        Arc::new(Self { left: AtomicI64::new(steps.unwrap_or(i64::MAX)), ..Self::default() })
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
        let response = SimulatedApi(self.inner.clone()).send(request).await?;
        // What is cut off or no JSON is asked for again.
        if response.status.is_success() && response.body.ends_with(b"}") {
            let (at, url) = (Instant::now(), request.url.to_string());
            self.fate.answers.lock().unwrap().push(Answer { at, url });
        }
        Ok(response)
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

    async fn missing_part(&self, table: &Table) -> Result<Option<String>> {
        self.inner.missing_part(table).await
    }

    async fn check_table(&self, table: &Table) -> Result<()> {
        self.inner.check_table(table).await
    }

    async fn existing(&self, table: &Table) -> Result<Option<ExistingTable>> {
        self.inner.existing(table).await
    }

    async fn tidy(&self, leftovers: &Leftovers) -> Result<()> {
        self.inner.tidy(leftovers).await
    }

    async fn count(&self, table: &Table) -> Result<Option<u64>> {
        self.inner.count(table).await
    }

    fn set_watch(&self, watch: Watch) {
        self.inner.set_watch(watch);
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

    async fn replaced(&mut self) -> Result<Vec<(String, u64)>> {
        self.inner.replaced().await
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

    async fn commit(self: Box<Self>, ending: &CommitInfo, state: &[Change]) -> Result<Committed> {
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
        self.fate.step().await;
        let held = Arc::new(Mutex::new(Some(self.inner.lock(holder).await?)));
        self.fate.locks.lock().unwrap().push(Arc::clone(&held));
        Ok(Box::new(MortalLock(held)))
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
    /// What all processes know of the points that were spent.
    ledger: Arc<Ledger>,
    runtime: Runtime,
}

/// A process that has ended.
pub(crate) struct Life {
    /// Its result; `None`: it was killed.
    pub(crate) report: Option<Result<RunReport>>,
    /// What the tenant answered, in order.
    pub(crate) answers: Vec<Answer>,
    /// What it told.
    pub(crate) events: Vec<Event>,
    /// When it ended.
    pub(crate) end: Instant,
}

impl World {
    /// Time starts at the options' and stands still but for what is slept.
    pub(crate) fn new(options: weir_sim::Options) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let clock = runtime.enter();
        let simulator = Simulator::new(options);
        drop(clock);
        Self {
            simulator,
            memory: Memory::new(),
            spec: super::rig::confluence(),
            fields: super::rig::Rig::new(weir_sim::Options::default()).fields,
            elsewhere: None,
            options: PlanOptions::default(),
            ledger: Arc::default(),
            runtime,
        }
    }

    /// Makes the listing of a stream's changes a request of its own, which a site may refuse.
    pub(crate) fn list_changes_apart(&mut self, stream: &str) {
        let stream = &mut self.spec.streams[stream];
        let cursor = stream.cursor.as_mut().unwrap();
        let query = std::mem::take(&mut cursor.query);
        let apart = stream.requests.iter().map(|request| {
            let mut apart = request.clone();
            apart.query.clone_from(&stream.query);
            apart.query.extend(request.query.clone());
            apart.query.extend(query.clone());
            apart
        });
        cursor.requests = apart.collect();
    }

    /// Lets time pass.
    pub(crate) fn pass(&self, time: Duration) {
        self.runtime.block_on(async { tokio::time::sleep(time).await });
    }

    /// Makes random changes.
    pub(crate) fn churn(&self, seed: u64, churn: &Churn) {
        let _clock = self.runtime.enter();
        self.simulator.churn(seed, churn);
    }

    /// Changes the tenant.
    pub(crate) fn change(&self, change: &weir_sim::TenantChange) -> String {
        let _clock = self.runtime.enter();
        self.simulator.change(change).unwrap()
    }

    /// A run that begins now.
    pub(crate) fn beginning(&self) -> RunOptions {
        let _clock = self.runtime.enter();
        RunOptions {
            now: self.simulator.now(),
            random: 7,
            fresh: false,
            retry: false,
            adopt: false,
            wait: Duration::ZERO,
        }
    }

    /// Runs a replication to its end in a process of its own.
    pub(crate) fn run(&self, replication: &str) -> RunReport {
        self.run_from(replication, self.beginning())
    }

    /// Like [`World::run`], begun otherwise.
    pub(crate) fn run_from(&self, replication: &str, beginning: RunOptions) -> RunReport {
        self.live(replication, None, beginning).report.unwrap().unwrap()
    }

    /// Runs a replication in a process of its own that lives for so many steps.
    pub(crate) fn live(
        &self,
        replication: &str,
        steps: Option<i64>,
        beginning: RunOptions,
    ) -> Life {
        let fate = Fate::new(steps);
        let events = Arc::new(Recorded::default());
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
            ledger: Some(Arc::<Ledger>::clone(&self.ledger)),
            reporter: Arc::<Recorded>::clone(&events),
            cancel: CancellationToken::new(),
        };
        let report = self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = fate.died.notified() => None,
                report = sync::run(&prepare, services, beginning) => Some(report),
            }
        });
        // What is left of it hangs at its next step for ever, and holds nothing.
        fate.left.store(0, Ordering::SeqCst);
        for lock in fate.locks.lock().unwrap().drain(..) {
            lock.lock().unwrap().take();
        }
        let _clock = self.runtime.enter();
        let answers = std::mem::take(&mut *fate.answers.lock().unwrap());
        Life { report, answers, events: events.events(), end: Instant::now() }
    }

    /// What is saved of the replication.
    pub(crate) fn state(&self) -> weir::state::Entries {
        let store = self.elsewhere.as_ref().unwrap_or(&self.memory).store("life").unwrap();
        self.runtime.block_on(async { store.load().await.unwrap() })
    }

    /// Whether a run has begun that the next one goes on with.
    pub(crate) fn is_open(&self) -> bool {
        SavedState::read(self.state()).unwrap().run.is_some()
    }

    /// Rows of a stream that a run that began since then has marked as deleted although the tenant has
    /// them.
    pub(crate) fn falsely_deleted(&self, stream: &str, since: DateTime<Utc>) -> Vec<String> {
        let batches = self.memory.batches(stream).unwrap_or_default();
        let mut rows: Vec<_> = batches.iter().flat_map(super::rows::read).collect();
        rows.retain(|row| {
            let at = row.get("_weir_deleted_at").and_then(Value::as_str);
            at.is_some_and(|at| at.parse::<DateTime<Utc>>().unwrap() >= since)
        });
        if rows.is_empty() {
            return Vec::new();
        }
        let key = &self.spec.streams[stream].key;
        let there = super::truth::keys(&self.spec, stream, self.truth(stream));
        let keys = rows.iter().map(|row| super::rig::key_of(row, key));
        let told = |key| format!("{stream}: {key} is marked as deleted and is not");
        keys.filter(|key| there.contains(key)).map(told).take(3).collect()
    }

    fn truth(&self, stream: &str) -> Vec<super::rig::Row> {
        let wanted = weir_sim::Wanted { statuses: None, body_format: Some("storage".to_owned()) };
        self.simulator.truth_of(stream, &wanted).unwrap()
    }

    /// What is wrong with a stream's table: nothing, when it has what the tenant has.
    pub(crate) fn faults(&self, stream: &str) -> Vec<String> {
        let batches = self.memory.batches(stream).unwrap_or_default();
        let mut rows: Vec<_> = batches.iter().flat_map(super::rows::read).collect();
        rows.retain(|row| row.get("_weir_deleted_at").is_none_or(Value::is_null));
        super::truth::differences(&self.spec, stream, &rows, self.truth(stream))
    }

    /// Requests that the tenant has answered.
    pub(crate) fn requests(&self) -> u64 {
        self.simulator.counters().requests
    }
}
