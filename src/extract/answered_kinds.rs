//! Kinds of requests that the API has answered: where none of a kind is, the request is wrong, not the object.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Requests of a kind that may fail before one is answered; then it is taken to be wrong.
const MAX_FAILURES: u32 = 10;

/// The kinds of requests that the API has answered in a run. A kind is told by the template of its path.
#[derive(Debug, Default)]
pub(crate) struct AnsweredKinds(Mutex<HashMap<String, Answers>>);

#[derive(Debug, Default)]
struct Answers {
    answered: bool,
    failures: u32,
}

impl AnsweredKinds {
    /// Takes note of an answer.
    pub(crate) fn note(&self, kind: String) {
        self.kinds().entry(kind).or_default().answered = true;
    }

    pub(crate) fn has(&self, kind: &str) -> bool {
        self.kinds().get(kind).is_some_and(|kind| kind.answered)
    }

    /// Whether a failure may be about what was asked for. It is not where none of many such requests is
    /// answered.
    pub(crate) fn excuses(&self, kind: String) -> bool {
        let mut kinds = self.kinds();
        let kind = kinds.entry(kind).or_default();
        kind.failures += u32::from(!kind.answered);
        kind.answered || kind.failures <= MAX_FAILURES
    }

    fn kinds(&self) -> MutexGuard<'_, HashMap<String, Answers>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
