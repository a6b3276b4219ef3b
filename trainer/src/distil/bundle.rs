//! A released bundle as teacher, through the towers crate: what is taught is what is served.

use std::path::Path;
use std::sync::Arc;

use astromech_towers::{
    Bundle, ImageStates, PreparedImage, PreparedText, TextStates, Towers, TowersConfig, TowersError, init_runtime,
};
use futures::future::try_join_all;
use tch::Tensor;
use tokio::runtime::Runtime;

use super::{DistilError, Student};
use crate::train::{Inputs, denormalise};

/// File name of a bundle's vocabulary.
const VOCABULARY_FILE: &str = "vocab.txt";

/// The towers of a bundle.
pub struct BundleTeacher {
    towers: Towers,
    runtime: Runtime,
    with_states: bool,
}

/// What the cross tower takes, one entry for each pair of the batch.
pub(super) struct Items {
    images: Vec<Arc<ImageStates>>,
    texts: Vec<Arc<TextStates>>,
}

impl BundleTeacher {
    pub(super) fn open(dir: &Path, with_states: bool, student: &Student<'_>) -> Result<Self, DistilError> {
        let io = |path: &Path| {
            let path = path.to_path_buf();
            move |source| DistilError::Io { path, source }
        };
        init_runtime(None)?;
        let bundle = Bundle::open(dir)?;
        let own = dir.join(VOCABULARY_FILE);
        let read = |path: &Path| std::fs::read(path).map_err(io(path));
        if read(&own)?.trim_ascii_end() != read(student.vocabulary)?.trim_ascii_end() {
            return Err(DistilError::Differs {
                what: "the vocabulary",
                teacher: own.display().to_string(),
                student: student.vocabulary.display().to_string(),
                fix: "teacher and student must share one vocabulary",
            });
        }
        let config = TowersConfig { load_cross: with_states, threads: student.threads, ..TowersConfig::default() };
        let towers = Towers::start(&bundle, &config)?;
        let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(io(dir))?;
        Ok(Self { towers, runtime, with_states })
    }

    pub(super) fn embed(&self) -> i64 {
        i64::from(self.towers.manifest().embedding_dim)
    }

    pub(super) fn max_tokens(&self) -> i64 {
        i64::from(self.towers.manifest().text.max_tokens)
    }

    /// Embeddings of the batch's pictures and whole texts, and their states where scores are asked for.
    pub(super) fn teach(&self, inputs: &Inputs) -> Result<([Tensor; 2], Items), DistilError> {
        let pictures = self.pictures(inputs);
        let texts: Vec<PreparedText> = inputs.texts().into_iter().map(PreparedText::from_ids).collect();
        let (mut rows, mut items) = ([Vec::new(), Vec::new()], Items { images: Vec::new(), texts: Vec::new() });
        if self.with_states {
            let (images, texts) = self.runtime.block_on(async {
                let images = try_join_all(pictures.into_iter().map(|picture| self.towers.embed_image_states(picture)));
                let texts = try_join_all(texts.into_iter().map(|text| self.towers.embed_text_states(text)));
                Ok::<_, TowersError>((images.await?, texts.await?))
            })?;
            for image in images {
                rows[0].extend(image.embedding);
                items.images.push(image.states);
            }
            for text in texts {
                rows[1].extend(text.embedding);
                items.texts.push(text.states);
            }
        } else {
            let (images, texts) = self.runtime.block_on(async {
                let images = try_join_all(pictures.into_iter().map(|picture| self.towers.embed_image(picture)));
                let texts = try_join_all(texts.into_iter().map(|text| self.towers.embed_text(text)));
                Ok::<_, TowersError>((images.await?, texts.await?))
            })?;
            rows[0].extend(images.into_iter().flat_map(|image| image.embedding));
            rows[1].extend(texts.into_iter().flat_map(|text| text.embedding));
        }
        let embeddings = rows.map(|rows| Tensor::from_slice(&rows).view([inputs.size(), self.embed()]));
        Ok((embeddings, items))
    }

    /// Match probabilities (itm_text, itm_image), each [P], of pairs of (image, text) places in the batch.
    pub(super) fn match_pairs(&self, items: &Items, pairs: &[(i64, i64)]) -> Result<[Tensor; 2], DistilError> {
        let pairs: Vec<(u32, u32)> = pairs.iter().map(|&(image, text)| (image as u32, text as u32)).collect();
        let scores = self.runtime.block_on(self.towers.match_pairs(items.images.clone(), items.texts.clone(), pairs))?;
        let of = |probability: fn(&astromech_towers::MatchScore) -> f32| {
            Tensor::from_slice(&scores.iter().map(probability).collect::<Vec<f32>>())
        };
        Ok([of(|score| score.itm_text), of(|score| score.itm_image)])
    }

    /// The batch's pictures as bytes at the teacher's side.
    fn pictures(&self, inputs: &Inputs) -> Vec<PreparedImage> {
        let size = self.towers.manifest().image.size;
        let bytes = denormalise(&inputs.pixels_at(i64::from(size))).permute([0, 2, 3, 1]).contiguous();
        let picture_bytes = (size * size * 3) as usize;
        let mut all = vec![0u8; picture_bytes * inputs.size() as usize];
        let count = all.len();
        bytes.copy_data_u8(&mut all, count);
        all.chunks_exact(picture_bytes).filter_map(|pixels| PreparedImage::from_rgb(size, pixels.to_vec())).collect()
    }
}
