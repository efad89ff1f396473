//! The simulator, against the API documents.
