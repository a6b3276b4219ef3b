//! The image tower's graph.

use std::sync::Arc;

use ort::session::{HasSelectedOutputs, RunOptions};
use ort::value::TensorRef;

use super::GraphOptions;
use super::session::{Graph, Outputs, fetch, floats};
use crate::{Bundle, ImageStates, PreparedImage, Tower, TowersError};

/// `image.onnx` on one session.
pub struct ImageGraph {
    graph: Graph,
    fetch_embedding: RunOptions<HasSelectedOutputs>,
    fetch_all: RunOptions<HasSelectedOutputs>,
    /// Tokens of a picture where the bundle is one of late interaction.
    tokens: Option<usize>,
    size: usize,
    dim: usize,
    /// Normalised value of every byte, by channel.
    table: [[f32; 256]; 3],
    /// The batch tensor's memory, kept from batch to batch.
    pixels: Vec<f32>,
}

/// What the graph gives for one picture.
#[derive(Debug, Clone)]
pub struct ImageOutput {
    /// Unit vector.
    pub embedding: Vec<f32>,
    /// Unit vectors of the tokens, one after another; only of a bundle of late interaction.
    pub tokens: Option<Box<[f32]>>,
    /// Hidden states, when asked for.
    pub states: Option<Arc<ImageStates>>,
}

impl ImageOutput {
    fn new(embedding: &[f32]) -> Self {
        Self { embedding: embedding.to_vec(), tokens: None, states: None }
    }
}

impl ImageGraph {
    /// Opens the graph.
    ///
    /// # Errors
    /// The graph is not in the bundle or does not load, or the provider is absent.
    pub fn open(bundle: &Bundle, options: GraphOptions) -> Result<Self, TowersError> {
        let image = &bundle.manifest.image;
        let outputs = Outputs::of(bundle);
        Ok(Self {
            graph: Graph::open(bundle, Tower::Image, options, &["pixels"], outputs.all)?,
            fetch_embedding: fetch(Tower::Image, outputs.vectors)?,
            fetch_all: fetch(Tower::Image, outputs.all)?,
            tokens: outputs.has_tokens.then(|| bundle.manifest.similarity.image_vectors_max()),
            size: image.size as usize,
            dim: bundle.manifest.embedding_dim as usize,
            table: normalise_table(image.mean, image.std),
            pixels: Vec::new(),
        })
    }

    /// Runs one batch. States are copied out only when `with_states`.
    ///
    /// # Errors
    /// A picture has another size than the model's, or ONNX Runtime failed.
    pub fn run(&mut self, images: &[&PreparedImage], with_states: bool) -> Result<Vec<ImageOutput>, TowersError> {
        if images.is_empty() {
            return Ok(Vec::new());
        }
        let item = 3 * self.size * self.size;
        self.pixels.resize(images.len() * item, 0.0);
        for (image, target) in images.iter().zip(self.pixels.chunks_exact_mut(item)) {
            if image.size() as usize != self.size {
                let problem = format!("a picture of {} pixels a side; the model takes {}", image.size(), self.size);
                return Err(TowersError::Invalid { field: "image", problem });
            }
            normalise(image.pixels(), &self.table, target);
        }
        let Self { graph, size, dim, pixels, tokens, .. } = self;
        let tower = graph.tower.as_str();
        let error = |reason: String| TowersError::graph(tower, reason);
        let shape = [images.len(), 3, *size, *size];
        let pixels = TensorRef::from_array_view((shape, pixels.as_slice())).map_err(|problem| error(problem.to_string()))?;
        let options = if with_states { &self.fetch_all } else { &self.fetch_embedding };
        let outputs = graph
            .session
            .run_with_options(ort::inputs!["pixels" => pixels], options)
            .map_err(|problem| error(problem.to_string()))?;
        let shape = [Some(images.len()), Some(*dim)];
        let (_, embeddings) = floats(outputs.get("embedding"), "embedding", &shape).map_err(error)?;
        let mut result: Vec<ImageOutput> = embeddings.chunks_exact(*dim).map(ImageOutput::new).collect();
        if let Some(tokens) = *tokens {
            let shape = [Some(images.len()), Some(tokens), Some(*dim)];
            let (_, rows) = floats(outputs.get("tokens"), "tokens", &shape).map_err(error)?;
            for (output, rows) in result.iter_mut().zip(rows.chunks_exact(tokens * *dim)) {
                output.tokens = Some(rows.into());
            }
        }
        if with_states {
            let (shape, states) = floats(outputs.get("states"), "states", &[Some(images.len()), None, None]).map_err(error)?;
            let (tokens, width) = (shape[1], shape[2]);
            for (output, data) in result.iter_mut().zip(states.chunks_exact((tokens * width).max(1))) {
                output.states = Some(Arc::new(ImageStates { tokens, width, data: data.into() }));
            }
        }
        Ok(result)
    }
}

/// `(byte / 255 - mean) / std` of every byte and channel (docs/R2D2.md §3.4).
fn normalise_table(mean: [f32; 3], std: [f32; 3]) -> [[f32; 256]; 3] {
    std::array::from_fn(|channel| std::array::from_fn(|byte| (byte as f32 / 255.0 - mean[channel]) / std[channel]))
}

/// RGB bytes, interleaved, to normalised planes.
fn normalise(rgb: &[u8], table: &[[f32; 256]; 3], planes: &mut [f32]) {
    let (red, rest) = planes.split_at_mut(rgb.len() / 3);
    let (green, blue) = rest.split_at_mut(rgb.len() / 3);
    for (((pixel, red), green), blue) in rgb.chunks_exact(3).zip(red).zip(green).zip(blue) {
        *red = table[0][usize::from(pixel[0])];
        *green = table[1][usize::from(pixel[1])];
        *blue = table[2][usize::from(pixel[2])];
    }
}

#[cfg(test)]
mod tests {
    use super::{normalise, normalise_table};

    #[test]
    #[expect(clippy::float_cmp, reason = "the numbers are exact in binary")]
    fn pixels_are_normalised_by_channel_into_planes() {
        let table = normalise_table([0.5, 0.25, 0.0], [0.5, 0.25, 1.0]);
        let mut planes = [0.0; 6];
        normalise(&[0, 0, 0, 255, 255, 255], &table, &mut planes);
        assert_eq!(planes, [-1.0, 1.0, -1.0, 3.0, 0.0, 1.0]);
    }
}
