//! One batch out of two.

use super::batch::Batch;
use super::masking::NOT_MASKED;

/// Rows of both in the order given, as numbers over `first` and then `second`; texts are padded to the longest. The position is the
/// first's.
pub(crate) fn mix(first: Batch, second: &Batch, order: &[usize]) -> Batch {
    let length = first.length.max(second.length);
    let (mut pixels, mut concepts) = (Vec::with_capacity(first.pixels.len() + second.pixels.len()), Vec::new());
    let (mut ids, mut mask) = (Vec::with_capacity(order.len() * length), Vec::with_capacity(order.len() * length));
    let mut keep = first.keep.is_some().then(Vec::new);
    let mut masked = first.masked.is_some().then(|| [Vec::new(), Vec::new()]);
    for &at in order {
        let (batch, row) = if at < first.size { (&first, at) } else { (second, at - first.size) };
        let tokens = row * batch.length..(row + 1) * batch.length;
        let pad = |to: &mut Vec<i64>, from: &[i64], value: i64| {
            to.extend_from_slice(&from[tokens.clone()]);
            to.extend(std::iter::repeat_n(value, length - batch.length));
        };
        pad(&mut ids, &batch.ids, 0);
        pad(&mut mask, &batch.mask, 0);
        if let (Some([hidden, labels]), Some([own_hidden, own_labels])) = (&mut masked, &batch.masked) {
            pad(hidden, own_hidden, 0);
            pad(labels, own_labels, NOT_MASKED);
        }
        if let (Some(keep), Some(own)) = (&mut keep, &batch.keep) {
            let kept = own.len() / batch.size;
            keep.extend_from_slice(&own[row * kept..(row + 1) * kept]);
        }
        let picture = batch.pixels.len() / batch.size;
        pixels.extend_from_slice(&batch.pixels[row * picture..(row + 1) * picture]);
        concepts.push(batch.concepts[row]);
    }
    Batch { step: first.step, size: order.len(), pixels, ids, mask, length, concepts, keep, masked, position: first.position }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(from: i64, size: usize, length: usize) -> Batch {
        let numbers = |count: usize| (0..count).map(|index| from + index as i64).collect::<Vec<i64>>();
        Batch {
            step: 3,
            size,
            pixels: numbers(size * 2).into_iter().map(|value| value as u8).collect(),
            ids: numbers(size * length),
            mask: vec![1; size * length],
            length,
            concepts: numbers(size),
            keep: Some(numbers(size * 2)),
            masked: Some([numbers(size * length), numbers(size * length)]),
            position: None,
        }
    }

    #[test]
    fn every_row_keeps_what_belongs_to_it_and_shorter_texts_are_padded() {
        let mixed = mix(batch(10, 1, 3), &batch(50, 2, 2), &[2, 0, 1]);
        assert_eq!((mixed.size, mixed.length, mixed.concepts), (3, 3, vec![51, 10, 50]));
        assert_eq!(mixed.ids, [52, 53, 0, 10, 11, 12, 50, 51, 0]);
        assert_eq!(mixed.mask, [1, 1, 0, 1, 1, 1, 1, 1, 0]);
        assert_eq!(mixed.pixels, [52, 53, 10, 11, 50, 51]);
        assert_eq!(mixed.keep.unwrap(), [52, 53, 10, 11, 50, 51]);
        assert_eq!(mixed.masked.unwrap()[1], [52, 53, NOT_MASKED, 10, 11, 12, 50, 51, NOT_MASKED]);
    }
}
