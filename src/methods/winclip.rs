//! WinCLIP: windows of 2 x 2 and 3 x 3 patches, each encoded alone with the class token.
//!
//! A window is a short sequence (5 or 10 rows) of embedded rows that goes through all blocks by itself. The
//! windows of both sizes run in one batch: dense layers on all rows at once, attention per window. On
//! ViT-B/16 at 240 px that is ten more passes of the encoder; the batch is cut into pieces of about
//! `PIECE` rows to bound memory.

use super::memory::Memory;
use super::{Drawing, Room, Said, features as tap, prototype, unit_rows};
use crate::bundle::tap::{Form, Rows, Stream, Tap};
use crate::bundle::{Bundle, BundleError};
use crate::faprompt::score;
use crate::graph::{Builder, Plan};
use crate::ops::patch_embed::PatchEmbed;
use crate::ops::slice;
use crate::ops::tract::*;
use crate::ops::weights::Arithmetic;
use crate::ops::windows::{PickEach, WindowAttention};
use std::sync::Arc;

/// Sides of the windows, in patches.
pub const SCALES: [usize; 2] = [2, 3];
/// Rows that go through the blocks at once, about.
const PIECE: usize = 640;

/// The patches of each `scale` x `scale` window of a `grid` x `grid` picture, stride 1, raster order.
pub fn windows(grid: usize, scale: usize) -> Vec<Vec<usize>> {
    let places = (grid + 1).saturating_sub(scale);
    let window = |top: usize, left: usize| {
        (0..scale * scale)
            .map(|i| (top + i / scale) * grid + left + i % scale)
            .collect()
    };
    (0..places * places)
        .map(|i| window(i / places, i % places))
        .collect()
}

/// For each of `patches` the harmonic mean of the scores of the windows that cover it; 0 where one of them
/// is 0 or none covers it, and no finite number where one of them is none.
pub fn harmonic(windows: &[Vec<usize>], scores: &[f32], patches: usize) -> Vec<f32> {
    let mut sums = vec![(0.0f32, 0.0f32); patches];
    for (window, score) in windows.iter().zip(scores) {
        for patch in window {
            sums[*patch].0 += 1.0;
            sums[*patch].1 += 1.0 / score;
        }
    }
    sums.into_iter()
        .map(|(n, sum)| if n > 0.0 { n / sum } else { 0.0 })
        .collect()
}

/// The zero-shot grid: the harmonic mean of the image score and the two window maps.
pub fn zero_shot(image: f32, scales: &[Vec<f32>]) -> Vec<f32> {
    let n = (1 + scales.len()) as f32;
    (0..scales[0].len())
        .map(|i| n / (1.0 / image + scales.iter().map(|s| 1.0 / s[i]).sum::<f32>()))
        .collect()
}

/// (1 - the largest cosine to any good part's row) / 2 of each row; never below 1e-7, for an exact repeat is
/// off by that much in both directions, and a harmonic mean divides by it.
pub fn distances(nearest: &[f32]) -> Vec<f32> {
    nearest
        .iter()
        .map(|s| ((1.0 - s) / 2.0).max(1e-7))
        .collect()
}

/// The few-shot grid: the plain mean of the patches' distances and of the windows' harmonic ones.
pub fn few_shot(patches: &[f32], scales: &[Vec<f32>]) -> Vec<f32> {
    let n = (1 + scales.len()) as f32;
    (0..patches.len())
        .map(|i| (patches[i] + scales.iter().map(|s| s[i]).sum::<f32>()) / n)
        .collect()
}

/// The second pass: windows in, their features out.
struct Windows {
    embed: Plan,
    blocks: Plan,
    /// Windows of each scale.
    all: Vec<Vec<Vec<usize>>>,
    /// Windows of each scale in a piece.
    piece: Vec<usize>,
    width: usize,
}

