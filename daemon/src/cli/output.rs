//! The one place that prints: data on standard output, everything for a person on standard error.

use std::io::Write as _;

/// A line of data. A reader that has gone away (`astromech … | head`) is no error.
pub fn data(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// A line for a person.
pub fn note(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
