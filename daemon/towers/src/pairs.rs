//! Pairs of a request into chunks that the cross tower runs.

use std::collections::HashMap;
use std::sync::Arc;

use astromech_schemas::Manifest;

use crate::graph::CrossRequest;
use crate::{ImageStates, TextStates, TowersError};

/// A chunk: places of its scores in the caller's order, and what to run.
type Chunk = (Vec<usize>, CrossRequest);

fn invalid(field: &'static str, problem: String) -> TowersError {
    TowersError::Invalid { field, problem }
}

/// Holds states to the model's shapes, so that a chunk can't fail on them.
pub(crate) fn check_states(
    manifest: &Manifest,
    images: &[Arc<ImageStates>],
    texts: &[Arc<TextStates>],
) -> Result<(), TowersError> {
    let architecture = &manifest.architecture;
    let side = manifest.image.size / architecture.patch.max(1);
    let (image_tokens, image_width) = ((side * side + 1) as usize, architecture.vision.width as usize);
    for image in images {
        if (image.tokens, image.width, image.data.len()) != (image_tokens, image_width, image_tokens * image_width) {
            let problem = format!("states [{}, {}]; the model's are [{image_tokens}, {image_width}]", image.tokens, image.width);
            return Err(invalid("images", problem));
        }
    }
    let (tokens_max, text_width) = (manifest.text.max_tokens as usize, architecture.text.width as usize);
    for text in texts {
        let fits =
            (1..=tokens_max).contains(&text.tokens) && text.width == text_width && text.data.len() == text.tokens * text.width;
        if !fits {
            let problem = format!("states [{}, {}]; the model's are [1 to {tokens_max}, {text_width}]", text.tokens, text.width);
            return Err(invalid("texts", problem));
        }
    }
    Ok(())
}

/// Chunks of at most `pairs_max` pairs, each with only the items it needs. Pairs of one picture stay together, and of like texts next
/// to them, so that keys and values are computed seldom and padding is short.
pub(crate) fn chunk_pairs(
    images: &[Arc<ImageStates>],
    texts: &[Arc<TextStates>],
    pairs: &[(u32, u32)],
    pairs_max: usize,
) -> Result<Vec<Chunk>, TowersError> {
    let outside = |(image, text): &&(u32, u32)| *image as usize >= images.len() || *text as usize >= texts.len();
    if let Some((image, text)) = pairs.iter().find(outside) {
        let problem = format!("({image}, {text}) among {} images and {} texts", images.len(), texts.len());
        return Err(invalid("pairs", problem));
    }
    let mut order: Vec<usize> = (0..pairs.len()).collect();
    order.sort_by_key(|place| {
        let (image, text) = pairs[*place];
        (image, texts[text as usize].tokens, text)
    });
    let chunks = order.chunks(pairs_max.max(1)).map(|places| {
        let mut chunk = CrossRequest::default();
        let (mut image_places, mut text_places) = (HashMap::new(), HashMap::new());
        for place in places {
            let (image, text) = pairs[*place];
            let image = place_of(&mut image_places, &images[image as usize], &mut chunk.images);
            let text = place_of(&mut text_places, &texts[text as usize], &mut chunk.texts);
            chunk.pairs.push((image, text));
        }
        (places.to_vec(), chunk)
    });
    Ok(chunks.collect())
}

/// One request of several, its pairs in their order. What is in more than one of them is in it once.
pub(crate) fn merge(requests: &[CrossRequest]) -> CrossRequest {
    let mut merged = CrossRequest::default();
    let (mut image_places, mut text_places) = (HashMap::new(), HashMap::new());
    for request in requests {
        let place = |image| place_of(&mut image_places, image, &mut merged.images);
        let images: Vec<u32> = request.images.iter().map(place).collect();
        let place = |text| place_of(&mut text_places, text, &mut merged.texts);
        let texts: Vec<u32> = request.texts.iter().map(place).collect();
        merged.pairs.extend(request.pairs.iter().map(|(image, text)| (images[*image as usize], texts[*text as usize])));
    }
    merged
}

/// The index of `item` among `items`, where it is put when it is new. Two are the same item when they are the same allocation:
/// comparing numbers would cost more than it saves.
fn place_of<S>(places: &mut HashMap<*const S, u32>, item: &Arc<S>, items: &mut Vec<Arc<S>>) -> u32 {
    *places.entry(Arc::as_ptr(item)).or_insert_with(|| {
        items.push(Arc::clone(item));
        items.len() as u32 - 1
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn items(count: usize) -> (Vec<Arc<ImageStates>>, Vec<Arc<TextStates>>) {
        let image = |tag| Arc::new(ImageStates { tokens: 1, width: 1, data: [tag as f32].into() });
        let text = |tag| Arc::new(TextStates { tokens: 1, width: 1, data: [tag as f32].into() });
        ((0..count).map(image).collect(), (0..count).map(text).collect())
    }

    #[test]
    fn every_pair_is_in_one_chunk_with_its_own_items() {
        let (images, texts) = items(5);
        let pairs: Vec<(u32, u32)> = (0..25).map(|index| (index % 5, index / 5)).collect();
        let chunks = chunk_pairs(&images, &texts, &pairs, 4).unwrap();
        let mut seen = vec![0; pairs.len()];
        for (places, chunk) in &chunks {
            assert!(places.len() <= 4 && places.len() == chunk.pairs.len());
            for (place, (image, text)) in places.iter().zip(&chunk.pairs) {
                seen[*place] += 1;
                let found = (chunk.images[*image as usize].data[0], chunk.texts[*text as usize].data[0]);
                assert_eq!(found, (pairs[*place].0 as f32, pairs[*place].1 as f32));
            }
            assert!(chunk.images.len() <= 2, "pairs of one picture stay together");
        }
        assert_eq!(seen, vec![1; pairs.len()]);
    }

    #[test]
    fn a_merged_request_has_every_pair_in_order_and_every_item_once() {
        let (images, texts) = items(4);
        let pairs = vec![(0, 0), (1, 0), (0, 1)];
        let of = |images: &[Arc<ImageStates>], texts: &[Arc<TextStates>]| CrossRequest {
            images: images.to_vec(),
            texts: texts.to_vec(),
            pairs: pairs.clone(),
        };
        let merged = merge(&[of(&images[..2], &texts[..2]), of(&images[1..3], &texts[..2]), of(&images[2..], &texts[2..])]);
        assert_eq!((merged.images.len(), merged.texts.len()), (4, 4));
        let numbers = merged.pairs.iter().map(|(image, text)| {
            let (image, text) = (&merged.images[*image as usize], &merged.texts[*text as usize]);
            (image.data[0] as u32, text.data[0] as u32)
        });
        let expected = [(0, 0), (1, 0), (0, 1), (1, 0), (2, 0), (1, 1), (2, 2), (3, 2), (2, 3)];
        assert_eq!(numbers.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_picture_given_twice_is_in_a_chunk_once() {
        let (images, texts) = items(1);
        let twice = [Arc::clone(&images[0]), Arc::clone(&images[0])];
        let chunks = chunk_pairs(&twice, &texts, &[(0, 0), (1, 0)], 4).unwrap();
        assert_eq!((chunks[0].1.images.len(), chunks[0].1.pairs.as_slice()), (1, [(0, 0), (0, 0)].as_slice()));
    }

    #[test]
    fn an_index_out_of_range_is_named() {
        let (images, texts) = items(2);
        let error = chunk_pairs(&images, &texts, &[(0, 0), (2, 1)], 4).unwrap_err();
        assert_eq!(error.to_string(), "pairs: (2, 1) among 2 images and 2 texts");
    }
}