impl Windows {
    fn load(bundle: &Bundle, arithmetic: Arithmetic) -> Result<Windows, BundleError> {
        let m = bundle.manifest();
        let (width, layers, heads) = (m.vision.width, m.vision.layers, m.vision.heads);
        let (patch, grid, size) = (m.image.patch, m.image.grid(), m.image.size);
        if grid < SCALES[1] {
            return Err(BundleError::architecture(
                "manifest",
                format!("windows of {} patches in a picture of {grid}", SCALES[1]),
            ));
        }
        let patches = grid * grid;
        let mut b = Builder::new(bundle, "encoder", arithmetic);
        let op = PatchEmbed {
            weights: b.weights("conv1", [width, 3 * patch * patch])?,
            class_row: b.tensor("class_row", &[width])?,
            positions: b.tensor("positions", &[patches, width])?,
            patch,
            grid,
        };
        let image = b.source("image", &[3, size, size])?;
        let embedded = b.wire("patch_embed", op, &[image])?;
        let embed = b.finish(&[embedded])?;

        let all: Vec<_> = SCALES.iter().map(|s| windows(grid, *s)).collect();
        let rows: usize = all.iter().flatten().map(|w| 1 + w.len()).sum();
        let pieces = rows.div_ceil(PIECE);
        let piece: Vec<usize> = all.iter().map(|w| w.len().div_ceil(pieces)).collect();
        let groups: Vec<(usize, usize)> = SCALES
            .iter()
            .zip(&piece)
            .map(|(s, n)| (*n, 1 + s * s))
            .collect();
        let rows: usize = groups.iter().map(|(n, rows)| n * rows).sum();

        let mut b = Builder::new(bundle, "encoder", arithmetic);
        let source = b.source("windows", &[rows, width])?;
        let mut x = b.layer_norm("ln_pre", width, source)?;
        for i in 0..layers {
            let block = format!("blocks.{i}");
            let norm = Arc::new(b.norm(&format!("{block}.ln_1"), width)?);
            let qkv = b
                .linear(&format!("{block}.qkv"), [3 * width, width], rows)?
                .with_norm(norm);
            let qkv = b.wire(&format!("{block}.qkv"), qkv, &[x])?;
            let attention = WindowAttention {
                heads,
                groups: groups.clone(),
            };
            let mut attended = b.wire(&format!("{block}.attention"), attention, &[qkv])?;
            let mut active = rows;
            if i + 1 == layers {
                // Nobody looks at the patches behind the last attention.
                let class = PickEach {
                    groups: groups.clone(),
                };
                attended = b.wire(&format!("{block}.attended"), class.clone(), &[attended])?;
                x = b.wire(&format!("{block}.class"), class, &[x])?;
                active = piece.iter().sum();
            }
            let out = b
                .linear(&format!("{block}.out"), [width, width], active)?
                .with_residual();
            x = b.wire(&format!("{block}.out"), out, &[attended, x])?;
            x = b.mlp(&block, width, active, x)?;
        }
        let x = b.layer_norm("ln_post", width, x)?;
        let proj = b.linear_without_bias("proj", [m.text.width, width])?;
        let features = b.wire("features", proj, &[x])?;
        Ok(Windows {
            embed,
            blocks: b.finish(&[features])?,
            all,
            piece,
            width,
        })
    }

    /// Unit features of the windows of each scale, raster order.
    fn run(&mut self, frame: &TValue, embed: usize) -> TractResult<Vec<Vec<f32>>> {
        let embedded = self.embed.run(frame.clone())?[0].clone();
        let embedded = slice(&embedded)?;
        let width = self.width;
        let mut features: Vec<Vec<f32>> = vec![vec![]; self.all.len()];
        let pieces = self.all[0].len().div_ceil(self.piece[0]).max(1);
        for piece in 0..pieces {
            let mut rows: Vec<f32> = vec![];
            for (windows, n) in self.all.iter().zip(&self.piece) {
                for i in piece * n..(piece + 1) * n {
                    // The last piece is filled up with the last window.
                    let window = &windows[i.min(windows.len() - 1)];
                    rows.extend_from_slice(&embedded[..width]);
                    for patch in window {
                        rows.extend_from_slice(&embedded[(1 + patch) * width..][..width]);
                    }
                }
            }
            let n = rows.len() / width;
            let rows = Tensor::from_shape(&[n, width], &rows)?.into_tvalue();
            let answer = self.blocks.run(rows)?;
            let mut answer = slice(&answer[0])?.chunks_exact(embed);
            for ((windows, n), out) in self.all.iter().zip(&self.piece).zip(&mut features) {
                let wanted = windows.len() * embed;
                for row in answer.by_ref().take(*n) {
                    if out.len() < wanted {
                        out.extend_from_slice(row);
                    }
                }
            }
        }
        features
            .iter_mut()
            .for_each(|f| score::normalise_rows(f, embed));
        Ok(features)
    }

    fn beside(&self) -> TractResult<Windows> {
        Ok(Windows {
            embed: self.embed.beside()?,
            blocks: self.blocks.beside()?,
            all: self.all.clone(),
            piece: self.piece.clone(),
            width: self.width,
        })
    }
}

/// The room.
pub struct WinClip {
    windows: Windows,
    normal: Vec<f32>,
    abnormal: Vec<f32>,
    temperature: f32,
    patches: usize,
    layers: usize,
    /// Whether it can be shown good parts.
    few_shot: bool,
    memory: Memory,
    work: Vec<f32>,
    scores: Vec<f32>,
}

