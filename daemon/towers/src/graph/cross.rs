//! The cross tower's graph.

use std::sync::Arc;

use ort::value::TensorRef;

use super::GraphOptions;
use super::session::{Graph, floats};
use crate::{Bundle, ImageStates, MatchScore, TextStates, Tower, TowersError};

/// Pairs of one run. Each item's keys and values are computed once, however many pairs it is in.
#[derive(Debug, Clone, Default)]
pub struct CrossRequest {
    /// Pictures.
    pub images: Vec<Arc<ImageStates>>,
    /// Texts.
    pub texts: Vec<Arc<TextStates>>,
    /// (index into `images`, index into `texts`).
    pub pairs: Vec<(u32, u32)>,
}

/// `cross.onnx` on one session.
pub struct CrossGraph {
    graph: Graph,
    image_states: Vec<f32>,
    text_states: Vec<f32>,
    mask: Vec<i64>,
    pairs: Vec<i64>,
}

impl CrossGraph {
    /// Opens the graph.
    ///
    /// # Errors
    /// The graph is not in the bundle or does not load, or the provider is absent.
    pub fn open(bundle: &Bundle, options: GraphOptions) -> Result<Self, TowersError> {
        let inputs = ["image_states", "text_states", "attention_mask", "pairs"];
        let graph = Graph::open(bundle, Tower::Cross, options, &inputs, &["itm_text", "itm_image"])?;
        Ok(Self { graph, image_states: Vec::new(), text_states: Vec::new(), mask: Vec::new(), pairs: Vec::new() })
    }

    /// Scores the request's pairs, in their order.
    ///
    /// # Errors
    /// States differ in shape, an index is out of range, or ONNX Runtime failed.
    pub fn run(&mut self, request: &CrossRequest) -> Result<Vec<MatchScore>, TowersError> {
        let CrossRequest { images, texts, pairs } = request;
        let (Some(image), Some(text), false) = (images.first(), texts.first(), pairs.is_empty()) else { return Ok(Vec::new()) };
        let length = texts.iter().map(|text| text.tokens).max().unwrap_or(0);
        self.fill(request, image, text.width, length)?;
        let graph = &mut self.graph;
        let tower = graph.tower.as_str();
        let error = |reason: String| TowersError::graph(tower, reason);
        let view = |problem: ort::Error| error(problem.to_string());
        let image_shape = [images.len(), image.tokens, image.width];
        let inputs = ort::inputs![
            "image_states" => TensorRef::from_array_view((image_shape, self.image_states.as_slice())).map_err(view)?,
            "text_states" => TensorRef::from_array_view(([texts.len(), length, text.width], self.text_states.as_slice())).map_err(view)?,
            "attention_mask" => TensorRef::from_array_view(([texts.len(), length], self.mask.as_slice())).map_err(view)?,
            "pairs" => TensorRef::from_array_view(([pairs.len(), 2], self.pairs.as_slice())).map_err(view)?,
        ];
        let outputs = graph.session.run(inputs).map_err(view)?;
        let shape = [Some(pairs.len())];
        let (_, itm_text) = floats(outputs.get("itm_text"), "itm_text", &shape).map_err(error)?;
        let (_, itm_image) = floats(outputs.get("itm_image"), "itm_image", &shape).map_err(error)?;
        Ok(itm_text.iter().zip(itm_image).map(|(&itm_text, &itm_image)| MatchScore { itm_text, itm_image }).collect())
    }

    fn fill(&mut self, request: &CrossRequest, first: &ImageStates, width: usize, length: usize) -> Result<(), TowersError> {
        let invalid = |field: &'static str, problem: String| TowersError::Invalid { field, problem };
        self.image_states.clear();
        for image in &request.images {
            if (image.tokens, image.width, image.data.len()) != (first.tokens, first.width, first.tokens * first.width) {
                return Err(invalid("images", "states of different shapes in one request".to_owned()));
            }
            self.image_states.extend_from_slice(&image.data);
        }
        self.text_states.clear();
        self.mask.clear();
        for text in &request.texts {
            if text.tokens == 0 || text.width != width || text.data.len() != text.tokens * text.width {
                return Err(invalid("texts", "states of different shapes in one request".to_owned()));
            }
            self.text_states.extend_from_slice(&text.data);
            self.text_states.resize(self.text_states.len() + (length - text.tokens) * width, 0.0);
            self.mask.resize(self.mask.len() + text.tokens, 1);
            self.mask.resize(self.mask.len() + length - text.tokens, 0);
        }
        self.pairs.clear();
        for (image, text) in &request.pairs {
            if *image as usize >= request.images.len() || *text as usize >= request.texts.len() {
                let problem =
                    format!("({image}, {text}) among {} images and {} texts", request.images.len(), request.texts.len());
                return Err(invalid("pairs", problem));
            }
            self.pairs.extend([i64::from(*image), i64::from(*text)]);
        }
        Ok(())
    }
}
