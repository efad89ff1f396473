//! Resolution of a run: the streams in their order, and the settings that they share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;

use crate::error::{Error, Result};
use crate::http::access::{Access, AccessHooks};
use crate::http::response_rules::Rules;
use crate::http::session::StepPlan;
use crate::plan::documents::{Documents, PlanOptions, Run};
use crate::plan::draft::Draft;
use crate::plan::requests::compiler::Compiler;
use crate::plan::requests::queue::QueuePlan;
use crate::plan::requests::request::RequestPlan;
use crate::plan::requests::routes;
use crate::plan::requests::routes::RoutePlan;
use crate::plan::select;
use crate::plan::steps;
use crate::plan::streams::columns;
use crate::plan::streams::columns::Output;
use crate::plan::streams::fingerprint;
use crate::plan::streams::stage::{StreamDraft, consumed_queues};
use crate::plan::streams::stream::StreamPlan;
use crate::plan::variables;
use crate::quota::cost::QuotaPlan;
use crate::replication::{Checkpoints, Mode, StreamOptions};
use crate::spec::{DEFAULT, RequestSpec, Spec, Stream};
use crate::template::{Expression, Scope, Value};
use crate::write::Table;

/// Default maximum of refused slices; a stream with more fails.
const MAX_ERRORS: u32 = 1000;

/// A run with all its settings resolved.
#[derive(Debug)]
pub struct Plan {
    /// The run.
    pub run: Run,
    /// Base URL and authentication.
    pub access: Arc<Access>,
    /// Requests per second over all streams; `None`: no pacing.
    pub requests_per_second: Option<f64>,
    /// Maximum number of requests in flight over all streams.
    pub concurrency: u32,
    /// Requests sent before the streams.
    pub setup: Vec<StepPlan>,
    /// Requests sent after the streams.
    pub teardown: Vec<StepPlan>,
    /// Variables of all templates.
    pub variables: BTreeMap<String, Value>,
    /// Rules for responses to setup and teardown requests.
    pub rules: Rules,
    /// The quota of points, if the connection has one.
    pub quota: Option<QuotaPlan>,
    /// Notices for the user, shown before the run.
    pub notes: Vec<String>,
    /// The queues. Other parts of the plan refer to them by their index here.
    pub queues: Vec<QueuePlan>,
    /// The streams, parents before their children.
    pub streams: Vec<Arc<StreamPlan>>,
    /// Tables that the run only defines (`definition-only`).
    pub definitions: Vec<Table>,
    /// Name of the replication, under which its state is kept.
    pub name: String,
    /// When streams save what they have read.
    pub checkpoint: Checkpoints,
    /// Whether only some of the replication's streams were selected.
    pub is_selection: bool,
    /// Object of the table of refused slices.
    pub errors_object: String,
}

impl Plan {
    /// Resolves a run.
    ///
    /// # Errors
    /// No stream is selected, a value is missing or does not fit, or a part cannot be used together
    /// with another.
    pub fn new(
        documents: Documents<'_>,
        options: &PlanOptions,
        run: Run,
        hooks: &AccessHooks,
    ) -> Result<Self> {
        let Documents { spec, replication, fields, .. } = documents;
        let access = Access::new(spec, fields, hooks)?;
        let mut chosen = select::streams(spec, replication, &options.selection)?;
        // Rows without a key cannot be merged, so a retry skips such streams.
        let fits = |name: &str| spec.streams.get(name).is_none_or(|stream| !stream.key.is_empty());
        chosen.retain(|name, _| !options.retry || fits(name));
        let mut variables = fields.variables();
        variables.extend(variables::of_run(&run));
        // Requests before and after the streams belong to no stream, so they use the shared inputs.
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
        let order = select::order(
            &active.iter().map(|(name, stage)| stage_links(name, stage)).collect::<Vec<_>>(),
        )?;
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

    /// Timeout of a response, and maximum size of its body in bytes, from the spec's limits.
    pub fn response_limits(spec: &Spec) -> (Duration, u64) {
        (spec.limits.timeout.0, u64::from(spec.limits.max_body_mib) << 20)
    }
}

impl Draft<'_> {
    fn output(&self, stage: &StreamDraft<'_>, settings: &StreamOptions) -> Result<Output> {
        let output = columns::output(self, stage, settings);
        output.map_err(|error| error.about(&format!("stream `{}`", stage.name)))
    }

    fn stream(
        &self,
        stage: &StreamDraft<'_>,
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
        let compiler = Compiler {
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
        let mut routes = vec![RoutePlan {
            name: DEFAULT.to_owned(),
            requests: 0..requests.len(),
            by_parents: true,
        }];
        for (name, specs) in &stage.routes {
            let compiled = compile(specs)?;
            routes::add(&mut requests, &mut routes, name, compiled);
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

/// Whether an object has a name that weir reserves in any target: the schema `_weir`, tables like
/// `_weir_state`, the folder `.weir`.
fn is_own(object: &str) -> bool {
    let object = object.to_lowercase();
    let parts = object.split(['/', '.', '"']);
    parts.into_iter().any(|part| part == "_weir" || part.starts_with("_weir_"))
        || object.split('/').any(|part| part.starts_with(".weir") || part == "_weir.json")
}

/// Checks that no object is reserved or shared: two streams with one object would replace each
/// other's rows.
fn distinct_objects(definitions: &[Table], streams: &[Arc<StreamPlan>]) -> Result<()> {
    let mut writers = BTreeMap::new();
    let outputs = streams.iter().filter_map(|stream| stream.output.as_ref());
    for table in definitions.iter().chain(outputs.map(|output| &output.table)) {
        let object = table.object.as_str();
        if is_own(object) {
            let what =
                format!("`{}` has the object `{object}`, a name that weir reserves", table.stream);
            return Err(Error::input(what).with_hint(
                "choose a name other than `_weir` that does not begin with `_weir_` or `.weir`",
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

/// The name of a stage, the queues that it consumes, and the queues that it feeds.
fn stage_links<'stage>(name: &'stage str, stage: &'stage StreamDraft<'_>) -> select::Links<'stage> {
    let consumes = stage.queues().collect();
    let feeds = stage.stream.feeds.keys().map(String::as_str).collect();
    select::Links { name, consumes, feeds }
}

/// Minimum number of rows of a stream.
pub(super) fn min_rows(stream: &Stream, scope: &Arc<Scope>) -> Result<u64> {
    let Some(text) = &stream.min_rows else { return Ok(0) };
    let value = Expression::parse(text)
        .and_then(|expression| expression.eval(scope))
        .map_err(|error| Error::input(format!("`min_rows`: {error}")))?;
    u64::try_from(value).map_err(|_| Error::input(format!("`min_rows: {text}` is not a number")))
}
