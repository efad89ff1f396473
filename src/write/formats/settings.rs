//! Sizes and compression of the files of a table.

use crate::error::{Error, Result};

/// Sizes of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Size at which a part ends and the next one begins, in bytes. A part exceeds it by a quarter of a mebibyte
    /// or by one row at most. Unlimited when `None`, the default.
    pub max_file_bytes: Option<u64>,
    /// Number of rows at which a Parquet row group ends; 1,048,576 by default.
    pub row_group_rows: usize,
    /// Encoded size at which a Parquet row group ends, in bytes; 16 MiB by default. The row group ends earlier
    /// when all open writers together hold more than 8 MiB.
    pub row_group_bytes: usize,
    /// Compression level of zstd, from 1 (the default) to 19.
    pub zstd_level: i32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_file_bytes: None,
            row_group_rows: 1_048_576,
            row_group_bytes: 16 * 1024 * 1024,
            zstd_level: 1,
        }
    }
}

impl Settings {
    /// Checks that all settings are in their range.
    pub(crate) fn check(self) -> Result<()> {
        if !(1..=19).contains(&self.zstd_level) {
            let message = format!("zstd has no compression level {}", self.zstd_level);
            return Err(Error::input(message).with_hint("levels go from 1 (fast) to 19 (small)"));
        }
        let sizes = [self.row_group_rows, self.row_group_bytes];
        if sizes.contains(&0) || self.max_file_bytes == Some(0) {
            return Err(Error::input("a size limit of files is 0")
                .with_hint("give 1 or more, or leave the limit out"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_out_of_range_are_refused() {
        let good = Settings::default();
        good.check().unwrap();
        Settings { zstd_level: 19, max_file_bytes: Some(1), ..good }.check().unwrap();
        for wrong in [
            Settings { zstd_level: 0, ..good },
            Settings { zstd_level: 20, ..good },
            Settings { row_group_rows: 0, ..good },
            Settings { row_group_bytes: 0, ..good },
            Settings { max_file_bytes: Some(0), ..good },
        ] {
            let error = wrong.check().unwrap_err();
            assert!(error.hint().is_some(), "{wrong:?}: {error:?}");
        }
    }
}
