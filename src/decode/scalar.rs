//! Conversion of JSON scalars to typed values; `None` if the text does not have the type.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::{DateTime, NaiveDate, NaiveDateTime};
use serde::de::{Deserializer, Error, Visitor};

use crate::schema::DECIMAL;

/// Appends a string's content, or the text of a number or boolean; `false` for lists and objects.
pub(super) fn text(raw: &str, out: &mut Vec<u8>) -> bool {
    match raw.as_bytes().first() {
        Some(b'"') => unescape(raw, out),
        Some(b'{' | b'[') | None => false,
        Some(_) => {
            out.extend_from_slice(raw.as_bytes());
            true
        }
    }
}

/// Appends the bytes of a base64 string.
pub(super) fn bytes(raw: &str, out: &mut Vec<u8>) -> bool {
    let Some(text) = plain(raw) else { return false };
    STANDARD.decode_vec(text, out).is_ok()
}

/// An integer; `5.0` is accepted.
pub(super) fn int(raw: &str) -> Option<i64> {
    if let Ok(number) = raw.parse() {
        return Some(number);
    }
    let whole = raw.split_once('.').filter(|(_, rest)| rest.bytes().all(|digit| digit == b'0'))?;
    whole.0.parse().ok()
}

/// A number.
pub(super) fn float(raw: &str) -> Option<f64> {
    let number: f64 = raw.parse().ok()?;
    let digits = raw.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    (digits && number.is_finite()).then_some(number)
}

/// A number, or a string with a number, in units of 10^-scale; `None` if digits would be lost.
pub(super) fn decimal(raw: &str) -> Option<i128> {
    let text = if raw.starts_with('"') { plain(raw)? } else { raw };
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (negative, unsigned) = match mantissa.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, mantissa),
    };
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let fraction = fraction.trim_end_matches('0');
    let digits = whole.bytes().chain(fraction.bytes());
    if whole.is_empty() || !digits.clone().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let mut value: i128 = 0;
    for digit in digits {
        value = value.checked_mul(10)?.checked_add(i128::from(digit - b'0'))?;
    }
    let shift = i32::from(DECIMAL.1) + exponent - i32::try_from(fraction.len()).ok()?;
    let value = scale(value, shift)?;
    let limit = 10_i128.pow(u32::from(DECIMAL.0));
    (value < limit).then_some(if negative { -value } else { value })
}

/// `value` times 10^shift; `None` if digits would be lost.
fn scale(mut value: i128, shift: i32) -> Option<i128> {
    if value == 0 {
        return Some(0);
    }
    for _ in 0..shift.unsigned_abs().min(64) {
        value = if shift > 0 {
            value.checked_mul(10)?
        } else {
            (value % 10 == 0).then_some(value / 10)?
        };
    }
    (shift.unsigned_abs() <= 64).then_some(value)
}

/// `true` or `false`.
pub(super) fn bool(raw: &str) -> Option<bool> {
    raw.parse().ok()
}

/// A string `2026-01-31`, or the date of a timestamp, in days since 1970-01-01.
pub(super) fn date(raw: &str) -> Option<i32> {
    let text = plain(raw)?;
    let date = NaiveDate::parse_from_str(text.get(..10)?, "%Y-%m-%d").ok()?;
    if text.len() > 10 {
        timestamp(raw)?;
    }
    i32::try_from(date.signed_duration_since(NaiveDate::default()).num_days()).ok()
}

