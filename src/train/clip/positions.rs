//! Positions for another grid than the checkpoint's, as the published codes resize them.

use super::Visual;
use crate::bundle::method::Positions;
use ndarray::{Array2, ArrayView2, s};

/// Keys' cubic convolution kernel with parameter `a`.
fn cubic(x: f64, a: f64) -> f64 {
    let x = x.abs();
    if x < 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * a
    } else {
        0.0
    }
}

/// What each of `to` cells takes of `from` cells along one axis: PyTorch's `interpolate` with corners not
/// aligned.
fn shares(from: usize, to: usize, how: Positions) -> Vec<Vec<(usize, f64)>> {
    let scale = from as f64 / to as f64;
    let last = from as isize - 1;
    let share = |i: usize| -> Vec<(usize, f64)> {
        let centre = (i as f64 + 0.5) * scale;
        match how {
            Positions::Bilinear => {
                let at = (centre - 0.5).max(0.0);
                let low = (at as usize).min(from - 1);
                let part = at - low as f64;
                vec![(low, 1.0 - part), ((low + 1).min(from - 1), part)]
            }
            Positions::Bicubic => {
                let at = centre - 0.5;
                let low = at.floor() as isize;
                (low - 1..=low + 2)
                    .map(|j| {
                        let cell = j.clamp(0, last) as usize;
                        (cell, cubic(at - j as f64, -0.75))
                    })
                    .collect()
            }
            Positions::BicubicAntialias => {
                // Wider when shrinking; what reaches over the border is left out and the rest scaled.
                let wide = scale.max(1.0);
                let low = ((centre - 2.0 * wide + 0.5) as isize).max(0);
                let high = ((centre + 2.0 * wide + 0.5) as isize).min(from as isize);
                let mut all: Vec<(usize, f64)> = (low..high)
                    .map(|j| {
                        let x = (j as f64 - centre + 0.5) / wide;
                        (j as usize, cubic(x, -0.5))
                    })
                    .collect();
                let sum: f64 = all.iter().map(|(_, w)| w).sum();
                all.iter_mut().for_each(|(_, w)| *w /= sum);
                all
            }
        }
    };
    (0..to).map(share).collect()
}

/// Positions of `from` x `from` patches for `to` x `to` of them: [from * from, width] to [to * to, width].
pub fn resized(patches: ArrayView2<f32>, from: usize, to: usize, how: Positions) -> Array2<f32> {
    if from == to {
        return patches.to_owned();
    }
    let shares = shares(from, to, how);
    let mut out = Array2::zeros((to * to, patches.ncols()));
    for (y, rows) in shares.iter().enumerate() {
        for (x, columns) in shares.iter().enumerate() {
            let mut cell = out.row_mut(y * to + x);
            for (row, down) in rows {
                for (column, across) in columns {
                    let weight = (down * across) as f32;
                    cell.scaled_add(weight, &patches.row(row * from + column));
                }
            }
        }
    }
    out
}

impl Visual {
    /// Positions for another grid: class row kept, patch rows resized, [1 + grid * grid, width].
    pub fn positions_by(&self, grid: usize, how: Positions) -> Array2<f32> {
        let mut out = Array2::zeros((1 + grid * grid, self.width));
        out.row_mut(0).assign(&self.positions.row(0));
        let patches = resized(self.positions.slice(s![1.., ..]), self.grid, grid, how);
        out.slice_mut(s![1.., ..]).assign(&patches);
        out
    }
}
