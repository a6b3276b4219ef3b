//! `astromech search`: one query from the command line, through the service that HTTP searches with.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use astromech_schemas::Kind;
use astromech_schemas::http::SearchRequest;
use astromech_schemas::item::InlineBytes;
use clap::Args;

use super::failure::EXIT_OK;
use super::{ConfigArg, hits, output, parse_kind};
use crate::assemble::{open_disk, open_index, start_rescorer, start_towers};
use crate::config::Config;
use crate::failure::{Usage, hinted};
use crate::index::Index;
use crate::search::{SEARCH_LIMIT_DEFAULT, SEARCH_LIMIT_MAX, SEARCH_RESCORE_MAX, SearchQuery, Searcher};
use crate::vitals::Metrics;

#[derive(Debug, Args)]
pub(super) struct SearchArgs {
    #[command(flatten)]
    pub(super) config: ConfigArg,
    /// Most hits of each kind.
    #[arg(long, short = 'n', default_value_t = SEARCH_LIMIT_DEFAULT, value_parser = clap::value_parser!(u32).range(1..=i64::from(SEARCH_LIMIT_MAX)))]
    limit: u32,
    /// Only this kind: article, image or ad. May be given more than once.
    #[arg(long, value_parser = parse_kind)]
    kind: Vec<Kind>,
    /// Only items with this tag. May be given more than once: all of them.
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// Only items in this language, for example zh. May be given more than once: one of them.
    #[arg(long, value_name = "LANGUAGE")]
    language: Vec<String>,
    /// Rank this many of each kind's best hits anew by the single tower: pictures and ads for a text, articles for a picture.
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..=i64::from(SEARCH_RESCORE_MAX)))]
    rescore: Option<u32>,
    /// Print the answer as JSON, as `POST /v1/search` gives it.
    #[arg(long)]
    json: bool,
    /// Search by this picture.
    #[arg(long, value_name = "FILE", conflicts_with = "text", required_unless_present = "text")]
    image: Option<PathBuf>,
    /// Search by this text, for example "红色的汽车".
    text: Option<String>,
}

/// Runs the command; returns the exit code.
///
/// # Errors
/// The picture can't be read, something did not start, or the index did not answer.
pub(super) async fn run(config: Config, args: SearchArgs) -> Result<u8> {
    let rescores = args.rescore.is_some();
    let image = args.image.as_deref().map(|path| read_picture(path, &config)).transpose()?;
    let request = SearchRequest {
        text: args.text,
        image,
        kinds: args.kind,
        limit: Some(args.limit),
        rescore: args.rescore,
        tags: args.tag,
        languages: args.language,
        ..SearchRequest::default()
    };
    let query = SearchQuery::try_from(request)?;
    let metrics = Arc::new(Metrics::new());
    let towers = start_towers(&config, &metrics, rescores && config.rescore.enabled).await?;
    let index: Arc<dyn Index> = open_index(&config, &towers).await.with_context(|| {
        hinted(
            "the index was not opened",
            "start the server; an embedded index is open in one process at a time: stop the other, or search over its HTTP",
        )
    })?;
    let rescorer =
        if rescores { start_rescorer(&config, &towers, &index, open_disk(&config, &metrics).await, &metrics)? } else { None };
    let response = Searcher::new(&towers, Arc::clone(&index), rescorer.clone()).search(query).await;
    if let Some(rescorer) = &rescorer {
        rescorer.close().await;
    }
    index.close().await.context("the index was not closed cleanly")?;
    let response = response?;
    if args.json {
        output::data(&serde_json::to_string_pretty(&response).context("the answer is no JSON")?);
    } else {
        hits::print(&response);
    }
    Ok(EXIT_OK)
}

pub(super) fn read_picture(path: &Path, config: &Config) -> Result<InlineBytes> {
    let bytes_max = config.media.bytes_max;
    let usage =
        |problem: String| Usage { problem, hint: "give a JPEG, PNG, WebP, GIF or BMP file within media.bytes_max".to_owned() };
    let size = std::fs::metadata(path).map_err(|e| usage(format!("{}: {e}", path.display())))?.len();
    if size > bytes_max as u64 {
        return Err(usage(format!("{}: {size} bytes are over media.bytes_max = {bytes_max}", path.display())).into());
    }
    let bytes = std::fs::read(path).map_err(|e| usage(format!("{}: {e}", path.display())))?;
    Ok(InlineBytes(bytes))
}
