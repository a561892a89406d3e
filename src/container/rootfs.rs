//! The tree a container sees: overlay or the host's system folders, and mounts by descriptor.
