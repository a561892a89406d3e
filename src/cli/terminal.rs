//! Tables, JSON, errors, exit codes, raw mode.
