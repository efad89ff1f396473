//! Rows of one commit that have the same key: which one stays, and what is told of the others.
//!
//! The rule is the same for every target. Of the rows with one key, the greatest by version (see
//! [`crate::write::table::Table::version`]), slice number and order of staging stays. Every other row gives way to the next
//! greater one, and the pair is judged by [`Loss::verdict`].

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

/// Characters of a key's value that are shown.
pub(crate) const LONGEST: usize = 100;
/// A row that gives way to the next one with the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Loss {
    pub(crate) apart: Apart,
    /// Whether a column that weir does not fill itself differs.
    pub(crate) differs: bool,
    /// Whether both have a version, and these differ.
    pub(crate) newer: bool,
}

/// What is told of a row that gives way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The API repeated itself, or the record changed while its listing was read: counted.
    Repeated,
    /// weir's own requests overlap: not told.
    Overlap,
    /// Two records have the same key: counted, named, and a failure under `strict`.
    Collision,
}

impl Loss {
    pub(crate) fn verdict(self) -> Verdict {
        match self.apart {
            Apart::SameListing if !self.differs || self.newer => Verdict::Repeated,
            Apart::SameSlice => Verdict::Overlap,
            Apart::OtherRequest if self.newer => Verdict::Overlap,
            Apart::OtherSlice | Apart::OtherRequest if !self.differs => Verdict::Overlap,
            Apart::SameListing | Apart::OtherSlice | Apart::OtherRequest => Verdict::Collision,
        }
    }
}

/// Two rows with the same key, for a person.
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
    /// Rows that the API brought more than once.
    pub(crate) repeated: u64,
    /// Rows that replaced another one with other content.
    pub(crate) collided: u64,
}

impl DuplicateKeys {
    /// Counts losses of one kind.
    pub(crate) fn add(&mut self, verdict: Verdict, count: u64) {
        match verdict {
            Verdict::Repeated => self.repeated += count,
            Verdict::Collision => self.collided += count,
            Verdict::Overlap => {}
        }
    }

    /// What the reader is told.
    pub(crate) fn notices(self, example: Option<Example>, stream: &str) -> Vec<Notice> {
        if self.collided == 0 {
            return Vec::new();
        }
        let Example { key, columns } = example.unwrap_or_default();
        let shown: Vec<String> =
            columns.iter().take(3).map(|column| format!("`{column}`")).collect();
        let more = if columns.len() > shown.len() { " and others" } else { "" };
        let detail = format!(
            "rows with `{}` differ in {}{more}; if they are different records, add what tells them \
             apart (the parent's id) to the `key` of `{stream}`",
            line(&key),
            shown.join(", "),
        );
        vec![Notice { kind: NoticeKind::KeyCollision, count: self.collided, detail }]
    }
}

/// Versions as numbers that grow with them; `None`: the column's type has no such numbers.
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

/// Refuses a commit whose notices fail a strict stream.
pub(crate) fn check_strict(strict: bool, notices: &[Notice]) -> Result<()> {
    match notices.iter().find(|notice| strict && notice.kind.fails_strict()) {
        None => Ok(()),
        Some(notice) => Err(Error::new(Kind::Shape, notice.to_string())
            .with_hint("`strict` is set for the stream: without it the run goes on and says so")),
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
        let judge =
            |kept, differs, newer| Loss { apart: Apart::of(own, kept), differs, newer }.verdict();
        assert_eq!(judge(own, false, false), Verdict::Repeated);
        assert_eq!(judge(own, true, true), Verdict::Repeated);
        assert_eq!(judge(own, true, false), Verdict::Collision);
        assert_eq!(judge(aside, true, false), Verdict::Overlap);
        assert_eq!(judge(next, false, false), Verdict::Overlap);
        assert_eq!(judge(next, true, true), Verdict::Collision);
        assert_eq!(judge(other, true, true), Verdict::Overlap);
        assert_eq!(judge(other, true, false), Verdict::Collision);
    }
}
