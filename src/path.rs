//! Paths into JSON: `body.storage.value`, `results[].labels`.
