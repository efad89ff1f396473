//! Compression of text formats, as streams.

use std::io::{self, BufRead, BufReader, Read, Write};

use flate2::{read::MultiGzDecoder, write::GzEncoder};

use crate::write::formats::format::Compression;

/// Compresses bytes into memory.
pub(crate) enum Compressor {
    Plain(Vec<u8>),
    Gzip(GzEncoder<Vec<u8>>),
    Zstd(Box<zstd::stream::write::Encoder<'static, Vec<u8>>>),
}

impl Compressor {
    pub(crate) fn new(compression: Compression, level: i32) -> io::Result<Self> {
        Ok(match compression {
            Compression::Plain => Self::Plain(Vec::new()),
            Compression::Gzip => {
                Self::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::default()))
            }
            Compression::Zstd => {
                Self::Zstd(Box::new(zstd::stream::write::Encoder::new(Vec::new(), level)?))
            }
        })
    }

    pub(crate) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(output) => output.write_all(bytes),
            Self::Gzip(encoder) => encoder.write_all(bytes),
            Self::Zstd(encoder) => encoder.write_all(bytes),
        }
    }

    pub(crate) fn get_ref(&self) -> &Vec<u8> {
        match self {
            Self::Plain(output) => output,
            Self::Gzip(encoder) => encoder.get_ref(),
            Self::Zstd(encoder) => encoder.get_ref(),
        }
    }

    pub(crate) fn get_mut(&mut self) -> &mut Vec<u8> {
        match self {
            Self::Plain(output) => output,
            Self::Gzip(encoder) => encoder.get_mut(),
            Self::Zstd(encoder) => encoder.get_mut(),
        }
    }

    pub(crate) fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Plain(output) => Ok(output),
            Self::Gzip(encoder) => encoder.finish(),
            Self::Zstd(encoder) => encoder.finish(),
        }
    }
}

/// The decompressed content of a file.
pub(crate) fn decompressed(
    compression: Compression,
    bytes: Box<dyn Read + Send>,
) -> io::Result<Box<dyn BufRead + Send>> {
    Ok(match compression {
        Compression::Plain => Box::new(BufReader::new(bytes)),
        Compression::Gzip => Box::new(BufReader::new(MultiGzDecoder::new(bytes))),
        Compression::Zstd => Box::new(BufReader::new(zstd::stream::read::Decoder::new(bytes)?)),
    })
}
