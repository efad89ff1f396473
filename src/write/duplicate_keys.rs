//! Rows of one commit that have the same key: which one is written, and how the others are reported.
//!
//! The rule is the same for every target. Of the rows with the same key, the greatest by version (see
//! [`crate::write::Table::version`]), then by slice number, then by order of staging is written. Every other row
//! loses to the next greater one, and [`Loss::kind`] decides how that is reported.

use arrow_array::{
    Array, Int64Array,
    cast::AsArray,
    types::{Date32Type, Int64Type, TimestampMicrosecondType},
};
use arrow_schema::DataType;

use crate::error::{Error, Kind, Result};
use crate::report::{Notice, NoticeKind};
use crate::secret::line;
use crate::write::slice_number::Apart;

/// Number of characters of a key's value that messages show.
pub(crate) const MAX_SHOWN: usize = 100;

/// A row that loses to the next one with the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Loss {
    /// How far the slices of the two rows are apart.
    pub(crate) apart: Apart,
    /// Whether the rows differ in a column that weir does not fill itself.
    pub(crate) differs: bool,
    /// Whether both rows have a version, and the versions differ.
    pub(crate) newer: bool,
}

/// How a row that loses is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LossKind {
    /// The API returned the row twice, or the record changed while its listing was read. Counted.
    Repeated,
    /// The requests of weir overlap. Not reported.
    Overlap,
    /// Two records have the same key. Counted and reported, and an error under `strict`.
    Collision,
}

impl Loss {
    /// How the row is reported.
    pub(crate) fn kind(self) -> LossKind {
        match self.apart {
            Apart::SameListing if !self.differs || self.newer => LossKind::Repeated,
            Apart::SameSlice => LossKind::Overlap,
            Apart::OtherRequest if self.newer => LossKind::Overlap,
            Apart::OtherSlice | Apart::OtherRequest if !self.differs => LossKind::Overlap,
            Apart::SameListing | Apart::OtherSlice | Apart::OtherRequest => LossKind::Collision,
        }
    }
}

/// A description of two rows with the same key, for messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Example {
    /// The key: `id=1, lang=en`.
    pub(crate) key: String,
    /// Columns in which the rows differ.
    pub(crate) columns: Vec<String>,
}

/// Numbers of rows of a commit that lost to another row with the same key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DuplicateKeys {
    /// Number of rows that the API returned more than once.
    pub(crate) repeated: u64,
    /// Number of rows that replaced another row with a different content.
    pub(crate) collided: u64,
}

impl DuplicateKeys {
    /// Counts rows that lost in the same way.
    pub(crate) fn add(&mut self, kind: LossKind, count: u64) {
        match kind {
            LossKind::Repeated => self.repeated += count,
            LossKind::Collision => self.collided += count,
            LossKind::Overlap => {}
        }
    }

    /// The notice about key collisions; none when there were none.
    pub(crate) fn notices(self, example: Option<Example>, stream: &str) -> Vec<Notice> {
        if self.collided == 0 {
            return Vec::new();
        }
        let Example { key, columns } = example.unwrap_or_default();
        let shown: Vec<String> =
            columns.iter().take(3).map(|column| format!("`{column}`")).collect();
        let more = if columns.len() > shown.len() { " and others" } else { "" };
        let detail = format!(
            "rows with `{}` differ in {}{more}; if they are different records, add a column that \
             distinguishes them (such as the parent's id) to the `key` of `{stream}`",
            line(&key),
            shown.join(", "),
        );
        vec![Notice { kind: NoticeKind::KeyCollision, count: self.collided, detail }]
    }
}

/// Versions as numbers of the same order; `None` when the column is of a type that cannot hold versions.
pub(crate) fn versions(column: &dyn Array) -> Option<Int64Array> {
    Some(match column.data_type() {
        DataType::Int64 => column.as_primitive::<Int64Type>().clone(),
        DataType::Timestamp(..) => {
            column.as_primitive::<TimestampMicrosecondType>().iter().collect()
        }
        DataType::Date32 => {
            column.as_primitive::<Date32Type>().iter().map(|date| date.map(i64::from)).collect()
        }
        _ => return None,
    })
}

/// Refuses a commit with a notice that is an error for a strict stream.
pub(crate) fn check_strict(strict: bool, notices: &[Notice]) -> Result<()> {
    match notices.iter().find(|notice| strict && notice.kind.fails_strict()) {
        None => Ok(()),
        Some(notice) => Err(Error::new(Kind::Shape, notice.to_string())
            .with_hint("the stream is `strict`: without `strict`, the run continues and reports the collisions")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::write::slice_number::SliceNumber;

    const ONE: SliceNumber = SliceNumber { request: 1, from: 7, attempt: 0, aside: false };

    #[test]
    fn rows_collide_where_different_records_have_the_same_key() {
        let [own, aside] = ONE.both();
        let next = SliceNumber { from: 8, ..ONE }.number();
        let other = SliceNumber { request: 2, ..ONE }.number();
        let kind =
            |kept, differs, newer| Loss { apart: Apart::of(own, kept), differs, newer }.kind();
        assert_eq!(kind(own, false, false), LossKind::Repeated);
        assert_eq!(kind(own, true, true), LossKind::Repeated);
        assert_eq!(kind(own, true, false), LossKind::Collision);
        assert_eq!(kind(aside, true, false), LossKind::Overlap);
        assert_eq!(kind(next, false, false), LossKind::Overlap);
        assert_eq!(kind(next, true, true), LossKind::Collision);
        assert_eq!(kind(other, true, true), LossKind::Overlap);
        assert_eq!(kind(other, true, false), LossKind::Collision);
    }
}
