//! The last steps inside: masks, rlimits, ids, capabilities, Landlock, seccomp, exec.
