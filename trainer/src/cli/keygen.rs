use std::path::PathBuf;

use anyhow::Context as _;
use astromech_registry::generate_key;

/// Name of the variable that holds the password of a secret key.
pub(super) const PASSWORD_VARIABLE: &str = "ASTROMECH_KEY_PASSWORD";

/// Makes a key pair that signs releases (minisign's format): the secret key, and beside it the public key in a file of the same name
/// with .pub appended. Prints the public key's line for the readers' configuration.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The secret key's file; it must not be there yet. ASTROMECH_KEY_PASSWORD encrypts it.
    #[arg(long)]
    out: PathBuf,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let (public, line) = generate_key(&args.out, password()?.as_deref())?;
    tracing::info!("secret key in {}, public key in {}", args.out.display(), public.display());
    #[expect(clippy::print_stdout, reason = "the key's line is what a reader's configuration wants")]
    {
        println!("{line}");
    }
    Ok(())
}

/// The password of a secret key, where the environment gives one.
pub(super) fn password() -> anyhow::Result<Option<String>> {
    match std::env::var(PASSWORD_VARIABLE) {
        Ok(password) => Ok(Some(password)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(error) => Err(error).context(PASSWORD_VARIABLE),
    }
}
