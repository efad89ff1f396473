//! What a command about a replication needs, loaded and checked.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::cli::args::Shared;
use crate::cli::context::Surroundings;
use crate::cli::output::progress::Head;
use crate::cli::output::{estimate, printer};
use crate::cli::patience::Patience;
use crate::cli::trust::Use;
use crate::cli::{open, tokens, trust};
use crate::connection::{Connection, api_fields};
use crate::error::{Error, Result};
use crate::http::access::AccessHooks;
use crate::plan;
use crate::plan::{Documents, Options, Plan, Run, Selection};
use crate::quota::ledger::Ledger;
use crate::replication::Replication;
use crate::schema::ColumnType;
use crate::spec::{Fields, Spec};
use crate::state::Store;
use crate::sync::beginning::Beginning;
use crate::write::{Table, Target};

/// All that a run is made of, loaded and checked.
pub(crate) struct Prepared {
    pub(crate) replication: Replication,
    pub(crate) source: Connection,
    pub(crate) spec: Spec,
    pub(crate) fields: Fields,
    pub(crate) hooks: AccessHooks,
    pub(crate) target: Arc<dyn Target>,
    /// The target, for a person.
    pub(crate) leads_to: String,
    pub(crate) default_object: &'static str,
    pub(crate) default_name: String,
    /// Where the state is kept, when not with the target.
    pub(crate) state: Option<Arc<dyn Store>>,
    /// Ledgers of points that other machines may share.
    pub(crate) ledgers: Vec<Arc<dyn Ledger>>,
    /// Folder of the ledger of this machine, where there is a place for one.
    pub(crate) home: Option<PathBuf>,
}

/// Reads and checks all that a replication names. Values that stand elsewhere are fetched, and a spec of somebody
/// else must be trusted, only for what the command is going to do.
pub(crate) fn prepare(
    path: &Path,
    around: &Surroundings,
    (needed, shared): (Use, Shared),
) -> Result<Prepared> {
    let mut connections = around.connections.clone();
    let (mut replication, document) = open::replication(path, &mut connections)?;
    let fetched = |name: &str, least: Use| match open::connection(name, &connections, around)? {
        found if needed >= least => {
            let _told = Patience::new(shared, format!("the values of connection `{name}`"));
            trust::fetched(found, around)
        }
        found => Ok(found),
    };
    let source = fetched(&replication.source, Use::All)?;
    let (spec, foreign) = open::foreign_or_shipped(&source)?;
    let problems = document.locate(plan::check(&replication, &spec));
    if !problems.0.is_empty() {
        return Err(problems.into());
    }
    // What the connection says of the spec's inputs holds where the replication says nothing.
    let of_source = |error: Error| error.within(format!("connection `{}`", source.name));
    plan::check_inputs(&source.inputs, &spec).map_err(of_source)?;
    for (name, value) in &source.inputs {
        replication.defaults.inputs.entry(name.clone()).or_insert_with(|| value.clone());
    }
    trust::tell_borrowed(&source, Some(&spec), &connections, (shared, around));
    let fields = api_fields(&source, &spec, &connections.variables())?;
    if let Some(settings) = &source.simulate {
        crate::cli::simulated::options(settings)?;
    } else if let Some(foreign) = foreign.filter(|_| needed == Use::All || asks(&spec, needed)) {
        trust::confirm((&spec, &foreign), &fields, shared, around)?;
    }
    let hooks = tokens::hooks(&source);
    let place = fetched(&replication.target, Use::Target)?;
    trust::tell_borrowed(&place, None, &connections, (shared, around));
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
    let home = around.home().map(|home| home.join("ledger")).ok();
    Ok(Prepared {
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

/// Whether a command asks the API only for what the spec looks up.
fn asks(spec: &Spec, needed: Use) -> bool {
    needed == Use::Source && spec.connection.values().any(|field| field.lookup.is_some())
}

/// A connection, for a person.
fn named(connection: &Connection) -> String {
    format!("{} ({})", connection.name, crate::cli::open::leads_to(connection))
}

impl Prepared {
    /// Name of the replication.
    pub(crate) fn name(&self) -> &str {
        self.replication.name.as_deref().unwrap_or(&self.default_name)
    }

    /// Where a stream stands in the spec; after all others when it is not there any more.
    pub(crate) fn position(&self, stream: &str) -> usize {
        self.spec.streams.get_index_of(stream).unwrap_or(usize::MAX)
    }

    /// A pattern that no stream of the spec matches.
    pub(crate) fn strange<'wanted>(&self, wanted: &'wanted Selection) -> Option<&'wanted str> {
        let patterns = wanted.0.iter().map(|pattern| pattern.trim_start_matches('-'));
        let known = |pattern: &str| {
            self.spec.selectable().any(|(name, _)| plan::matches_pattern(pattern, name))
        };
        patterns.into_iter().find(|pattern| !known(pattern))
    }

    /// Whether a stream's cursor is a number, not a time.
    pub(crate) fn has_number_for_cursor(&self, stream: &str) -> bool {
        let stream = self.spec.streams.get(stream);
        let cursor = stream.and_then(|stream| stream.columns.get(&stream.cursor.as_ref()?.field));
        cursor.is_some_and(|column| column.kind == ColumnType::Int)
    }

    /// What a run of it is about.
    pub(crate) fn head(&self) -> Head {
        let (source, target) = (named(&self.source), self.leads_to.clone());
        Head { replication: self.name().to_owned(), source, target }
    }

    /// The tables that it writes, by stream.
    pub(crate) fn tables(&self) -> Result<BTreeMap<String, Table>> {
        let plan = plan(self, &Options::default())?;
        let outputs = plan.streams.iter().filter_map(|stream| stream.output.as_ref());
        let tables = outputs.map(|output| output.table.clone()).chain(plan.definitions);
        Ok(tables.map(|table| (table.stream.clone(), table)).collect())
    }

    /// Where its rows go.
    pub(crate) fn target(&self) -> &dyn Target {
        self.target.as_ref()
    }

    /// Where its state is kept.
    pub(crate) fn store(&self) -> Result<Arc<dyn Store>> {
        match &self.state {
            Some(store) => Ok(Arc::clone(store)),
            None => self.target.store(self.name()),
        }
    }
}

pub(crate) fn plan(prepared: &Prepared, options: &Options) -> Result<Plan> {
    plan_for(prepared, options, Beginning::now().run())
}

pub(crate) fn plan_for(prepared: &Prepared, options: &Options, run: Run) -> Result<Plan> {
    let documents = Documents {
        spec: &prepared.spec,
        replication: &prepared.replication,
        fields: &prepared.fields,
        default_object: prepared.default_object,
        default_name: &prepared.default_name,
    };
    let plan = Plan::new(documents, options, run, &prepared.hooks)?;
    estimate::check_routes(&plan, &prepared.spec, &options.routes)?;
    let outputs = plan.streams.iter().filter_map(|stream| stream.output.as_ref());
    for table in outputs.map(|output| &output.table).chain(&plan.definitions) {
        let named = |error: Error| error.about(&format!("stream `{}`", table.stream));
        prepared.target.accepts(table).map_err(named)?;
    }
    Ok(plan)
}
