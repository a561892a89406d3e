//! The host: its folders, its user, what it lets us do.
