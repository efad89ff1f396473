//! YAML text to typed data, with every problem told at once as `file:line:column`.
