//! Delegated cgroup v2 folders: limits, usage, kill.
