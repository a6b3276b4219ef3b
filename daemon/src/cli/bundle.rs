//! `astromech bundle fetch`: a release of the registry into a folder, for whatever runs before a daemon.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use astromech_registry::{Registry, RegistryError, RegistryOptions, Trust, bundle_at};
use astromech_schemas::{Fingerprint, Manifest, Release};
use clap::{Args, Subcommand};

use super::failure::EXIT_OK;
use super::output;
use crate::config::Config;
use crate::failure::{Usage, hinted};
use crate::generation::registry_options;

#[derive(Debug, Args)]
pub(super) struct BundleArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Bring a released bundle into a folder: whole, with every sum and the signature checked, or not at all. A whole bundle that is there
    /// already stays, and the registry is not asked. For what runs before a daemon, as an init container does.
    Fetch(FetchArgs),
}

#[derive(Debug, Args)]
struct FetchArgs {
    /// The configuration, a TOML file: its registry ([rollout]) and bundle.path count where they are not given here.
    #[arg(long = "config", short, value_name = "FILE", env = "ASTROMECH_CONFIG")]
    config_file: Option<PathBuf>,
    /// The registry: a folder, file:///folder or s3://bucket/prefix. Keys of object storage come from AWS_ACCESS_KEY_ID and
    /// AWS_SECRET_ACCESS_KEY, or the machine's role.
    #[arg(long, value_name = "URL", env = "ASTROMECH_REGISTRY")]
    registry: Option<String>,
    /// Address of object storage that is not Amazon's.
    #[arg(long, value_name = "URL", requires = "registry")]
    endpoint: Option<String>,
    /// Region of the object storage.
    #[arg(long, requires = "registry")]
    region: Option<String>,
    /// Speak to an http:// endpoint, unencrypted.
    #[arg(long, requires = "registry")]
    allow_http: bool,
    /// minisign public key that the release must be signed with; else the configuration's, and without one unsigned releases are taken.
    #[arg(long, value_name = "FILE")]
    public_key: Option<PathBuf>,
    /// Folder that becomes the bundle. Not the root of a volume: one inside it.
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// This release, by its fingerprint or the first digits of it; else the current one.
    #[arg(long)]
    fingerprint: Option<String>,
    /// Replace a bundle that is there already by the current release, where that is another.
    #[arg(long, conflicts_with = "fingerprint")]
    update: bool,
}

/// Runs the command; returns the exit code.
///
/// # Errors
/// The configuration or the folder is wrong; the registry does not answer, or holds no such release, or a damaged one.
pub(super) async fn run(args: BundleArgs) -> Result<u8> {
    let What::Fetch(args) = args.what;
    let plan = Plan::of(args)?;
    let held = held(&plan.to).await?;
    if let Some(manifest) = &held
        && plan.suffices(manifest)
    {
        said(&manifest.fingerprint, &plan.to, "there already");
        return Ok(EXIT_OK);
    }
    let not_fetched =
        || hinted("the bundle was not fetched", "look at the registry's address, keys and rights (docs/REGISTRY.md)");
    let registry = Registry::open(&plan.registry).with_context(not_fetched)?;
    let release = plan.release(&registry).await.with_context(not_fetched)?;
    let fetched = registry.fetch_to(&release, &plan.to, &plan.trust).await.with_context(not_fetched)?;
    let what = match (fetched, held) {
        (false, _) => "there already",
        (true, Some(old)) if old.fingerprint != release.fingerprint => &format!("fetched, in place of {}", old.fingerprint),
        (true, _) => "fetched",
    };
    said(&release.fingerprint, &plan.to, what);
    Ok(EXIT_OK)
}

fn said(fingerprint: &Fingerprint, to: &Path, what: &str) {
    output::data(&format!("{fingerprint}  {}: {what}", to.display()));
}

/// What is to be brought from where.
struct Plan {
    registry: RegistryOptions,
    trust: Trust,
    to: PathBuf,
    fingerprint: Option<String>,
    update: bool,
}

