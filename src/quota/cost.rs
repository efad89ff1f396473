//! The cost of requests under a quota of points, and the quota of a run.

use std::time::Duration;

use chrono::TimeDelta;

use crate::quota::terms::{BudgetLimit, OnBudget, Terms};

/// The quota of points of a connection.
#[derive(Clone, Debug, PartialEq)]
pub struct QuotaPlan {
    /// Points per hour. An hour begins at the full UTC hour.
    pub per_hour: u64,
    /// Name of the connection's account in the ledger.
    pub connection: String,
    /// The share of the points that weir may spend.
    pub budget: BudgetLimit,
    /// Maximum number of points that this run may spend.
    pub max_points: Option<u64>,
    /// Points that the run has already spent, before it was resumed.
    pub spent: u64,
    /// What happens when the points are spent.
    pub on_budget: OnBudget,
    /// The longest wait that weir accepts from the server.
    pub max_wait: Duration,
}

impl QuotaPlan {
    /// The terms of the quota for the ledger.
    pub fn terms(&self) -> Terms {
        let max_wait = TimeDelta::from_std(self.max_wait).unwrap_or(TimeDelta::MAX);
        Terms { budget: self.budget, max_wait, ..Terms::hourly(self.per_hour) }
    }
}

/// Cost of requests, in points. All zero without a quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PointRates {
    /// Points of each request, in addition to those of its records.
    pub base: u64,
    /// Points of each returned record.
    pub object: u64,
    /// Points of an object that only contains other records.
    pub carrier: u64,
}
