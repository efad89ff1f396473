//! What incremental runs ask for: a tenant of 10,000 pages under simulated time, of which 1 % is edited
//! and 0.5 % deleted between two runs. Prints the requests of each run.
#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]
#![expect(clippy::print_stdout, reason = "what a benchmark measures goes to stdout")]

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;
use weir::{
    engine::Services,
    plan::{AccessHooks, Documents, Options as PlanOptions, Plan},
    replication::Replication,
    report::Recorded,
    secret::Secret,
    sim::{Change, Options, Simulator},
    spec::{EMBEDDED, Fields, Spec},
    sync::{self, Beginning, RunReport},
    write::files::{Files, Settings},
    yaml::Document,
};

const PAGES: usize = 10_000;

fn main() {
    let listings = "{ '*': , 'pages': *all, 'blog_posts': *all, 'attachments': *all }";
    let listings = listings.replacen("*all", "&all { refresh: 0s }", 1);
    let everything = "{ '*': { refresh: 0s } }";
    for (streams, hours) in [("{ '*': }", 1), (&listings, 1), (everything, 1), ("{ '*': }", 24)] {
        let site = Site::new();
        let first = site.run(streams);
        site.change();
        site.pass(Duration::from_hours(hours));
        let second = site.run(streams);
        let (before, after) = (requests(&first), requests(&second));
        println!(
            "{streams}, {hours} h later: {before} requests, then {after} ({:.2} %)",
            100.0 * f64::from(after) / f64::from(before)
        );
        for (one, two) in first.streams.iter().zip(&second.streams) {
            let (asked, gone) = (two.requests, two.deleted);
            println!(
                "  {:30} {:>7} {asked:>7} {gone:>6} deleted, {}",
                one.stream, one.requests, two.reach
            );
        }
    }
}

fn requests(run: &RunReport) -> u32 {
    u32::try_from(run.streams.iter().map(|stream| stream.requests).sum::<u64>()).unwrap()
}

/// A simulated site, and files beside it.
struct Site {
    runtime: Runtime,
    simulator: Simulator,
    folder: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let clock = runtime.enter();
        let simulator = Simulator::new(Options {
            spaces: 100,
            pages: PAGES,
            blog_posts: 2_000,
            attachments: 5_000,
            body_bytes: 256,
            now: Some("2026-10-01T00:00:00Z".parse().unwrap()),
            log_entries: Some(0),
            ..Options::default()
        });
        drop(clock);
        Self { runtime, simulator, folder: tempfile::tempdir().unwrap() }
    }

    fn pass(&self, time: Duration) {
        self.runtime.block_on(async { tokio::time::sleep(time).await });
    }

    /// Edits 1 % of the pages and deletes 0.5 % of them for good.
    fn change(&self) {
        let _clock = self.runtime.enter();
        let pages = self.simulator.truth("pages").unwrap();
        let ids =
            pages.iter().filter(|page| page["status"] == "current" && !page["parentId"].is_null());
        let ids: Vec<String> = ids.map(|page| page["id"].as_str().unwrap().to_owned()).collect();
        for (number, id) in ids.into_iter().step_by(67).enumerate() {
            let change = if number % 3 == 2 {
                Change::Delete { id }
            } else {
                Change::Edit { id, retitle: false }
            };
            self.simulator.change(&change).unwrap();
        }
    }

    fn run(&self, streams: &str) -> RunReport {
        let (name, text) = EMBEDDED.iter().find(|(name, _)| *name == "confluence").unwrap();
        let spec = Spec::load(name, text).unwrap();
        let text = format!(
            "source: WIKI\ntarget: OUT\nlimits: {{ requests_per_second: 0, concurrency: 8 }}\n\
             defaults: {{ mode: incremental }}\nstreams: {streams}\n"
        );
        let replication =
            Replication::load(&Document::parse("replication.yaml", &text).unwrap()).unwrap();
        let open = [("domain", "acme.atlassian.net"), ("email", "a@b.c"), ("token", "classic")];
        let open = open.into_iter().chain([("cloud_id", ""), ("site_url", ""), ("quota", "none")]);
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
        let options = PlanOptions::default();
        let prepare = |run| Plan::new(documents, &options, run, &AccessHooks::default());
        let services = Services {
            transport: Arc::new(self.simulator.clone()),
            target: Arc::new(Files::in_folder(self.folder.path(), Settings::default())),
            state: None,
            ledger: None,
            reporter: Arc::new(Recorded::default()),
            cancel: CancellationToken::new(),
        };
        let clock = self.runtime.enter();
        let now = self.simulator.now();
        drop(clock);
        let beginning = Beginning { now, random: 7, fresh: false, retry: false };
        self.runtime.block_on(sync::run(&prepare, services, beginning)).unwrap()
    }
}
