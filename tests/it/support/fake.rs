//! An API that a closure answers: for everything that the simulator cannot be, since it behaves.

use std::{
    collections::BTreeMap,
    fs,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::Value;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use weir::error::Error;
use weir::http::access::AccessHooks;
use weir::http::exchange::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Transport, TransportError,
};
use weir::plan::{Documents, Plan, PlanOptions};
use weir::replication::Replication;
use weir::report::{Event, Recorded, StreamReport};
use weir::run::services::Services;
use weir::secret::Secret;
use weir::spec::{Fields, Spec};
use weir::sync;
use weir::sync::connection_test::Diagnosis;
use weir::sync::report::RunReport;
use weir::sync::run_options::RunOptions;
use weir::write::Target;
use weir::write::files::{Files, Settings};
use weir::write::postgres::PostgresOptions;
use weir::yaml::Document;

/// What most replications of these tests are: everything, without the times of the run.
pub(crate) const REPLICATION: &str =
    "source: A\ntarget: B\ndefaults: { metadata: { synced_at: false } }\nstreams: { '*': }\n";

/// Path and decoded query of a request, its method and its body.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: BTreeMap<String, String>,
    pub(crate) body: String,
    pub(crate) headers: HeaderMap,
}

impl Asked {
    /// A parameter of the query; empty where it is missing.
    pub(crate) fn param(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }
}

/// An answer.
pub(crate) struct Reply {
    /// Why there is no answer.
    none: Option<TransportError>,
    status: u16,
    headers: Vec<(String, String)>,
    body: Bytes,
}

impl Reply {
    /// 200 with this JSON.
    pub(crate) fn json(body: &Value) -> Self {
        Self::status(200, body)
    }

    /// JSON with a status.
    pub(crate) fn status(status: u16, body: &Value) -> Self {
        Self::raw(status, body.to_string())
    }

    /// Bytes with a status, whatever they are.
    pub(crate) fn raw(status: u16, body: impl Into<Bytes>) -> Self {
        Self { none: None, status, headers: Vec::new(), body: body.into() }
    }

    /// No answer.
    pub(crate) fn none(why: TransportError) -> Self {
        Self { none: Some(why), ..Self::raw(200, "") }
    }

    /// With one more header.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

type Answer = dyn Fn(&Asked) -> Reply + Send + Sync;

struct Api {
    answer: Mutex<Arc<Answer>>,
    asked: Mutex<Vec<Asked>>,
}

#[async_trait]
impl Transport for Api {
    async fn send(&self, request: &Request) -> Result<Response, TransportError> {
        let asked = Asked {
            method: request.method.to_string(),
            path: request.url.path().to_owned(),
            query: request.url.query_pairs().into_owned().collect(),
            body: String::from_utf8_lossy(request.body.as_deref().unwrap_or_default()).into_owned(),
            headers: request.headers.clone(),
        };
        self.asked.lock().unwrap().push(asked.clone());
        let answer = Arc::clone(&self.answer.lock().unwrap());
        let Reply { none, status, headers: given, body } = answer(&asked);
        if let Some(why) = none {
            return Err(why);
        }
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, HeaderValue::from_str(&value).unwrap());
        }
        Ok(Response { status: StatusCode::from_u16(status).unwrap(), headers, body })
    }
}

/// A spec, the API behind it, and a folder or a database into which several runs write.
pub(crate) struct Fake {
    spec: Spec,
    api: Arc<Api>,
    folder: Arc<TempDir>,
    target: Arc<dyn Target>,
    format: &'static str,
}

/// A run that came to an end.
pub(crate) struct RunResult {
    pub(crate) report: RunReport,
    pub(crate) events: Vec<Event>,
    pub(crate) asked: Vec<Asked>,
}

impl RunResult {
    /// What is reported of a stream.
    pub(crate) fn stream(&self, name: &str) -> &StreamReport {
        self.report.streams.iter().find(|one| one.stream == name).unwrap()
    }

    /// What was warned of, in order.
    pub(crate) fn warnings(&self) -> Vec<&str> {
        let warnings = self.events.iter().filter_map(|event| match event {
            Event::Warning { message, .. } => Some(message.as_str()),
            _ => None,
        });
        warnings.collect()
    }
}

/// How a run differs from [`Fake::run`].
#[derive(Clone, Copy)]
pub(crate) struct How<'how> {
    /// YAML of the replication.
    pub(crate) replication: &'how str,
    /// What the command line adds.
    pub(crate) options: &'how PlanOptions,
    /// How the run is begun.
    pub(crate) beginning: RunOptions,
}

