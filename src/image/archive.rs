//! docker-archive, OCI archive and plain tar into the store.
