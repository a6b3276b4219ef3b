//! `astromech generations`: asks a running daemon over HTTP, because it alone runs the generations.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use reqwest::{Client, Method};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::failure::EXIT_OK;
use super::output;
use crate::clock::unix_ms;
use crate::failure::{Usage, hinted};
use crate::generation::{GenerationStatus, Rollout};

/// Longest wait for an answer: a drop ends when the generation has left its group.
const ANSWER_MAX: Duration = Duration::from_mins(1);
const HOUR_MS: u64 = 3_600_000;

#[derive(Debug, Args)]
pub(super) struct GenerationsArgs {
    /// Address of a daemon.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080", env = "ASTROMECH_URL", global = true)]
    url: String,
    /// File with the API key, where the daemon wants one.
    #[arg(long, value_name = "FILE", env = "ASTROMECH_API_KEY_FILE", global = true)]
    api_key_file: Option<PathBuf>,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// What there is: which one is live, how far the next one is, what was refused and why.
    List {
        /// Print the answer as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make a kept generation live; the first digits of its fingerprint are enough.
    Promote {
        /// The fingerprint.
        fingerprint: String,
    },
    /// Go back to the generation that was live before.
    Rollback,
    /// Stop a generation that is not live, and delete its collections.
    Drop {
        /// The fingerprint.
        fingerprint: String,
    },
}

/// Runs the command; returns the exit code.
///
/// # Errors
/// The daemon does not answer, or refuses.
pub(super) async fn run(args: GenerationsArgs) -> Result<u8> {
    let daemon = Daemon::new(&args)?;
    match args.what {
        What::List { json } => {
            let rollout: Rollout = daemon.ask(Method::GET, "").await?;
            if json {
                output::data(&serde_json::to_string_pretty(&rollout).context("the answer is no JSON")?);
            } else {
                print(&rollout);
            }
        }
        What::Promote { fingerprint } => changed("live", &daemon.change(&format!("/{fingerprint}/promote")).await?),
        What::Rollback => changed("live", &daemon.change("/rollback").await?),
        What::Drop { fingerprint } => changed("dropped", &daemon.change(&format!("/{fingerprint}/drop")).await?),
    }
    Ok(EXIT_OK)
}

struct Daemon {
    client: Client,
    base: String,
    key: Option<String>,
}

impl Daemon {
    fn new(args: &GenerationsArgs) -> Result<Self> {
        let key = args.api_key_file.as_ref().map(|file| {
            std::fs::read_to_string(file).map_err(|error| Usage {
                problem: format!("{} can't be read: {error}", file.display()),
                hint: "name a file that this user may read, with the key in it".to_owned(),
            })
        });
        // A process that already has a provider keeps it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().timeout(ANSWER_MAX).build().context("no HTTP client")?;
        let base = format!("{}/v1/generations", args.url.trim_end_matches('/'));
        Ok(Self { client, base, key: key.transpose()?.map(|key| key.trim().to_owned()) })
    }

    async fn change(&self, path: &str) -> Result<Value> {
        self.ask(Method::POST, path).await
    }

    async fn ask<T: DeserializeOwned>(&self, method: Method, path: &str) -> Result<T> {
        let url = format!("{}{path}", self.base);
        let mut request = self.client.request(method, &url);
        if let Some(key) = &self.key {
            request = request.bearer_auth(key);
        }
        let answer = request.send().await;
        let answer =
            answer.with_context(|| hinted(format!("{url} was not asked"), "give the address of a running daemon with --url"))?;
        let status = answer.status();
        let body = answer.bytes().await.context("the answer was cut off")?;
        if !status.is_success() {
            let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
            bail!("{status}: {}", problem["detail"].as_str().unwrap_or("no reason was given"));
        }
        serde_json::from_slice(&body).context("the answer is no JSON")
    }
}

fn changed(what: &str, answer: &Value) {
    output::data(&format!("{what}: {}", answer["fingerprint"].as_str().unwrap_or_default()));
}

fn print(rollout: &Rollout) {
    for generation in &rollout.generations {
        output::data(&line(generation));
    }
    for refusal in &rollout.refused {
        output::data(&format!("{}  refused    {}: {}", refusal.fingerprint.short(), refusal.bundle, refusal.reason));
    }
    if let Some(problem) = &rollout.registry_problem {
        output::data(&format!("the registry can't be read: {problem}"));
    }
}

/// One generation in one line.
fn line(generation: &GenerationStatus) -> String {
    let points: Vec<String> = generation.points.iter().map(|(kind, points)| format!("{points} {kind}")).collect();
    let mut said = vec![format!(
        "{}  {:<9}  {}  {}",
        generation.fingerprint.short(),
        generation.state.as_str(),
        generation.bundle,
        points.join(", ")
    )];
    said.extend(generation.waits_for.as_ref().map(|waits_for| format!("waits for {waits_for}")));
    said.extend(generation.eta_seconds.filter(|eta| *eta > 0).map(|eta| format!("about {eta} s to the live head")));
    said.extend(generation.since_ms.map(|since| format!("for {:.1} h", unix_ms().saturating_sub(since) as f64 / HOUR_MS as f64)));
    said.join("; ")
}
