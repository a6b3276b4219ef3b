//! Where objects stand. Places are parts of the scene's edge, from the left and from above.

use rand::Rng;
use rand::seq::SliceRandom;

use super::cutout::SIZES;
use super::kind::SceneKind;

/// Centre of an object.
pub(super) type Spot = [f32; 2];

/// Distance of the ends of an axis from the border, and how far an object is moved along the axis.
const END: f32 = 0.26;
const ALONG: f32 = 0.04;
/// How far both objects are moved across the axis together, and each by itself: too little to be another relation.
const ACROSS_BOTH: f32 = 0.15;
const ACROSS: f32 = 0.06;
/// As [`END`], of a row of three, and how far its objects are moved.
const ROW_END: f32 = 0.18;
const ROW_ALONG: f32 = 0.02;
/// How far an object is moved from the middle of its quarter.
const QUARTER: f32 = 0.03;
/// Size of the large and of the small object, as indices of [`SIZES`].
const LARGE_SMALL: [usize; 2] = [SIZES.len() - 1, 0];

/// Spots and sizes (indices of [`SIZES`]) of up to three objects.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    /// Of a, b and c.
    pub(super) spots: [Spot; 3],
    /// Of a, b and c.
    pub(super) sizes: [usize; 3],
    /// 0 horizontal, 1 vertical.
    pub(super) axis: usize,
    /// 0 where a is left of or above the others.
    pub(super) side: usize,
}

impl Layout {
    /// Draws one.
    pub(super) fn draw(kind: SceneKind, rng: &mut impl Rng) -> Self {
        let (axis, side) = (rng.random_range(0..2), rng.random_range(0..2));
        let spots = match kind {
            SceneKind::Row => row(axis, side, rng),
            SceneKind::Colour | SceneKind::Size | SceneKind::Count => quarters(rng),
            _ => ends(axis, side, rng),
        };
        let mut any = |sizes: &[usize]| [0; 3].map(|_: usize| sizes[rng.random_range(0..sizes.len())]);
        let sizes = match kind {
            SceneKind::Row => any(&[1, 2]),
            SceneKind::Count => any(&[2, 3, 4]),
            SceneKind::Size => [LARGE_SMALL[0], LARGE_SMALL[1], 0],
            _ => any(&[2, 3, 4, 5]),
        };
        Self { spots, sizes, axis, side }
    }
}

fn moved(rng: &mut impl Rng, by: f32) -> f32 {
    rng.random_range(-by..=by)
}

/// A spot `along` an axis, `across` from its middle.
fn on(axis: usize, along: f32, across: f32) -> Spot {
    if axis == 0 { [along, 0.5 + across] } else { [0.5 + across, along] }
}

/// Two at the ends of an axis.
fn ends(axis: usize, side: usize, rng: &mut impl Rng) -> [Spot; 3] {
    let both = moved(rng, ACROSS_BOTH);
    let mut end = |far: bool| {
        let along = if far { 1.0 - END } else { END } + moved(rng, ALONG);
        on(axis, along, both + moved(rng, ACROSS))
    };
    [end(side == 1), end(side == 0), [0.5; 2]]
}

/// Three along an axis.
fn row(axis: usize, side: usize, rng: &mut impl Rng) -> [Spot; 3] {
    let both = moved(rng, ACROSS_BOTH);
    let mut at = |along: f32| {
        let along = along + moved(rng, ROW_ALONG);
        on(axis, along, both + moved(rng, ACROSS))
    };
    let [first, last] = if side == 0 { [ROW_END, 1.0 - ROW_END] } else { [1.0 - ROW_END, ROW_END] };
    [at(first), at(0.5), at(last)]
}

/// Three in quarters of the scene, in any order.
fn quarters(rng: &mut impl Rng) -> [Spot; 3] {
    let mut all = [[END, END], [1.0 - END, END], [END, 1.0 - END], [1.0 - END, 1.0 - END]];
    all.shuffle(rng);
    let mut near = |[x, y]: Spot| [x + moved(rng, QUARTER), y + moved(rng, QUARTER)];
    [near(all[0]), near(all[1]), near(all[2])]
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn objects_stay_inside_apart_and_where_the_relation_has_them() {
        let mut rng = StdRng::seed_from_u64(1);
        for kind in SceneKind::ALL {
            for _ in 0..500 {
                let Layout { spots, sizes, axis, side } = Layout::draw(kind, &mut rng);
                let count = match kind {
                    SceneKind::Place => 1,
                    SceneKind::Row | SceneKind::Count => 3,
                    _ => 2,
                };
                let edge = |index: usize| SIZES[sizes[index]];
                for a in 0..count {
                    assert!(spots[a].iter().all(|at| at - edge(a) / 2.0 >= 0.0 && at + edge(a) / 2.0 <= 1.0), "{kind:?}");
                    for b in 0..a {
                        let away = (0..2).map(|axis| (spots[a][axis] - spots[b][axis]).abs()).fold(0.0, f32::max);
                        assert!(away >= f32::midpoint(edge(a), edge(b)) - 1e-5, "{kind:?}: {spots:?} {sizes:?}");
                    }
                }
                if matches!(kind, SceneKind::Relation | SceneKind::Row) {
                    assert_eq!(spots[0][axis] < spots[1][axis], side == 0);
                    // What lies across is far less than what lies along.
                    let [along, across] = [axis, 1 - axis].map(|axis| (spots[0][axis] - spots[1][axis]).abs());
                    assert!(along > 2.0 * across, "{spots:?}");
                }
            }
        }
    }
}
