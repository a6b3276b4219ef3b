//! 8-bit weights: symmetric, one scale per output channel of a matrix or per row of a table.
//!
//! w ≈ q · s with q an integer from −m to m and s = max|w| / m, so that the largest weight of a channel is exact to half a step.
//! Activations are quantised while the graph runs, by `DynamicQuantizeLinear`: one scale and zero point per tensor,
//! x ≈ (u − z) · s with u from 0 to 255. A product is then (u − z) · q summed in 32-bit integers, times both scales.

/// Largest magnitude m of a row's element: tables are only read, never multiplied.
const TABLE_LEVEL_MAX: f32 = 127.0;
/// Largest magnitude m of a matrix's element: 7 bits. A CPU without VNNI adds two products u · q in 16 bits (`vpmaddubsw`), which
/// 2 · 255 · 63 fits and 2 · 255 · 127 does not: with 8 bits such a CPU cut 1 product in 1,000 and gave other vectors than the rest.
const MATRIX_LEVEL_MAX: f32 = 63.0;

/// Integers and the scale of each channel.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantized {
    /// Quantised elements.
    pub values: Vec<i8>,
    /// One scale per channel.
    pub scales: Vec<f32>,
}

/// Quantises a table [rows, width] with one scale per row; the result keeps its order.
pub fn quantize_rows(table: &[f32], width: usize) -> Quantized {
    quantize_channels(table, width, TABLE_LEVEL_MAX)
}

fn quantize_channels(table: &[f32], width: usize, level_max: f32) -> Quantized {
    let rows = table.chunks_exact(width);
    let mut quantized = Quantized { values: Vec::with_capacity(table.len()), scales: Vec::with_capacity(rows.len()) };
    for row in rows {
        let scale = scale_of(row, level_max);
        quantized.values.extend(row.iter().map(|&value| level(value, scale, level_max)));
        quantized.scales.push(scale);
    }
    quantized
}

/// Quantises a linear layer's weight [outputs, inputs] with one scale per output; the result is transposed to [inputs, outputs], as a
/// matrix product takes it.
pub fn quantize_linear(weight: &[f32], inputs: usize) -> Quantized {
    let quantized = quantize_channels(weight, inputs, MATRIX_LEVEL_MAX);
    let values = transpose(&quantized.values, weight.len() / inputs, inputs);
    Quantized { values, scales: quantized.scales }
}

/// [rows, columns] → [columns, rows].
pub fn transpose<T: Copy>(matrix: &[T], rows: usize, columns: usize) -> Vec<T> {
    let mut result = Vec::with_capacity(matrix.len());
    for column in 0..columns {
        result.extend((0..rows).map(|row| matrix[row * columns + column]));
    }
    result
}

fn scale_of(channel: &[f32], level_max: f32) -> f32 {
    let largest = channel.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    // A channel of zeros keeps its zeros under any scale; a scale of 0 would divide by it.
    if largest > 0.0 { largest / level_max } else { 1.0 }
}

fn level(value: f32, scale: f32, level_max: f32) -> i8 {
    (value / scale).round_ties_even().clamp(-level_max, level_max) as i8
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `DynamicQuantizeLinear` as the ONNX specification defines it.
    fn dynamic_quantize(x: &[f32]) -> (Vec<u8>, f32, u8) {
        let low = x.iter().copied().fold(0.0_f32, f32::min);
        let high = x.iter().copied().fold(0.0_f32, f32::max);
        let scale = (high - low) / 255.0;
        let zero = (-low / scale).round_ties_even().clamp(0.0, 255.0);
        let values = x.iter().map(|v| ((v / scale).round_ties_even() + zero).clamp(0.0, 255.0) as u8).collect();
        (values, scale, zero as u8)
    }

    #[test]
    fn a_channel_is_exact_at_its_largest_weight_and_within_half_a_step_elsewhere() {
        let table = [0.5, -1.0, 0.25, 100.0, 0.0, -50.0];
        let quantized = quantize_rows(&table, 3);
        assert_eq!(quantized.values, [64, -127, 32, 127, 0, -64]);
        for (index, &value) in table.iter().enumerate() {
            let scale = quantized.scales[index / 3];
            assert!((f32::from(quantized.values[index]) * scale - value).abs() <= scale / 2.0 + 1e-6);
        }
    }

    #[test]
    fn a_channel_of_zeros_stays_zero() {
        let quantized = quantize_rows(&[0.0; 4], 4);
        assert_eq!((quantized.values.as_slice(), quantized.scales.as_slice()), (&[0_i8; 4][..], &[1.0_f32][..]));
    }

    #[test]
    fn an_integer_product_with_both_scales_is_the_float_product_within_its_steps() {
        // x [1, 4] times W [3, 4]ᵀ.
        let x = [0.3, -1.2, 2.0, 0.7];
        let weight = [0.1, 0.2, -0.3, 0.4, 1.0, -2.0, 0.5, 0.25, -0.01, 0.02, 0.03, -0.04];
        let quantized = quantize_linear(&weight, 4);
        let (u, x_scale, zero) = dynamic_quantize(&x);
        for output in 0..3 {
            let exact: f32 = (0..4).map(|i| x[i] * weight[output * 4 + i]).sum();
            let sum: i32 =
                (0..4).map(|i| (i32::from(u[i]) - i32::from(zero)) * i32::from(quantized.values[i * 3 + output])).sum();
            let found = sum as f32 * x_scale * quantized.scales[output];
            // Half a step of each factor, times the sum of the other's magnitudes.
            let weights: f32 = (0..4).map(|i| weight[output * 4 + i].abs()).sum();
            let inputs: f32 = x.iter().map(|v| v.abs()).sum();
            let bound = x_scale / 2.0 * weights + quantized.scales[output] / 2.0 * inputs + 1e-3 * exact.abs();
            assert!((found - exact).abs() <= bound, "output {output}: {found} against {exact}, allowed {bound}");
        }
    }

    #[test]
    fn two_products_of_a_quantised_matrix_fit_16_bits() {
        let quantized = quantize_linear(&[1.0, -1.0, 0.5, 2.0], 2);
        assert_eq!(quantized.values, [63, 16, -63, 63]);
        let largest = quantized.values.iter().map(|value| i32::from(value.unsigned_abs())).max();
        assert!(largest.is_some_and(|largest| 2 * 255 * largest <= i32::from(i16::MAX)));
    }

    #[test]
    fn a_transpose_turns_rows_to_columns() {
        assert_eq!(transpose(&[1, 2, 3, 4, 5, 6], 2, 3), [1, 4, 2, 5, 3, 6]);
    }
}
