//! Rows to Parquet and JSONL files, on local disk or in an object store.
