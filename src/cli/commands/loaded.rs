//! Loads and checks a replication with all that it refers to.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::cli::args::Shared;
use crate::cli::context::CliContext;
use crate::cli::output::progress::Head;
use crate::cli::output::{estimate, printer};
use crate::cli::patience::Patience;
use crate::cli::trust::Use;
use crate::cli::{open, tokens, trust};
use crate::connection::{Connection, api_fields};
use crate::error::{Error, Result};
use crate::http::access::AccessHooks;
use crate::plan;
use crate::plan::{Documents, Plan, PlanOptions, Run, Selection};
use crate::quota::ledger::Ledger;
use crate::replication::Replication;
use crate::schema::ColumnType;
use crate::spec::{Fields, Spec};
use crate::state::Store;
use crate::sync::run_options::RunOptions;
use crate::write::{Table, Target};

/// A replication with its connections, spec, target and state.
pub(crate) struct LoadedReplication {
    pub(crate) replication: Replication,
    pub(crate) source: Connection,
    pub(crate) spec: Spec,
    pub(crate) fields: Fields,
    pub(crate) hooks: AccessHooks,
    pub(crate) target: Arc<dyn Target>,
    /// The target, as shown to users.
    pub(crate) leads_to: String,
    pub(crate) default_object: &'static str,
    pub(crate) default_name: String,
    /// The store of the state; `None` if the target stores it.
    pub(crate) state: Option<Arc<dyn Store>>,
    /// Points ledgers that other machines may share.
    pub(crate) ledgers: Vec<Arc<dyn Ledger>>,
    /// Folder of this machine's points ledger; `None` if weir has no folder.
    pub(crate) home: Option<PathBuf>,
}

/// Loads and checks a replication with all that it refers to. Reads the values of `command:` and
/// `file:` properties, and requires trust in the spec, only as far as the command needs them.
pub(crate) fn load(
    path: &Path,
    context: &CliContext,
    needed: Use,
    shared: Shared,
) -> Result<LoadedReplication> {
    let mut connections = context.connections.clone();
    let (mut replication, document) = open::replication(path, &mut connections)?;
    let fetched = |name: &str, least: Use| match open::connection(name, &connections, context)? {
        found if needed >= least => {
            let _patience = Patience::new(shared, format!("the values of connection `{name}`"));
            trust::fetched(found, context)
        }
        found => Ok(found),
    };
    let source = fetched(&replication.source, Use::All)?;
    let (spec, foreign) = open::foreign_or_shipped(&source)?;
    let problems = document.locate(plan::check(&replication, &spec));
    if !problems.0.is_empty() {
        return Err(problems.into());
    }
    // The connection's inputs are defaults for those of the replication.
    let of_source = |error: Error| error.within(format!("connection `{}`", source.name));
    plan::check_inputs(&source.inputs, &spec).map_err(of_source)?;
    for (name, value) in &source.inputs {
        replication.defaults.inputs.entry(name.clone()).or_insert_with(|| value.clone());
    }
    trust::tell_borrowed(&source, Some(&spec), &connections, shared, context);
    let fields = api_fields(&source, &spec, &connections.variables())?;
    if let Some(settings) = &source.simulate {
        crate::cli::simulated::options(settings)?;
    } else if let Some(foreign) =
        foreign.filter(|_| needed == Use::All || sends_lookups(&spec, needed))
    {
        trust::confirm(&spec, &foreign, &fields, shared, context)?;
    }
    let hooks = tokens::hooks(&source);
    let place = fetched(&replication.target, Use::Target)?;
    trust::tell_borrowed(&place, None, &connections, shared, context);
    let (target, default_object) = open::target(&place, Some(&replication))?;
    let ledgers = open::ledger(&place, Some(&replication))?.into_iter().collect();
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let default_name = stem.into_owned();
    let name = replication.name.as_deref().unwrap_or(&default_name);
    printer::about(name, None);
    let state = match &replication.state {
        Some(place) => Some(
            open::state(place, &connections, &|name| fetched(name, Use::Target))?.store(name)?,
        ),
        None => None,
    };
    let home = context.home().map(|home| home.join("ledger")).ok();
    Ok(LoadedReplication {
        leads_to: named(&place),
        replication,
        source,
        spec,
        fields,
        hooks,
        target,
        default_object,
        default_name,
        state,
        ledgers,
        home,
    })
}

