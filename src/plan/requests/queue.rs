//! Queues between streams.

/// A queue.
#[derive(Clone, Debug)]
pub struct QueuePlan {
    /// Name.
    pub name: String,
    /// Paths, in the parent records, of the values that the queue carries with each of its values.
    pub carried: Vec<String>,
}

/// What a record feeds to a queue.
#[derive(Clone, Debug)]
pub struct FeedPlan {
    /// Index of the queue.
    pub queue: usize,
    /// Tap of the value.
    pub tap: usize,
    /// Filter, in the form of `RequestPlan::filter`.
    pub filter: Vec<(usize, Option<String>)>,
    /// Taps of the carried values, in the order of [`QueuePlan::carried`].
    pub carried: Vec<usize>,
}
