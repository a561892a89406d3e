//! The stage: the process that makes the namespaces and holds the container.
