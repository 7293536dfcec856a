//! Descriptors of patches: the rows of the encoder's taps, each of unit length, averaged over 3 x 3 places, and
//! joined.
//!
//! Taps that together are wider than [`WIDEST`] are projected at random (signs, seeded): distances stay within a
//! few percent (Johnson and Lindenstrauss), and a recipe's memory stays small.

use crate::bundle::Manifest;
use crate::bundle::tap::{Form, Tap};
use crate::ops::scratch::{Scratch, buffer};
use crate::ops::tract::*;
use crate::ops::weights::{Arithmetic, Epilogue, Matrix, Weights};
use crate::ops::{slice, sum_lanes};
use crate::tiling::Tiling;

/// Most numbers of a descriptor.
pub const WIDEST: usize = 384;

/// The grid of places, each of which has one descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Layout {
    /// Places along each side of a tile.
    pub grid: usize,
    /// The tiles that a picture is cut into; places of different tiles are no neighbours.
    pub tiles: Tiling,
    /// Numbers of one descriptor.
    pub dim: usize,
}

impl Layout {
    /// How many places a tile has.
    pub fn tile(&self) -> usize {
        self.grid * self.grid
    }

    /// How many places a picture has.
    pub fn places(&self) -> usize {
        self.tiles.count() * self.tile()
    }

    /// The places within `radius` rows and columns of a place, including itself, on the same tile.
    pub fn neighbours(&self, place: usize, radius: usize) -> impl Iterator<Item = usize> + use<> {
        let (grid, tile) = (self.grid, self.tile());
        let (first, at) = (place / tile * tile, place % tile);
        let around = move |i: usize| i.saturating_sub(radius)..=(i + radius).min(grid - 1);
        around(at / grid).flat_map(move |y| around(at % grid).map(move |x| first + y * grid + x))
    }
}

/// Makes descriptors of the rows that an encoder hands out.
pub struct Descriptor {
    widths: Vec<usize>,
    layout: Layout,
    projection: Option<Projection>,
}

struct Projection {
    weights: Weights,
    out: Tensor,
}

impl Descriptor {
    /// Makes descriptors of the taps that a bundle's memory compares.
    ///
    /// # Errors
    /// tract's own; none is known.
    pub fn new(manifest: &Manifest, taps: &[Tap]) -> TractResult<Descriptor> {
        let widths = taps.iter().map(|tap| match (&manifest.network, tap.form) {
            (Some(network), _) => network.taps.get(tap.block - 1).map(|t| t.channels),
            (None, Form::Raw | Form::LnPost) => Some(manifest.vision.width),
            (None, Form::Projected | Form::ProjectedRaw) => Some(manifest.embed()),
        });
        let widths = widths.collect::<Option<Vec<_>>>();
        Descriptor::of(
            manifest.image.grid(),
            widths.context("a tap that the network has not")?,
        )
    }

    fn of(grid: usize, widths: Vec<usize>) -> TractResult<Descriptor> {
        let joined: usize = widths.iter().sum();
        let projection = match joined > WIDEST {
            false => None,
            true => Some(Projection {
                weights: Weights::pack(&signs(joined), Arithmetic::Auto)?,
                out: buffer(&[grid * grid, WIDEST])?,
            }),
        };
        Ok(Descriptor {
            widths,
            layout: Layout {
                grid,
                tiles: Tiling::WHOLE,
                dim: joined.min(WIDEST),
            },
            projection,
        })
    }

    /// The layout of one tile.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Appends a tile's descriptors [places, dim] to `out`. `rows` are those of each tap, [places, width],
    /// with or without the class row before them.
    ///
    /// # Errors
    /// Rows of other sizes.
    pub fn append<'a>(
        &mut self,
        rows: impl Iterator<Item = TractResult<&'a [f32]>>,
        out: &mut Vec<f32>,
    ) -> TractResult<()> {
        let (grid, places) = (self.layout.grid, self.layout.tile());
        let joined: usize = self.widths.iter().sum();
        let mut side_by_side = Scratch::take(places * joined);
        let (mut first, mut taps) = (0, 0);
        for (rows, width) in rows.zip(&self.widths) {
            let (rows, width) = (rows?, *width);
            let class = rows.len().checked_sub(places * width);
            let class = class.filter(|c| [0, width].contains(c));
            let rows =
                &rows[class.context("a tap of other rows than the memory was made for")?..];
            let mut unit = Scratch::take(places * width);
            for (to, row) in unit.chunks_exact_mut(width).zip(rows.chunks_exact(width)) {
                let length = sum_lanes(row, |v| v * v).sqrt();
                // A NaN stays NaN; a row of zeros stays as it is.
                let factor = if length == 0.0 { 0.0 } else { 1.0 / length };
                to.iter_mut().zip(row).for_each(|(to, v)| *to = v * factor);
            }
            average(&unit, width, grid, &mut side_by_side, joined, first);
            first += width;
            taps += 1;
        }
        ensure!(
            taps == self.widths.len(),
            "{taps} taps of {}",
            self.widths.len()
        );
        match &mut self.projection {
            None => out.extend_from_slice(&side_by_side),
            Some(p) => {
                let epilogue = Epilogue {
                    // Keeps lengths, on average.
                    scale: Some((WIDEST as f32).sqrt().recip()),
                    ..Epilogue::default()
                };
                p.weights
                    .product(&side_by_side, None, epilogue, &mut p.out, 0)?;
                out.extend_from_slice(slice(&p.out)?);
            }
        }
        Ok(())
    }
}

