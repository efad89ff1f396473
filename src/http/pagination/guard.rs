//! Detection of endless listings.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

use crate::error::{Error, Kind, Result};
use crate::http::pagination::position::Position;

/// Maximum number of consecutive empty pages that each lead to a next one; after more, the listing
/// fails.
const MAX_EMPTY_PAGES: u32 = 1000;

/// Detects a listing that does not end. It stores 8 bytes per page, for at most `max_pages` pages.
#[derive(Debug)]
pub struct LoopGuard {
    hasher: RandomState,
    seen: HashSet<u64>,
    max_pages: u32,
    pages: u32,
    empty: u32,
}

impl LoopGuard {
    /// A guard for one slice with at most `max_pages` pages.
    pub fn new(max_pages: u32) -> Self {
        let (hasher, seen) = (RandomState::new(), HashSet::new());
        Self { hasher, seen, max_pages, pages: 0, empty: 0 }
    }

    /// Notes that records have moved, so that pages are read again.
    pub fn moved(&mut self) {
        self.seen.clear();
    }

    /// Notes a page with `rows` records that leads to `next`.
    ///
    /// # Errors
    /// The position was there before, there are too many pages, or too many empty ones in a row.
    pub fn check(&mut self, next: &Position, rows: u64) -> Result<()> {
        let wrong = |what: String| {
            Err(Error::new(Kind::Shape, what).with_hint(
                "this is an error of the API or of the spec's `paginate`; rows would be lost",
            ))
        };
        if !self.seen.insert(self.hasher.hash_one(next)) {
            return wrong(
                "pagination loop: the API returned a link to a page that was already read"
                    .to_owned(),
            );
        }
        self.pages += 1;
        if self.pages >= self.max_pages {
            return wrong(format!(
                "the listing has more than {} pages (`max_pages`)",
                self.max_pages
            ));
        }
        self.empty = if rows == 0 { self.empty + 1 } else { 0 };
        if self.empty >= MAX_EMPTY_PAGES {
            return wrong(format!(
                "{MAX_EMPTY_PAGES} consecutive pages were empty, but each had a next one"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loops_are_detected() {
        let mut guard = LoopGuard::new(10);
        guard.check(&Position::Token("a".into()), 1).unwrap();
        guard.check(&Position::Token("b".into()), 1).unwrap();
        assert!(guard.check(&Position::Token("a".into()), 1).is_err());
        let mut guard = LoopGuard::new(2);
        guard.check(&Position::Number(1), 1).unwrap();
        assert!(guard.check(&Position::Number(2), 1).is_err());
    }

    #[test]
    fn a_page_that_is_read_again_on_purpose_is_no_loop_but_counts() {
        let mut guard = LoopGuard::new(3);
        guard.check(&Position::Number(50), 1).unwrap();
        guard.moved();
        guard.check(&Position::Number(50), 1).unwrap();
        guard.moved();
        assert!(guard.check(&Position::Number(50), 1).is_err(), "the pages are too many");
    }
}
