//! Queues between streams.

/// A queue.
#[derive(Clone, Debug)]
pub struct QueuePlan {
    /// Name.
    pub name: String,
    /// Paths, in the records that feed it, of what comes along with a value.
    pub carried: Vec<String>,
}

/// What a record feeds to a queue.
#[derive(Clone, Debug)]
pub struct FeedPlan {
    /// Number of the queue.
    pub queue: usize,
    /// Tap of the value.
    pub tap: usize,
    /// What a record must have, as for a request.
    pub having: Vec<(usize, Option<String>)>,
    /// Taps of what comes along with it, in the order of [`QueuePlan::carried`].
    pub carried: Vec<usize>,
}
