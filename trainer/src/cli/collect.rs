use std::path::PathBuf;

use anyhow::Context as _;
use astromech_schemas::Kind;
use astromech_settings::{Document, SettingErrors, checked, settings};
use astromech_trainer::collect::{Bound, BrokerConfig, ClickTopic, CollectConfig, ItemTopic, VersionSource, collect};
use astromech_trainer::stop::StopFlag;

/// Makes a snapshot of topics to train on: items with pictures, their newest versions, without the deleted ones, filtered and freed of
/// duplicates by the click log; webdataset shards and a manifest with offsets, counts, rejects and hashes. Killed or stopped, the same
/// command goes on.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// TOML with `[kafka]` and `[collect]` (configs/refresh.toml is a commented one); the options here come before it.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Kafka brokers, host:port, several with commas.
    #[arg(long)]
    brokers: Option<String>,
    /// Property of librdkafka: NAME=VALUE. Repeatable.
    #[arg(long = "property", value_name = "NAME=VALUE", value_parser = pair)]
    properties: Vec<(String, String)>,
    /// Property whose value is in a file, such as a password: NAME=PATH. Repeatable.
    #[arg(long = "property-file", value_name = "NAME=PATH", value_parser = pair)]
    property_files: Vec<(String, String)>,
    /// Topic of items: TOPIC, or TOPIC=article, =image, =ad where its messages name no kind. Repeatable.
    #[arg(long = "items", value_name = "TOPIC[=KIND]")]
    items: Vec<String>,
    /// Where versions of the items named by --items come from: field, timestamp or offset.
    #[arg(long, default_value = "field", value_parser = version)]
    version: VersionSource,
    /// Topic of the click log.
    #[arg(long)]
    clicks: Option<String>,
    /// Where the click log begins, where not at --from.
    #[arg(long, requires = "clicks")]
    clicks_from: Option<Bound>,
    /// Where to begin: earliest, latest, a time as 2026-01-31T00:00:00Z, or the manifest.json of a snapshot to begin where it ended.
    #[arg(long)]
    from: Option<Bound>,
    /// Where to end, fixed at the start; as --from.
    #[arg(long)]
    to: Option<Bound>,
    /// Folder under which pictures by `file:` may lie. Repeatable.
    #[arg(long = "file-root")]
    file_roots: Vec<PathBuf>,
    /// Pictures held out of training, in shards of their own.
    #[arg(long)]
    held_out: Option<usize>,
    /// The new folder.
    #[arg(long)]
    out: PathBuf,
}

settings! {
    /// The sections of a file that are of use here; the others are the refresh job's.
    struct File {
        /// The broker.
        kafka: BrokerConfig;
        /// The snapshot.
        collect: CollectConfig;
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn version(text: &str) -> Result<VersionSource, String> {
    match text {
        "field" => Ok(VersionSource::Field),
        "timestamp" => Ok(VersionSource::Timestamp),
        "offset" => Ok(VersionSource::Offset),
        _ => Err("give field, timestamp or offset".to_owned()),
    }
}

impl Args {
    fn configuration(&self) -> anyhow::Result<CollectConfig> {
        let mut config = match &self.config {
            Some(path) => {
                let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
                let (mut document, mut errors) = Document::parse(&text);
                document.keep(&["kafka", "collect"]);
                // Before the file is checked: what the command line says need not stand in it.
                errors.extend(self.brokers.as_ref().and_then(|brokers| document.set(&format!("kafka.brokers={brokers}"))));
                let file: File = checked(&document, errors, "configs/refresh.toml", |_, _, _| {})
                    .map_err(|errors| SettingErrors { file: path.clone(), errors })?;
                CollectConfig { broker: file.kafka, ..file.collect }
            }
            None => CollectConfig::new(BrokerConfig::default(), Vec::new()),
        };
        if let Some(brokers) = &self.brokers {
            config.broker.brokers.clone_from(brokers);
        }
        config.broker.properties.extend(self.properties.iter().cloned());
        config.broker.property_files.extend(self.property_files.iter().map(|(name, path)| (name.clone(), path.into())));
        if !self.items.is_empty() {
            config.items = self.items.iter().map(|text| self.item_topic(text)).collect::<anyhow::Result<_>>()?;
        }
        if let Some(topic) = &self.clicks {
            config.clicks = Some(ClickTopic { topic: topic.clone(), from: self.clicks_from.clone() });
        }
        config.from = self.from.clone().unwrap_or(config.from);
        config.to = self.to.clone().unwrap_or(config.to);
        config.held_out = self.held_out.unwrap_or(config.held_out);
        if !self.file_roots.is_empty() {
            config.file_roots.clone_from(&self.file_roots);
        }
        Ok(config)
    }

    fn item_topic(&self, text: &str) -> anyhow::Result<ItemTopic> {
        let (topic, kind) = match text.split_once('=') {
            Some((topic, kind)) => (topic, Some(kind.parse::<Kind>().map_err(anyhow::Error::msg)?)),
            None => (text, None),
        };
        Ok(ItemTopic { topic: topic.to_owned(), kind, version: self.version })
    }
}

/// Runs the subcommand.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let config = args.configuration()?;
    let stop = StopFlag::on_signals().context("signal handlers")?;
    let manifest = collect(&config, &args.out, &stop)?;
    tracing::info!(
        records = manifest.records.train,
        held_out = manifest.records.held_out,
        items = manifest.counts.items,
        deleted = manifest.counts.deleted,
        rejects = ?manifest.rejects,
        "written to {}",
        args.out.display()
    );
    Ok(())
}
