//! Names and help of the values of `--mode` and `--on-budget`.

use clap::{ValueEnum, builder::PossibleValue};

use crate::quota::terms::OnBudget;
use crate::replication::Mode;

impl ValueEnum for Mode {
    fn value_variants<'value>() -> &'value [Self] {
        &[
            Self::FullRefresh,
            Self::Truncate,
            Self::Snapshot,
            Self::Incremental,
            Self::Backfill,
            Self::DefinitionOnly,
        ]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let (name, help) = match self {
            Self::FullRefresh => {
                ("full-refresh", "Read everything; replace the rows of the target")
            }
            Self::Truncate => ("truncate", "Like `full-refresh`, but keep the tables themselves"),
            Self::Snapshot => ("snapshot", "Read everything; append it"),
            Self::Incremental => ("incremental", "Read changes; merge them by key"),
            Self::Backfill => ("backfill", "Read a range of the cursor; merge it by key"),
            Self::DefinitionOnly => ("definition-only", "Create the tables; read nothing"),
        };
        Some(PossibleValue::new(name).help(help))
    }
}

impl ValueEnum for OnBudget {
    fn value_variants<'value>() -> &'value [Self] {
        &[Self::Wait, Self::Pause]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(match self {
            Self::Wait => PossibleValue::new("wait").help("Wait for the next hour and continue"),
            Self::Pause => PossibleValue::new("pause")
                .help("Save the progress and exit with code 75; the next run resumes"),
        })
    }
}
