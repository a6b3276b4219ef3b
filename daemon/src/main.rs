//! The `astromech` command.
fn main() {}
