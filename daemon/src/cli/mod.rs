//! The command line. Exit codes: 0 done, 1 failed or some records were bad, 2 the command line or the configuration is wrong.

mod bundle;
mod check;
mod demo;
mod dlq;
pub mod failure;
mod generations;
mod hits;
mod index;
mod metrics;
mod offsets;
pub mod output;
mod plan;
mod rescore;
mod run;
mod schema;
mod search;
mod signals;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use astromech_schemas::Kind;
use clap::{Args, Parser, Subcommand};

pub use index::{IndexReport, Indexing, index_file};
pub use signals::stop_on_signals;

use crate::config::Config;
use crate::telemetry::init_log;
use failure::EXIT_OK;

/// Keeps a Qdrant index of Chinese articles and pictures in step with Kafka, embedded with R2D2.
#[derive(Debug, Parser)]
#[command(name = "astromech", version, arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 done; 1 failed, or some records were bad; 2 the command line or the configuration is wrong."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon: Kafka in, index and results out, HTTP beside it.
    Run {
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Index a file of messages, one JSON object a line, without Kafka; {"delete": {"kind": …, "id": …, "version": …}} deletes an item. A
    /// version that is lacking is the line's number.
    Index {
        #[command(flatten)]
        config: ConfigArg,
        /// Kind of the messages that don't name their own.
        #[arg(long, value_parser = parse_kind)]
        kind: Option<Kind>,
        /// The file.
        file: PathBuf,
    },
    /// Search the index by a text or by a picture.
    Search(search::SearchArgs),
    /// Score candidates against a text, a picture or an item by the single tower.
    Rescore(rescore::RescoreArgs),
    /// Index the demo set once, print example queries and their hits, and serve the search page.
    Demo(demo::DemoArgs),
    /// Models beside the live one: list them, promote one, roll back, drop one. Asks a running daemon.
    Generations(generations::GenerationsArgs),
    /// Released bundles: bring one out of the registry into a folder.
    Bundle(bundle::BundleArgs),
    /// Dead letters: list them, show one, send them again once their cause is mended.
    Dlq(dlq::DlqArgs),
    /// Consumer groups: where each partition is, and setting a group anew. Asks the brokers.
    Offsets(offsets::OffsetsArgs),
    /// Say what a start would create or change in Kafka, the index and the schema registry. Connects, and changes nothing.
    #[command(after_help = plan::AFTER_HELP)]
    Plan(plan::PlanArgs),
    /// Check a configuration: every mistake at once, with line, field and fix. Connects to nothing.
    CheckConfig {
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Print the JSON Schemas of messages, results, the manifest and the HTTP bodies.
    Schema {
        /// Only this one, for example `article`.
        name: Option<String>,
    },
}

#[derive(Debug, Args)]
struct ConfigArg {
    /// The configuration, a TOML file.
    #[arg(long = "config", short, value_name = "FILE", env = "ASTROMECH_CONFIG")]
    config_file: PathBuf,
}

impl ConfigArg {
    /// Reads the configuration.
    fn read(&self) -> Result<Config> {
        Ok(Config::load(&self.config_file)?)
    }

    /// Reads the configuration and sets logging up.
    fn load(&self) -> Result<Config> {
        let config = self.read()?;
        init_log(config.log.format, &config.log.level).context("no log")?;
        Ok(config)
    }
}

fn parse_kind(text: &str) -> Result<Kind, String> {
    text.parse()
}

/// The program: reads the command line, runs the command, prints one error. Returns the exit code.
pub fn main() -> u8 {
    match dispatch(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => failure::report(&error),
    }
}

fn dispatch(command: Command) -> Result<u8> {
    match command {
        Command::Run { config } => {
            let config = config.read()?;
            block_on(async { Box::pin(run::run(config)).await.map(|()| EXIT_OK) })
        }
        Command::Index { config, kind, file } => {
            let config = config.load()?;
            block_on(index::run(config, &file, kind))
        }
        Command::Search(args) => {
            let config = args.config.load()?;
            block_on(search::run(config, args))
        }
        Command::Rescore(args) => {
            let config = args.config.load()?;
            block_on(rescore::run(config, args))
        }
        Command::Demo(args) => {
            let config = args.config.load()?;
            block_on(demo::run(config, args))
        }
        Command::Generations(args) => block_on(generations::run(args)),
        Command::Bundle(args) => block_on(bundle::run(args)),
        Command::Dlq(args) => block_on(dlq::run(args)),
        Command::Offsets(args) => block_on(offsets::run(args)),
        Command::Plan(args) => block_on(plan::run(args)),
        Command::CheckConfig { config } => check::run(&config.config_file),
        Command::Schema { name } => schema::run(name.as_deref()),
    }
}

/// Runs `future` on a runtime with a thread a core. What still blocks at the end is left behind: everything that counts is committed or closed.
fn block_on(future: impl Future<Output = Result<u8>>) -> Result<u8> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    let result = runtime.block_on(future);
    runtime.shutdown_background();
    result
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
