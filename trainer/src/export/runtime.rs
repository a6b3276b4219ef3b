//! Runs freshly written graphs through ONNX Runtime on the CPU: for checks and golden vectors, before there is a bundle to open.

use std::fmt::Display;

use ndarray::{Array1, Array2, Array3, Array4, ArrayD};
use ort::session::{Session, SessionInputValue, SessionOutputs};
use ort::value::TensorRef;

use super::{ExportError, Tower};

/// Embeddings [N, D] of unit length and states [N, L, width].
#[derive(Debug, Clone)]
pub struct EncodedArrays {
    /// [N, D].
    pub embedding: Array2<f32>,
    /// [N, L, width].
    pub states: Array3<f32>,
}

/// Match probabilities, one a pair.
#[derive(Debug, Clone)]
pub struct MatchArrays {
    /// Of the text-image encoder.
    pub itm_text: Array1<f32>,
    /// Of the image-text encoder.
    pub itm_image: Array1<f32>,
}

/// The three graphs of one precision.
pub struct TowerGraphs {
    image: Session,
    text: Session,
    cross: Session,
    label: &'static str,
}

impl TowerGraphs {
    /// Loads the graphs (in the order of [`Tower::ALL`]). Call [`astromech_towers::init_runtime`] first. `label` is the precision's word, for errors.
    ///
    /// # Errors
    /// ONNX Runtime refuses a graph.
    pub fn load(graphs: &[Vec<u8>; 3], label: &'static str) -> Result<Self, ExportError> {
        let load = |tower: Tower| {
            let fail = |error: &dyn Display| failure(tower, label, error);
            let environment = ort::init().build().map_err(|error| fail(&error))?;
            let mut builder = Session::builder(&environment).map_err(|error| fail(&error))?;
            builder.commit_from_memory(&graphs[tower as usize]).map_err(|error| fail(&error))
        };
        Ok(Self { image: load(Tower::Image)?, text: load(Tower::Text)?, cross: load(Tower::Cross)?, label })
    }

    /// The precision's word.
    pub fn label(&self) -> &'static str {
        self.label
    }

    /// Pixels [B, 3, H, W], normalised.
    ///
    /// # Errors
    /// ONNX Runtime fails.
    pub fn encode_images(&mut self, pixels: &Array4<f32>) -> Result<EncodedArrays, ExportError> {
        let pixels = TensorRef::from_array_view(pixels.view()).map_err(|error| failure(Tower::Image, self.label, &error))?;
        encode(&mut self.image, Tower::Image, self.label, vec![("pixels", pixels.into())])
    }

    /// Token ids and mask [B, L].
    ///
    /// # Errors
    /// ONNX Runtime fails.
    pub fn encode_texts(&mut self, ids: &Array2<i64>, mask: &Array2<i64>) -> Result<EncodedArrays, ExportError> {
        let fail = |error: ort::Error| failure(Tower::Text, self.label, &error);
        let ids = TensorRef::from_array_view(ids.view()).map_err(fail)?;
        let mask = TensorRef::from_array_view(mask.view()).map_err(fail)?;
        encode(&mut self.text, Tower::Text, self.label, vec![("input_ids", ids.into()), ("attention_mask", mask.into())])
    }

    /// Pairs [P, 2] of (image index, text index).
    ///
    /// # Errors
    /// ONNX Runtime fails.
    pub fn match_pairs(
        &mut self,
        image_states: &Array3<f32>,
        text_states: &Array3<f32>,
        mask: &Array2<i64>,
        pairs: &Array2<i64>,
    ) -> Result<MatchArrays, ExportError> {
        let label = self.label;
        let fail = |error: ort::Error| failure(Tower::Cross, label, &error);
        let inputs: Vec<(&str, SessionInputValue<'_>)> = vec![
            ("image_states", TensorRef::from_array_view(image_states.view()).map_err(fail)?.into()),
            ("text_states", TensorRef::from_array_view(text_states.view()).map_err(fail)?.into()),
            ("attention_mask", TensorRef::from_array_view(mask.view()).map_err(fail)?.into()),
            ("pairs", TensorRef::from_array_view(pairs.view()).map_err(fail)?.into()),
        ];
        let outputs = self.cross.run(inputs).map_err(fail)?;
        let take = |name: &str| shaped(array(&outputs, name).map_err(fail)?, Tower::Cross, label);
        Ok(MatchArrays { itm_text: take("itm_text")?, itm_image: take("itm_image")? })
    }
}

fn encode(
    session: &mut Session,
    tower: Tower,
    label: &'static str,
    inputs: Vec<(&str, SessionInputValue<'_>)>,
) -> Result<EncodedArrays, ExportError> {
    let fail = |error: ort::Error| failure(tower, label, &error);
    let outputs = session.run(inputs).map_err(fail)?;
    Ok(EncodedArrays {
        embedding: shaped(array(&outputs, "embedding").map_err(fail)?, tower, label)?,
        states: shaped(array(&outputs, "states").map_err(fail)?, tower, label)?,
    })
}

fn array(outputs: &SessionOutputs<'_>, name: &str) -> ort::Result<ArrayD<f32>> {
    let output = outputs.get(name).ok_or_else(|| ort::Error::new(format!("the graph has no output `{name}`")))?;
    Ok(output.try_extract_array::<f32>()?.to_owned())
}

fn shaped<D: ndarray::Dimension>(
    array: ArrayD<f32>,
    tower: Tower,
    label: &str,
) -> Result<ndarray::Array<f32, D>, ExportError> {
    array.into_dimensionality().map_err(|error| failure(tower, label, &error))
}

fn failure(tower: Tower, label: &str, error: &dyn Display) -> ExportError {
    ExportError::Runtime { graph: format!("{label} {}", tower.as_str()), message: error.to_string() }
}
