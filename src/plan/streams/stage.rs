//! The streams that take part in a run, with those of their requests that apply.

use std::collections::BTreeMap;
use std::sync::Arc;

use indexmap::IndexMap;

use crate::error::{Error, Result};
use crate::plan::draft::Draft;
use crate::plan::requests::merged;
use crate::plan::requests::queue::QueuePlan;
use crate::plan::select;
use crate::plan::variables;
use crate::replication::StreamOptions;
use crate::spec::{Fetch, RequestSpec, Stream};
use crate::template::{Expression, Scope, Value};

/// A stream that takes part in a run, before its requests are compiled.
#[derive(Debug)]
pub(crate) struct StreamDraft<'spec> {
    pub(crate) name: &'spec str,
    pub(crate) stream: &'spec Stream,
    /// `None` if the stream only feeds queues.
    pub(crate) settings: Option<StreamOptions>,
    pub(crate) inputs: IndexMap<String, serde_json::Value>,
    pub(crate) variables: BTreeMap<String, Value>,
    /// The requests whose `when` holds.
    pub(crate) requests: Vec<RequestSpec>,
    /// The requests of an incremental run.
    pub(crate) changes: Vec<RequestSpec>,
    /// The requests of its available routes.
    pub(crate) routes: Vec<(String, Vec<RequestSpec>)>,
}

impl StreamDraft<'_> {
    fn all_requests(&self) -> impl Iterator<Item = &RequestSpec> {
        let routes = self.routes.iter().flat_map(|(_, requests)| requests);
        self.requests.iter().chain(&self.changes).chain(routes)
    }

    pub(crate) fn queues(&self) -> impl Iterator<Item = &str> {
        self.all_requests().flat_map(merged::queues_of)
    }

    /// The `fetch` of one of its available routes.
    pub(crate) fn fetch(&self) -> Option<&Fetch> {
        let mut requests = self.routes.iter().flat_map(|(_, requests)| requests);
        requests.find_map(|request| request.fetch.as_ref())
    }
}

impl<'plan> Draft<'plan> {
    /// Selects the requests of a stream that apply.
    pub(crate) fn stage(
        &self,
        name: &str,
        settings: Option<&StreamOptions>,
    ) -> Result<StreamDraft<'plan>> {
        let spec = self.documents.spec;
        let (name, stream) = spec
            .streams
            .get_key_value(name)
            .ok_or_else(|| Error::input(format!("the spec has no stream `{name}`")))?;
        let replication = self.documents.replication;
        // A stream that only feeds uses the settings with which it would be written.
        let own = settings.cloned().or_else(|| select::settings_of(replication, name));
        let inputs = own.map_or_else(|| replication.defaults.inputs.clone(), |own| own.inputs);
        let mut variables = variables::inputs(spec, &inputs, self.run)?;
        variables.insert("stream_name".to_owned(), Value::from(name.as_str()));
        let columns = match settings {
            Some(settings) => select::selected(name, stream, &settings.select)?,
            None => Vec::new(),
        };
        variables.insert("columns".to_owned(), Value::from(columns));
        let scope = self.scope(&variables);
        let requests = holding(name, merged::merged(spec, stream), &scope)?;
        let changes = holding(name, merged::changes(spec, stream), &scope)?;
        let settings = settings.cloned();
        let mut routes = Vec::new();
        for (route, all) in merged::of_routes(spec, stream) {
            let count = all.len();
            let open = holding(name, all, &scope)?;
            // A route needs all its requests: it is available only if all of them apply.
            if open.len() == count && !requests.is_empty() {
                routes.push((route, open));
            }
        }
        Ok(StreamDraft { name, stream, settings, inputs, variables, requests, changes, routes })
    }

    /// Adds the parents of selected streams that are not selected themselves.
    pub(crate) fn add_feeders(
        &self,
        active: &mut IndexMap<&'plan str, StreamDraft<'plan>>,
    ) -> Result<()> {
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

pub(crate) fn consumed_queues(active: &IndexMap<&str, StreamDraft<'_>>) -> Vec<QueuePlan> {
    let mut queues: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for stage in active.values() {
        for queue in stage.queues() {
            queues.entry(queue).or_default();
        }
        for items in stage.all_requests().filter_map(merged::items_of) {
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
