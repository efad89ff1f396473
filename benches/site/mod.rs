//! A simulated site of 10,000 pages under simulated time, and files beside it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use weir::cli::simulated::SimulatedApi;
use weir::http::access::AccessHooks;
use weir::plan::{Documents, Plan, PlanOptions};
use weir::replication::Replication;
use weir::report::Recorded;
use weir::run::services::Services;
use weir::secret::Secret;
use weir::spec::{EMBEDDED, Fields, Spec};
use weir::sync;
use weir::sync::report::RunReport;
use weir::sync::run_options::RunOptions;
use weir::write::files::{Files, Settings};
use weir::yaml::Document;
use weir_sim::{ChildCounts, Options, PointsQuota, QuotaHeaders, Simulator, TenantChange};

/// A simulated site, and files beside it.
pub(crate) struct Site {
    runtime: Runtime,
    pub(crate) simulator: Simulator,
    quota: &'static str,
    folder: tempfile::TempDir,
}

/// The stream's own requests for every stream.
pub(crate) fn own_routes() -> Vec<(String, String)> {
    spec().selectable().map(|(name, _)| (name.clone(), "own".to_owned())).collect()
}

/// The spec.
pub(crate) fn spec() -> Spec {
    let (name, text) = EMBEDDED.iter().find(|(name, _)| *name == "confluence").unwrap();
    Spec::load(name, text).unwrap()
}

impl Site {
    pub(crate) fn new(quota: &'static str, children: ChildCounts) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let clock = runtime.enter();
        let simulator = Simulator::new(Options {
            spaces: 100,
            pages: 10_000,
            children,
            quota: Some(PointsQuota {
                per_hour: 100_000_000,
                headers: QuotaHeaders::Silent,
                others: 0,
            }),
            blog_posts: 2_000,
            attachments: 5_000,
            body_bytes: 256,
            now: Some("2026-10-01T00:00:00Z".parse().unwrap()),
            log_entries: Some(0),
            ..Options::default()
        });
        drop(clock);
        Self { runtime, simulator, quota, folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn pass(&self, time: Duration) {
        self.runtime.block_on(async { tokio::time::sleep(time).await });
    }

    /// Edits 1 % of the pages and deletes 0.5 % of them for good.
    pub(crate) fn change(&self) {
        let _clock = self.runtime.enter();
        let pages = self.simulator.truth("pages").unwrap();
        let ids =
            pages.iter().filter(|page| page["status"] == "current" && !page["parentId"].is_null());
        let ids: Vec<String> = ids.map(|page| page["id"].as_str().unwrap().to_owned()).collect();
        for (number, id) in ids.into_iter().step_by(67).enumerate() {
            let change = if number % 3 == 2 {
                TenantChange::Delete { id }
            } else {
                TenantChange::Edit { id, retitle: false }
            };
            self.simulator.change(&change).unwrap();
        }
    }

    /// A run of these streams with these defaults, by the routes that are named.
    pub(crate) fn run(
        &self,
        streams: &str,
        defaults: &str,
        routes: &[(String, String)],
    ) -> RunReport {
        let spec = spec();
        let text = format!(
            "source: WIKI\ntarget: OUT\nlimits: {{ requests_per_second: 0, concurrency: 8 }}\n\
             defaults: {defaults}\nstreams: {streams}\n"
        );
        let replication =
            Replication::load(&Document::parse("replication.yaml", &text).unwrap()).unwrap();
        let open = [("domain", "acme.atlassian.net"), ("email", "a@b.c"), ("token", "classic")];
        let open = open.into_iter().chain([
            ("cloud_id", ""),
            ("site_url", ""),
            ("auth", "api_token"),
            ("quota", self.quota),
        ]);
        let fields = Fields {
            open: open.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            secret: BTreeMap::from([("api_token".to_owned(), Secret::new("t"))]),
        };
        let documents = Documents {
            spec: &spec,
            replication: &replication,
            fields: &fields,
            default_object: "{stream_name}.jsonl",
            default_name: "incremental",
        };
        let options = PlanOptions { routes: routes.to_vec(), ..PlanOptions::default() };
        let prepare = |run| Plan::new(documents, &options, run, &AccessHooks::default());
        let services = Services {
            transport: Arc::new(SimulatedApi(self.simulator.clone())),
            target: Arc::new(Files::in_folder(self.folder.path(), Settings::default())),
            state: None,
            ledger: None,
            reporter: Arc::new(Recorded::default()),
            cancel: CancellationToken::new(),
        };
        let clock = self.runtime.enter();
        let now = self.simulator.now();
        drop(clock);
        let beginning = RunOptions { now, random: 7, ..RunOptions::now() };
        self.runtime.block_on(sync::run(&prepare, services, beginning)).unwrap()
    }
}
