//! The command line: the only module that prints and reads the environment.
