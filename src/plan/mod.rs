//! Spec, replication and connection to a plan: everything resolved, nothing optional.
//!
//! Planning does no IO. What files say wrongly was found when they were loaded; what is left to find
//! here is what only shows when they come together.

mod check;
mod columns;
mod confirm;
mod cost;
mod count;
mod cursor;
mod fingerprint;
mod iterate;
mod origins;
mod request;
mod routes;
mod select;
mod steps;
mod stream;
mod variables;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use indexmap::IndexMap;

use crate::error::{Error, Result};
use crate::http::response_rules::Rules;
use crate::http::session::StepPlan;
use crate::quota::cost::QuotaPlan;
use crate::quota::terms::OnBudget;
use crate::replication::{Checkpoints, Mode, Replication, StreamOptions};
use crate::spec::{Fetch, Fields, RequestSpec, Spec, Stream};
use crate::template::{Expression, Scope, Value};
use crate::write::Table;

pub use crate::http::access::{Access, AccessHooks, TestPlan};
pub use crate::spec::OWN;
pub use check::{check, check_inputs};
pub use columns::{ColumnPlan, ColumnValue};
pub use confirm::ConfirmPlan;
pub use cost::quota_of;
pub use count::CountPlan;
pub use cursor::CursorPlan;
pub use iterate::{ChunkSize, Iterate, encoded};
pub use origins::{is_loopback, origins};
pub use request::{AskedPlan, DescendPlan, FeedPlan, QueuePlan, RequestPlan};
pub use routes::{
    DerivePlan, EmbeddedPlan, FetchPlan, FoundPlan, LookPlan, RoutePlan, Routed, requests_of,
};
pub use select::{Selection, matches_pattern};
pub use steps::{SessionSteps, session_steps};
pub use stream::{Output, StreamPlan};
pub use variables::input_type;

/// Refused slices above which a stream fails unless the replication says otherwise.
const MAX_ERRORS: u32 = 1000;

/// A run, fully resolved.
#[derive(Debug)]
pub struct Plan {
    /// The run.
    pub run: Run,
    /// Base URL without its final slash, and how to authenticate.
    pub access: Arc<Access>,
    /// Requests a second over all streams.
    pub requests_per_second: Option<f64>,
    /// Requests under way at once over all streams.
    pub concurrency: u32,
    /// Requests before the streams.
    pub setup: Vec<StepPlan>,
    /// Requests after the streams.
    pub teardown: Vec<StepPlan>,
    /// Values that all templates see.
    pub variables: BTreeMap<String, Value>,
    /// Rules for the answers to setup and teardown requests.
    pub rules: Rules,
    /// The quota of points, where one holds.
    pub quota: Option<QuotaPlan>,
    /// What the reader should know before it runs.
    pub notes: Vec<String>,
    /// The queues; elsewhere they go by their number here.
    pub queues: Vec<QueuePlan>,
    /// The streams, parents before their children.
    pub streams: Vec<Arc<StreamPlan>>,
    /// Tables that are only to exist.
    pub definitions: Vec<Table>,
    /// Name of the replication, under which its state is kept.
    pub name: String,
    /// When what was read is saved.
    pub checkpoint: Checkpoints,
    /// Whether only some of the replication's streams were selected.
    pub is_selection: bool,
    /// Object of the table of refused slices.
    pub errors_object: String,
}

/// A run's identity.
#[derive(Clone, Debug)]
pub struct Run {
    /// Its id.
    pub id: String,
    /// When it started.
    pub started_at: DateTime<Utc>,
}