impl Plan {
    fn of(args: FetchArgs) -> Result<Self> {
        // Not by `load`, which looks whether the bundle is there.
        let config = args.config_file.as_deref().map(Config::load_before_its_folders).transpose()?;
        let rollout = config.as_ref().and_then(|config| config.rollout.as_ref());
        let registry = match (args.registry, rollout) {
            (Some(url), _) => RegistryOptions {
                endpoint: args.endpoint,
                region: args.region,
                allow_http: args.allow_http,
                ..RegistryOptions::new(url)
            },
            (None, Some(rollout)) => registry_options(&rollout.registry),
            (None, None) => {
                return Err(usage("no registry is named", "give --registry, or --config with rollout.registry").into());
            }
        };
        let trust = match (args.public_key, rollout.and_then(|rollout| rollout.public_key.as_ref())) {
            (Some(file), _) => Trust::key_file(&file)?,
            (None, Some(key)) => Trust::keys(&[key])?,
            (None, None) => Trust::anyone(),
        };
        let to = args.to.or_else(|| config.map(|config| config.bundle.path));
        let to = to.ok_or_else(|| usage("no folder is named", "give --to, or --config with bundle.path"))?;
        if let Some(digits) = &args.fingerprint
            && (digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_hexdigit() && !digit.is_ascii_uppercase()))
        {
            return Err(usage(
                format!("`{digits}` is no fingerprint"),
                "give the lower-case hexadecimal digits that it begins with",
            )
            .into());
        }
        Ok(Self { registry, trust, to, fingerprint: args.fingerprint, update: args.update })
    }

    /// Whether a whole bundle that is there will do.
    fn suffices(&self, manifest: &Manifest) -> bool {
        match &self.fingerprint {
            Some(digits) => manifest.fingerprint.as_str().starts_with(digits),
            None => !self.update,
        }
    }

    async fn release(&self, registry: &Registry) -> Result<Release> {
        let Some(digits) = &self.fingerprint else {
            let none = || format!("{} holds no release yet: publish one", registry.url());
            return registry.current().await?.with_context(none);
        };
        if let Ok(fingerprint) = Fingerprint::try_from(digits.clone()) {
            let none = || RegistryError::NoRelease { fingerprint: fingerprint.clone() };
            return Ok(registry.release(&fingerprint).await?.ok_or_else(none)?);
        }
        let mut fits = registry.list().await?;
        fits.retain(|release| release.fingerprint.as_str().starts_with(digits));
        match (fits.pop(), fits.len()) {
            (Some(release), 0) => Ok(release),
            (None, _) => anyhow::bail!("{} holds no release whose fingerprint begins with {digits}", registry.url()),
            (Some(_), more) => anyhow::bail!("{} releases begin with {digits}: give more digits", more + 1),
        }
    }
}

/// The whole bundle in `to`; none where there is none, or a damaged one.
///
/// # Errors
/// Something else is there, which is not ours to replace; it can't be read.
async fn held(to: &Path) -> Result<Option<Manifest>> {
    let folder = to.to_owned();
    let found = tokio::task::spawn_blocking(move || bundle_at(&folder)).await.context("reading the folder was interrupted")?;
    match found {
        Ok(manifest) => Ok(manifest),
        Err(RegistryError::NoBundle { path }) => {
            let hint = "name a folder that is not there yet, that is empty, or that holds a bundle";
            Err(usage(format!("{} holds something that is no bundle", path.display()), hint).into())
        }
        Err(error @ RegistryError::Io { .. }) => Err(error).context("the folder was not looked at"),
        Err(error) => {
            output::note(&format!("{} holds a damaged bundle, which is replaced: {error}", to.display()));
            Ok(None)
        }
    }
}

fn usage(problem: impl Into<String>, hint: &str) -> Usage {
    Usage { problem: problem.into(), hint: hint.to_owned() }
}