/// The mean over each place's 3 x 3 neighbourhood (what of it lies on the grid), to the columns from `first`
/// on of rows of `stride`: sums along rows, then along columns.
fn average(rows: &[f32], width: usize, grid: usize, out: &mut [f32], stride: usize, first: usize) {
    let mut across = Scratch::take(rows.len());
    let row = |p: usize| &rows[p * width..][..width];
    for (p, sum) in across.chunks_exact_mut(width).enumerate() {
        let x = p % grid;
        sum.copy_from_slice(row(p));
        let beside = [(x > 0).then(|| p - 1), (x + 1 < grid).then(|| p + 1)];
        for other in beside.into_iter().flatten() {
            sum.iter_mut().zip(row(other)).for_each(|(s, v)| *s += v);
        }
    }
    let here = |i: usize| 1 + usize::from(i > 0) + usize::from(i + 1 < grid);
    for (p, row) in out.chunks_exact_mut(stride).enumerate() {
        let (x, y) = (p % grid, p / grid);
        let factor = 1.0 / (here(x) * here(y)) as f32;
        let to = &mut row[first..first + width];
        let of = |p: usize| &across[p * width..][..width];
        to.copy_from_slice(of(p));
        let beside = [(y > 0).then(|| p - grid), (y + 1 < grid).then(|| p + grid)];
        for other in beside.into_iter().flatten() {
            to.iter_mut().zip(of(other)).for_each(|(s, v)| *s += v);
        }
        to.iter_mut().for_each(|v| *v *= factor);
    }
}

/// Random signs [WIDEST, inputs], as weights of int8 that hold them exactly. Always the same ones.
fn signs(inputs: usize) -> Matrix {
    let mut state = 0x05ee_d0f5_16d5_u64;
    let mut sign = || {
        // SplitMix64.
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        if (z ^ (z >> 31)) & 1 == 0 { 1 } else { -1 }
    };
    Matrix::Int8 {
        values: (0..WIDEST * inputs).map(|_| sign()).collect(),
        columns: inputs,
        scales: vec![1.0; WIDEST],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::numbers;

    #[test]
    fn descriptors_are_unit_rows_averaged_and_joined() {
        let (grid, widths) = (4, [6usize, 10]);
        let class = [vec![9f32; 6], vec![]];
        let rows: Vec<Vec<f32>> = widths
            .iter()
            .zip(class)
            .map(|(w, class)| [class, numbers(grid * grid * w, *w as u64)].concat())
            .collect();
        let mut descriptor = Descriptor::of(grid, widths.to_vec()).unwrap();
        assert_eq!(descriptor.layout().dim, 16);
        let mut got = vec![];
        let taps = rows.iter().map(|r| Ok(&r[..]));
        descriptor.append(taps, &mut got).unwrap();
        for place in 0..grid * grid {
            let near: Vec<usize> = descriptor.layout().neighbours(place, 1).collect();
            let mut column = 0;
            for (rows, width) in rows.iter().zip(widths) {
                let rows = &rows[rows.len() - grid * grid * width..];
                for c in 0..width {
                    let unit = |p: &usize| {
                        let row = &rows[p * width..][..width];
                        row[c] / row.iter().map(|v| v * v).sum::<f32>().sqrt()
                    };
                    let want = near.iter().map(unit).sum::<f32>() / near.len() as f32;
                    let got = got[place * 16 + column];
                    assert!((got - want).abs() < 1e-5, "{place}: {got} for {want}");
                    column += 1;
                }
            }
        }
        let short = [Ok(&rows[0][1..]), Ok(&rows[1][..])];
        assert!(descriptor.append(short.into_iter(), &mut got).is_err());
        assert!(
            descriptor
                .append([Ok(&rows[0][..])].into_iter(), &mut got)
                .is_err()
        );
    }

    #[test]
    fn a_projection_keeps_distances() {
        let mut descriptor = Descriptor::of(3, vec![500, 400]).unwrap();
        let (a, b) = (numbers(9 * 900, 3), numbers(9 * 900, 4));
        let mut wide = Descriptor::of(3, vec![500, 400]).unwrap();
        wide.projection = None;
        let run = |d: &mut Descriptor, v: &[f32]| {
            let mut out = vec![];
            let taps = [Ok(&v[..9 * 500]), Ok(&v[9 * 500..])];
            d.append(taps.into_iter(), &mut out).unwrap();
            out
        };
        let apart =
            |a: &[f32], b: &[f32]| -> f32 { a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum() };
        let want = apart(&run(&mut wide, &a), &run(&mut wide, &b));
        let got = apart(&run(&mut descriptor, &a), &run(&mut descriptor, &b));
        assert!((got / want - 1.0).abs() < 0.1, "{got} for {want}");
    }
}