/// Whether a command sends only the lookup requests of the spec.
fn sends_lookups(spec: &Spec, needed: Use) -> bool {
    needed == Use::Source && spec.connection.values().any(|field| field.lookup.is_some())
}

/// A connection, as shown to users.
fn named(connection: &Connection) -> String {
    format!("{} ({})", connection.name, crate::cli::open::leads_to(connection))
}

impl LoadedReplication {
    /// Name of the replication.
    pub(crate) fn name(&self) -> &str {
        self.replication.name.as_deref().unwrap_or(&self.default_name)
    }

    /// Position of a stream in the spec; `usize::MAX` if the spec no longer has it.
    pub(crate) fn position(&self, stream: &str) -> usize {
        self.spec.streams.get_index_of(stream).unwrap_or(usize::MAX)
    }

    /// The first pattern that matches no stream of the spec.
    pub(crate) fn unmatched<'wanted>(&self, wanted: &'wanted Selection) -> Option<&'wanted str> {
        let patterns = wanted.0.iter().map(|pattern| pattern.trim_start_matches('-'));
        let known = |pattern: &str| {
            self.spec.selectable().any(|(name, _)| plan::matches_pattern(pattern, name))
        };
        patterns.into_iter().find(|pattern| !known(pattern))
    }

    /// Whether a stream's cursor is a number instead of a time.
    pub(crate) fn has_numeric_cursor(&self, stream: &str) -> bool {
        let stream = self.spec.streams.get(stream);
        let cursor = stream.and_then(|stream| stream.columns.get(&stream.cursor.as_ref()?.field));
        cursor.is_some_and(|column| column.kind == ColumnType::Int)
    }

    /// Source and target, for the head of a log.
    pub(crate) fn head(&self) -> Head {
        let (source, target) = (named(&self.source), self.leads_to.clone());
        Head { replication: self.name().to_owned(), source, target }
    }

    /// The tables of the replication, by stream.
    pub(crate) fn tables(&self) -> Result<BTreeMap<String, Table>> {
        let plan = plan(self, &PlanOptions::default())?;
        let outputs = plan.streams.iter().filter_map(|stream| stream.output.as_ref());
        let tables = outputs.map(|output| output.table.clone()).chain(plan.definitions);
        Ok(tables.map(|table| (table.stream.clone(), table)).collect())
    }

    /// The target.
    pub(crate) fn target(&self) -> &dyn Target {
        self.target.as_ref()
    }

    /// The store of the state.
    pub(crate) fn store(&self) -> Result<Arc<dyn Store>> {
        match &self.state {
            Some(store) => Ok(Arc::clone(store)),
            None => self.target.store(self.name()),
        }
    }
}

/// The plan of a run that starts now.
pub(crate) fn plan(loaded: &LoadedReplication, options: &PlanOptions) -> Result<Plan> {
    plan_for(loaded, options, RunOptions::now().run())
}

/// The plan of a run, checked against `--route` and the target.
pub(crate) fn plan_for(
    loaded: &LoadedReplication,
    options: &PlanOptions,
    run: Run,
) -> Result<Plan> {
    let documents = Documents {
        spec: &loaded.spec,
        replication: &loaded.replication,
        fields: &loaded.fields,
        default_object: loaded.default_object,
        default_name: &loaded.default_name,
    };
    let plan = Plan::new(documents, options, run, &loaded.hooks)?;
    estimate::check_routes(&plan, &loaded.spec, &options.routes)?;
    let outputs = plan.streams.iter().filter_map(|stream| stream.output.as_ref());
    for table in outputs.map(|output| &output.table).chain(&plan.definitions) {
        let named = |error: Error| error.about(&format!("stream `{}`", table.stream));
        loaded.target.accepts(table).map_err(named)?;
    }
    Ok(plan)
}
