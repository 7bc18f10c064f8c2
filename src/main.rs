//! The thin binary: arguments in, exit code out.
fn main() {}