/// A string in microseconds since 1970-01-01T00:00:00Z. Accepts RFC 3339, also with an offset
/// without colon, and times without offset and dates, which are read as UTC.
pub(super) fn timestamp(raw: &str) -> Option<i64> {
    let text = plain(raw)?;
    if let Some(micros) = plain_utc(text.as_bytes()) {
        return Some(micros);
    }
    let instant = DateTime::parse_from_rfc3339(text)
        .or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f%z"))
        .map(|instant| instant.to_utc());
    if let Ok(instant) = instant {
        return Some(instant.timestamp_micros());
    }
    let local = NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f")
        .or_else(|_| NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f"));
    if let Ok(local) = local {
        return Some(local.and_utc().timestamp_micros());
    }
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    Some(date.and_hms_opt(0, 0, 0)?.and_utc().timestamp_micros())
}

/// A fast path for the common form `2026-01-12T09:30:11[.204]Z`.
fn plain_utc(text: &[u8]) -> Option<i64> {
    let number = |from: usize, to: usize| -> Option<u32> {
        text.get(from..to)?.iter().try_fold(0_u32, |value, byte| {
            byte.is_ascii_digit().then(|| value * 10 + u32::from(byte - b'0'))
        })
    };
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if separators.iter().any(|(at, byte)| text.get(*at) != Some(byte)) {
        return None;
    }
    let fraction = match text.get(19..)? {
        [b'Z'] => 0,
        [b'.', _, _, _, b'Z'] => number(20, 23)? * 1000,
        _ => return None,
    };
    let year = i32::try_from(number(0, 4)?).ok()?;
    let date = NaiveDate::from_ymd_opt(year, number(5, 7)?, number(8, 10)?)?;
    let time =
        date.and_hms_micro_opt(number(11, 13)?, number(14, 16)?, number(17, 19)?, fraction)?;
    Some(time.and_utc().timestamp_micros())
}

/// The content of a JSON string without escapes.
fn plain(raw: &str) -> Option<&str> {
    let content = raw.strip_prefix('"')?.strip_suffix('"')?;
    (!content.contains('\\')).then_some(content)
}

/// Appends the unescaped content of a JSON string.
fn unescape(raw: &str, out: &mut Vec<u8>) -> bool {
    if let Some(content) = plain(raw) {
        out.extend_from_slice(content.as_bytes());
        return true;
    }
    let mut json = serde_json::Deserializer::from_str(raw);
    json.deserialize_str(Append(out)).is_ok()
}

struct Append<'out>(&'out mut Vec<u8>);

impl Visitor<'_> for Append<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_keep_their_characters() {
        let table = [
            (r#""plain""#, Some("plain")),
            (r#""q\"\\\né\ud83d\ude00""#, Some("q\"\\\né😀")),
            ("12.50", Some("12.50")),
            ("true", Some("true")),
            ("[1]", None),
            (r#""\ud800""#, None),
        ];
        for (raw, expected) in table {
            let mut out = Vec::new();
            let found = text(raw, &mut out).then(|| String::from_utf8(out).unwrap());
            assert_eq!(found.as_deref(), expected, "{raw}");
        }
    }

    #[test]
    fn integers_keep_all_64_bits() {
        assert_eq!(int("9223372036854775807"), Some(i64::MAX));
        assert_eq!(int("-9223372036854775808"), Some(i64::MIN));
        assert_eq!(int("9223372036854775808"), None);
        assert_eq!(int("5.00"), Some(5));
        assert_eq!(int("5.5"), None);
        assert_eq!(int("\"5\""), None);
    }

    #[test]
    fn decimals_lose_no_digit() {
        assert_eq!(decimal("1.5"), Some(1_500_000_000));
        assert_eq!(decimal("\"-0.000000001\""), Some(-1));
        assert_eq!(decimal("1e3"), Some(1_000_000_000_000));
        assert_eq!(decimal("0.0000000001"), None);
        assert_eq!(
            decimal("99999999999999999999999999999"),
            Some(10_i128.pow(38) - 10_i128.pow(9))
        );
        assert_eq!(decimal("100000000000000000000000000000"), None);
        assert_eq!(decimal("1e999"), None);
        assert_eq!(decimal("true"), None);
    }

    #[test]
    fn instants_are_read_in_their_usual_spellings() {
        let micros = 1_768_210_211_204_000;
        for text in [
            "2026-01-12T09:30:11.204Z",
            "2026-01-12T10:30:11.204+01:00",
            "2026-01-12T10:30:11.204+0100",
            "2026-01-12T09:30:11.204",
            "2026-01-12 09:30:11.204000",
        ] {
            assert_eq!(timestamp(&format!("\"{text}\"")), Some(micros), "{text}");
        }
        assert_eq!(timestamp("\"1969-12-31T23:59:59Z\""), Some(-1_000_000));
        assert_eq!(timestamp("\"2026-02-30T00:00:00Z\""), None);
        assert_eq!(timestamp("1768210211204"), None);
        assert_eq!(date("\"1970-01-02\""), Some(1));
        assert_eq!(date("\"1970-01-02T10:00:00Z\""), Some(1));
        assert_eq!(date("\"1970-01-02 nonsense\""), None);
    }
}
