//! A stream's cursor, compiled. Its bound is one number, whatever the column's type.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, SecondsFormat};

use crate::error::{Error, Result};
use crate::plan::draft::Draft;
use crate::plan::streams::columns::Output;
use crate::plan::streams::stage::StreamDraft;
use crate::replication::Mode;
use crate::schema::ColumnType;
use crate::spec::{CursorFormat, Operator};
use crate::template::{Scope, Template, Value};

/// A cursor. Its values are compared as numbers: microseconds since 1970 for timestamps and dates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CursorPlan {
    /// Type of its column: timestamp, date or int.
    pub kind: ColumnType,
    /// Whether the API's filter includes its bound.
    pub operator: Operator,
    /// Format of the bound in templates.
    pub format: CursorFormat,
    /// How far before the bound a run begins, in the unit of the cursor's values.
    pub lookback: i64,
    /// Whether the listing is sorted newest first.
    pub newest_first: bool,
    /// Where the first run begins.
    pub anchor: Option<i64>,
    /// For a backfill: the bounds of the range, both inclusive.
    pub range: Option<(i64, i64)>,
}

impl CursorPlan {
    /// The number for a value as the API writes it; `None` if the value does not have the cursor's
    /// type.
    pub fn number(&self, text: &str) -> Option<i64> {
        number(self.kind, text)
    }

    /// The smallest bound, before which there is nothing to read.
    pub fn start(&self) -> i64 {
        self.anchor.unwrap_or(match self.operator {
            Operator::AtLeast => 0,
            Operator::After => 1,
        })
    }

    /// A bound in the format of templates.
    pub fn rendered(&self, bound: i64) -> Value {
        let micros = match self.operator {
            Operator::AtLeast => bound,
            Operator::After => bound.saturating_sub(1),
        };
        if self.kind == ColumnType::Int {
            return Value::from(micros.to_string());
        }
        let time = DateTime::from_timestamp_micros(micros).unwrap_or_default();
        Value::from(match self.format {
            CursorFormat::Rfc3339 => time.to_rfc3339_opts(SecondsFormat::Millis, true),
            CursorFormat::Date => time.format("%Y-%m-%d").to_string(),
            CursorFormat::EpochS => time.timestamp().to_string(),
            CursorFormat::EpochMs => time.timestamp_millis().to_string(),
        })
    }

    /// A value as shown to users.
    pub fn shown(&self, number: i64) -> String {
        if self.kind == ColumnType::Int {
            return number.to_string();
        }
        let time = DateTime::from_timestamp_micros(number).unwrap_or_default();
        time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
    }
}

fn number(kind: ColumnType, text: &str) -> Option<i64> {
    match kind {
        ColumnType::Int => text.parse().ok(),
        _ => crate::decode::timestamp(text),
    }
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

impl Draft<'_> {
    pub(crate) fn cursor(
        &self,
        stage: &StreamDraft<'_>,
        output: Option<&Output>,
        scope: &Arc<Scope>,
    ) -> Result<Option<CursorPlan>> {
        let backfill = output.is_some_and(|output| output.mode == Mode::Backfill);
        let Some(cursor) = &stage.stream.cursor else {
            if backfill {
                return Err(Error::input(
                    "`mode: backfill` needs a cursor, but the spec declares none for this stream",
                )
                .with_hint("select streams with a cursor: `--streams`"));
            }
            return Ok(None);
        };
        let column = stage.stream.columns.get(&cursor.field);
        let kind = column.map(|column| column.kind).ok_or_else(|| {
            Error::input(format!("the cursor's field `{}` is not a column", cursor.field))
        })?;
        let anchor = match &cursor.anchor {
            None => None,
            Some(text) => {
                let invalid = |error: crate::template::TemplateError| {
                    Error::input(format!("`cursor.anchor`: {error}"))
                };
                let text =
                    Template::parse(text).map_err(invalid)?.render(scope).map_err(invalid)?;
                let text = text.trim();
                let wrong =
                    || Error::input(format!("`cursor.anchor`: `{text}` is not a valid {kind}"));
                (!text.is_empty()).then(|| number(kind, text).ok_or_else(wrong)).transpose()?
            }
        };
        let range = match (&self.options.range, backfill) {
            (Some((from, to)), true) => Some((bound(kind, from)?, bound(kind, to)?)),
            (None, true) => {
                return Err(Error::input("`mode: backfill` needs a range")
                    .with_hint("add `--range 2026-01-01,2026-02-01`"));
            }
            _ => None,
        };
        if range.is_some_and(|(from, to)| from > to) {
            return Err(Error::input("the range ends before it begins"));
        }
        Ok(Some(CursorPlan {
            kind,
            operator: cursor.operator,
            format: cursor.format,
            lookback: match kind {
                ColumnType::Int => 0,
                _ => cursor.lookback.map_or(0, |span| micros(span.0)),
            },
            newest_first: cursor.newest_first,
            anchor,
            range,
        }))
    }
}

