//! What a person sees of cuddy, run as a program on a host of the test's own; files by what is looked at.
//!
//! The probe, run inside, is the oracle; what isolation must hold is judged in `tests/walls.rs`.

// What a test of either binary may use, one of them need not.
mod harness;
#[path = "../probe/judge.rs"]
#[expect(dead_code, reason = "golden lists are judged by the other test programs")]
mod judge;

mod environment;
mod identity;
mod mounts;
mod run;
mod streams;
