//! What to do about an answer: retry after a wait, skip, stop or fail.
