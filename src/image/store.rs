//! Blobs, layers, configs and names on disk.