fn bound(kind: ColumnType, text: &str) -> Result<i64> {
    number(kind, text.trim()).ok_or_else(|| {
        Error::input(format!("`--range`: `{text}` is not a valid {kind}"))
            .with_hint("write two dates or times separated by a comma: 2026-01-01,2026-02-01")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::documents::PlanOptions;
    use crate::plan::testing::{plan, spec, stream};

    const TIME: i64 = 1_767_225_600_000_000;

    #[track_caller]
    fn check(kind: ColumnType, operator: Operator, format: CursorFormat, bound: i64, text: &str) {
        let cursor = CursorPlan {
            kind,
            operator,
            format,
            lookback: 0,
            newest_first: false,
            anchor: None,
            range: None,
        };
        assert_eq!(cursor.rendered(bound).to_string(), text);
    }

    #[test]
    fn a_bound_has_the_format_and_the_operator_of_the_api() {
        use {ColumnType as T, CursorFormat as F, Operator as O};
        check(T::Timestamp, O::AtLeast, F::Rfc3339, TIME, "2026-01-01T00:00:00.000Z");
        check(T::Timestamp, O::After, F::Rfc3339, TIME, "2025-12-31T23:59:59.999Z");
        check(T::Date, O::AtLeast, F::Date, TIME, "2026-01-01");
        check(T::Timestamp, O::AtLeast, F::EpochS, TIME, "1767225600");
        check(T::Timestamp, O::AtLeast, F::EpochMs, TIME, "1767225600000");
        check(T::Timestamp, O::After, F::EpochMs, TIME, "1767225599999");
        check(T::Int, O::AtLeast, F::Rfc3339, 7, "7");
        check(T::Int, O::After, F::Rfc3339, 7, "6");
    }

    #[test]
    fn values_become_numbers_or_nothing() {
        let table = [
            (ColumnType::Int, "7", Some(7)),
            (ColumnType::Int, "7.5", None),
            (ColumnType::Date, "2026-01-01", Some(TIME)),
            (ColumnType::Timestamp, "2026-01-01T01:00:00+01:00", Some(TIME)),
            (ColumnType::Timestamp, "soon", None),
        ];
        for (kind, text, expected) in table {
            assert_eq!(number(kind, text), expected, "{kind} {text}");
        }
    }

    /// What the cursor of a stream becomes, or the error.
    #[track_caller]
    fn check_plan(
        defaults: &str,
        range: Option<(&str, &str)>,
        expected: Result<(i64, bool), &str>,
    ) {
        let spec = spec(
            "  s: { get: /s, key: [id], columns: { id: text, at: timestamp }, \
             cursor: { field: at, lookback: 5m, query: { since: '{{ cursor }}' } } }\n",
        );
        let range = range.map(|(from, to)| (from.to_owned(), to.to_owned()));
        let plan = plan(&spec, defaults, &PlanOptions { range, ..PlanOptions::default() });
        let cursor = |plan: &crate::plan::Plan| {
            let cursor = stream(plan, "s").cursor.clone().unwrap();
            (cursor.lookback, cursor.range.is_some())
        };
        match (plan, expected) {
            (Ok(plan), Ok(expected)) => assert_eq!(cursor(&plan), expected, "{defaults}"),
            (Err(error), Err(text)) => assert!(error.chain().contains(text), "{}", error.chain()),
            (plan, expected) => panic!("{defaults}: {:?}, {expected:?}", plan.map(|_| ())),
        }
    }

    #[test]
    fn a_backfill_needs_a_range_and_other_modes_ignore_it() {
        let minutes = 5 * 60 * 1_000_000;
        let january = Some(("2026-01-01", "2026-02-01"));
        check_plan("mode: incremental", None, Ok((minutes, false)));
        check_plan("mode: incremental", january, Ok((minutes, false)));
        check_plan("mode: backfill", january, Ok((minutes, true)));
        check_plan("mode: backfill", None, Err("`mode: backfill` needs a range"));
        let reversed = Some(("2026-02-01", "2026-01-01"));
        check_plan("mode: backfill", reversed, Err("ends before it begins"));
        check_plan("mode: backfill", Some(("a", "b")), Err("`a` is not a valid timestamp"));
    }
}
