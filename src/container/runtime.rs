//! The only caller of libcontainer.
