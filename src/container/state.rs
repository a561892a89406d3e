//! The record of one container on disk.
