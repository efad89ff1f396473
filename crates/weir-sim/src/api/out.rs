//! A byte buffer for writing JSON directly, without an intermediate tree.

/// Collects one response body.
#[derive(Debug, Default)]
pub(crate) struct Out {
    bytes: Vec<u8>,
}

impl Out {
    /// An empty buffer with room for `bytes`.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes) }
    }

    /// The written bytes.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Takes the written bytes and leaves the buffer empty.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    /// Appends text unchanged: JSON punctuation, keys, and values that need no escaping.
    pub(crate) fn raw(&mut self, text: &str) -> &mut Self {
        self.bytes.extend_from_slice(text.as_bytes());
        self
    }

    /// Appends a number in decimal.
    pub(crate) fn num(&mut self, number: u64) -> &mut Self {
        let mut digits = [0_u8; 20];
        let mut at = digits.len();
        let mut rest = number;
        loop {
            at -= 1;
            digits[at] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        self.bytes.extend_from_slice(&digits[at..]);
        self
    }

    /// Appends an index or a count.
    pub(crate) fn int(&mut self, number: usize) -> &mut Self {
        self.num(number as u64)
    }

    /// Appends a JSON string, quoted and escaped.
    pub(crate) fn string(&mut self, text: &str) -> &mut Self {
        self.bytes.push(b'"');
        self.escaped(text);
        self.bytes.push(b'"');
        self
    }

    /// Appends text escaped for use inside a JSON string.
    pub(crate) fn escaped(&mut self, text: &str) -> &mut Self {
        for byte in text.bytes() {
            match byte {
                b'"' => self.bytes.extend_from_slice(b"\\\""),
                b'\\' => self.bytes.extend_from_slice(b"\\\\"),
                b'\n' => self.bytes.extend_from_slice(b"\\n"),
                0..0x20 => self.bytes.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
                _ => self.bytes.push(byte),
            }
        }
        self
    }

    /// Appends `"id":"123"`-like text: a number as a JSON string.
    pub(crate) fn id(&mut self, id: u64) -> &mut Self {
        self.bytes.push(b'"');
        self.num(id);
        self.bytes.push(b'"');
        self
    }

    /// Appends a quoted timestamp. Like the API, omits milliseconds that are zero.
    pub(crate) fn time(&mut self, millis: u64) -> &mut Self {
        self.bytes.push(b'"');
        let (year, month, day) = civil(millis / 86_400_000);
        self.num(year).raw("-").padded(month, 2).raw("-").padded(day, 2).raw("T");
        let second = millis / 1000 % 86_400;
        self.padded(second / 3600, 2).raw(":").padded(second / 60 % 60, 2).raw(":");
        self.padded(second % 60, 2);
        if !millis.is_multiple_of(1000) {
            self.raw(".").padded(millis % 1000, 3);
        }
        self.raw("Z\"")
    }

    /// Appends a number with leading zeros up to three digits.
    pub(crate) fn padded(&mut self, number: u64, width: u32) -> &mut Self {
        if width > 2 && number < 100 {
            self.bytes.push(b'0');
        }
        if width > 1 && number < 10 {
            self.bytes.push(b'0');
        }
        self.num(number)
    }
}

/// Year, month and day of a day counted from 1970-01-01.
pub(crate) fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Out)) -> String {
        let mut out = Out::default();
        write(&mut out);
        String::from_utf8(out.into_bytes()).unwrap()
    }

    #[test]
    fn timestamps_drop_only_zero_milliseconds() {
        assert_eq!(written(|out| _ = out.time(0)), "\"1970-01-01T00:00:00Z\"");
        assert_eq!(
            written(|out| _ = out.time(1_709_164_800_000 + 7)),
            "\"2024-02-29T00:00:00.007Z\""
        );
        assert_eq!(written(|out| _ = out.time(1_767_225_599_120)), "\"2025-12-31T23:59:59.120Z\"");
    }

    #[test]
    fn strings_read_back_as_they_were() {
        let text = "a \"quoted\" \\ back\nslash\u{1} é";
        let json = written(|out| _ = out.string(text));
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
    }
}
