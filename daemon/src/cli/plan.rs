//! `astromech plan`: what a start would create or change, found out without changing anything.

mod kafka;
mod registry;

use anyhow::{Context as _, Result};
use astromech_schemas::Fingerprint;
use astromech_towers::Bundle;
use clap::Args;
use serde::Serialize;

use super::ConfigArg;
use super::failure::{EXIT_OK, EXIT_USAGE};
use super::output;
use crate::assemble::index_options;
use crate::config::{Config, OnLost, RolloutConfig};
use crate::failure::hinted;
use crate::generation::{Lost, Rollouts, group_name, kafka_of, look};
use crate::index::book::collection_name;
use crate::index::{self, Finding, IndexError, Space, Verdict};

/// A start would create or change something.
const EXIT_CHANGES: u8 = 10;

pub(super) const AFTER_HELP: &str = "Exit codes: 0 a start would change nothing; 10 it would create or change something; 2 something \
                                     is wrong; 1 Kafka or the index did not answer.";

#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    #[command(flatten)]
    config: ConfigArg,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A finding, and where it was found.
#[derive(Debug, Serialize)]
struct Line {
    part: &'static str,
    #[serde(flatten)]
    finding: Finding,
}

#[derive(Debug, Serialize)]
struct Plan {
    /// `right`, `change` or `wrong`.
    verdict: &'static str,
    findings: Vec<Line>,
}

/// Runs the command; returns the exit code.
///
/// # Errors
/// The bundle is damaged; Kafka, the index or the registry does not answer.
pub(super) async fn run(args: PlanArgs) -> Result<u8> {
    let config = args.config.load()?;
    let space = space(&config).await?;
    let detail = format!("{} ({}), {} numbers a vector", space.bundle, space.fingerprint, space.embedding_dim);
    let mut plan =
        vec![Line { part: "bundle", finding: Finding::new(config.bundle.path.display().to_string(), Verdict::Right, detail) }];
    let unanswered = || hinted("the index was not looked at", "is the server up? is index.qdrant.url its gRPC port?");
    let (found, group) = match &config.rollout {
        None => (index::survey(&index_options(&config, false), &space).await, None),
        Some(rollout) => rollouts(&config, rollout, &space).await,
    };
    let found = match found {
        Err(IndexError::Mismatch(problem)) => vec![Finding::new("index", Verdict::Wrong, String::from(problem))],
        found => found.with_context(unanswered)?,
    };
    let line = |part| move |finding| Line { part, finding };
    plan.extend(found.into_iter().map(line("index")));
    plan.extend(lost(&config, &space, group.as_deref()).await.with_context(unanswered)?.map(line("index")));
    if let Some(kafka) = &config.kafka {
        plan.extend(registry::survey(kafka).await?.into_iter().map(line("schema")));
    }
    let looked = tokio::task::spawn_blocking(move || kafka::survey(&config, group)).await;
    plan.extend(looked.context("asking the brokers failed")??.into_iter().map(line("kafka")));
    say(plan, args.json)
}

/// Whether the index is gone that the live generation's group has read into; where that is not the configured one, nothing is known of it.
async fn lost(config: &Config, space: &Space, group: Option<&str>) -> Result<Option<Finding>, IndexError> {
    let Some(kafka) = &config.kafka else { return Ok(None) };
    let kafka = kafka_of(config, kafka, &space.fingerprint);
    if group.is_some_and(|live| live != kafka.group) {
        return Ok(None);
    }
    let finding = |lost: Lost| match lost.on_lost() {
        OnLost::Refuse => Finding::new("index", Verdict::Wrong, lost.problem()),
        OnLost::Refill => {
            let detail = format!("the index was lost: group {} is set to the oldest records, and it is filled anew", kafka.group);
            Finding::new("index", Verdict::Change, detail)
        }
    };
    Ok(Lost::find(config, &kafka, space, false).await?.map(finding))
}

/// Reads and verifies the configured bundle; no tower starts.
async fn space(config: &Config) -> Result<Space> {
    let path = config.bundle.path.clone();
    let opened = tokio::task::spawn_blocking(move || Bundle::open(path)).await.context("the bundle was not read")?;
    let bundle = opened.with_context(|| hinted("the bundle was not opened", "check bundle.path"))?;
    let manifest = bundle.manifest;
    Ok(Space {
        fingerprint: manifest.fingerprint,
        embedding_dim: manifest.embedding_dim,
        similarity: manifest.similarity,
        bundle: manifest.name,
    })
}

/// With rollouts what is live may be another bundle than the configured one. Returns the live generation's group too.
async fn rollouts(
    config: &Config,
    rollout: &RolloutConfig,
    configured: &Space,
) -> (Result<Vec<Finding>, IndexError>, Option<String>) {
    let kafka_group = config.kafka.as_ref().map(|kafka| kafka.group.clone()).unwrap_or_default();
    let Rollouts { live, stored, published } = match look(config, rollout).await {
        Ok(looked) => looked,
        Err(error) => return (Err(error), None),
    };
    let live = live.unwrap_or_else(|| configured.fingerprint.clone());
    let group = Some(group_name(&kafka_group, &live));
    let mut findings = Vec::new();
    if live == configured.fingerprint {
        match index::survey(&index_options(config, false), configured).await {
            Ok(found) => findings = found,
            Err(error) => return (Err(error), group),
        }
    } else {
        let name = stored.iter().find(|stored| stored.fingerprint == live).map_or("unknown", |stored| stored.bundle.as_str());
        findings.push(Finding::new(format!("generation {}", live.short()), Verdict::Right, format!("live: bundle {name}")));
    }
    if let Some(release) = published.filter(|release| release.fingerprint != live) {
        let next = &release.fingerprint;
        let subject = format!("generation {}", next.short());
        let kept = stored.iter().find(|stored| stored.fingerprint == *next).and_then(|stored| stored.noted);
        findings.push(match kept {
            Some(noted) => Finding::new(subject, Verdict::Right, format!("published, and kept as {}", noted.mark.as_str())),
            None => Finding::new(subject, Verdict::Create, filled(&release.name, next, &kafka_group)),
        });
    }
    (Ok(findings), group)
}

fn filled(bundle: &str, fingerprint: &Fingerprint, group: &str) -> String {
    let collections: Vec<String> = astromech_schemas::Kind::ALL.iter().map(|kind| collection_name(*kind, fingerprint)).collect();
    format!(
        "bundle {bundle} is fetched and verified, {} are filled by the group {}, and it goes live",
        collections.join(", "),
        group_name(group, fingerprint)
    )
}

fn say(findings: Vec<Line>, json: bool) -> Result<u8> {
    let any = |wanted: &[Verdict]| findings.iter().any(|line| wanted.contains(&line.finding.verdict));
    let (verdict, code) = if any(&[Verdict::Wrong]) {
        ("wrong", EXIT_USAGE)
    } else if any(&[Verdict::Create, Verdict::Change]) {
        ("change", EXIT_CHANGES)
    } else {
        ("right", EXIT_OK)
    };
    if json {
        output::data(&serde_json::to_string_pretty(&Plan { verdict, findings }).context("the plan is no JSON")?);
        return Ok(code);
    }
    for Line { part, finding } in &findings {
        output::data(&format!("{:<6}  {part:<6}  {}: {}", finding.verdict.as_str(), finding.subject, finding.detail));
    }
    output::data(match code {
        EXIT_OK => "nothing to do",
        EXIT_CHANGES => "a start would create or change what is marked so",
        _ => "something is wrong: see the lines marked so",
    });
    Ok(code)
}
