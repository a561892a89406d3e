//! `doctor`, `version`.
