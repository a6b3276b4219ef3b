//! The `astromech` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(astromech::cli::main())
}
