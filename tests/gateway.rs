//! The gateway in front of many servers at once: real ones with real clients, hostile ones, and what is left when
//! everything ends, well or ill.
//!
//! The servers and clients are installed by `tests/mcp/setup`. The conformance suite is in `tests/conformance.rs`.
#![expect(clippy::print_stderr, reason = "a skipped test says so")]
#![expect(clippy::disallowed_methods, reason = "tests read the environment, and listen on a thread")]

#[path = "mcp/harness.rs"]
#[expect(dead_code, reason = "the other test programs use the rest of it")]
mod harness;
#[path = "mcp/hostile.rs"]
mod hostile;
#[path = "mcp/leftovers.rs"]
mod leftovers;
#[path = "mcp/real.rs"]
mod real;
#[path = "mcp/relay.rs"]
mod relay;
#[path = "mcp/scenario.rs"]
#[expect(dead_code, reason = "the other test program uses the rest of it")]
mod scenario;
#[path = "mcp/wire.rs"]
mod wire;
