use std::path::PathBuf;

use anyhow::Context as _;
use astromech_registry::{Registry, RegistryOptions, Signer};
use astromech_trainer::announce::{AnnounceOptions, announce};

/// Publishes a bundle in a registry and makes it the current one: files first, the pointer last. Prints the release as JSON.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The bundle.
    #[arg(long)]
    bundle: PathBuf,
    /// The registry: a folder, file:///folder or s3://bucket/prefix. Keys of object storage come from AWS_ACCESS_KEY_ID and
    /// AWS_SECRET_ACCESS_KEY, or the machine's role.
    #[arg(long, env = "ASTROMECH_REGISTRY")]
    registry: String,
    /// Address of object storage that is not Amazon's.
    #[arg(long)]
    endpoint: Option<String>,
    /// Region of the object storage.
    #[arg(long)]
    region: Option<String>,
    /// Speak to an http:// endpoint, unencrypted.
    #[arg(long)]
    allow_http: bool,
    /// Secret key that signs the release; ASTROMECH_KEY_PASSWORD is its password, where it has one.
    #[arg(long)]
    key: Option<PathBuf>,
    /// Releases to keep, the newest; the current one is kept in any case. Without it all are.
    #[arg(long)]
    keep: Option<usize>,
    /// Announce the release on Kafka: host:port, several by commas.
    #[arg(long)]
    announce_brokers: Option<String>,
    /// Topic of the announcement.
    #[arg(long, default_value = "models")]
    announce_topic: String,
    /// Further settings of the Kafka client, name=value. Repeatable.
    #[arg(long, value_parser = property)]
    announce_property: Vec<(String, String)>,
}

fn property(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("`{text}` is not name=value"))?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Runs the subcommand.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let signer = match &args.key {
        Some(path) => Some(Signer::from_file(path, super::keygen::password()?.as_deref())?),
        None => None,
    };
    let registry = Registry::open(&RegistryOptions {
        endpoint: args.endpoint.clone(),
        region: args.region.clone(),
        allow_http: args.allow_http,
        create: true,
        ..RegistryOptions::new(&args.registry)
    })?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let release = runtime.block_on(registry.publish(&args.bundle, signer.as_ref()))?;
    if let Some(keep) = args.keep {
        let removed =
            runtime.block_on(registry.retain(keep)).context("the bundle is published; old releases were not removed")?;
        tracing::info!(removed = removed.len(), "old releases removed");
    }
    if let Some(brokers) = &args.announce_brokers {
        let options = AnnounceOptions {
            brokers: brokers.clone(),
            topic: args.announce_topic.clone(),
            properties: args.announce_property.clone(),
        };
        runtime.block_on(announce(&options, registry.url(), &release))?;
        tracing::info!(topic = options.topic, "announced");
    }
    #[expect(clippy::print_stdout, reason = "the release is what the command is for")]
    {
        println!("{}", serde_json::to_string_pretty(&release)?);
    }
    Ok(())
}
