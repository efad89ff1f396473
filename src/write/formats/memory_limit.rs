//! The memory limit that all open Parquet encoders of a target share.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// Bytes of unfinished row groups that all encoders together should not exceed. When they do, an encoder above
/// its fair share ends its row group, so that all encoders together buffer at most twice this.
const LIMIT: usize = 8 * 1024 * 1024;

/// Bytes that all encoders of a target buffer.
#[derive(Debug, Default)]
pub(crate) struct MemoryLimit {
    writers: AtomicUsize,
    bytes: AtomicUsize,
}

/// Bytes that one encoder buffers; subtracted from the total when dropped.
#[derive(Debug)]
pub(crate) struct MemoryShare {
    limit: Arc<MemoryLimit>,
    bytes: usize,
}

impl MemoryShare {
    pub(crate) fn new(limit: Arc<MemoryLimit>) -> Self {
        limit.writers.fetch_add(1, Relaxed);
        Self { limit, bytes: 0 }
    }

    /// Sets the number of bytes that the encoder buffers now.
    pub(crate) fn set(&mut self, bytes: usize) {
        self.limit.bytes.fetch_add(bytes, Relaxed);
        self.limit.bytes.fetch_sub(self.bytes, Relaxed);
        self.bytes = bytes;
    }

    /// Whether this encoder should end its row group.
    pub(crate) fn is_over(&self) -> bool {
        let fair = LIMIT / self.limit.writers.load(Relaxed).max(1);
        self.bytes >= fair && self.limit.bytes.load(Relaxed) >= LIMIT
    }
}

impl Drop for MemoryShare {
    fn drop(&mut self) {
        self.set(0);
        self.limit.writers.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_encoder_above_its_fair_share_ends_its_row_group() {
        let limit = Arc::new(MemoryLimit::default());
        let mut big = MemoryShare::new(Arc::clone(&limit));
        let mut small = MemoryShare::new(Arc::clone(&limit));
        big.set(LIMIT - 10);
        small.set(9);
        assert!(!big.is_over() && !small.is_over());
        small.set(10);
        assert!(big.is_over() && !small.is_over());
        drop(small);
        assert!(!big.is_over());
        drop(big);
        assert_eq!(limit.bytes.load(Relaxed) + limit.writers.load(Relaxed), 0);
    }
}
