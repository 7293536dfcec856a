//! Anomaly maps: patch grid to pixels, and the smoothing for maps that people look at.

use crate::tiling::Tiling;

/// A square map, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Map {
    /// Pixels per side.
    pub side: usize,
    /// `side * side` values in 0..=1.
    pub values: Vec<f32>,
}

/// The published code's map: (up(s1) + 1 - up(s0) + up(s'1) + 1 - up(s'0)) / 4. Both pairs sum to
/// one and `up` is linear, so this is the bilinear enlargement of (s1 + s'1) / 2.
pub fn anomaly_map(scores: &[f32], adapted: &[f32], grid: usize, side: usize) -> Map {
    let mean: Vec<f32> = scores
        .iter()
        .zip(adapted)
        .map(|(a, b)| (a + b) / 2.0)
        .collect();
    enlarge(&mean, grid, side)
}

/// For each pixel of a side: the two grid cells around it and the weight of the second
/// (bilinear, align_corners = false: sample positions are pixel centres, clamped at the border).
fn taps(grid: usize, side: usize) -> Vec<(usize, usize, f32)> {
    let scale = grid as f32 / side as f32;
    (0..side)
        .map(|i| {
            let at = ((i as f32 + 0.5) * scale - 0.5).max(0.0);
            let low = (at as usize).min(grid - 1);
            (low, (low + 1).min(grid - 1), at - low as f32)
        })
        .collect()
}

/// Bilinear enlargement of a `grid` x `grid` map to `side` x `side`.
pub fn enlarge(values: &[f32], grid: usize, side: usize) -> Map {
    interpolate(values, grid, side, &taps(grid, side))
}

/// The `side` x `side` map of a picture in tiles, each `grid` x `grid`, one behind the other: each enlarged to
/// its place; where tiles lie over each other, the one says less whose edge is nearer.
pub fn joined(values: &[f32], grid: usize, tiles: Tiling, side: usize) -> Map {
    if tiles.is_whole() {
        return enlarge(values, grid, side);
    }
    let (down, across) = (tiles.down(side, grid), tiles.across(side, grid));
    let mut out = Vec::with_capacity(side * side);
    for rows in &down {
        for columns in &across {
            let mut sum = 0.0;
            for row in rows {
                let (top, bottom, lower) = row.cells;
                for column in columns {
                    let tile = row.tile * tiles.columns() + column.tile;
                    let tile = &values[tile * grid * grid..][..grid * grid];
                    let (left, right, further) = column.cells;
                    let between = |line: usize| {
                        let (l, r) = (tile[line * grid + left], tile[line * grid + right]);
                        l + (r - l) * further
                    };
                    let (above, below) = (between(top), between(bottom));
                    sum += row.weight * column.weight * (above + (below - above) * lower);
                }
            }
            out.push(sum);
        }
    }
    Map { side, values: out }
}

/// Bilinear enlargement with corners aligned: the corner cells' centres are the corner pixels'.
pub fn enlarge_aligned(values: &[f32], grid: usize, side: usize) -> Map {
    let step = if side > 1 {
        (grid - 1) as f32 / (side - 1) as f32
    } else {
        0.0
    };
    let taps: Vec<_> = (0..side)
        .map(|i| {
            let at = i as f32 * step;
            let low = (at as usize).min(grid - 1);
            (low, (low + 1).min(grid - 1), at - low as f32)
        })
        .collect();
    interpolate(values, grid, side, &taps)
}

/// The mean of each cell and its eight neighbours; cells outside are what the border's are.
pub fn pooled(values: &[f32], grid: usize) -> Vec<f32> {
    let near = |i: usize| [i.saturating_sub(1), i, (i + 1).min(grid - 1)];
    (0..grid * grid)
        .map(|i| {
            let rows = near(i / grid).into_iter();
            let cells = rows.flat_map(|y| near(i % grid).map(|x| values[y * grid + x]));
            cells.sum::<f32>() / 9.0
        })
        .collect()
}

/// Bilinear interpolation at each pair of `taps`.
fn interpolate(values: &[f32], grid: usize, side: usize, taps: &[(usize, usize, f32)]) -> Map {
    let mut out = Vec::with_capacity(side * side);
    for (top, bottom, down) in taps {
        let (top, bottom) = (
            &values[top * grid..][..grid],
            &values[bottom * grid..][..grid],
        );
        for (left, right, across) in taps {
            let above = top[*left] + (top[*right] - top[*left]) * across;
            let below = bottom[*left] + (bottom[*right] - bottom[*left]) * across;
            out.push(above + (below - above) * down);
        }
    }
    Map { side, values: out }
}

