//! Pure: What may be typed, nothing else.
