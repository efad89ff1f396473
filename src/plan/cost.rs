//! What requests cost where a quota of points holds.

use std::collections::BTreeMap;

use super::Draft;
use crate::error::{Error, Result};
use crate::spec::{Points, Stream};
use crate::template::Expression;

/// A quota of points that holds for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaPlan {
    /// Points that may be spent in an hour; hours begin at the top of the UTC hour.
    pub per_hour: u64,
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

    /// What requests of a stream cost.
    pub(super) fn cost(&self, stream: &Stream) -> Result<Cost> {
        let Some(points) = self.points()? else { return Ok(Cost::default()) };
        let class = stream.cost.as_ref().and_then(|class| points.object.get(class));
        let carrier = points.object.values().next().map_or(0, |points| *points);
        let object = class.copied().unwrap_or(carrier);
        Ok(Cost { base: points.base.into(), object: object.into(), carrier: carrier.into() })
    }
}
