//! A few threads that share numbered pieces of work, taken in order, and end with the call that made them.
//!
//! It knows nothing of the work. Threads live as long as one call, so an idle server has none of them.

use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::workspace::patience::{Ended, Patience, Stop};

/// Threads of one call.
const HANDS_MAX: usize = 8;
/// Pieces that one thread should at least have, or it is not worth starting.
const PIECES_PER_HAND: usize = 2;

/// How many threads one call may have: the processors, within a limit.
pub fn hands() -> usize {
    std::thread::available_parallelism().map_or(1, NonZeroUsize::get).min(HANDS_MAX)
}

/// Does the pieces `0..pieces` with a few threads. `begin` makes what one thread keeps, `work` does one piece with
/// it and gives its result, or a reason for all to stop. Pieces are taken in order, so that when one result is there
/// all earlier ones are or come. Gives the results by number, and how it ended.
pub fn share<S, R: Send>(
    pieces: usize,
    patience: &Patience<'_>,
    begin: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize) -> (R, Option<Ended>) + Sync,
) -> (Vec<(usize, R)>, Ended) {
    let (next, stop) = (AtomicUsize::new(0), Stop::default());
    let results = Mutex::new(Vec::with_capacity(pieces.min(4096)));
    let hand = || {
        let mut own = Vec::new();
        let mut kept = begin();
        while !stop.is_set() {
            let piece = next.fetch_add(1, Ordering::Relaxed);
            if piece >= pieces {
                break;
            }
            if let Some(why) = patience.over() {
                stop.set(why);
                break;
            }
            let (result, why) = work(&mut kept, piece);
            own.push((piece, result));
            why.into_iter().for_each(|why| stop.set(why));
            patience.tell(piece as u64 + 1, Some(pieces as u64));
        }
        results.lock().unwrap_or_else(std::sync::PoisonError::into_inner).extend(own);
    };
    let more = hands().min(pieces / PIECES_PER_HAND).saturating_sub(1);
    #[expect(clippy::disallowed_methods, reason = "who searches a workspace never calls libcontainer")]
    std::thread::scope(|scope| {
        for _ in 0..more {
            scope.spawn(hand);
        }
        hand();
    });
    let mut results = results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    results.sort_unstable_by_key(|(piece, _)| *piece);
    (results, stop.reason())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_is_done_once_and_a_reason_stops_all() {
        let endless = Patience::endless();
        let (done, ended) = share(1000, &endless, || (), |(), n| (n * 2, None));
        assert_eq!(ended, Ended::Whole);
        assert!(done.iter().enumerate().all(|(n, (piece, result))| *piece == n && *result == n * 2));
        let stop_at = |(): &mut (), n: usize| (n, (n == 10).then_some(Ended::Enough));
        let (done, ended) = share(100_000, &endless, || (), stop_at);
        assert_eq!(ended, Ended::Enough);
        let numbers: Vec<_> = done.iter().map(|(n, _)| *n).collect();
        assert_eq!(numbers, (0..numbers.len()).collect::<Vec<_>>(), "nothing before the end is missing");
        assert!(numbers.len() > 10);
    }

    #[test]
    fn who_has_no_patience_gets_nothing() {
        let patience = Patience::new(None, &|| true, &|_, _| {});
        let (done, ended) = share(10, &patience, || (), |(), n| (n, None));
        assert_eq!((done.len(), ended), (0, Ended::Cancelled));
    }
}