impl Fake {
    /// An API for this spec; rows go to JSONL files, `STREAM.jsonl`. The spec may name the connection's
    /// secret `token`.
    pub(crate) fn new(
        spec: &str,
        answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let target = Arc::new(Files::in_folder(folder.path(), Settings::default()));
        let spec = Spec::load("spec.yaml", spec).unwrap_or_else(|problems| panic!("{problems}"));
        let answer: Arc<Answer> = Arc::new(answer);
        let api = Arc::new(Api { answer: Mutex::new(answer), asked: Mutex::default() });
        Self { spec, api, folder, target, format: "{stream_name}.jsonl" }
    }

    /// The same, with rows into the tables `public.STREAM` of a database.
    pub(crate) fn into_postgres(self, options: PostgresOptions) -> Self {
        let target = Arc::new(weir::write::postgres::Postgres::new(options));
        Self { target, format: "public.{stream_name}", ..self }
    }

    /// The same API and target, by another spec.
    pub(crate) fn of_spec(self, spec: Spec) -> Self {
        Self { spec, ..self }
    }

    /// The same API and folder, for a process that knows nothing of what this one has in memory.
    pub(crate) fn another_process(&self) -> Self {
        let (api, folder) = (Arc::clone(&self.api), Arc::clone(&self.folder));
        let target = Arc::new(Files::in_folder(folder.path(), Settings::default()));
        Self { spec: self.spec.clone(), api, folder, target, format: self.format }
    }

    /// The folder of the files.
    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// From now on the API answers otherwise.
    pub(crate) fn answer(&self, answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) {
        *self.api.answer.lock().unwrap() = Arc::new(answer);
    }

    /// Runs [`REPLICATION`] to its end.
    pub(crate) async fn run(&self) -> RunResult {
        self.run_with(REPLICATION).await
    }

    /// Runs a replication to its end.
    pub(crate) async fn run_with(&self, replication: &str) -> RunResult {
        let how =
            How { replication, options: &PlanOptions::default(), beginning: RunOptions::now() };
        self.try_run(how).await.unwrap_or_else(|error| panic!("{}", error.chain()))
    }

    /// Runs, which may be refused before anything is read.
    pub(crate) async fn try_run(&self, how: How<'_>) -> Result<RunResult, Error> {
        self.try_run_until(how, CancellationToken::new()).await
    }

    /// Runs, until it ends or is told to stop.
    pub(crate) async fn try_run_until(
        &self,
        how: How<'_>,
        cancel: CancellationToken,
    ) -> Result<RunResult, Error> {
        let document = Document::parse("r.yaml", how.replication).unwrap();
        let replication = Replication::load(&document).unwrap_or_else(|error| panic!("{error}"));
        let secret = BTreeMap::from([("token".to_owned(), Secret::new("s3cret"))]);
        let fields = Fields { open: BTreeMap::new(), secret };
        let documents = Documents {
            spec: &self.spec,
            replication: &replication,
            fields: &fields,
            default_object: self.format,
            default_name: "fake",
        };
        let plan = |run| Plan::new(documents, how.options, run, &AccessHooks::default());
        let reporter = Arc::new(Recorded::default());
        self.api.asked.lock().unwrap().clear();
        let services = Services {
            transport: Arc::<Api>::clone(&self.api),
            target: Arc::clone(&self.target),
            state: None,
            ledger: None,
            reporter: Arc::<Recorded>::clone(&reporter),
            cancel,
        };
        let report = Box::pin(sync::run(&plan, services, how.beginning)).await?;
        let asked = self.api.asked.lock().unwrap().clone();
        Ok(RunResult { report, events: reporter.events(), asked })
    }

    /// Tests the connection; returns what was asked too.
    pub(crate) async fn probe(&self) -> Result<(Diagnosis, Vec<Asked>), Error> {
        let secret = BTreeMap::from([("token".to_owned(), Secret::new("s3cret"))]);
        let fields = Fields { open: BTreeMap::new(), secret };
        self.api.asked.lock().unwrap().clear();
        let hooks = AccessHooks::default();
        let diagnosis = sync::probe(&self.spec, &fields, &hooks, self.api.as_ref()).await?;
        Ok((diagnosis, self.api.asked.lock().unwrap().clone()))
    }

    /// The rows of a stream's JSONL file, in order; none where there is no file.
    pub(crate) fn rows(&self, stream: &str) -> Vec<Value> {
        let path = self.folder.path().join(format!("{stream}.jsonl"));
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The values of one column of a stream's JSONL file, in order.
    pub(crate) fn column(&self, stream: &str, column: &str) -> Vec<Value> {
        self.rows(stream).iter().map(|row| row[column].clone()).collect()
    }
}
