//! The files target: Parquet and JSONL.