impl Map {
    /// Convolved with a Gaussian of `sigma` pixels, cut at four sigma, mirrored at the borders
    /// (SciPy's `gaussian_filter` with its defaults, which the published code reports with).
    pub fn smoothed(&self, sigma: f32) -> Map {
        if sigma <= 0.0 {
            return self.clone();
        }
        let radius = (4.0 * sigma + 0.5) as isize;
        let kernel: Vec<f32> = (-radius..=radius)
            .map(|i| (-0.5 * (i as f32 / sigma).powi(2)).exp())
            .collect();
        let sum: f32 = kernel.iter().sum();
        let kernel: Vec<f32> = kernel.iter().map(|k| k / sum).collect();
        let side = self.side as isize;
        // Mirrored with the edge pixel doubled: d c b a | a b c d | d c b a.
        let mirror = |i: isize| {
            let i = i.rem_euclid(2 * side);
            (if i < side { i } else { 2 * side - 1 - i }) as usize
        };
        let columns = |source: &[f32]| -> Vec<f32> {
            let mut out = vec![0f32; source.len()];
            for (y, row) in out.chunks_exact_mut(self.side).enumerate() {
                for (k, weight) in (-radius..).zip(&kernel) {
                    let from = &source[mirror(y as isize + k) * self.side..][..self.side];
                    row.iter_mut().zip(from).for_each(|(o, v)| *o += weight * v);
                }
            }
            out
        };
        let transposed = |source: &[f32]| -> Vec<f32> {
            (0..source.len())
                .map(|i| source[i % self.side * self.side + i / self.side])
                .collect()
        };
        let values = transposed(&columns(&transposed(&columns(&self.values))));
        Map {
            side: self.side,
            values,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enlarging_interpolates_between_cell_centres() {
        let map = enlarge(&[0.0, 1.0, 2.0, 3.0], 2, 4);
        // torch.nn.functional.interpolate(mode="bilinear", align_corners=False) of the same grid.
        let want = [
            0.0, 0.25, 0.75, 1.0, 0.5, 0.75, 1.25, 1.5, 1.5, 1.75, 2.25, 2.5, 2.0, 2.25, 2.75, 3.0,
        ];
        assert_eq!(map.values, want);
    }

    #[test]
    fn tiles_lie_where_they_were_cut() {
        let tiles: Tiling = "2x2+0".parse().unwrap();
        // Without overlap and with cells that are each of one value, tile by tile.
        let values: Vec<f32> = (0..4).flat_map(|tile| [tile as f32; 4]).collect();
        let map = joined(&values, 2, tiles, 4);
        let want = [
            0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 2.0, 2.0, 3.0, 3.0,
        ];
        assert_eq!(map.values, want);
        assert_eq!(
            joined(&values[..4], 2, Tiling::WHOLE, 8),
            enlarge(&values[..4], 2, 8)
        );
        // With overlap the seam is between both.
        let over: Tiling = "1x2+50".parse().unwrap();
        let map = joined(&[0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0], 2, over, 6);
        let row = &map.values[..6];
        assert!(row.is_sorted() && row[0] == 0.0 && row[5] == 1.0);
        assert!(row[2] > 0.2 && row[2] < 0.5 && (row[2] + row[3] - 1.0).abs() < 1e-5);
    }

    #[test]
    fn smoothing_matches_scipy() {
        // scipy.ndimage.gaussian_filter of a single 1 at (1, 2) in 5 x 5, sigma 0.8 and sigma 2.
        let mut values = vec![0f32; 25];
        values[7] = 1.0;
        let map = Map { side: 5, values };
        for (sigma, want) in [(0.8f32, SCIPY_08), (2.0, SCIPY_2)] {
            for (got, want) in map.smoothed(sigma).values.iter().zip(want) {
                assert!((got - want).abs() < 1e-6, "sigma {sigma}: {got} for {want}");
            }
        }
        assert_eq!(map.smoothed(0.0), map);
    }

    const SCIPY_08: [f32; 25] = [
        0.0055927, 0.0571281, 0.1247793, 0.0571281, 0.0055927, 0.0111558, 0.1139538, 0.2488980,
        0.1139538, 0.0111558, 0.0051030, 0.0521258, 0.1138532, 0.0521258, 0.0051030, 0.0004897,
        0.0050024, 0.0109262, 0.0050024, 0.0004897, 0.0000099, 0.0001006, 0.0002198, 0.0001006,
        0.0000099,
    ];
    const SCIPY_2: [f32; 25] = [
        0.0553332, 0.0609771, 0.0644695, 0.0609771, 0.0553332, 0.0492951, 0.0543231, 0.0574345,
        0.0543231, 0.0492951, 0.0382275, 0.0421266, 0.0445394, 0.0421266, 0.0382275, 0.0258112,
        0.0284438, 0.0300730, 0.0284438, 0.0258112, 0.0175836, 0.0193771, 0.0204869, 0.0193771,
        0.0175836,
    ];
}
