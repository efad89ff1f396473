//! JSON bytes to Arrow batches in one pass, along a trie of declared paths.
