//! How one request of a stream is linked with its queues and with the requests of other streams.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::extract::sharing::fused::FusedRequest;
use crate::extract::sharing::listings::SharedListing;
use crate::progress::versions::KnownFingerprints;
use crate::queue::{Consumer, QueueWatch};

/// A request that takes part in a run.
pub(crate) struct AssignedRequest {
    /// Where the values of its queue come from.
    pub(crate) consumer: Option<Consumer>,
    pub(crate) links: RequestLinks,
}

/// The links of one request.
pub(crate) struct RequestLinks {
    /// Number of the request among those of its stream.
    pub(crate) number: usize,
    /// Records whose rows need not be asked for again; `None`: all are asked for.
    pub(crate) fingerprints: Option<KnownFingerprints>,
    /// The stream's place among those that ask for the same objects.
    pub(crate) fused: Option<FusedRequest>,
    /// The stream's place among those that read the same listing.
    pub(crate) shared_listing: Option<SharedListing>,
    /// Queues that must be complete, each with its number.
    pub(crate) watches: Vec<(usize, QueueWatch)>,
    /// Size of the first page of a slice's listing; `None`: that of any other.
    pub(crate) opening: Option<u32>,
    /// Upper bound of the values per request; see [`Self::shorten`].
    pub(crate) value_limit: AtomicUsize,
}

impl RequestLinks {
    /// A request that is linked with nothing yet.
    pub(crate) fn new(number: usize) -> Self {
        Self {
            number,
            fingerprints: None,
            fused: None,
            shared_listing: None,
            watches: Vec::new(),
            opening: None,
            value_limit: AtomicUsize::new(usize::MAX),
        }
    }

    /// Lowers the number of values per request, after one with so many values was too long.
    pub(crate) fn shorten(&self, values: usize) {
        self.value_limit.fetch_min((values / 2).max(1), Ordering::Relaxed);
    }

    /// Upper bound of the values per request.
    pub(crate) fn max_values(&self) -> usize {
        self.value_limit.load(Ordering::Relaxed)
    }
}
