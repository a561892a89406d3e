//! What a person sees of cuddy, run as a program on a host of the test's own; files by what is looked at.
//!
//! The probe, run inside, is the oracle; what isolation must hold is judged in `tests/walls.rs`.

mod harness;
#[path = "../probe/judge.rs"]
#[expect(dead_code, reason = "golden lists are judged by the other test programs")]
mod judge;

mod archive;
mod environment;
mod identity;
mod images;
mod mounts;
mod run;
mod streams;
mod terminal;
