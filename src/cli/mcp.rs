//! `mcp run`.
