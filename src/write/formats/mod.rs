//! Rows to bytes and back: Parquet and JSONL for files, Arrow IPC for staged rows.
//!
//! A new file format is one file that implements [`codec::Codec`], an extension in [`mod@format`], and an arm
//! of [`codec_of`].

pub(crate) mod arrow_stream;
pub(crate) mod cells;
pub(crate) mod codec;
mod compression;
pub(crate) mod existing;
mod fit;
pub(crate) mod format;
pub(crate) mod json_text;
mod jsonl;
pub(crate) mod memory_limit;
mod parquet;
pub(crate) mod settings;

use self::codec::Codec;
use self::format::{Compression, Format};
use self::jsonl::Jsonl;
use self::parquet::file::Parquet;

/// What encodes and reads a format.
pub(crate) fn codec_of(format: Format) -> &'static dyn Codec {
    match format {
        Format::Parquet => &Parquet,
        Format::Jsonl(Compression::Plain) => &Jsonl(Compression::Plain),
        Format::Jsonl(Compression::Gzip) => &Jsonl(Compression::Gzip),
        Format::Jsonl(Compression::Zstd) => &Jsonl(Compression::Zstd),
    }
}
