//! `astromech rescore`: one request from the command line, through the service that HTTP re-scores with.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use astromech_schemas::error::from_json;
use astromech_schemas::rescore::{Candidate, ItemRef, RescoreContext, RescoreMode, RescoreRequest, RescoreResponse};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, ValueEnum};

use super::failure::{EXIT_FAILED, EXIT_OK};
use super::search::read_picture;
use super::{ConfigArg, output};
use crate::assemble::{open_disk, open_index, start_rescorer, start_towers};
use crate::config::Config;
use crate::failure::{Usage, hinted};
use crate::index::Index;
use crate::vitals::Metrics;

#[derive(Debug, Args)]
pub(super) struct RescoreArgs {
    #[command(flatten)]
    pub(super) config: ConfigArg,
    /// Score against this text.
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["image", "item"])]
    text: Option<String>,
    /// Score against this picture.
    #[arg(long, value_name = "FILE", conflicts_with = "item")]
    image: Option<PathBuf>,
    /// Score against this item of the index, for example article:a1.
    #[arg(long, value_name = "KIND:ID", value_parser = parse_item)]
    item: Option<ItemRef>,
    /// What the scores are for.
    #[arg(long, value_enum, default_value_t = Mode::Plain)]
    mode: Mode,
    /// Most results.
    #[arg(long, short)]
    k: Option<u32>,
    /// Time for the request, milliseconds.
    #[arg(long, value_name = "MS")]
    deadline_ms: Option<u64>,
    /// A text as a candidate. May be given more than once.
    #[arg(long, value_name = "TEXT")]
    candidate_text: Vec<String>,
    /// Read the whole request from this file, in the form of `POST /v1/rescore`.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["text", "image", "item", "mode", "k", "deadline_ms", "candidate_text", "candidates"])]
    request: Option<PathBuf>,
    /// Print the answer as JSON, as `POST /v1/rescore` gives it.
    #[arg(long)]
    json: bool,
    /// Candidates: items (image:ID, ad:ID, article:ID), addresses (https:…) or picture files.
    candidates: Vec<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Mode {
    Plain,
    Ads,
    Illustrations,
}

impl From<Mode> for RescoreMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Plain => Self::Plain,
            Mode::Ads => Self::Ads,
            Mode::Illustrations => Self::Illustrations,
        }
    }
}

fn parse_item(text: &str) -> Result<ItemRef, String> {
    let (kind, id) = text.split_once(':').ok_or_else(|| format!("`{text}` is not KIND:ID, for example article:a1"))?;
    Ok(ItemRef { kind: kind.parse()?, id: id.to_owned() })
}

/// Runs the command; returns the exit code: failed where some candidates were not scored.
///
/// # Errors
/// A file can't be read, something did not start, or nothing could be scored.
pub(super) async fn run(config: Config, args: RescoreArgs) -> Result<u8> {
    if !config.rescore.enabled {
        let hint = "set rescore.enabled = true, with a bundle that has a cross tower".to_owned();
        return Err(Usage { problem: "re-scoring is off: rescore.enabled is false".to_owned(), hint }.into());
    }
    let json = args.json;
    let request = match &args.request {
        Some(path) => read_request(path)?,
        None => request(args, &config)?,
    };
    let names: Vec<String> = request.candidates.iter().map(name).collect();
    let metrics = Arc::new(Metrics::new());
    let towers = start_towers(&config, &metrics, true).await?;
    let index: Arc<dyn Index> = open_index(&config, &towers).await.with_context(|| {
        hinted(
            "the index was not opened",
            "an embedded index is open in one process at a time: stop the other, or re-score over its HTTP",
        )
    })?;
    let disk = open_disk(&config, &metrics).await;
    let rescorer = start_rescorer(&config, &towers, &index, disk, &metrics)?.context("re-scoring is off")?;
    let response = rescorer.rescore(request).await;
    rescorer.close().await;
    index.close().await.context("the index was not closed cleanly")?;
    let response = response?;
    if json {
        output::data(&serde_json::to_string_pretty(&response).context("the answer is no JSON")?);
    } else {
        print(&response, &names);
    }
    Ok(if response.problems.is_empty() { EXIT_OK } else { EXIT_FAILED })
}

fn read_request(path: &Path) -> Result<RescoreRequest> {
    let usage = |problem: String| Usage { problem, hint: "see `astromech schema rescore-request`".to_owned() };
    let bytes = std::fs::read(path).map_err(|e| usage(format!("{}: {e}", path.display())))?;
    Ok(from_json(&bytes).map_err(|e| usage(format!("{}: {e}", path.display())))?)
}

fn request(args: RescoreArgs, config: &Config) -> Result<RescoreRequest> {
    let image = args.image.as_deref().map(|path| read_picture(path, config)).transpose()?;
    let texts = args.candidate_text.into_iter().map(|text| Ok(Candidate { text: Some(text), ..Candidate::default() }));
    let others = args.candidates.iter().map(|candidate| read_candidate(candidate, config));
    Ok(RescoreRequest {
        context: RescoreContext { text: args.text, image, item: args.item },
        candidates: others.chain(texts).collect::<Result<_>>()?,
        mode: args.mode.into(),
        weights: None,
        k: args.k,
        deadline_ms: args.deadline_ms,
    })
}

fn read_candidate(text: &str, config: &Config) -> Result<Candidate> {
    if let Ok(item) = parse_item(text) {
        return Ok(Candidate { item: Some(item), ..Candidate::default() });
    }
    if text.starts_with("https:") || text.starts_with("http:") {
        return Ok(Candidate { url: Some(text.to_owned()), ..Candidate::default() });
    }
    let image = read_picture(Path::new(text), config)?;
    Ok(Candidate { image: Some(STANDARD.encode(image.0)), ..Candidate::default() })
}

/// What a candidate is called in the list.
fn name(candidate: &Candidate) -> String {
    match candidate {
        Candidate { item: Some(item), .. } => format!("{}:{}", item.kind, item.id),
        Candidate { url: Some(url), .. } => url.clone(),
        Candidate { text: Some(text), .. } => text.chars().take(40).collect(),
        _ => "picture".to_owned(),
    }
}

fn print(response: &RescoreResponse, names: &[String]) {
    let name = |index: u32| names.get(index as usize).map_or("", String::as_str);
    for result in &response.results {
        let scores = &result.scores;
        output::data(&format!(
            "{:3}  {:.4} = itm {:.4} + itc {:.4}  [{}] {}",
            result.rank,
            scores.score,
            scores.itm,
            scores.itc,
            result.index,
            name(result.index)
        ));
    }
    for problem in &response.problems {
        output::note(&format!("[{}] {}: {}: {}", problem.index, name(problem.index), problem.kind.as_str(), problem.detail));
    }
    let (timings, cache) = (&response.timings, &response.cache);
    output::note(&format!(
        "{} scored in {:.1} ms ({} encoded, {} from the cache)",
        response.scored, timings.total_ms, cache.misses, cache.hits
    ));
}
