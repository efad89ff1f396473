//! Column types of Postgres, and which of them can become which.

use crate::schema::ColumnType;

/// Whether a column of one type can become a column of another type without losing a value, see
/// [`ColumnType::widens_to`].
pub(crate) fn widens(kind: &str, wanted: &str) -> bool {
    let own = ColumnType::ALL.into_iter().find(|own| sql_type(*own) == kind);
    let kind = match kind {
        "integer" | "smallint" if wanted == "bigint" => return true,
        "integer" | "smallint" => Some(ColumnType::Int),
        "character varying" if wanted == "jsonb" => return true,
        _ => own,
    };
    let wider = |other: ColumnType| {
        sql_type(other) == wanted && kind.is_some_and(|kind| kind.widens_to(other))
    };
    ColumnType::ALL.into_iter().any(wider)
}

/// Whether a column of one type takes the values of another type unchanged.
pub(crate) fn holds(kind: &str, wanted: &str) -> bool {
    wanted == "text" && kind == "character varying"
}

/// SQL for the values of a column in a wider type. Text and JSON have the same form as in files.
pub(crate) fn converted(name: &str, kind: &str, wanted: &str) -> String {
    let text = match kind {
        "date" if wanted == "timestamp with time zone" => {
            return format!("{name}::timestamp AT TIME ZONE 'UTC'");
        }
        "timestamp with time zone" => format!(
            "CASE WHEN isfinite({name}) THEN (to_jsonb({name} AT TIME ZONE 'UTC') #>> '{{}}') || 'Z' \
             ELSE {name}::text END"
        ),
        "date" => format!("to_jsonb({name}) #>> '{{}}'"),
        "bytea" => format!("translate(encode({name}, 'base64'), E'\\n', '')"),
        "jsonb" => format!("{name} #>> '{{}}'"),
        _ if wanted == "jsonb" => return format!("to_jsonb({name})"),
        _ => format!("{name}::{wanted}"),
    };
    if wanted == "jsonb" { format!("to_jsonb({text})") } else { text }
}

/// The Postgres type for a column type, as the catalog spells it.
pub(crate) fn sql_type(kind: ColumnType) -> &'static str {
    match kind {
        ColumnType::Text => "text",
        ColumnType::Int => "bigint",
        ColumnType::Float => "double precision",
        ColumnType::Decimal => "numeric",
        ColumnType::Bool => "boolean",
        ColumnType::Date => "date",
        ColumnType::Timestamp => "timestamp with time zone",
        ColumnType::Json => "jsonb",
        ColumnType::Bytes => "bytea",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_widen_as_their_types_do() {
        for (kind, wanted, can_widen) in [
            ("bigint", "double precision", true),
            ("bigint", "numeric", true),
            ("integer", "bigint", true),
            ("smallint", "numeric", true),
            ("date", "timestamp with time zone", true),
            ("jsonb", "text", true),
            ("character varying", "jsonb", true),
            ("text", "jsonb", true),
            ("bigint", "bigint", false),
            ("bigint", "integer", false),
            ("numeric", "bigint", false),
            ("timestamp with time zone", "date", false),
            ("text", "bigint", false),
            ("point", "bigint", false),
        ] {
            assert_eq!(widens(kind, wanted), can_widen, "{kind} to {wanted}");
        }
    }

    #[test]
    fn converted_values_have_the_form_that_files_have() {
        for (kind, wanted, sql) in [
            ("bigint", "numeric", "c::numeric"),
            ("bigint", "jsonb", "to_jsonb(c)"),
            ("jsonb", "text", "c #>> '{}'"),
            ("date", "text", "to_jsonb(c) #>> '{}'"),
            ("date", "timestamp with time zone", "c::timestamp AT TIME ZONE 'UTC'"),
            ("bytea", "jsonb", "to_jsonb(translate(encode(c, 'base64'), E'\\n', ''))"),
        ] {
            assert_eq!(converted("c", kind, wanted), sql, "{kind} to {wanted}");
        }
    }
}
