//! Pure: subuid and subgid text into uid and gid mappings.
