//! What requests cost where a quota of points holds, and the quota of a run.

use std::time::Duration;

use chrono::TimeDelta;

use crate::quota::terms::{Budget, OnBudget, Terms};

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
