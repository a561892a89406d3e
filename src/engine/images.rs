//! Load, import, list.
