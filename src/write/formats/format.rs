//! File formats, which the extensions of files name.

/// Format of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Parquet,
    Jsonl(Compression),
}

/// Compression of a JSONL file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    Plain,
    Gzip,
    Zstd,
}

/// Known extensions.
pub(crate) const EXTENSIONS: [(&str, Format); 7] = [
    (".parquet", Format::Parquet),
    (".jsonl", Format::Jsonl(Compression::Plain)),
    (".ndjson", Format::Jsonl(Compression::Plain)),
    (".jsonl.gz", Format::Jsonl(Compression::Gzip)),
    (".ndjson.gz", Format::Jsonl(Compression::Gzip)),
    (".jsonl.zst", Format::Jsonl(Compression::Zstd)),
    (".ndjson.zst", Format::Jsonl(Compression::Zstd)),
];

impl Format {
    /// The format for the extension of a file name; `None` for any other extension.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        let mut known = EXTENSIONS.iter();
        let found = known.find(|(end, _)| name.len() > end.len() && name.ends_with(end));
        found.map(|(_, format)| *format)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_known_extension_names_the_format() {
        for (name, format) in [
            ("pages.parquet", Some(Format::Parquet)),
            ("pages.jsonl", Some(Format::Jsonl(Compression::Plain))),
            ("pages.ndjson", Some(Format::Jsonl(Compression::Plain))),
            ("pages.jsonl.gz", Some(Format::Jsonl(Compression::Gzip))),
            ("pages.ndjson.zst", Some(Format::Jsonl(Compression::Zstd))),
            ("a.parquet.jsonl", Some(Format::Jsonl(Compression::Plain))),
            (".parquet", None),
            ("pages.gz", None),
            ("pages", None),
            ("pages.PARQUET", None),
        ] {
            assert_eq!(Format::of_name(name), format, "{name}");
        }
    }
}
