//! How long somebody waits for an answer, and what is told meanwhile: deadline, cancellation, progress.
//!
//! It stops nothing by itself: whoever works asks it between two steps, and says afterwards how far it came.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

/// How far work came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// To its end.
    Whole,
    /// To what was asked for: a limit of results.
    Enough,
    /// To a limit of this server: entries, depth, bytes.
    TooMuch,
    /// To its deadline.
    TimedOut,
    /// To the moment in which it was taken back.
    Cancelled,
}

impl Ended {
    /// The word on the wire.
    pub fn word(self) -> &'static str {
        match self {
            Self::Whole => "complete",
            Self::Enough => "limit",
            Self::TooMuch => "too_large",
            Self::TimedOut => "timeout",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What the one who waits has to say. Asked by several threads at once.
pub struct Patience<'a> {
    until: Option<Instant>,
    cancelled: &'a (dyn Fn() -> bool + Sync),
    /// Told how much is done, and of how much where that is known.
    progress: &'a (dyn Fn(u64, Option<u64>) + Sync),
}

impl<'a> Patience<'a> {
    /// With a deadline from now on, and what the caller has to say.
    pub fn new(
        wait: Option<Duration>,
        cancelled: &'a (dyn Fn() -> bool + Sync),
        progress: &'a (dyn Fn(u64, Option<u64>) + Sync),
    ) -> Self {
        Self { until: wait.and_then(|wait| Instant::now().checked_add(wait)), cancelled, progress }
    }

    /// Somebody who waits as long as it takes.
    pub fn endless() -> Patience<'static> {
        Patience { until: None, cancelled: &|| false, progress: &|_, _| {} }
    }

    /// Why to stop now, if there is a reason.
    pub fn over(&self) -> Option<Ended> {
        if (self.cancelled)() {
            return Some(Ended::Cancelled);
        }
        self.until.is_some_and(|until| Instant::now() >= until).then_some(Ended::TimedOut)
    }

    /// The moment after which nobody waits.
    pub fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Tells how far the work is.
    pub fn tell(&self, done: u64, of: Option<u64>) {
        (self.progress)(done, of);
    }
}

/// The first reason to stop, among several threads.
#[derive(Debug, Default)]
pub struct Stop(AtomicU8);

impl Stop {
    /// Stops all, unless somebody has already.
    pub fn set(&self, why: Ended) {
        let number = match why {
            Ended::Whole => return,
            Ended::Enough => 1,
            Ended::TooMuch => 2,
            Ended::TimedOut => 3,
            Ended::Cancelled => 4,
        };
        // Who comes second keeps the first reason.
        let _first = self.0.compare_exchange(0, number, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Whether to stop.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    /// Why it stopped.
    pub fn reason(&self) -> Ended {
        match self.0.load(Ordering::Relaxed) {
            0 => Ended::Whole,
            1 => Ended::Enough,
            2 => Ended::TooMuch,
            3 => Ended::TimedOut,
            _ => Ended::Cancelled,
        }
    }
}
