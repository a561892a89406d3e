//! Pure: Profile JSON into BPF programs.