/// What the command line adds to a replication.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Which of the replication's streams to run.
    pub selection: Selection,
    /// Rows of each stream after which it ends.
    pub limit: Option<u64>,
    /// Mode of all streams, in place of what the replication says.
    pub mode: Option<Mode>,
    /// Whether refused slices are asked for again and nothing else: their rows are merged, whatever the
    /// mode.
    pub retry: bool,
    /// For `backfill`: from and up to where, as dates, times or whole numbers.
    pub range: Option<(String, String)>,
    /// Points that the run may spend in all.
    pub max_points: Option<u64>,
    /// What happens when points are spent, in place of what the replication says.
    pub on_budget: Option<OnBudget>,
    /// Streams and the routes by which they are to be read.
    pub routes: Vec<(String, String)>,
}

/// The documents that make up a plan.
#[derive(Clone, Copy, Debug)]
pub struct Documents<'documents> {
    /// The API.
    pub spec: &'documents Spec,
    /// The run.
    pub replication: &'documents Replication,
    /// The connection's values.
    pub fields: &'documents Fields,
    /// Object of streams for which the replication names none: `{stream_name}` or
    /// `{stream_name}.parquet`.
    pub default_object: &'documents str,
    /// Name of a replication that has none of its own.
    pub default_name: &'documents str,
}

impl Plan {
    /// Resolves a run.
    ///
    /// # Errors
    /// No stream is selected, a value is missing or does not fit, or a part cannot be used together
    /// with another.
    pub fn new(
        documents: Documents<'_>,
        options: &Options,
        run: Run,
        hooks: &AccessHooks,
    ) -> Result<Self> {
        let Documents { spec, replication, fields, .. } = documents;
        let access = Access::new(spec, fields, hooks)?;
        let mut chosen = select::streams(spec, replication, &options.selection)?;
        // Where no key tells rows apart, those of a slice cannot be read again.
        let fits = |name: &str| spec.streams.get(name).is_none_or(|stream| !stream.key.is_empty());
        chosen.retain(|name, _| !options.retry || fits(name));
        let mut variables = fields.variables();
        variables.extend(variables::of_run(&run));
        // Requests before and after the streams belong to no stream: they see the shared inputs.
        variables.extend(variables::inputs(spec, &replication.defaults.inputs, &run)?);
        let source = format!("{} at {}", spec.name, access.base_url);
        let draft = Draft { documents, options, run: &run, variables: &variables, source: &source };
        let (mut active, mut definitions) = (IndexMap::new(), Vec::new());
        for (name, settings) in &chosen {
            let stage = draft.stage(name, Some(settings))?;
            if draft.mode(settings) == Mode::DefinitionOnly {
                definitions.push(draft.output(&stage, settings)?.table);
            } else {
                active.insert(*name, stage);
            }
        }
        draft.add_feeders(&mut active)?;
        let order = select::order(&active.iter().map(stage_links).collect::<Vec<_>>())?;
        let queues = consumed_queues(&active);
        let mut streams: Vec<Arc<StreamPlan>> = Vec::new();
        for name in order {
            if let Some(stage) = active.get(name.as_str()) {
                let stream = draft.stream(stage, &queues, &streams)?;
                streams.push(Arc::new(stream));
            }
        }
        distinct_objects(&definitions, &streams)?;
        let (limits, own) = (&spec.limits, &replication.limits);
        let mut notes = Vec::new();
        let quota = draft.quota(&access, &mut notes)?;
        Ok(Self {
            access: Arc::new(access),
            requests_per_second: own.requests_per_second.or(limits.requests_per_second),
            concurrency: draft.concurrency(),
            quota,
            notes,
            setup: steps::steps(&spec.setup, &draft.scope(&variables))?,
            teardown: steps::steps(&spec.teardown, &draft.scope(&variables))?,
            rules: Rules::new(&spec.responses, limits.max_wait.0).map_err(Error::from_path)?,
            name: draft.name().to_owned(),
            checkpoint: replication.checkpoint,
            is_selection: !options.selection.0.is_empty(),
            errors_object: replication.own_object("_weir_errors", documents.default_object),
            variables,
            definitions,
            queues,
            streams,
            run,
        })
    }

