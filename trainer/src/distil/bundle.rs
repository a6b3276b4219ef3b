//! A released bundle as teacher, through the towers crate: what is taught is what is served.

use std::path::Path;
use std::sync::Arc;

use astromech_towers::{
    Bundle, ImageStates, PreparedImage, PreparedText, TextStates, Towers, TowersConfig, TowersError, init_runtime,
};
use futures::future::try_join_all;
use tch::Tensor;
use tokio::runtime::Runtime;

use super::error::DistilError;
use super::student::Student;
use crate::files::file_error;
use crate::inputs::{Inputs, denormalise};

/// File name of a bundle's vocabulary.
const VOCABULARY_FILE: &str = "vocab.txt";

/// The towers of a bundle.
pub struct BundleTeacher {
    towers: Towers,
    runtime: Runtime,
}

/// What the cross tower takes, one entry for each pair of the batch.
pub(super) struct Items {
    images: Vec<Arc<ImageStates>>,
    texts: Vec<Arc<TextStates>>,
}

impl BundleTeacher {
    pub(super) fn open(dir: &Path, load_cross: bool, student: &Student<'_>) -> Result<Self, DistilError> {
        init_runtime(None)?;
        let bundle = Bundle::open(dir)?;
        let own = dir.join(VOCABULARY_FILE);
        let read = |path: &Path| std::fs::read(path).map_err(file_error(path));
        if read(&own)?.trim_ascii_end() != read(student.vocabulary)?.trim_ascii_end() {
            return Err(DistilError::Differs {
                what: "the vocabulary",
                teacher: own.display().to_string(),
                student: student.vocabulary.display().to_string(),
                fix: "teacher and student must share one vocabulary",
            });
        }
        if !bundle.manifest.similarity.is_cosine() {
            return Err(DistilError::Differs {
                what: "token vectors in",
                teacher: dir.display().to_string(),
                student: "is taught by one vector an item".to_owned(),
                fix: "give a bundle that was exported without --similarity",
            });
        }
        let config = TowersConfig { load_cross, threads: student.threads, ..TowersConfig::default() };
        let towers = Towers::start(&bundle, &config)?;
        let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(file_error(dir))?;
        Ok(Self { towers, runtime })
    }

    pub(super) fn embed(&self) -> i64 {
        i64::from(self.towers.manifest().embedding_dim)
    }

    pub(super) fn max_tokens(&self) -> i64 {
        i64::from(self.towers.manifest().text.max_tokens)
    }

    /// Embeddings of the batch's pictures and whole texts, and their states.
    pub(super) fn teach(&self, inputs: &Inputs) -> Result<([Tensor; 2], Items), DistilError> {
        let pictures = self.pictures(inputs);
        let texts = inputs.texts().into_iter().map(PreparedText::from_ids);
        let (images, texts) = self.runtime.block_on(async {
            let images = try_join_all(pictures.into_iter().map(|picture| self.towers.embed_image_states(picture)));
            let texts = try_join_all(texts.map(|text| self.towers.embed_text_states(text)));
            Ok::<_, TowersError>((images.await?, texts.await?))
        })?;
        let rows =
            |rows: Vec<&[f32]>| Tensor::from_slice(&rows.concat()).view([inputs.size(), self.embed()]).to_device(inputs.device());
        let embeddings = [
            rows(images.iter().map(|image| image.embedding.as_slice()).collect()),
            rows(texts.iter().map(|text| text.embedding.as_slice()).collect()),
        ];
        let items = Items {
            images: images.into_iter().map(|image| image.states).collect(),
            texts: texts.into_iter().map(|text| text.states).collect(),
        };
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
