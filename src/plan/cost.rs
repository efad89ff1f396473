//! What requests cost where a quota of points holds.

use std::{collections::BTreeMap, time::Duration};

use chrono::{TimeDelta, Utc};
use indexmap::IndexMap;

use super::access::{Access, AccessHooks};
use super::documents::{Documents, Options, Run};
use super::draft::Draft;
use crate::error::{Error, Result};
use crate::ledger::{self, Budget, Terms};
use crate::replication::{Checkpoints, LimitOverrides, OnBudget, Replication, StreamOptions};
use crate::spec::{Fields, Points, Spec, Stream};
use crate::template::Expression;

/// A quota of points that holds for a connection.
#[derive(Clone, Debug, PartialEq)]
pub struct QuotaPlan {
    /// Points in an hour; hours begin at the top of the UTC hour.
    pub per_hour: u64,
    /// Name of the connection's account in the ledger.
    pub connection: String,
    /// What may be spent of them.
    pub budget: Budget,
    /// What this run may spend in all.
    pub max_points: Option<u64>,
    /// What the run has spent of that before.
    pub spent: u64,
    /// What happens when they are spent.
    pub on_budget: OnBudget,
    /// The longest wait that the server may ask for.
    pub max_wait: Duration,
}

impl QuotaPlan {
    /// What may be spent in an hour, and on what terms.
    pub fn terms(&self) -> Terms {
        let max_wait = TimeDelta::from_std(self.max_wait).unwrap_or(TimeDelta::MAX);
        Terms { budget: self.budget, max_wait, ..Terms::hourly(self.per_hour) }
    }
}

/// What requests cost, in points; nothing where no quota holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Of a request, whatever it brings.
    pub base: u64,
    /// Of each object that comes.
    pub object: u64,
    /// Of an object that only carries others.
    pub carrier: u64,
}

/// The quota of a connection without any replication.
///
/// # Errors
/// The connection's values do not make a URL.
pub fn quota_of(spec: &Spec, fields: &Fields, hooks: &AccessHooks) -> Result<Option<QuotaPlan>> {
    let replication = Replication {
        name: None,
        source: String::new(),
        target: String::new(),
        defaults: StreamOptions::default(),
        state: None,
        checkpoint: Checkpoints::default(),
        streams: IndexMap::new(),
        budget: None,
        on_budget: None,
        limits: LimitOverrides::default(),
        env: IndexMap::new(),
    };
    let documents =
        Documents { spec, replication: &replication, fields, default_object: "", default_name: "" };
    let (options, run) = (Options::default(), Run { id: String::new(), started_at: Utc::now() });
    let variables = fields.variables();
    let draft =
        Draft { documents, options: &options, run: &run, variables: &variables, source: "" };
    draft.quota(&Access::new(spec, fields, hooks)?, &mut Vec::new())
}

impl<'plan> Draft<'plan> {
    /// The spec's terms of a quota, where it holds for the connection.
    pub(super) fn points(&self) -> Result<Option<&'plan Points>> {
        let Some(points) = &self.documents.spec.limits.points else { return Ok(None) };
        let Some(when) = &points.when else { return Ok(Some(points)) };
        let holds = Expression::parse(when)
            .and_then(|when| when.holds(&self.scope(&BTreeMap::new())))
            .map_err(|error| Error::input(format!("`limits.points.when`: {error}")))?;
        Ok(holds.then_some(points))
    }

    /// The quota that holds for the connection, and what may be spent of it. What is said of points where
    /// none are counted becomes a note.
    pub(super) fn quota(
        &self,
        access: &Access,
        notes: &mut Vec<String>,
    ) -> Result<Option<QuotaPlan>> {
        let (spec, replication) = (self.documents.spec, self.documents.replication);
        let max_points = self.options.max_points;
        let Some(points) = self.points()? else {
            let source = &replication.source;
            let what = format!("connection `{source}` counts no points");
            let when = spec.limits.points.as_ref().and_then(|points| points.when.as_ref());
            let hint = match when {
                Some(when) => format!("by the spec it does where `{when}`"),
                None => format!("the spec `{}` has no `limits.points`", spec.name),
            };
            if max_points.is_some() {
                return Err(Error::input(format!("`--max-points`: {what}")).with_hint(hint));
            }
            if replication.budget.is_some() {
                notes.push(format!("`budget` has no effect: {what} ({hint})"));
            }
            return Ok(None);
        };
        Ok(Some(QuotaPlan {
            per_hour: points.per_hour,
            connection: ledger::connection(&spec.name, &access.base_url, &access.account),
            budget: replication.budget.unwrap_or_default(),
            max_points,
            spent: 0,
            on_budget: self.options.on_budget.or(replication.on_budget).unwrap_or_default(),
            max_wait: spec.limits.max_wait.0,
        }))
    }

    /// What requests of a stream cost.
    pub(super) fn cost(&self, stream: &Stream) -> Result<Cost> {
        let Some(points) = self.points()? else { return Ok(Cost::default()) };
        let class = stream.cost.as_ref().and_then(|class| points.record.get(class));
        let carrier = points.record.values().next().map_or(0, |points| *points);
        let object = class.copied().unwrap_or(carrier);
        Ok(Cost { base: points.base.into(), object: object.into(), carrier: carrier.into() })
    }
}
