//! Tracks which kinds of requests the API has answered. If no request of a kind is answered, the request is wrong, not
//! the requested object.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Maximum number of failed requests of a kind before the first answer. After that, the kind counts as wrong.
const MAX_FAILURES: u32 = 10;

/// The kinds of requests that the API has answered in a run. The template of the path identifies a kind.
#[derive(Debug, Default)]
pub(crate) struct AnsweredKinds(Mutex<HashMap<String, Answers>>);

#[derive(Debug, Default)]
struct Answers {
    answered: bool,
    failures: u32,
}

impl AnsweredKinds {
    /// Records an answer.
    pub(crate) fn note(&self, kind: String) {
        self.kinds().entry(kind).or_default().answered = true;
    }

    pub(crate) fn has(&self, kind: &str) -> bool {
        self.kinds().get(kind).is_some_and(|kind| kind.answered)
    }

    /// Records a failure. Returns whether the requested object may be the cause. It is not if the API has answered none
    /// of many requests of the kind.
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
