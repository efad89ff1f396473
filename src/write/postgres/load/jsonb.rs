//! JSON text for `jsonb`: values that it cannot hold are replaced by the nearest possible ones.
//!
//! - `\u0000` and lone surrogates (`\ud800`) become `\ufffd`, the replacement character;
//! - numbers beyond `numeric` become strings of their digits, and a text that is nested too deep becomes a string.

use std::borrow::Cow;

/// Limits of digits and exponent within which every number fits Postgres' `numeric`.
const MOST_DIGITS: usize = 6_000;
const MOST_EXPONENT: i64 = 10_000;
/// Levels of arrays and objects that a server with the default `max_stack_depth` can read.
const DEEPEST: usize = 1_000;

/// The text in a form that `jsonb` can hold; owned when something had to be replaced.
pub(crate) fn storable(text: &str) -> Cow<'_, str> {
    let mut scan = Scan { text, at: 0, kept: 0, out: String::new(), depth: 0 };
    if scan.run() {
        return scan.finish();
    }
    // As one escaped string, the text no longer contains what the scan would have replaced.
    Cow::Owned(serde_json::Value::from(text).to_string())
}

struct Scan<'a> {
    text: &'a str,
    /// Number of bytes read, and number of those that are in `out`.
    at: usize,
    kept: usize,
    out: String,
    depth: usize,
}

impl<'a> Scan<'a> {
    /// Reads the whole text; `false` when it is nested too deep.
    fn run(&mut self) -> bool {
        while let Some(byte) = self.byte(0) {
            match byte {
                b'"' => self.string(),
                b'-' | b'0'..=b'9' => self.number(),
                b'[' | b'{' => {
                    self.depth += 1;
                    if self.depth > DEEPEST {
                        return false;
                    }
                    self.at += 1;
                }
                b']' | b'}' => {
                    self.depth = self.depth.saturating_sub(1);
                    self.at += 1;
                }
                _ => self.at += 1,
            }
        }
        true
    }

    fn string(&mut self) {
        self.at += 1;
        loop {
            let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
            let Some(next) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\')) else {
                self.at = self.text.len();
                return;
            };
            self.at += next;
            if self.byte(0) == Some(b'"') {
                self.at += 1;
                return;
            }
            match self.unit(0) {
                Some(0) => self.replace(6, r"\ufffd"),
                Some(0xd800..=0xdbff) => match self.unit(6) {
                    Some(0xdc00..=0xdfff) => self.at += 12,
                    _ => self.replace(6, r"\ufffd"),
                },
                Some(0xdc00..=0xdfff) => self.replace(6, r"\ufffd"),
                Some(_) => self.at += 6,
                None => self.at += 2,
            }
        }
    }

    /// The value of the `\uXXXX` that begins `ahead` bytes from here.
    fn unit(&self, ahead: usize) -> Option<u32> {
        let escape = self.text.get(self.at + ahead..self.at + ahead + 6)?;
        u32::from_str_radix(escape.strip_prefix("\\u")?, 16).ok()
    }

    fn number(&mut self) {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let length = rest
            .bytes()
            .position(|byte| !matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9'))
            .unwrap_or(rest.len());
        let number = rest.get(..length).unwrap_or_default();
        if fits(number) {
            self.at += length;
        } else {
            self.replace(length, &format!("\"{number}\""));
        }
    }

    fn replace(&mut self, length: usize, with: &str) {
        self.out.push_str(self.text.get(self.kept..self.at).unwrap_or_default());
        self.out.push_str(with);
        self.at += length;
        self.kept = self.at;
    }

    fn byte(&self, ahead: usize) -> Option<u8> {
        self.text.as_bytes().get(self.at + ahead).copied()
    }

    fn finish(mut self) -> Cow<'a, str> {
        if self.kept == 0 {
            return Cow::Borrowed(self.text);
        }
        self.out.push_str(self.text.get(self.kept..).unwrap_or_default());
        Cow::Owned(self.out)
    }
}

fn fits(number: &str) -> bool {
    let (digits, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let exponent: Option<i64> = exponent.parse().ok();
    let bounded = exponent.is_some_and(|power| (-MOST_EXPONENT..=MOST_EXPONENT).contains(&power));
    bounded && digits.len() <= MOST_DIGITS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_jsonb_holds_is_left_alone() {
        for text in [
            r#"{"a":[1,-2.5e10,true,null,"x"]}"#,
            r#""\\u0000 \" é \u00e9 \ud83d\ude00""#,
            r#""1e999999""#,
            "[]",
            "\"\"",
        ] {
            assert!(matches!(storable(text), Cow::Borrowed(_)), "{text}");
        }
    }

    #[test]
    fn what_jsonb_cannot_hold_is_replaced() {
        for (text, stored) in [
            (r#""a\u0000b""#, r#""a\ufffdb""#),
            (r#""\\\u0000""#, r#""\\\ufffd""#),
            (r#""\ud800""#, r#""\ufffd""#),
            (r#""\udc00\ud800x""#, r#""\ufffd\ufffdx""#),
            (r#""\ud800\ud83d\ude00""#, r#""\ufffd\ud83d\ude00""#),
            ("1e400000", r#""1e400000""#),
            ("[1,-1E-99999,2]", r#"[1,"-1E-99999",2]"#),
            ("1e99999999999999999999", r#""1e99999999999999999999""#),
        ] {
            assert_eq!(storable(text), stored, "{text}");
        }
    }

    #[test]
    fn what_is_nested_too_deep_is_kept_as_a_string() {
        let deep = "[".repeat(1001) + &"]".repeat(1001);
        assert_eq!(storable(&deep), format!("\"{deep}\""));
        let wide = format!("[{}]", vec!["[[]]"; 2000].join(","));
        assert!(matches!(storable(&wide), Cow::Borrowed(_)));
    }
}
