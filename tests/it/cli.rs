//! The program as a user runs it: output, errors, exit codes.
