//! Chooses the role (command or stage) and maps the end to an exit code.

fn main() {}
