//! The walls, seen from inside and from outside: what a sandbox lets in, what attacks that were real once come
//! to now, and what is left when a process of ours is killed.
//!
//! The probe, run inside, is the oracle, never our own report. Nothing here measures time.

#[path = "behaviour/harness.rs"]
#[expect(dead_code, reason = "the other test program uses the rest of it")]
mod harness;
#[path = "probe/judge.rs"]
mod judge;
#[path = "walls/attacks.rs"]
mod attacks;
#[path = "walls/crash.rs"]
mod crash;
#[path = "walls/hostile.rs"]
mod hostile;
#[path = "walls/inside.rs"]
mod inside;
#[path = "walls/payload.rs"]
mod payload;
