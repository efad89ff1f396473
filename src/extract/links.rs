//! The links of a request to its queues and to requests of other streams.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::extract::sharing::fused::FusedRequest;
use crate::extract::sharing::listings::SharedListing;
use crate::progress::versions::KnownFingerprints;
use crate::queue::{Consumer, QueueWatch};

/// A request that takes part in a run.
pub(crate) struct AssignedRequest {
    /// Consumer of its queue.
    pub(crate) consumer: Option<Consumer>,
    pub(crate) links: RequestLinks,
}

/// The links of one request.
pub(crate) struct RequestLinks {
    /// Index of the request in its stream.
    pub(crate) number: usize,
    /// Fingerprints of records whose rows are in the target; `None`: all records are fetched.
    pub(crate) fingerprints: Option<KnownFingerprints>,
    /// Membership in a group of streams that request the same objects.
    pub(crate) fused: Option<FusedRequest>,
    /// Membership in a group of streams that read the same listing.
    pub(crate) shared_listing: Option<SharedListing>,
    /// Queues that must be complete, each with its index.
    pub(crate) watches: Vec<(usize, QueueWatch)>,
    /// Size of the first page of a slice's listing; `None`: the usual size.
    pub(crate) opening: Option<u32>,
    /// Maximum number of values per request; see [`Self::shorten`].
    pub(crate) value_limit: AtomicUsize,
}

impl RequestLinks {
    /// A request without links.
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

    /// Lowers the maximum number of values per request, after a request with `values` values was too long.
    pub(crate) fn shorten(&self, values: usize) {
        self.value_limit.fetch_min((values / 2).max(1), Ordering::Relaxed);
    }

    /// Maximum number of values per request.
    pub(crate) fn max_values(&self) -> usize {
        self.value_limit.load(Ordering::Relaxed)
    }
}
