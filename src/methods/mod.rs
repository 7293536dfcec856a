//! The methods that FAPrompt is compared with, on the device: a short room for each.
//!
//! A room says which tokens of the image encoder it wants, and makes a score and a map of them. The
//! encoder, normalising, cosines and enlarging stand once, elsewhere. Rooms know tensors and numbers;
//! nothing of cameras or verdicts.
//!
//! | room | methods |
//! |---|---|
//! | [`prototypes`] | two prototypes that no picture changes: anomalyclip, clip, clip-ac, coop, anovl |
//! | [`winclip`] | windows of patches against two prototypes |
//! | [`april_gan`] | learned linear layers on raw tokens |
//! | [`cocoop`] | two prompts that each picture shifts |
//! | [`heads`] | weight vectors instead of text |
//! | [`alone`] | an image encoder without words, which judges by good parts |
//! | [`memory`] | good parts of WinCLIP's and APRIL-GAN's few-shot forms |
//! | [`dapo`] | a prototype for each type of defect |

pub mod alone;
pub mod april_gan;
pub mod cocoop;
pub mod dapo;
pub mod heads;
pub mod memory;
pub mod prototypes;
pub mod winclip;

use crate::bundle::method::Method;
use crate::bundle::tap::{Form, Rows, Stream, Tap};
use crate::bundle::{Bundle, BundleError};
use crate::faprompt::map::{self, Map};
use crate::faprompt::score;
use crate::ops::slice;
use crate::ops::tract::*;
use crate::ops::weights::Arithmetic;
use memory::Memory;

/// How a method's layers of numbers become its map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Drawing {
    /// Each enlarged (corners not aligned), then added up.
    #[default]
    Sum,
    /// Each enlarged with corners aligned, then through the logistic function, then added up: a softmax of
    /// two enlarged logits.
    AlignedLogits,
    /// The mean of each cell and its neighbours, enlarged with corners aligned, then added up.
    PooledAligned,
    /// Each enlarged with corners aligned, then added up.
    Aligned,
}

impl Drawing {
    /// The `side` x `side` map of `layers`, each `grid` x `grid`, one behind the other.
    pub fn draw(self, layers: &[f32], grid: usize, side: usize) -> Map {
        let mut sum = Map {
            side,
            values: vec![0.0; side * side],
        };
        for layer in layers.chunks_exact(grid * grid) {
            let layer = match self {
                Drawing::Sum => map::enlarge(layer, grid, side),
                Drawing::AlignedLogits => {
                    let mut logits = map::enlarge_aligned(layer, grid, side);
                    logits.values.iter_mut().for_each(|v| *v = logistic(*v));
                    logits
                }
                Drawing::Aligned => map::enlarge_aligned(layer, grid, side),
                Drawing::PooledAligned => {
                    map::enlarge_aligned(&map::pooled(layer, grid), grid, side)
                }
            };
            let both = sum.values.iter_mut().zip(&layer.values);
            both.for_each(|(s, v)| *s += v);
        }
        sum
    }
}