impl WinClip {
    /// From a bundle; with `few_shot` it can be shown good parts.
    ///
    /// # Errors
    /// [`BundleError::Architecture`] if tensors are missing, or the picture is smaller than a window.
    pub fn load(
        bundle: &Bundle,
        arithmetic: Arithmetic,
        few_shot: bool,
    ) -> Result<WinClip, BundleError> {
        let manifest = bundle.manifest();
        Ok(WinClip {
            windows: Windows::load(bundle, arithmetic)?,
            normal: prototype(bundle, "normal")?,
            abnormal: prototype(bundle, "abnormal")?,
            temperature: manifest.scores.temperature,
            patches: manifest.image.grid().pow(2),
            layers: manifest.vision.layers,
            few_shot,
            memory: Memory::default(),
            work: vec![],
            scores: vec![],
        })
    }
}

impl Room for WinClip {
    fn taps(&self) -> Vec<Tap> {
        let mut taps = vec![tap(self.layers, Stream::X, Rows::Class)];
        if self.few_shot {
            // Without the projection, as open_clip returns them.
            taps.push(Tap {
                block: self.layers,
                stream: Stream::X,
                form: Form::LnPost,
                rows: Rows::Patches,
            });
        }
        taps
    }

    fn judge(&mut self, frame: &TValue, taps: &[TValue], said: &mut Said) -> TractResult<()> {
        let width = self.normal.len();
        unit_rows(&taps[0], width, &mut self.work)?;
        let (normal, abnormal, t) = (&self.normal, &self.abnormal, self.temperature);
        said.image_probability = score::abnormality(&self.work, normal, abnormal, t);
        said.score = said.image_probability;
        let features = self.windows.run(frame, width)?;
        let mut scales = vec![];
        for (windows, features) in self.windows.all.iter().zip(&features) {
            score::patch_scores(features, normal, abnormal, t, &mut self.scores);
            scales.push(harmonic(windows, &self.scores, self.patches));
        }
        said.layers = zero_shot(said.image_probability, &scales);
        said.drawing = Drawing::Sum;
        if self.memory.is_empty() {
            return Ok(());
        }
        let patches = taps.get(1).context("an encoder without patches")?;
        unit_rows(patches, patches.shape()[1], &mut self.work)?;
        let grid = distances(&self.memory.nearest(0, &self.work));
        let all = self.windows.all.iter().zip(&features).enumerate();
        let scales: Vec<Vec<f32>> = all
            .map(|(i, (windows, rows))| {
                let d = distances(&self.memory.nearest(1 + i, rows));
                harmonic(windows, &d, self.patches)
            })
            .collect();
        let grid = few_shot(&grid, &scales);
        said.score = (said.image_probability + score::max(&grid)) / 2.0;
        for (zero, few) in said.layers.iter_mut().zip(&grid) {
            *zero = (*zero + few) / 2.0;
        }
        Ok(())
    }

    fn memory(&mut self) -> Option<&mut Memory> {
        self.few_shot.then_some(&mut self.memory)
    }

    fn recall(&mut self, memory: Memory) -> Result<(), String> {
        let embed = self.normal.len();
        if !self.few_shot || memory.widths != [self.windows.width, embed, embed] {
            return Err(format!("rows of {:?} channels do not fit", memory.widths));
        }
        self.memory = memory;
        Ok(())
    }

    fn forget(&mut self) {
        self.memory = Memory::default();
    }

    fn remember(&mut self, frame: &TValue, taps: &[TValue]) -> TractResult<()> {
        let embed = self.normal.len();
        let patches = taps.get(1).context("an encoder without patches")?;
        let width = patches.shape()[1];
        unit_rows(patches, width, &mut self.work)?;
        let mut sets = vec![(self.work.clone(), width)];
        let features = self.windows.run(frame, embed)?;
        sets.extend(features.into_iter().map(|rows| (rows, embed)));
        self.memory.add(sets);
        Ok(())
    }

    fn beside(&self) -> TractResult<Box<dyn Room>> {
        Ok(Box::new(WinClip {
            windows: self.windows.beside()?,
            normal: self.normal.clone(),
            abnormal: self.abnormal.clone(),
            memory: self.memory.clone(),
            work: vec![],
            scores: vec![],
            ..*self
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_of_which_nothing_is_known_leaves_no_number_where_it_lies() {
        let windows = windows(3, 2);
        let means = harmonic(&windows, &[0.5, 0.5, f32::NAN, 0.0], 9);
        // Raster order; the third window has the lower left corner, the fourth the lower right one.
        assert_eq!([means[0], means[1], means[2]], [0.5; 3]);
        assert!([3, 4, 6, 7].iter().all(|i| means[*i].is_nan()), "{means:?}");
        assert_eq!([means[5], means[8]], [0.0; 2]);
        assert_eq!(harmonic(&windows[..1], &[0.5], 9)[8], 0.0, "none covers it");
        // Good parts of which nothing is known: no distance, which must not pass for a small one.
        assert!(!harmonic(&windows, &[f32::INFINITY; 4], 9)[0].is_finite());
    }
}
