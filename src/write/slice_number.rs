//! The number of the slice that a staged row was read in. Rows are ordered by it, and it shows whether two rows
//! are from the same slice.

/// Bits of a slice's position, of its attempts, and of whether a row is from a side request.
const FROM_BITS: u32 = 44;
const ATTEMPT_BITS: u32 = 6;
const ASIDE_BITS: u32 = 1;
const REQUEST_SHIFT: u32 = FROM_BITS + ATTEMPT_BITS + ASIDE_BITS;

/// The slice that a staged row was read in. Its number is the value of [`crate::schema::SLICE`]. Numbers order
/// rows by the stream's requests, and then by their slices, independent of the order of responses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SliceNumber {
    /// Number of the stream's request, below 4096.
    pub request: usize,
    /// Position of the slice among the slices of its request, below 2^44.
    pub from: u64,
    /// Number of times that the slice was read again from the start, below 64.
    pub attempt: u32,
    /// Whether the row is from a side request: one that weir sent in addition to the slice's listing, and that
    /// may return the same rows.
    pub aside: bool,
}

impl SliceNumber {
    /// The number.
    pub fn number(self) -> i64 {
        let request = i64::try_from(self.request).expect("below 4096") << REQUEST_SHIFT;
        let from = i64::try_from(self.from).expect("below 2^44") << (ATTEMPT_BITS + ASIDE_BITS);
        let attempt = i64::from(self.attempt) << ASIDE_BITS;
        request | from | attempt | i64::from(self.aside)
    }

    /// The numbers of the rows of this attempt: from its listing, and from side requests.
    pub fn both(self) -> [i64; 2] {
        [false, true].map(|aside| Self { aside, ..self }.number())
    }
}

/// The relation of the slices of two rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Apart {
    /// Both rows are from the same listing of the same slice.
    SameListing,
    /// Both rows are from the same slice, one of them from a side request.
    SameSlice,
    /// The rows are from two slices of one request.
    OtherSlice,
    /// The rows are from two requests of the stream.
    OtherRequest,
}

impl Apart {
    /// The distance of the slices with these numbers.
    pub(crate) fn of(one: i64, other: i64) -> Self {
        let is_same = |bits: u32| one >> bits == other >> bits;
        match () {
            () if one == other => Self::SameListing,
            () if is_same(ASIDE_BITS) => Self::SameSlice,
            () if is_same(REQUEST_SHIFT) => Self::OtherSlice,
            () => Self::OtherRequest,
        }
    }

    /// SQL of [`Apart::of`]; its result is a number for [`Apart::numbered`].
    pub(crate) fn sql(one: &str, other: &str) -> String {
        let is_same = |bits: u32| format!("{one} >> {bits} = {other} >> {bits}");
        let (slice, request) = (is_same(ASIDE_BITS), is_same(REQUEST_SHIFT));
        format!(
            "CASE WHEN {one} = {other} THEN 0 WHEN {slice} THEN 1 WHEN {request} THEN 2 ELSE 3 END"
        )
    }

    /// The distance for a number that [`Apart::sql`] returned.
    pub(crate) fn numbered(number: i32) -> Self {
        match number {
            0 => Self::SameListing,
            1 => Self::SameSlice,
            2 => Self::OtherSlice,
            _ => Self::OtherRequest,
        }
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
}
