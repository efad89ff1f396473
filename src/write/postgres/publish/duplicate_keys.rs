//! Staged rows with the same key: all but one are deleted and counted.

use tokio_postgres::GenericClient;

use crate::error::Result;
use crate::report::Notice;
use crate::schema::{OWN_COLUMNS, SLICE};
use crate::write::duplicate_keys::{DuplicateKeys, Example, Loss, LossKind, MAX_SHOWN};
use crate::write::postgres::failure;
use crate::write::postgres::load::stage::{ROW, StagingTable};
use crate::write::postgres::name::{list, literal, quoted};
use crate::write::slice_number::Apart;

/// Separates the parts of an example.
const SEPARATOR: char = '\u{1f}';

/// What is reported about deleted rows.
#[derive(Debug, Default)]
pub(crate) struct DuplicateReport {
    /// Number of rows that the same slice staged once more.
    pub(crate) repeated: u64,
    pub(crate) notices: Vec<Notice>,
}

/// Keeps one of the staged rows with the same key, by the rule of [`crate::write::duplicate_keys`].
pub(crate) async fn remove_losers<C: GenericClient + Sync>(
    client: &C,
    stage: &StagingTable,
) -> Result<DuplicateReport> {
    if stage.unique.is_empty() {
        return Ok(DuplicateReport::default());
    }
    let what = || format!("staged rows of {} with the same key cannot be removed", stage.target);
    let failed = |error| failure::statement(what(), &error);
    let mut duplicates = DuplicateKeys::default();
    let mut first: Option<String> = None;
    for row in client.query(&statement(stage), &[]).await.map_err(failed)? {
        let (apart, differs, newer) = (Apart::numbered(row.get(0)), row.get(1), row.get(2));
        let kind = Loss { apart, differs, newer }.kind();
        let count = u64::try_from(row.get::<_, i64>(3)).expect("a count is not negative");
        duplicates.add(kind, count);
        if kind == LossKind::Collision {
            let example: Option<String> = row.get(4);
            first = [first, example].into_iter().flatten().min();
        }
    }
    let example = first.map(|text| {
        let mut parts = text.split(SEPARATOR).skip(1).map(str::to_owned);
        Example { key: parts.next().unwrap_or_default(), columns: parts.collect() }
    });
    let notices = duplicates.notices(example, &stage.stream);
    Ok(DuplicateReport { repeated: duplicates.repeated, notices })
}

/// SQL: deletes every row that loses to a next one. Returns how the rows of the pairs differ, how many such pairs there
/// are, and a description of the first of them.
fn statement(stage: &StagingTable) -> String {
    let (table, row, slice) = (&stage.staging, quoted(ROW), quoted(SLICE));
    let key = list(stage.unique.iter().map(String::as_str));
    let parts = stage.unique.iter().map(|one| format!("staged.{}", quoted(one)));
    let parts = parts.collect::<Vec<_>>().join(", ");
    let same = stage.unique.iter().map(|one| format!("staged.{0} = duplicate.{0}", quoted(one)));
    let same = same.collect::<Vec<_>>().join(" AND ");
    let version = stage.version.as_deref().filter(|name| stage.schema.position(name).is_some());
    let version = version.map(quoted);
    let order = version.iter().map(|name| format!("staged.{name} NULLS FIRST"));
    let order = order.chain([format!("staged.{slice}"), format!("staged.{row}")]);
    let order = order.collect::<Vec<_>>().join(", ");
    let columns = stage.schema.columns.iter().map(|column| column.name.as_str());
    let columns = columns.filter(|name| !name.starts_with(OWN_COLUMNS));
    let columns: Vec<&str> =
        columns.filter(|name| stage.unique.iter().all(|key| key != name)).collect();
    let differs = |name: &str| format!("lost.{0} IS DISTINCT FROM kept.{0}", quoted(name));
    let differing = columns
        .iter()
        .map(|name| format!("CASE WHEN {} THEN {} END", differs(name), literal(name)));
    let differing = differing.collect::<Vec<_>>().join(", ");
    let differs = columns.iter().map(|name| differs(name)).chain(["false".to_owned()]);
    let differs = differs.collect::<Vec<_>>().join(" OR ");
    let newer = version
        .map_or("false".to_owned(), |name| format!("COALESCE(lost.{name} <> kept.{name}, false)"));
    let apart = Apart::sql(&format!("lost.{slice}"), &format!("kept.{slice}"));
    let shown = stage.unique.iter().map(|name| {
        format!(
            "{} || left(lost.{}::text, {MAX_SHOWN})",
            literal(&format!("{name}=")),
            quoted(name)
        )
    });
    let shown = shown.collect::<Vec<_>>().join(" || ', ' || ");
    let between = literal(&SEPARATOR.to_string());
    format!(
        "WITH duplicate AS (SELECT {key} FROM {table} GROUP BY {key} HAVING count(*) > 1), \
         pair AS (SELECT staged.{row} AS number, lead(staged.{row}) OVER \
             (PARTITION BY {parts} ORDER BY {order}) AS _weir_next \
             FROM {table} AS staged JOIN duplicate ON {same}), \
         lost AS (DELETE FROM {table} AS old USING pair \
             WHERE old.{row} = pair.number AND pair._weir_next IS NOT NULL RETURNING old.*, pair._weir_next) \
         SELECT {apart}, {differs}, {newer}, count(*), \
             min((lpad(lost.{row}::text, 20, '0') || {between} || {shown} || {between} || \
             array_to_string(ARRAY[{differing}]::text[], {between})) COLLATE \"C\") \
         FROM lost JOIN {table} AS kept ON kept.{row} = lost._weir_next GROUP BY 1, 2, 3"
    )
}
