//! The workspace server as a client sees it: the reference server beside it, adversaries, deaths, parallel edits.
//!
//! Nothing here measures time. The reference is the npm package that `tests/mcp/setup` installs.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::print_stderr, reason = "a skipped test says so")]
#![expect(
    clippy::disallowed_methods,
    reason = "adversaries need threads; tests learn from the environment what must not be skipped"
)]

mod crash;
mod differential;
mod editing;
mod finding;
mod races;
mod server;
