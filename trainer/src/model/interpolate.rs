//! Position tables of one grid of patches, resampled to another.

use tch::Tensor;

/// Side of the square grid that a position table [1 + side², width] describes; `None` where it describes none.
pub fn grid_side(rows: i64) -> Option<i64> {
    let side = ((rows - 1).max(0) as f64).sqrt().round() as i64;
    (side > 0 && side * side == rows - 1).then_some(side)
}

/// Resamples a position table [1 + old², width] to [1 + side², width]: the class token's row stays, the grid of the patches' rows is
/// resampled bicubically with pixel centres aligned (PyTorch's `interpolate(mode="bicubic", align_corners=False)`, as Hugging Face
/// does for another picture size). `None` where the rows are no class token and a square grid.
pub fn interpolate_positions(table: &Tensor, side: i64) -> Option<Tensor> {
    let [rows, width] = table.size()[..] else { return None };
    let old = grid_side(rows)?;
    if old == side {
        return Some(table.shallow_clone());
    }
    let class = table.narrow(0, 0, 1);
    let grid = table.narrow(0, 1, old * old).view([1, old, old, width]).permute([0, 3, 1, 2]);
    let resampled = grid.upsample_bicubic2d([side, side], false, None::<f64>, None::<f64>);
    let patches = resampled.permute([0, 2, 3, 1]).reshape([side * side, width]);
    Some(Tensor::cat(&[class, patches], 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(rows: &[f32]) -> Tensor {
        Tensor::from_slice(rows).view([rows.len() as i64, 1])
    }

    fn values(table: &Tensor) -> Vec<f32> {
        table.contiguous().view([-1]).try_into().unwrap()
    }

    #[test]
    fn a_grid_is_a_class_token_and_a_square() {
        assert_eq!([197, 257, 2, 1, 198, 0].map(grid_side), [Some(14), Some(16), Some(1), None, None, None]);
        assert!(interpolate_positions(&table(&[0.0; 7]), 3).is_none());
    }

    #[test]
    fn the_class_row_stays_and_a_constant_grid_stays_constant() {
        let found = values(&interpolate_positions(&table(&[9.0, 2.0, 2.0, 2.0, 2.0]), 3).unwrap());
        assert!((found[0] - 9.0).abs() < 1e-6);
        assert!(found.len() == 10 && found[1..].iter().all(|value| (value - 2.0).abs() < 1e-5), "{found:?}");
    }

    #[test]
    fn values_are_those_of_the_cubic_kernel_worked_out_by_hand() {
        // Columns 0 and 1 from 2 x 2 to 4 x 4. Output 0 lies at x = −0.25: taps −2, −1, 0, 1 clamp to columns 0, 0, 0, 1, so it is the
        // weight of the last tap, at distance 1.25; output 1 lies at x = 0.25: taps −1, 0, 1, 2 → 0, 0, 1, 1, so it is the weights at
        // distances 0.75 and 1.75. The kernel is Keys' with a = −0.75.
        let far = |d: f32| -0.75 * (d.powi(3) - 5.0 * d.powi(2) + 8.0 * d - 4.0);
        let near = |d: f32| 1.25 * d.powi(3) - 2.25 * d.powi(2) + 1.0;
        let (first, second) = (far(1.25), near(0.75) + far(1.75));
        let expected = [first, second, 1.0 - second, 1.0 - first];
        let found = values(&interpolate_positions(&table(&[5.0, 0.0, 1.0, 0.0, 1.0]), 4).unwrap());
        for row in found[1..].chunks_exact(4) {
            for (found, expected) in row.iter().zip(expected) {
                assert!((found - expected).abs() < 1e-5, "{row:?} is not {expected}");
            }
        }
    }

    #[test]
    fn rows_are_not_mixed_up_with_columns() {
        // Rows 0 and 1 of the grid differ, columns do not: each row of the result is constant.
        let found = values(&interpolate_positions(&table(&[5.0, 0.0, 0.0, 1.0, 1.0]), 4).unwrap());
        assert!(found[1..].chunks_exact(4).all(|row| row.iter().all(|value| (value - row[0]).abs() < 1e-5)), "{found:?}");
        assert!(found[1] < found[16]);
    }
}
