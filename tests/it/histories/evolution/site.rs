//! A small API whose records a test writes down, and a target that is looked at after each run.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::PathBuf,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use weir::http::access::AccessHooks;
use weir::http::exchange::{HeaderMap, Request, Response, StatusCode, Transport, TransportError};
use weir::plan::{Documents, Plan, PlanOptions};
use weir::replication::Replication;
use weir::report::{Event, Recorded, StreamReport, StreamStatus};
use weir::run::services::Services;
use weir::spec::{Fields, Spec};
use weir::sync;
use weir::sync::run_options::RunOptions;
use weir::write::Target;
use weir::write::files::{Files, Settings};
use weir::write::postgres::Postgres;
use weir::yaml::Document;

use crate::support::{
    postgres::Database,
    rows::{self, Row},
};

/// The kinds of targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Postgres,
    Parquet,
    Jsonl,
}

pub(super) const KINDS: [Kind; 3] = [Kind::Postgres, Kind::Parquet, Kind::Jsonl];
pub(super) const FULL: &str = "full-refresh";
pub(super) const INCREMENTAL: &str = "incremental";

/// The API's records, a page each where pages are asked for, and what it was asked for.
#[derive(Default)]
struct Api {
    items: Mutex<Vec<Value>>,
    asked: Mutex<Vec<Option<i64>>>,
    /// Cancelled by the first answer.
    cancels: Mutex<Option<CancellationToken>>,
}

#[async_trait]
impl Transport for Api {
    async fn send(&self, request: &Request) -> Result<Response, TransportError> {
        let query: BTreeMap<String, String> = request.url.query_pairs().into_owned().collect();
        let since: Option<i64> = query.get("since").map(|since| since.parse().unwrap());
        self.asked.lock().unwrap().push(since);
        let mut items = self.items.lock().unwrap().clone();
        items.retain(|item| item["at"].as_i64().unwrap() >= since.unwrap_or(i64::MIN));
        let pages = items.len();
        if let Some(page) = query.get("page") {
            let page: usize = page.parse().unwrap();
            items = items.get(page - 1).cloned().into_iter().collect();
        }
        let body = Bytes::from(json!({ "items": items, "pages": pages }).to_string());
        if let Some(cancel) = self.cancels.lock().unwrap().take() {
            cancel.cancel();
        }
        Ok(Response { status: StatusCode::OK, headers: HeaderMap::new(), body })
    }
}

/// The API, a target, and what runs between them say.
pub(super) struct Site {
    pub(super) kind: Kind,
    api: Arc<Api>,
    database: Option<Database>,
    pub(super) folder: TempDir,
    events: Arc<Recorded>,
    /// For a backfill.
    pub(super) range: Option<(String, String)>,
    /// More of the replication's defaults.
    settings: String,
    /// More of the stream.
    stream: String,
}

impl Site {
    pub(super) async fn new(kind: Kind) -> Self {
        Self {
            kind,
            api: Arc::default(),
            database: match kind {
                Kind::Postgres => Some(Database::new().await),
                _ => None,
            },
            folder: tempfile::tempdir().unwrap(),
            events: Arc::default(),
            range: None,
            settings: String::new(),
            stream: String::new(),
        }
    }

    /// The database of a site whose target is one.
    pub(super) fn database(&self) -> &Database {
        self.database.as_ref().unwrap()
    }

    /// The same site, with other settings of the replication.
    pub(super) fn set(mut self, settings: &str) -> Self {
        settings.clone_into(&mut self.settings);
        self
    }

    /// The same site, with more said of the stream.
    pub(super) fn say(mut self, stream: &str) -> Self {
        stream.clone_into(&mut self.stream);
        self
    }

    /// Runs, and is interrupted at the first answer.
    pub(super) async fn interrupted(&self, mode: &str, columns: &str) {
        let cancel = CancellationToken::new();
        *self.api.cancels.lock().unwrap() = Some(cancel.clone());
        let report = self.run_until(&cancel, mode, columns).await;
        assert_eq!(report.status, StreamStatus::Interrupted, "{:?}: {report:?}", self.kind);
    }

    /// Replaces the API's records. `at` is what the stream's cursor follows.
    pub(super) fn serve(&self, items: Value) {
        *self.api.items.lock().unwrap() = serde_json::from_value(items).unwrap();
    }

