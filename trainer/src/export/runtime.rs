//! Runs the graphs of a bundle, or of one in the making, as the daemon's towers run them.

use std::sync::Arc;

use astromech_schemas::manifest::Precision;
use astromech_towers::graph::{CrossGraph, CrossRequest, GraphOptions, ImageGraph, TextGraph};
use astromech_towers::{Bundle, ImageStates, MatchScore, PreparedImage, PreparedText, TextStates, TowersConfig, TowersError};

/// The three graphs of one precision.
pub struct TowerGraphs {
    image: ImageGraph,
    text: TextGraph,
    cross: CrossGraph,
    precision: Precision,
    late_interaction: bool,
}

/// Inputs of all three graphs.
#[derive(Debug, Clone)]
pub struct GraphInputs {
    /// Pictures.
    pub images: Vec<PreparedImage>,
    /// Texts.
    pub texts: Vec<PreparedText>,
    /// (index into `images`, index into `texts`).
    pub pairs: Vec<(u32, u32)>,
}

/// Unit vector and states of one item.
#[derive(Debug, Clone)]
pub struct Encoded<S> {
    /// Unit vector.
    pub embedding: Vec<f32>,
    /// Unit vectors of the tokens, one after another; only of late interaction.
    pub tokens: Option<Box<[f32]>>,
    /// States of the last layer.
    pub states: Arc<S>,
}

/// Outputs of all three graphs.
#[derive(Debug, Clone)]
pub struct GraphOutputs {
    /// One a picture.
    pub images: Vec<Encoded<ImageStates>>,
    /// One a text.
    pub texts: Vec<Encoded<TextStates>>,
    /// One a pair.
    pub matches: Vec<MatchScore>,
}

impl TowerGraphs {
    /// Opens the graphs of `precision` on the CPU.
    ///
    /// # Errors
    /// The bundle lacks them, or ONNX Runtime refuses one.
    pub fn open(bundle: &Bundle, precision: Precision) -> Result<Self, TowersError> {
        let config = TowersConfig { precision: Some(precision), ..TowersConfig::default() };
        let options = GraphOptions::new(bundle, &config)?;
        Ok(Self {
            image: ImageGraph::open(bundle, options)?,
            text: TextGraph::open(bundle, options)?,
            cross: CrossGraph::open(bundle, options)?,
            precision,
            late_interaction: !bundle.manifest.similarity.is_cosine(),
        })
    }

    /// Which graphs these are.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Whether they give token vectors.
    pub fn late_interaction(&self) -> bool {
        self.late_interaction
    }

    /// Runs the three graphs, the cross tower on what the other two made; each as one batch.
    ///
    /// # Errors
    /// ONNX Runtime fails.
    pub fn run(&mut self, inputs: &GraphInputs) -> Result<GraphOutputs, TowersError> {
        let images = self.image.run(&inputs.images.iter().collect::<Vec<_>>(), true)?;
        let texts = self.text.run(&inputs.texts.iter().collect::<Vec<_>>(), true)?;
        // Asked for, so given.
        let images: Vec<_> = images
            .into_iter()
            .filter_map(|output| Some(Encoded { embedding: output.embedding, tokens: output.tokens, states: output.states? }))
            .collect();
        let texts: Vec<_> = texts
            .into_iter()
            .filter_map(|output| Some(Encoded { embedding: output.embedding, tokens: output.tokens, states: output.states? }))
            .collect();
        let matches = self.cross.run(&CrossRequest {
            images: images.iter().map(|image| Arc::clone(&image.states)).collect(),
            texts: texts.iter().map(|text| Arc::clone(&text.states)).collect(),
            pairs: inputs.pairs.clone(),
        })?;
        Ok(GraphOutputs { images, texts, matches })
    }
}
