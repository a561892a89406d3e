//! What this host can do, what follows, and the line that fixes it.
