//! Conversions between counts and floating-point numbers.

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
pub(crate) fn real(count: u64) -> f64 {
    count as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts, rounded")]
pub(crate) fn whole(count: f64) -> u64 {
    count.max(0.0).round() as u64
}
