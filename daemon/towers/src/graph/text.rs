//! The text tower's graph.

use std::sync::Arc;

use ort::session::{HasSelectedOutputs, RunOptions};
use ort::value::TensorRef;

use super::GraphOptions;
use super::session::{Graph, Outputs, fetch, floats};
use crate::{Bundle, PreparedText, TextStates, Tower, TowersError};

/// `text.onnx` on one session.
pub struct TextGraph {
    graph: Graph,
    fetch_embedding: RunOptions<HasSelectedOutputs>,
    fetch_all: RunOptions<HasSelectedOutputs>,
    /// Whether the bundle is one of late interaction.
    has_tokens: bool,
    dim: usize,
    max_tokens: usize,
    /// The batch tensors' memory, kept from batch to batch.
    ids: Vec<i64>,
    mask: Vec<i64>,
}

/// What the graph gives for one text.
#[derive(Debug, Clone)]
pub struct TextOutput {
    /// Unit vector.
    pub embedding: Vec<f32>,
    /// Unit vectors of the tokens at the text's true length, one after another; only of a bundle of late interaction.
    pub tokens: Option<Box<[f32]>>,
    /// Hidden states at the text's true length, when asked for.
    pub states: Option<Arc<TextStates>>,
}

impl TextOutput {
    fn new(embedding: &[f32]) -> Self {
        Self { embedding: embedding.to_vec(), tokens: None, states: None }
    }
}

impl TextGraph {
    /// Opens the graph.
    ///
    /// # Errors
    /// The graph is not in the bundle or does not load, or the provider is absent.
    pub fn open(bundle: &Bundle, options: GraphOptions) -> Result<Self, TowersError> {
        let outputs = Outputs::of(bundle);
        Ok(Self {
            graph: Graph::open(bundle, Tower::Text, options, &["input_ids", "attention_mask"], outputs.all)?,
            fetch_embedding: fetch(Tower::Text, outputs.vectors)?,
            fetch_all: fetch(Tower::Text, outputs.all)?,
            has_tokens: outputs.has_tokens,
            dim: bundle.manifest.embedding_dim as usize,
            max_tokens: bundle.manifest.text.max_tokens as usize,
            ids: Vec::new(),
            mask: Vec::new(),
        })
    }

    /// Runs one batch, padded to its longest text. States are copied out only when `with_states`.
    ///
    /// # Errors
    /// ONNX Runtime failed.
    pub fn run(&mut self, texts: &[&PreparedText], with_states: bool) -> Result<Vec<TextOutput>, TowersError> {
        let longest = texts.iter().map(|text| text.ids().len()).max().unwrap_or(0);
        self.run_padded(texts, longest, with_states)
    }

    /// As [`TextGraph::run`], padded to `length` tokens: the bench's measure of what padding costs.
    ///
    /// # Errors
    /// A text is empty or longer than `length`, `length` is more than the model takes, or ONNX Runtime failed.
    pub fn run_padded(
        &mut self,
        texts: &[&PreparedText],
        length: usize,
        with_states: bool,
    ) -> Result<Vec<TextOutput>, TowersError> {
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        self.fill(texts, length)?;
        let Self { graph, dim, ids, mask, has_tokens, .. } = self;
        let tower = graph.tower.as_str();
        let error = |reason: String| TowersError::graph(tower, reason);
        let shape = [texts.len(), length];
        let ids = TensorRef::from_array_view((shape, ids.as_slice())).map_err(|problem| error(problem.to_string()))?;
        let mask = TensorRef::from_array_view((shape, mask.as_slice())).map_err(|problem| error(problem.to_string()))?;
        let options = if with_states { &self.fetch_all } else { &self.fetch_embedding };
        let outputs = graph
            .session
            .run_with_options(ort::inputs!["input_ids" => ids, "attention_mask" => mask], options)
            .map_err(|problem| error(problem.to_string()))?;
        let shape = [Some(texts.len()), Some(*dim)];
        let (_, embeddings) = floats(outputs.get("embedding"), "embedding", &shape).map_err(error)?;
        let mut result: Vec<TextOutput> = embeddings.chunks_exact(*dim).map(TextOutput::new).collect();
        if *has_tokens {
            let shape = [Some(texts.len()), Some(length), Some(*dim)];
            let (_, rows) = floats(outputs.get("tokens"), "tokens", &shape).map_err(error)?;
            for ((output, rows), text) in result.iter_mut().zip(rows.chunks_exact(length * *dim)).zip(texts) {
                output.tokens = Some(rows[..text.ids().len() * *dim].into());
            }
        }
        if with_states {
            let shape = [Some(texts.len()), Some(length), None];
            let (shape, states) = floats(outputs.get("states"), "states", &shape).map_err(error)?;
            let width = shape[2];
            for ((output, data), text) in result.iter_mut().zip(states.chunks_exact((length * width).max(1))).zip(texts) {
                let tokens = text.ids().len();
                output.states = Some(Arc::new(TextStates { tokens, width, data: data[..tokens * width].into() }));
            }
        }
        Ok(result)
    }

    fn fill(&mut self, texts: &[&PreparedText], length: usize) -> Result<(), TowersError> {
        let invalid = |problem: String| TowersError::Invalid { field: "text", problem };
        if length > self.max_tokens {
            return Err(invalid(format!("{length} tokens; the model takes {}", self.max_tokens)));
        }
        self.ids.clear();
        self.mask.clear();
        for text in texts {
            let count = text.ids().len();
            if count == 0 || count > length {
                return Err(invalid(format!("{count} tokens in a batch of 1 to {length}")));
            }
            self.ids.extend_from_slice(text.ids());
            self.mask.resize(self.mask.len() + count, 1);
            // Padding is id 0, [PAD]; the mask hides it.
            self.ids.resize(self.ids.len() + length - count, 0);
            self.mask.resize(self.mask.len() + length - count, 0);
        }
        Ok(())
    }
}
