//! Rows of one commit that have the same key: which one stays, and what is told of the others.
//!
//! The rule is the same for every target. Of the rows with one key, the greatest by version (see
//! [`super::Table::version`]), slice number and order of staging stays. Every other row gives way to the next
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

/// Bits of a slice's first position, of its attempts, and of whether a row came by a side request.
const FROM_BITS: u32 = 44;
const ATTEMPT_BITS: u32 = 6;
const ASIDE_BITS: u32 = 1;
/// Characters of a key's value that are shown.
pub(super) const LONGEST: usize = 100;
const REQUEST_SHIFT: u32 = FROM_BITS + ATTEMPT_BITS + ASIDE_BITS;

/// Number of what brought a staged row, the value of [`crate::schema::SLICE`]. Its order is that of the
/// stream's requests, and then of their slices; it does not depend on which answer came first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SliceNumber {
    /// Number of the stream's request, below 4096.
    pub request: usize,
    /// Position of the slice among those of its request, below 2^44.
    pub from: u64,
    /// Times that the slice was begun anew, below 64.
    pub attempt: u32,
    /// Whether the row came by a request that weir sent beside the slice's own listing, which may bring
    /// the same rows.
    pub aside: bool,
}

impl SliceNumber {
    /// The number.
    pub fn number(self) -> i64 {
        let request = i64::try_from(self.request).unwrap_or_default() << REQUEST_SHIFT;
        let from = i64::try_from(self.from).unwrap_or_default() << (ATTEMPT_BITS + ASIDE_BITS);
        let attempt = i64::from(self.attempt) << ASIDE_BITS;
        request | from | attempt | i64::from(self.aside)
    }

    /// The numbers of all rows of the slice's attempt.
    pub fn both(self) -> [i64; 2] {
        [false, true].map(|aside| Self { aside, ..self }.number())
    }
}

/// How far the slices of two rows are apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Apart {
    /// One listing of one slice brought both.
    SameListing,
    /// One slice brought both, one of them by a side request.
    SameSlice,
    /// Two slices of one request brought them.
    OtherSlice,
    /// Two requests of the stream brought them.
    OtherRequest,
}

impl Apart {
    /// By the numbers of the slices.
    pub(super) fn of(one: i64, other: i64) -> Self {
        let is_same = |bits: u32| one >> bits == other >> bits;
        match () {
            () if one == other => Self::SameListing,
            () if is_same(ASIDE_BITS) => Self::SameSlice,
            () if is_same(REQUEST_SHIFT) => Self::OtherSlice,
            () => Self::OtherRequest,
        }
    }

    /// [`Apart::of`] in SQL, as a number that [`Apart::numbered`] takes.
    pub(super) fn sql(one: &str, other: &str) -> String {
        let is_same = |bits: u32| format!("{one} >> {bits} = {other} >> {bits}");
        let (slice, request) = (is_same(ASIDE_BITS), is_same(REQUEST_SHIFT));
        format!(
            "CASE WHEN {one} = {other} THEN 0 WHEN {slice} THEN 1 WHEN {request} THEN 2 ELSE 3 END"
        )
    }

    pub(super) fn numbered(number: i32) -> Self {
        match number {
            0 => Self::SameListing,
            1 => Self::SameSlice,
            2 => Self::OtherSlice,
            _ => Self::OtherRequest,
        }
    }
}

/// A row that gives way to the next one with the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Loss {
    pub(super) apart: Apart,
    /// Whether a column that weir does not fill itself differs.
    pub(super) differs: bool,
    /// Whether both have a version, and these differ.
    pub(super) newer: bool,
}

/// What is told of a row that gives way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The API repeated itself, or the record changed while its listing was read: counted.
    Repeated,
    /// weir's own requests overlap: not told.
    Overlap,
    /// Two records have the same key: counted, named, and a failure under `strict`.
    Collision,
}

impl Loss {
    pub(super) fn verdict(self) -> Verdict {
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
pub(super) struct Example {
    /// The key: `id=1, lang=en`.
    pub(super) key: String,
    /// Columns in which the rows differ.
    pub(super) columns: Vec<String>,
}

/// Rows of a commit that gave way, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Repeats {
    /// Rows that the API brought more than once.
    pub(super) repeated: u64,
    /// Rows that replaced another one with other content.
    pub(super) collided: u64,
}

impl Repeats {
    /// Counts losses of one kind.
    pub(super) fn add(&mut self, verdict: Verdict, count: u64) {
        match verdict {
            Verdict::Repeated => self.repeated += count,
            Verdict::Collision => self.collided += count,
            Verdict::Overlap => {}
        }
    }

    /// What the reader is told.
    pub(super) fn notices(self, example: Option<Example>, stream: &str) -> Vec<Notice> {
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
pub(super) fn versions(column: &dyn Array) -> Option<Int64Array> {
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
pub(super) fn check_strict(strict: bool, notices: &[Notice]) -> Result<()> {
    match notices.iter().find(|notice| strict && notice.kind.fails_strict()) {
        None => Ok(()),
        Some(notice) => Err(Error::new(Kind::Shape, notice.to_string())
            .with_hint("`strict` is set for the stream: without it the run goes on and says so")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: SliceNumber = SliceNumber { request: 1, from: 7, attempt: 0, aside: false };

    #[test]
    fn slices_are_in_the_order_of_their_requests_and_positions() {
        let numbers = [
            ONE,
            SliceNumber { aside: true, ..ONE },
            SliceNumber { attempt: 1, ..ONE },
            SliceNumber { from: 8, ..ONE },
            SliceNumber { from: (1 << 44) - 1, attempt: 63, aside: true, ..ONE },
            SliceNumber { request: 2, from: 0, ..ONE },
            SliceNumber { request: 4095, from: (1 << 44) - 1, attempt: 63, aside: true },
        ];
        assert!(numbers.map(SliceNumber::number).is_sorted_by(|one, next| one < next && *one > 0));
    }

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
