//! Pure: what happens while images are pulled and pushed. It does not say how that is shown.

use crate::names::{Digest, ImageReference};

/// Who is told. Layers come in parallel, so it is called from several threads.
pub type Tell<'a> = &'a (dyn Fn(Event<'_>) + Sync);

/// What just happened.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// This image is being pulled.
    Pulling(&'a ImageReference),
    /// An image is whole and named.
    Pulled {
        /// Which.
        reference: &'a ImageReference,
        /// The digest of what the name stands for in the registry.
        digest: &'a Digest,
        /// Something came that was not here before.
        is_new: bool,
    },
    /// Images go to this repository.
    Pushing(&'a ImageReference),
    /// An image has arrived in the registry.
    Pushed {
        /// Which.
        reference: &'a ImageReference,
        /// The digest of its manifest.
        digest: &'a Digest,
        /// The size of its manifest, in bytes.
        bytes: u64,
    },
    /// A layer goes on.
    Layer {
        /// The digest it is called by.
        digest: &'a Digest,
        /// How it stands.
        step: Step<'a>,
    },
}

/// How a layer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// It will come.
    Waiting,
    /// So many bytes came.
    Downloading {
        /// So far.
        done_bytes: u64,
        /// In all.
        bytes: u64,
    },
    /// Every byte came.
    Downloaded,
    /// It is in the store.
    Pulled,
    /// It was in the store before.
    Exists,
    /// The connection broke, and will be tried again.
    Retrying {
        /// In so many seconds.
        after_s: u64,
        /// Because of this.
        reason: &'a str,
    },
    /// It will go.
    Preparing,
    /// So many bytes went.
    Uploading {
        /// So far.
        done_bytes: u64,
        /// In all.
        bytes: u64,
    },
    /// It has arrived.
    Pushed,
    /// The registry had it.
    ThereAlready,
    /// The registry had it in this repository, and gave it.
    Mounted(&'a str),
}
