//! Times of single requests, candidate and live in turns.

use std::time::Instant;

use astromech_towers::{Bundle, PreparedImage, PreparedText, Towers};
use tokio::runtime::Runtime;

use super::measure::{LoadedSet, samples, start};
use super::{GateConfig, GateError, Latency, Measured};

/// Requests of each kind before any is timed.
const WARM_UP: usize = 4;

struct Side {
    towers: Towers,
    images: Vec<PreparedImage>,
    texts: Vec<PreparedText>,
    image_ms: Vec<f64>,
    text_ms: Vec<f64>,
}

pub(super) fn measure(
    runtime: &Runtime,
    config: &GateConfig,
    sets: &[LoadedSet],
    bundles: Vec<(&Bundle, &mut Measured)>,
) -> Result<(), GateError> {
    let mut sides = Vec::new();
    for (bundle, _) in &bundles {
        let towers = start(bundle, config, config.precision, false)?;
        let (images, texts) = samples(&towers, sets, config.speed.samples)?;
        sides.push(Side { towers, images, texts, image_ms: Vec::new(), text_ms: Vec::new() });
    }
    runtime.block_on(async {
        for round in 0..config.speed.samples + WARM_UP {
            for side in &mut sides {
                side.once(round).await?;
            }
        }
        Ok::<_, GateError>(())
    })?;
    for ((_, measured), side) in bundles.into_iter().zip(sides) {
        measured.latency = Latency { image_ms: median(side.image_ms), text_ms: median(side.text_ms) };
    }
    Ok(())
}

impl Side {
    async fn once(&mut self, round: usize) -> Result<(), GateError> {
        let milliseconds = |began: Instant| began.elapsed().as_secs_f64() * 1e3;
        if let Some(image) = pick(&self.images, round) {
            let began = Instant::now();
            self.towers.embed_image(image).await?;
            if round >= WARM_UP {
                self.image_ms.push(milliseconds(began));
            }
        }
        if let Some(text) = pick(&self.texts, round) {
            let began = Instant::now();
            self.towers.embed_text(text).await?;
            if round >= WARM_UP {
                self.text_ms.push(milliseconds(began));
            }
        }
        Ok(())
    }
}

fn pick<T: Clone>(all: &[T], round: usize) -> Option<T> {
    all.get(round % all.len().max(1)).cloned()
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or_default()
}
