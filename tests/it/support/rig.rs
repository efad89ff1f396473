//! A run of the Confluence spec against a simulated tenant, into JSONL files of a temporary folder.

use std::{collections::BTreeMap, fs, sync::Arc};

use serde_json::{Map, Value};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use weir::cli::simulated::SimulatedApi;
use weir::error::Result;
use weir::http::access::AccessHooks;
use weir::http::exchange::Transport;
use weir::plan::{Documents, Plan, PlanOptions, Run, Selection};
use weir::replication::Replication;
use weir::report::{Event, Recorded};
use weir::run::services::Services;
use weir::secret::Secret;
use weir::spec::{EMBEDDED, Fields, Spec};
use weir::sync;
use weir::sync::report::RunReport;
use weir::sync::run_options::RunOptions;
use weir::write::Target;
use weir::write::files::{Files, Settings};
use weir::yaml::Document;
use weir_sim::Simulator;

/// One row of a file.
pub(crate) type Row = Map<String, Value>;

/// The spec under test.
pub(crate) fn confluence() -> Spec {
    let (name, text) = EMBEDDED.iter().find(|(name, _)| *name == "confluence").unwrap();
    Spec::load(name, text).unwrap_or_else(|problems| panic!("{problems}"))
}

/// A replication of everything, unpaced, with more YAML appended.
pub(crate) const ALL: &str = "
source: WIKI
target: OUT
defaults: { object: '{stream_name}.jsonl', metadata: { synced_at: false } }
limits: { requests_per_second: 0, concurrency: 8 }
streams: { '*': }
";

/// Every stream by its own requests, one per parent: what there is most of to go wrong.
pub(crate) fn own_routes() -> Vec<(String, String)> {
    confluence().selectable().map(|(name, _)| (name.clone(), "default".to_owned())).collect()
}

/// A tenant, a folder, and what runs between them say.
pub(crate) struct Rig {
    pub(crate) simulator: Simulator,
    pub(crate) folder: TempDir,
    pub(crate) fields: Fields,
    pub(crate) options: PlanOptions,
    pub(crate) events: Arc<Recorded>,
    pub(crate) cancel: CancellationToken,
}

impl Rig {
    pub(crate) fn new(options: weir_sim::Options) -> Self {
        let text = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let open = text(&[
            ("domain", "acme.atlassian.net"),
            ("email", "ann@acme.test"),
            ("token", "classic"),
            ("cloud_id", ""),
            ("site_url", ""),
            ("auth", "api_token"),
            ("quota", "none"),
        ]);
        let secret = BTreeMap::from([("api_token".to_owned(), Secret::new("t0ken"))]);
        Self {
            simulator: Simulator::new(options),
            folder: tempfile::tempdir().unwrap(),
            fields: Fields { open, secret },
            options: PlanOptions::default(),
            events: Arc::default(),
            cancel: CancellationToken::new(),
        }
    }

    /// Reads every stream by its own requests.
    pub(crate) fn by_own_requests(mut self) -> Self {
        self.options.routes = own_routes();
        self
    }

    pub(crate) fn only(mut self, streams: &[&str]) -> Self {
        let streams = streams.iter().map(|stream| (*stream).to_owned()).collect();
        self.options.selection = Selection(streams);
        self
    }

    fn plan_for(&self, spec: &Spec, replication: &str, run: Run) -> Result<Plan> {
        let document = Document::parse("replication.yaml", replication)?;
        let replication = Replication::load(&document)?;
        let documents = Documents {
            spec,
            replication: &replication,
            fields: &self.fields,
            default_object: "{stream_name}.jsonl",
            default_name: "rig",
        };
        Plan::new(documents, &self.options, run, &AccessHooks::default())
    }

    /// The plan that a run would follow.
    pub(crate) fn plan(&self, replication: &str) -> Result<Plan> {
        self.plan_for(&confluence(), replication, RunOptions::now().run())
    }

    pub(crate) async fn run(&self, replication: &str) -> RunReport {
        self.run_into(Files::in_folder(self.folder.path(), Settings::default()), replication).await
    }

    pub(crate) async fn run_into(&self, target: Files, replication: &str) -> RunReport {
        let transport = Arc::new(SimulatedApi(self.simulator.clone()));
        self.run_over(transport, Arc::new(target), &confluence(), replication).await
    }

    /// Like [`Rig::run_into`], over a transport and by a spec of the test's own.
    pub(crate) async fn run_over(
        &self,
        transport: Arc<dyn Transport>,
        target: Arc<dyn Target>,
        spec: &Spec,
        replication: &str,
    ) -> RunReport {
        let reporter = Arc::<Recorded>::clone(&self.events);
        let cancel = self.cancel.clone();
        let services = Services { transport, target, state: None, ledger: None, reporter, cancel };
        let prepare = |run| self.plan_for(spec, replication, run);
        sync::run(&prepare, services, RunOptions::now()).await.unwrap()
    }

    /// Rows of a stream's file; `None` when there is no file.
    pub(crate) fn rows(&self, stream: &str) -> Option<Vec<Row>> {
        let text = fs::read_to_string(self.folder.path().join(format!("{stream}.jsonl"))).ok()?;
        Some(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    }

    /// Texts of the column `id` (or the stream's key) of each row, sorted.
    pub(crate) fn keys(&self, stream: &str) -> Vec<String> {
        let key = confluence().streams[stream].key.clone();
        let rows = self.rows(stream).unwrap_or_default();
        let mut keys: Vec<String> = rows.iter().map(|row| key_of(row, &key)).collect();
        keys.sort();
        keys
    }

    pub(crate) fn retries(&self) -> usize {
        let events = self.events.events();
        events.iter().filter(|event| matches!(event, Event::Retry { .. })).count()
    }
}

/// The key's values of a row as one text.
pub(crate) fn key_of(row: &Row, key: &[String]) -> String {
    let values = key.iter().map(|column| match &row[column] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    });
    values.collect::<Vec<_>>().join("/")
}