    /// The object of the stream, as the target has it.
    fn object(&self) -> &'static str {
        match self.kind {
            Kind::Postgres => "items",
            Kind::Parquet => "items.parquet",
            Kind::Jsonl => "items.jsonl",
        }
    }

    /// The file of the object.
    pub(super) fn file(&self) -> PathBuf {
        self.folder.path().join(self.object())
    }

    /// Runs with these columns beside `id` and `at`; how the stream ended.
    pub(super) async fn try_run(&self, mode: &str, columns: &str) -> StreamReport {
        self.run_until(&CancellationToken::new(), mode, columns).await
    }

    async fn run_until(
        &self,
        cancel: &CancellationToken,
        mode: &str,
        columns: &str,
    ) -> StreamReport {
        let spec = format!(
            "name: shop
base_url: https://shop.test/v1
test: {{ get: /ping }}
streams:
  items:
    doc: An item.
    get: /items
    records: items
    key: [id]
    cursor: {{ field: at, query: {{ since: '{{{{ cursor }}}}' }} }}
    refresh: 24h
    columns: {{ id: int, at: int, {columns} }}
    {}
",
            self.stream
        );
        let spec = Spec::load("spec.yaml", &spec).unwrap_or_else(|problems| panic!("{problems}"));
        let yaml = format!(
            "source: A
target: B
defaults: {{ mode: {mode}, metadata: {{ synced_at: false }}, {} }}
streams: {{ items: }}
",
            self.settings
        );
        let replication = Replication::load(&Document::parse("r.yaml", &yaml).unwrap()).unwrap();
        let documents = Documents {
            spec: &spec,
            replication: &replication,
            fields: &Fields::default(),
            default_object: self.object(),
            default_name: "evolution",
        };
        let options = PlanOptions { range: self.range.clone(), ..PlanOptions::default() };
        let plan = |run| Plan::new(documents, &options, run, &AccessHooks::default());
        let target: Arc<dyn Target> = match self.kind {
            Kind::Postgres => Arc::new(Postgres::new(self.database().options())),
            _ => Arc::new(Files::in_folder(self.folder.path(), Settings::default())),
        };
        let services = Services {
            transport: Arc::<Api>::clone(&self.api),
            target,
            state: None,
            ledger: None,
            reporter: Arc::<Recorded>::clone(&self.events),
            cancel: cancel.clone(),
        };
        self.api.asked.lock().unwrap().clear();
        sync::run(&plan, services, RunOptions::now()).await.unwrap().streams.remove(0)
    }

    /// Runs to a good end.
    pub(super) async fn run(&self, mode: &str, columns: &str) -> StreamReport {
        let report = self.try_run(mode, columns).await;
        assert_eq!(report.status, StreamStatus::Done, "{:?}: {report:?}", self.kind);
        report
    }

    /// Runs to a failure; its text, with the hint.
    pub(super) async fn refused(&self, mode: &str, columns: &str) -> String {
        let before = self.rows().await;
        let report = self.try_run(mode, columns).await;
        assert_eq!(report.status, StreamStatus::Failed, "{:?} {mode}", self.kind);
        assert_eq!(
            self.rows().await,
            before,
            "{:?} {mode}: a failed run changes nothing",
            self.kind
        );
        format!("{}; hint: {}", report.error.unwrap(), report.hint.unwrap())
    }

    /// What the last run asked for: `None` is everything, else what changed since.
    pub(super) fn asked(&self) -> Vec<Option<i64>> {
        self.api.asked.lock().unwrap().clone()
    }

    /// The warnings of all runs.
    pub(super) fn warnings(&self) -> Vec<String> {
        let events = self.events.events();
        let message = |event: &Event| match event {
            Event::Warning { message, .. } => Some(message.clone()),
            _ => None,
        };
        events.iter().filter_map(message).collect()
    }

    /// All rows with all columns, by id; `None` when there is no table.
    pub(super) async fn rows(&self) -> Option<Vec<Row>> {
        let mut rows: Vec<Row> = match self.kind {
            Kind::Postgres => {
                let there = "SELECT to_regclass('items') IS NOT NULL";
                if self.database().text(there).await == "false" {
                    return None;
                }
                let texts = self.database().texts("SELECT row_to_json(t) FROM items t").await;
                texts.iter().map(|text| serde_json::from_str(text).unwrap()).collect()
            }
            Kind::Parquet => {
                let file = File::open(self.file()).ok()?;
                let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
                let batches = reader.build().unwrap().map(Result::unwrap);
                batches.flat_map(|batch| rows::read(&batch)).collect()
            }
            Kind::Jsonl => {
                let text = fs::read_to_string(self.file()).ok()?;
                text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
            }
        };
        rows.sort_by_key(|row| row["id"].as_i64());
        Some(rows)
    }

    /// A column's values by id, in one spelling for all targets; `no column` where there is none.
    pub(super) async fn values(&self, column: &str) -> Vec<String> {
        let rows = self.rows().await.unwrap();
        rows.iter().map(|row| row.get(column).map_or("no column".to_owned(), shown)).collect()
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.replace("+00:00", "Z"),
        Value::Number(number) => number.as_f64().unwrap().to_string(),
        other => other.to_string(),
    }
}
