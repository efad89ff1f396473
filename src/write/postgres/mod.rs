//! Rows to Postgres: binary COPY into staging, then swap, insert or merge in one transaction.
