//! The cost of requests under a quota of points.

use std::collections::BTreeMap;

use chrono::Utc;
use indexmap::IndexMap;

use crate::error::{Error, Result};
use crate::http::access::{Access, AccessHooks};
use crate::plan::documents::{Documents, Options, Run};
use crate::plan::draft::Draft;
use crate::quota::cost::{PointRates, QuotaPlan};
use crate::quota::ledger;
use crate::replication::{Checkpoints, LimitOverrides, Replication, StreamOptions};
use crate::spec::{Fields, Points, Spec, Stream};
use crate::template::Expression;

/// The quota of a connection, independent of a replication.
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
    /// The spec's quota, if it applies to the connection.
    pub(crate) fn points(&self) -> Result<Option<&'plan Points>> {
        let Some(points) = &self.documents.spec.limits.points else { return Ok(None) };
        let Some(when) = &points.when else { return Ok(Some(points)) };
        let holds = Expression::parse(when)
            .and_then(|when| when.holds(&self.scope(&BTreeMap::new())))
            .map_err(|error| Error::input(format!("`limits.points.when`: {error}")))?;
        Ok(holds.then_some(points))
    }

    /// The quota of the connection, and the share of it that may be spent. Budget settings for a
    /// connection without a quota become a note.
    pub(crate) fn quota(
        &self,
        access: &Access,
        notes: &mut Vec<String>,
    ) -> Result<Option<QuotaPlan>> {
        let (spec, replication) = (self.documents.spec, self.documents.replication);
        let max_points = self.options.max_points;
        let Some(points) = self.points()? else {
            let source = &replication.source;
            let what = format!("connection `{source}` has no quota of points");
            let when = spec.limits.points.as_ref().and_then(|points| points.when.as_ref());
            let hint = match when {
                Some(when) => format!("the spec declares one for connections where `{when}`"),
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

    /// Cost of a stream's requests.
    pub(crate) fn cost(&self, stream: &Stream) -> Result<PointRates> {
        let Some(points) = self.points()? else { return Ok(PointRates::default()) };
        let class = stream.cost.as_ref().and_then(|class| points.record.get(class));
        let carrier = points.record.values().next().map_or(0, |points| *points);
        let object = class.copied().unwrap_or(carrier);
        Ok(PointRates { base: points.base.into(), object: object.into(), carrier: carrier.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::testing::{plan, spec, stream};

    /// Points of a request, of each of its records, and of an object that only contains others.
    #[track_caller]
    fn check(points: &str, class: Option<&str>, expected: (u64, u64, u64)) {
        let mut spec = spec("  s: { get: /s, key: [id], columns: { id: text } }\n");
        spec.limits.points = serde_saphyr::from_str(points).unwrap();
        spec.streams["s"].cost = class.map(str::to_owned);
        let plan = plan(&spec, "", &Options::default()).unwrap();
        let cost = &stream(&plan, "s").cost;
        assert_eq!((cost.base, cost.object, cost.carrier), expected, "{points}");
    }

    #[test]
    fn requests_cost_points_only_where_the_quota_applies() {
        let classes = "{ per_hour: 9, base: 1, record: { small: 2, big: 5 } }";
        check("null", None, (0, 0, 0));
        check(classes, Some("big"), (1, 5, 2));
        check(classes, None, (1, 2, 2));
        check("{ when: false, per_hour: 9, base: 1, record: { big: 5 } }", Some("big"), (0, 0, 0));
    }
}
