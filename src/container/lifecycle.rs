//! Start, wait, signal, clean up: asked from outside.
