//! What a program outside the system folders needs to start.
