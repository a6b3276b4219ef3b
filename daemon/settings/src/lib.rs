//! One definition a configuration key. [`settings!`] declares sections as structs; from the one line of a key come its field, its
//! documentation (in rustdoc and in a printed reference, [`reference_toml`]), its type, range and default, and its reader.
//!
//! Reading ([`read`]) never stops at a mistake: all of them are reported at once, each with its line (or `--set`, where the command line
//! gave it), field and fix. Beside the values come the places of all keys by the same names, for checks between values:
//!
//! ```
//! use astromech_settings::kinds::int;
//! use astromech_settings::{Context, Document, read, settings};
//!
//! settings! {
//!     /// Limits.
//!     pub struct Limits {
//!         /// First wait, milliseconds.
//!         first_ms: u64 = 100 => int(1, 60_000);
//!         /// Longest wait, milliseconds.
//!         longest_ms: u64 = 10_000 => int(1, 60_000);
//!     }
//! }
//!
//! let (document, _) = Document::parse("first_ms = 20000\nlongest_ms = \"10 s\"\nlongst_ms = 1\n");
//! let context = Context { env: None, folder: std::path::Path::new(""), reference: "the manual" };
//! let (limits, at, mut errors) = read::<Limits>(&document, context);
//! if limits.first_ms > limits.longest_ms {
//!     errors.push(at.first_ms.error("more than longest_ms", "write less"));
//! }
//! let said: Vec<_> = errors.iter().map(ToString::to_string).collect();
//! assert_eq!(said, [
//!     "line 2: longest_ms: expected a whole number, found a string; fix: write a whole number",
//!     "line 3: longst_ms: unknown key; fix: did you mean `longest_ms`?",
//!     "line 1: first_ms: more than longest_ms; fix: write less",
//! ]);
//! ```
//!
//! A name that is not in the table does not compile, neither where a value is used nor where a mistake is placed:
//!
//! ```compile_fail,E0609
//! # use astromech_settings::kinds::int;
//! # use astromech_settings::{Context, Document, read, settings};
//! # settings! {
//! #     /// Limits.
//! #     pub struct Limits {
//! #         /// First wait, milliseconds.
//! #         first_ms: u64 = 100 => int(1, 60_000);
//! #     }
//! # }
//! # let context = Context { env: None, folder: std::path::Path::new(""), reference: "the manual" };
//! let (limits, at, _) = read::<Limits>(&Document::default(), context);
//! at.frist_ms.error("more than longest_ms", "write less");
//! ```
//!
//! Absent here: any key of Astromech's, and any I/O but reading the one file in [`load`].

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test"))]

mod define;
mod document;
mod error;
mod interpolate;
pub mod kinds;
mod nearest;
mod print;
mod shape;
mod table;
mod value;

pub use document::{Document, Node, Tree, Whole, Written};
pub use error::{SettingError, SettingErrors, Spot, in_order};
pub use interpolate::interpolate;
pub use kinds::Named;
pub use print::{fill_limits, reference_toml};
pub use shape::{Entry, Form, Need, SectionDoc, Shape, sections};
pub use table::{Flat, Part, Section, SectionAt, Table, TablesAt, WhenUsed, checked, defaults, load, read};
pub use value::{At, Context, Cursor, Env, Mapped, Mistake, OrNone, Parsed, Value, shape_of};
