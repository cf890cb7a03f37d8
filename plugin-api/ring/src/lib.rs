//! The copy-validate broadcast ring between one source and its readers
