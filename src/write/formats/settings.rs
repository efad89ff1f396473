//! Sizes and compression of the files of a table.

use crate::error::{Error, Result};

/// Sizes of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Size at which a part is ended and the next begun, in bytes written. A part outgrows it by no
    /// more than a quarter of a mebibyte or one row. Unlimited when `None`.
    pub max_file_bytes: Option<u64>,
    /// Rows at which a Parquet row group is ended.
    pub row_group_rows: usize,
    /// Encoded size at which a Parquet row group is ended, in bytes. It is ended earlier when all
    /// open writers together hold more than 8 MiB.
    pub row_group_bytes: usize,
    /// Level of zstd, 1 to 19.
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
    pub(crate) fn check(self) -> Result<()> {
        if !(1..=19).contains(&self.zstd_level) {
            let message = format!("{} is no level of zstd", self.zstd_level);
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
