//! Registries as a person meets them: `pull`, `push`, `login`, `search`, and a `run` that fetches.
//!
//! Two kinds of registry: Debian's `docker-registry`, whose answers are not ours, and one made here that
//! breaks in every way it is told to. `skopeo` looks at the same images from outside.

#[path = "../behaviour/harness.rs"]
#[expect(dead_code, reason = "it serves `tests/behaviour` too")]
mod harness;
#[path = "../probe/judge.rs"]
#[expect(dead_code, reason = "golden lists are judged by the other test programs")]
mod judge;

mod fake;
mod faults;
mod image;
mod login;
mod real;
mod signatures;
mod whole;