    /// Time for one whole response and its largest body in bytes, by the spec's limits.
    pub fn response_limits(spec: &Spec) -> (Duration, u64) {
        (spec.limits.timeout.0, u64::from(spec.limits.max_body_mib) << 20)
    }
}

/// A stream that takes part, before its requests are compiled.
#[derive(Debug)]
struct Stage<'spec> {
    name: &'spec str,
    stream: &'spec Stream,
    /// `None`: it only feeds.
    settings: Option<StreamOptions>,
    inputs: IndexMap<String, serde_json::Value>,
    variables: BTreeMap<String, Value>,
    /// The requests whose `when` holds.
    requests: Vec<RequestSpec>,
    /// Those of a run that reads what changed.
    changes: Vec<RequestSpec>,
    /// Those of its routes that are open.
    routes: Vec<(String, Vec<RequestSpec>)>,
}

impl Stage<'_> {
    fn all_requests(&self) -> impl Iterator<Item = &RequestSpec> {
        let routes = self.routes.iter().flat_map(|(_, requests)| requests);
        self.requests.iter().chain(&self.changes).chain(routes)
    }

    fn queues(&self) -> impl Iterator<Item = &str> {
        self.all_requests().flat_map(request::queues_of)
    }

    /// How one of its open routes has its rows by ids.
    fn fetch(&self) -> Option<&Fetch> {
        let mut requests = self.routes.iter().flat_map(|(_, requests)| requests);
        requests.find_map(|request| request.fetch.as_ref())
    }
}

/// Whether an object is among the tables and folders that weir makes for itself, in any target: the schema
/// `_weir`, tables like `_weir_state`, the folder `.weir`.
fn is_own(object: &str) -> bool {
    let object = object.to_lowercase();
    let parts = object.split(['/', '.', '"']);
    parts.into_iter().any(|part| part == "_weir" || part.starts_with("_weir_"))
        || object.split('/').any(|part| part.starts_with(".weir") || part == "_weir.json")
}

/// Two streams with one object would each replace what the other has written.
fn distinct_objects(definitions: &[Table], streams: &[Arc<StreamPlan>]) -> Result<()> {
    let mut writers = BTreeMap::new();
    let outputs = streams.iter().filter_map(|stream| stream.output.as_ref());
    for table in definitions.iter().chain(outputs.map(|output| &output.table)) {
        let object = table.object.as_str();
        if is_own(object) {
            let what =
                format!("`{}` has the object `{object}`, a name of weir's own", table.stream);
            return Err(Error::input(what).with_hint(
                "choose a name that is not `_weir` and begins with neither `_weir_` nor `.weir`",
            ));
        }
        if let Some(other) = writers.insert(object, &table.stream) {
            let message =
                format!("`{other}` and `{}` have the same object `{object}`", table.stream);
            return Err(Error::input(message)
                .with_hint("give each its own, or put `{stream_name}` into `object`"));
        }
    }
    Ok(())
}

/// A stage's name, the queues that it consumes and those that it feeds.
fn stage_links<'stage>((name, stage): (&&'stage str, &'stage Stage<'_>)) -> select::Links<'stage> {
    let consumes = stage.queues().collect();
    let feeds = stage.stream.feeds.keys().map(String::as_str).collect();
    select::Links { name, consumes, feeds }
}

fn consumed_queues(active: &IndexMap<&str, Stage<'_>>) -> Vec<QueuePlan> {
    let mut queues: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for stage in active.values() {
        for queue in stage.queues() {
            queues.entry(queue).or_default();
        }
        for items in stage.all_requests().filter_map(request::items_of) {
            let carried = queues.entry(&items.queue).or_default();
            carried.extend(items.carry.values().cloned());
        }
    }
    let queue = |(name, mut carried): (&str, Vec<String>)| {
        carried.sort_unstable();
        carried.dedup();
        QueuePlan { name: name.to_owned(), carried }
    };
    queues.into_iter().map(queue).collect()
}