/// 1 / (1 + e^-x): the softmax of two logits is the logistic function of their difference.
pub fn logistic(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// What a method says of a picture.
#[derive(Clone, Debug, Default)]
pub struct Said {
    /// The image score.
    pub score: f32,
    /// The abnormal probability of the picture's own feature.
    pub image_probability: f32,
    /// Layers of numbers per patch, one behind the other.
    pub layers: Vec<f32>,
    /// How they become the map.
    pub drawing: Drawing,
    /// Share of each type of defect among all of them, should the part be defective; adds up to 1. Empty for
    /// methods without types.
    pub types: Vec<f32>,
    /// Each type's grid, one behind the other.
    pub type_grids: Vec<f32>,
    /// Grids that are enlarged with corners aligned and added to the map: APRIL-GAN's memory.
    pub aligned: Vec<f32>,
}

/// A largest share that is not so much above the next one says nothing of the type, unless another margin is
/// asked for.
pub const TYPE_MARGIN: f32 = 0.1;

impl Said {
    /// The most likely type and its share; `None` where it does not exceed the next one by `margin` (0..=1), or
    /// there are no types.
    pub fn kind(&self, margin: f32) -> Option<(usize, f32)> {
        let larger = |a: &(usize, f32), b: &(usize, f32)| a.1.total_cmp(&b.1);
        let first = self.types.iter().copied().enumerate().max_by(larger)?;
        let others = self.types.iter().enumerate().filter(|(i, _)| *i != first.0);
        let next = others.map(|(_, share)| *share).fold(0.0, f32::max);
        (first.1 - next >= margin).then_some(first)
    }

    /// The `side` x `side` map.
    pub fn map(&self, grid: usize, side: usize) -> Map {
        let mut map = self.drawing.draw(&self.layers, grid, side);
        if !self.aligned.is_empty() {
            let more = Drawing::Aligned.draw(&self.aligned, grid, side);
            let both = map.values.iter_mut().zip(&more.values);
            both.for_each(|(v, m)| *v += m);
        }
        map
    }

    /// Abnormality of each patch, 0..=1, in place of what `out` held: the mean of the layers.
    pub fn patches(&self, patches: usize, out: &mut Vec<f32>) {
        out.clear();
        out.resize(patches, 0.0);
        let count = (self.layers.len() / patches).max(1) as f32;
        for layer in self.layers.chunks_exact(patches) {
            for (sum, v) in out.iter_mut().zip(layer) {
                *sum += match self.drawing {
                    Drawing::AlignedLogits => logistic(*v),
                    _ => *v,
                } / count;
            }
        }
    }
}

/// A method made ready to judge.
pub trait Room: Send {
    /// What it wants of the image encoder, in the order in which [`Room::judge`] gets it.
    fn taps(&self) -> Vec<Tap>;

    /// Judges a picture: the normalised `frame` [3, S, S] and what the encoder made of it.
    ///
    /// # Errors
    /// tract's own; none is known.
    fn judge(&mut self, frame: &TValue, taps: &[TValue], said: &mut Said) -> TractResult<()>;

    /// The same with the same weights, with memory of its own.
    ///
    /// # Errors
    /// tract's own.
    fn beside(&self) -> TractResult<Box<dyn Room>>;

    /// Good parts, where the method has a few-shot form.
    fn memory(&mut self) -> Option<&mut Memory> {
        None
    }

    /// Forgets all good parts.
    fn forget(&mut self) {}

    /// Keeps a good part, as [`Room::judge`] gets one.
    ///
    /// # Errors
    /// A method without a few-shot form, and tract's own.
    fn remember(&mut self, _frame: &TValue, _taps: &[TValue]) -> TractResult<()> {
        Err(TractError::msg(
            "this method compares nothing with good parts",
        ))
    }

    /// Takes good parts that were kept elsewhere.
    ///
    /// # Errors
    /// What does not fit: another kind of rows, or a method without a few-shot form.
    fn recall(&mut self, _memory: Memory) -> Result<(), String> {
        Err("this method compares nothing with good parts".into())
    }

    /// Works out what depends on all good parts together, once the last one is there.
    ///
    /// # Errors
    /// tract's own.
    fn remembered(&mut self) -> TractResult<()> {
        Ok(())
    }
}

/// The room of a bundle's method; `None` for FAPrompt, which is no room. With `memory` it can be shown good
/// parts, if the method has a few-shot form.
///
/// # Errors
/// [`BundleError::Architecture`] if tensors are missing or of other shapes than the manifest says.
pub fn room(
    bundle: &Bundle,
    arithmetic: Arithmetic,
    memory: bool,
) -> Result<Option<Box<dyn Room>>, BundleError> {
    let Some(spec) = &bundle.manifest().method else {
        return Ok(None);
    };
    Ok(Some(match spec.name {
        Method::Anomalyclip | Method::Clip | Method::ClipAc | Method::Coop | Method::Anovl => {
            Box::new(prototypes::Prototypes::load(bundle, spec)?)
        }
        Method::Winclip => Box::new(winclip::WinClip::load(bundle, arithmetic, memory)?),
        Method::AprilGan => Box::new(april_gan::AprilGan::load(bundle, spec)?),
        Method::Cocoop => Box::new(cocoop::CoCoOp::load(bundle, spec, arithmetic)?),
        Method::Heads => Box::new(heads::Heads::load(bundle, spec)?),
        Method::Dapo => Box::new(dapo::Dapo::load(bundle, spec)?),
        Method::Memory => Box::new(alone::Alone::new(bundle.manifest())),
        Method::Faprompt | Method::Filo | Method::Blip => {
            return Err(BundleError::architecture(
                "manifest",
                format!("the device does not run method {}", spec.name),
            ));
        }
    }))
}

/// CLIP's own features of some rows after a block: ln_post(x) @ proj.
fn features(block: usize, stream: Stream, rows: Rows) -> Tap {
    Tap {
        block,
        stream,
        form: Form::Projected,
        rows,
    }
}

/// The unit vector `prototypes/NAME`, [C].
pub(crate) fn prototype(bundle: &Bundle, name: &str) -> Result<Vec<f32>, BundleError> {
    let width = bundle.manifest().text.width;
    let tensor = bundle.tensor(&format!("prototypes/{name}"), &[width])?;
    let mut values = slice(&tensor)
        .map_err(|e| BundleError::architecture("prototypes", e))?
        .to_vec();
    score::normalise_rows(&mut values, width);
    Ok(values)
}

/// Rows of an output, scaled to unit length, in place of what `to` held.
fn unit_rows(from: &Tensor, width: usize, to: &mut Vec<f32>) -> TractResult<()> {
    to.clear();
    to.extend_from_slice(slice(from)?);
    score::normalise_rows(to, width);
    Ok(())
}
