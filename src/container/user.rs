//! Pure: Who `USER` is: passwd and group text into ids.