/// What is needed to resolve a stream.
struct Draft<'plan> {
    documents: Documents<'plan>,
    options: &'plan Options,
    run: &'plan Run,
    variables: &'plan BTreeMap<String, Value>,
    /// See [`Table::source`].
    source: &'plan str,
}

impl<'plan> Draft<'plan> {
    /// Name of the replication.
    fn name(&self) -> &str {
        self.documents.replication.name.as_deref().unwrap_or(self.documents.default_name)
    }

    fn mode(&self, settings: &StreamOptions) -> Mode {
        self.options.mode.or(settings.mode).unwrap_or_default()
    }

    /// Requests under way at once over all streams.
    fn concurrency(&self) -> u32 {
        let own = self.documents.replication.limits.concurrency;
        own.unwrap_or(self.documents.spec.limits.concurrency).max(1)
    }

    fn scope(&self, variables: &BTreeMap<String, Value>) -> Arc<Scope> {
        let mut all = self.variables.clone();
        all.extend(variables.clone());
        Arc::new(Scope::new(all))
    }

    /// Finds out which requests of a stream take part.
    fn stage(&self, name: &str, settings: Option<&StreamOptions>) -> Result<Stage<'plan>> {
        let spec = self.documents.spec;
        let (name, stream) = spec
            .streams
            .get_key_value(name)
            .ok_or_else(|| Error::input(format!("the spec has no stream `{name}`")))?;
        let replication = self.documents.replication;
        // A feeder feeds what it would write.
        let own = settings.cloned().or_else(|| select::settings_of(replication, name));
        let inputs = own.map_or_else(|| replication.defaults.inputs.clone(), |own| own.inputs);
        let mut variables = variables::inputs(spec, &inputs, self.run)?;
        variables.insert("stream_name".to_owned(), Value::from(name.as_str()));
        let columns = match settings {
            Some(settings) => columns::selected(name, stream, &settings.select)?,
            None => Vec::new(),
        };
        variables.insert("columns".to_owned(), Value::from(columns));
        let scope = self.scope(&variables);
        let requests = holding(name, request::merged(spec, stream), &scope)?;
        let changes = holding(name, request::changes(spec, stream), &scope)?;
        let settings = settings.cloned();
        let mut routes = Vec::new();
        for (route, all) in request::of_routes(spec, stream) {
            let count = all.len();
            let open = holding(name, all, &scope)?;
            // Its requests bring the rows together: without one of them it is none.
            if open.len() == count && !requests.is_empty() {
                routes.push((route, open));
            }
        }
        Ok(Stage { name, stream, settings, inputs, variables, requests, changes, routes })
    }

    /// Adds the parents of selected streams that are not selected themselves.
    fn add_feeders(&self, active: &mut IndexMap<&'plan str, Stage<'plan>>) -> Result<()> {
        let spec = self.documents.spec;
        let mut next = 0;
        while let Some((_, stage)) = active.get_index(next) {
            let wanted: Vec<String> = stage.queues().map(str::to_owned).collect();
            for queue in wanted {
                let feeders =
                    spec.streams.iter().filter(|(_, other)| other.feeds.contains_key(&queue));
                let names: Vec<&'plan String> = feeders.map(|(name, _)| name).collect();
                for name in names {
                    if !active.contains_key(name.as_str()) {
                        active.insert(name, self.stage(name, None)?);
                    }
                }
            }
            next += 1;
        }
        Ok(())
    }

    fn output(&self, stage: &Stage<'_>, settings: &StreamOptions) -> Result<Output> {
        let output = columns::output(self, stage, settings);
        output.map_err(|error| error.about(&format!("stream `{}`", stage.name)))
    }

    fn stream(
        &self,
        stage: &Stage<'_>,
        queues: &[QueuePlan],
        before: &[Arc<StreamPlan>],
    ) -> Result<StreamPlan> {
        let spec = self.documents.spec;
        let within = |error: Error| error.about(&format!("stream `{}`", stage.name));
        let settings = stage.settings.as_ref();
        let output = settings.map(|settings| self.output(stage, settings)).transpose()?;
        let scope = self.scope(&stage.variables);
        let ignore = [spec.defaults.ignore.as_slice(), &stage.stream.ignore].concat();
        let mut notes = Vec::new();
        let compiler = request::Compiler {
            stream: stage.stream,
            columns: output.as_ref().map(|output| output.columns.as_slice()),
            others: columns::others(output.as_ref(), stage.stream, &spec.defaults),
            ignore: ignore.clone(),
            queues,
            scope: &scope,
            fetch: stage.fetch(),
        };
        let mut compile = |all: &[RequestSpec]| -> Result<Vec<RequestPlan>> {
            let compiled = all.iter().map(|one| compiler.compile(one, &mut notes));
            compiled.collect::<Result<_>>().map_err(within)
        };
        let changes = compile(&stage.changes)?;
        let mut requests = compile(&stage.requests)?;
        let mut routes =
            vec![RoutePlan { name: OWN.to_owned(), requests: 0..requests.len(), by_parents: true }];
        for (name, specs) in &stage.routes {
            let compiled = compile(specs)?;
            routes::add(&mut requests, &mut routes, (name, compiled));
        }
        notes.dedup();
        let wanted = self.wanted(stage.name, &routes)?;
        let rules = stage.stream.responses.iter().chain(&spec.responses);
        let refresh = settings.and_then(|own| own.refresh).or(stage.stream.refresh);
        let max_errors = settings.and_then(|own| own.max_errors).unwrap_or(MAX_ERRORS);
        Ok(StreamPlan {
            cursor: self.cursor(stage, output.as_ref(), &scope).map_err(within)?,
            reads: self.reads(stage, before),
            shape: Self::shape(stage, queues),
            writes: fingerprint::writes(output.as_ref(), &ignore),
            refresh: refresh.unwrap_or_default(),
            changes,
            changes_apart: stage.stream.cursor.as_ref().is_some_and(|one| !one.requests.is_empty()),
            max_errors,
            name: stage.name.to_owned(),
            internal: stage.stream.internal,
            output,
            requests,
            routes,
            wanted,
            rules: Rules::new(rules, spec.limits.max_wait.0).map_err(Error::from_path)?,
            concurrency: stage.stream.concurrency.unwrap_or(self.concurrency()).max(1),
            limit: self.options.limit,
            cost: self.cost(stage.stream).map_err(within)?,
            count: self.count(stage).map_err(within)?,
            confirm: Self::confirm(stage).map_err(within)?,
            min_rows: min_rows(stage.stream, &scope).map_err(within)?,
            variables: stage.variables.clone(),
            notes,
        })
    }
}

/// The requests whose `when` holds.
fn holding(name: &str, requests: Vec<RequestSpec>, scope: &Arc<Scope>) -> Result<Vec<RequestSpec>> {
    let mut holding = Vec::new();
    for request in requests {
        let holds = match &request.when {
            None => true,
            Some(when) => Expression::parse(when)
                .and_then(|when| when.holds(scope))
                .map_err(|error| Error::input(format!("`{name}`: `when`: {error}")))?,
        };
        if holds {
            holding.push(request);
        }
    }
    Ok(holding)
}

/// The rows that a stream must have at least.
fn min_rows(stream: &Stream, scope: &Arc<Scope>) -> Result<u64> {
    let Some(text) = &stream.min_rows else { return Ok(0) };
    let value = Expression::parse(text)
        .and_then(|expression| expression.eval(scope))
        .map_err(|error| Error::input(format!("`min_rows`: {error}")))?;
    u64::try_from(value).map_err(|_| Error::input(format!("`min_rows: {text}` is no number")))
}

impl Error {
    /// A path that cannot be read.
    fn from_path(error: crate::path::PathError) -> Self {
        Self::input("the spec has a path that cannot be read").because(error)
    }
}
