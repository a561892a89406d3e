//! Pure: Options, image config and mappings into an OCI runtime spec.
