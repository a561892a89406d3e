//! Pure: What was asked: command, mounts, environment, user, limits, walls.
