//! FILIP's token-wise late interaction (Wukong's too; docs/R2D2.md §8).

use tch::{Kind, Tensor};

/// Below any cosine: what padding scores, so that no maximum takes it.
const PADDING: f64 = -1e4;

/// Tokens of a batch: unit rows and which of them count.
#[derive(Debug)]
pub struct Tokens {
    /// Unit vectors [B, L, E] f32.
    pub rows: Tensor,
    /// [B, L] f32: 1 for a token, 0 for padding.
    pub mask: Tensor,
}

/// Similarities of all images with all texts: [B_image, B_text] for the image's view (mean over its tokens of the maximum over the
/// text's) and the same shape for the text's view.
pub fn token_wise(image: &Tokens, text: &Tokens) -> [Tensor; 2] {
    let [images, patches, _] = size3(&image.rows);
    let [texts, length, width] = size3(&text.rows);
    // [Bi·K, Bt·L] in one product, then seen as [Bi, K, Bt, L].
    let all = image.rows.reshape([images * patches, width]).matmul(&text.rows.reshape([texts * length, width]).tr());
    let all = all.view([images, patches, texts, length]);
    let hide = |mask: &Tensor| (mask.to_kind(Kind::Float) - 1.0) * -PADDING;
    let text_hidden = hide(&text.mask).view([1, 1, texts, length]);
    let image_hidden = hide(&image.mask).view([images, patches, 1, 1]);
    let mean = |best: Tensor, mask: &Tensor, dimension: i64| {
        (best * mask).sum_dim_intlist([dimension].as_slice(), false, Kind::Float)
            / mask.sum_dim_intlist([dimension].as_slice(), false, Kind::Float)
    };
    let by_image = (&all + text_hidden).amax([3i64].as_slice(), false);
    let by_text = (&all + image_hidden).amax([1i64].as_slice(), false);
    [mean(by_image, &image.mask.view([images, patches, 1]), 1), mean(by_text, &text.mask.view([1, texts, length]), 2)]
}

fn size3(x: &Tensor) -> [i64; 3] {
    let size = x.size();
    [size[0], size[1], size[2]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn similarities_are_means_of_maxima_and_padding_takes_no_part() {
        // One image of two tokens, x and y; one text of tokens x, (x+y)/√2 and a padding row that would fit perfectly.
        let half = 0.5f32.sqrt();
        let image = Tokens {
            rows: Tensor::from_slice(&[1.0f32, 0.0, 0.0, 1.0]).view([1, 2, 2]),
            mask: Tensor::from_slice(&[1.0f32, 1.0]).view([1, 2]),
        };
        let text = Tokens {
            rows: Tensor::from_slice(&[1.0f32, 0.0, half, half, 0.0, 1.0]).view([1, 3, 2]),
            mask: Tensor::from_slice(&[1.0f32, 1.0, 0.0]).view([1, 3]),
        };
        let [by_image, by_text] = token_wise(&image, &text);
        let half = f64::from(half);
        assert!((by_image.double_value(&[0, 0]) - f64::midpoint(1.0, half)).abs() < 1e-6);
        assert!((by_text.double_value(&[0, 0]) - f64::midpoint(1.0, half)).abs() < 1e-6);
    }
}
