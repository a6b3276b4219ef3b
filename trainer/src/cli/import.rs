use std::path::{Path, PathBuf};

use astromech_trainer::checkpoint::{
    Pretrained, PretrainedModel, Start, import_official, import_prd2, import_pretrained, save_model,
};
use astromech_trainer::model::ModelConfig;
use astromech_trainer::nn::Params;

/// How the cross encoders start where no file holds them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Cross {
    /// Self-attention and feed-forward parts from the last layers of the text tower, cross-attention at random.
    Text,
    /// At random.
    Random,
}

/// Converts weights to a native checkpoint and reports every key: official ones (R2D2, PRD2), or towers of Hugging Face to start from.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("source").args(["from", "text", "vision"]).required(true).multiple(true))]
pub struct Args {
    /// The official checkpoint: a .pth container or safetensors.
    #[arg(long, conflicts_with_all = ["text", "vision"])]
    from: Option<PathBuf>,
    /// `--from` is PRD2, the dual tower alone: the single tower starts anew.
    #[arg(long, requires = "from")]
    prd2: bool,
    /// A BERT to start the text tower from, such as chinese-roberta-wwm-ext: safetensors or pytorch_model.bin.
    #[arg(long)]
    text: Option<PathBuf>,
    /// A CLIP, or a ViT of Hugging Face or timm, to start the image tower from: safetensors or pytorch_model.bin.
    #[arg(long)]
    vision: Option<PathBuf>,
    /// How the cross encoders start where no file holds them.
    #[arg(long, value_enum, default_value_t = Cross::Text)]
    cross: Cross,
    /// Go on when keys are missing or of another shape: they keep their initial values.
    #[arg(long)]
    partial: bool,
    /// Seed of the values that no file holds.
    #[arg(long, default_value_t = 1)]
    seed: i64,
    /// Model sizes: a preset of configs/models.
    #[arg(long)]
    config: PathBuf,
    /// The native checkpoint to write.
    #[arg(long)]
    out: PathBuf,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let config = ModelConfig::read(&args.config)?;
    let start = Start { seed: args.seed, cross_from_text: args.cross == Cross::Text, partial: args.partial };
    let started = |imported: PretrainedModel| {
        tracing::info!("{}", imported.report);
        if !imported.report.initial.is_empty() {
            let parameters = imported.report.initial.len();
            tracing::warn!(parameters, "not every parameter comes from a file: train the model before it serves");
        }
        imported.params
    };
    let params = match &args.from {
        Some(from) if args.prd2 => started(import_prd2(from, &config, start)?),
        Some(from) => {
            let loaded = import_official(from, &config)?;
            tracing::info!("{}", loaded.report);
            loaded.params
        }
        None => {
            let from = Pretrained { text: args.text.as_deref(), vision: args.vision.as_deref() };
            started(import_pretrained(from, &config, start)?)
        }
    };
    save(&args.out, &config, &params)
}

fn save(out: &Path, config: &ModelConfig, params: &Params) -> anyhow::Result<()> {
    save_model(out, config, params, params.flat())?;
    tracing::info!(parameters = params.numel(), "written to {}", out.display());
    Ok(())
}
