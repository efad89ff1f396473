//! The terms of a quota of points: the limit per window, the budget, and what happens when it is spent.

use std::{borrow::Cow, fmt};

use chrono::TimeDelta;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};

/// The terms of a quota.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// Points per window as declared in the spec. A limit that the server reports takes precedence.
    pub per_window: u64,
    /// Length of a window. Windows begin at multiples of it since 1970 (one hour: at the full UTC hour).
    pub window: TimeDelta,
    /// The part of the points that weir may spend.
    pub budget: BudgetLimit,
    /// Maximum time for which the ledger delays requests, even if a server requests more.
    pub max_wait: TimeDelta,
}

/// The part of a quota that weir may spend per window: a share (`60%`) or a number of points (`20000`). Other
/// programs may use the rest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum BudgetLimit {
    /// Share, from 0 (exclusive) to 1 (inclusive).
    Share(f64),
    /// Number of points.
    Points(u64),
}

impl Default for BudgetLimit {
    fn default() -> Self {
        Self::Share(1.0)
    }
}

impl BudgetLimit {
    /// Number of points that may be spent of a quota of `limit`.
    pub fn of(self, limit: u64) -> u64 {
        match self {
            #[expect(
                clippy::cast_precision_loss,
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a share of a few hundred thousand"
            )]
            Self::Share(share) => (limit as f64 * share.clamp(0.0, 1.0)) as u64,
            Self::Points(points) => points.min(limit),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        match text.strip_suffix('%') {
            Some(percent) => {
                let percent: f64 = percent.trim().parse().ok()?;
                (percent > 0.0 && percent <= 100.0).then_some(Self::Share(percent / 100.0))
            }
            None => text.parse().ok().filter(|points| *points > 0).map(Self::Points),
        }
    }
}

impl fmt::Display for BudgetLimit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Share(share) => write!(formatter, "{}%", share * 100.0),
            Self::Points(points) => write!(formatter, "{points}"),
        }
    }
}

impl<'de> Deserialize<'de> for BudgetLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = BudgetLimit;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a share such as `60%`, or a number of points")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<BudgetLimit, E> {
                let wrong = || E::invalid_value(de::Unexpected::Str(text), &self);
                BudgetLimit::parse(text).ok_or_else(wrong)
            }

            fn visit_u64<E: de::Error>(self, points: u64) -> Result<BudgetLimit, E> {
                let wrong = || E::invalid_value(de::Unexpected::Unsigned(points), &self);
                (points > 0).then_some(BudgetLimit::Points(points)).ok_or_else(wrong)
            }

            fn visit_i64<E: de::Error>(self, points: i64) -> Result<BudgetLimit, E> {
                let wrong = || E::invalid_value(de::Unexpected::Signed(points), &self);
                let points = u64::try_from(points).map_err(|_| wrong())?;
                self.visit_u64(points)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for BudgetLimit {
    fn schema_name() -> Cow<'static, str> {
        "Budget".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A share of the quota, such as `60%`, or a number of points",
            "anyOf": [
                { "type": "integer", "minimum": 1 },
                { "type": "string", "pattern": "^ *[0-9]+(\\.[0-9]+)? *%$" },
            ],
        })
    }
}

/// What happens when the budget is spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnBudget {
    /// The run waits for the next hour.
    #[default]
    Wait,
    /// The run saves what it has read and ends. The next run resumes it.
    Pause,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_a_share_or_a_number_of_points() {
        assert_eq!(BudgetLimit::parse("60%"), Some(BudgetLimit::Share(0.6)));
        assert_eq!(BudgetLimit::parse(" 12.5 % "), Some(BudgetLimit::Share(0.125)));
        assert_eq!(BudgetLimit::parse("20000"), Some(BudgetLimit::Points(20_000)));
        for wrong in ["0%", "101%", "-5%", "0", "much", "60 percent", ""] {
            assert_eq!(BudgetLimit::parse(wrong), None, "{wrong}");
        }
        assert_eq!(BudgetLimit::Share(0.6).of(65_000), 39_000);
        assert_eq!(BudgetLimit::Points(20_000).of(65_000), 20_000);
        assert_eq!(BudgetLimit::Points(20_000).of(5_000), 5_000, "the quota itself is a limit too");
    }
}
