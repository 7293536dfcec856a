//! What a method is learned on: a CLIP, or an image encoder without text, on which only what needs no words is.

use crate::bundle::method::{Method, MethodSpec, Positions};
use crate::train::TrainError;
use crate::train::backbone::Backbone;
use crate::train::clip::{Clip, Preprocess};
use crate::train::nn::image::ImageTower;
use crate::train::nn::layers::Maker;
use std::path::Path;

/// The weights of an encoder that stays as it is.
#[derive(Clone, Copy)]
pub enum Weights<'a> {
    /// Images and texts.
    Clip(&'a Clip),
    /// Images alone.
    WithoutText(&'a Backbone),
}

impl<'a> From<&'a Clip> for Weights<'a> {
    fn from(clip: &'a Clip) -> Self {
        Weights::Clip(clip)
    }
}

impl<'a> From<&'a Backbone> for Weights<'a> {
    fn from(backbone: &'a Backbone) -> Self {
        Weights::WithoutText(backbone)
    }
}

impl<'a> Weights<'a> {
    /// The CLIP that `method` needs.
    ///
    /// # Errors
    /// [`TrainError::Options`] for weights without text.
    pub fn clip(self, method: Method) -> Result<&'a Clip, TrainError> {
        match self {
            Weights::Clip(clip) => Ok(clip),
            Weights::WithoutText(backbone) => Err(TrainError::Options(format!(
                "--method {method} needs a text encoder (--clip), and {} has none: --method heads is learned without words, memory compares good parts",
                backbone.path.display()
            ))),
        }
    }

    /// Where they were read.
    pub fn path(self) -> &'a Path {
        match self {
            Weights::Clip(clip) => &clip.path,
            Weights::WithoutText(backbone) => &backbone.path,
        }
    }

    /// SHA-256 of the weight file.
    pub fn digest(self) -> &'a str {
        match self {
            Weights::Clip(clip) => &clip.digest,
            Weights::WithoutText(backbone) => &backbone.digest,
        }
    }

    /// Number of the image encoder's blocks.
    pub fn layers(self) -> usize {
        match self {
            Weights::Clip(clip) => clip.visual.blocks.len(),
            Weights::WithoutText(backbone) => backbone.blocks.len(),
        }
    }

    /// Side of a patch in pixels.
    pub fn patch(self) -> usize {
        match self {
            Weights::Clip(clip) => clip.visual.patch,
            Weights::WithoutText(backbone) => backbone.patch,
        }
    }

    /// Channels of the features that are compared: those that pictures and texts share, or the image encoder's own.
    pub fn features(self) -> usize {
        match self {
            Weights::Clip(clip) => clip.text.width,
            Weights::WithoutText(backbone) => backbone.width,
        }
    }

    /// The side of the input if the user names none.
    pub fn default_image_size(self) -> usize {
        match self {
            Weights::Clip(clip) => clip.default_image_size(),
            Weights::WithoutText(backbone) => backbone.default_image_size(),
        }
    }

    /// Number of blocks with the V-V stream if the user names none.
    pub fn default_vv_layers(self) -> usize {
        match self {
            Weights::Clip(clip) => clip.default_vv_layers(),
            Weights::WithoutText(_) => 0,
        }
    }

    /// Number of the text encoder's blocks.
    pub fn text_layers(self) -> usize {
        match self {
            Weights::Clip(clip) => clip.text.blocks.len(),
            Weights::WithoutText(_) => 0,
        }
    }

    /// How positions are resized if the user does not say: as the method's code does, or as the library does that the
    /// weights without text come from.
    pub fn positions(self, spec: &MethodSpec) -> Positions {
        match self {
            Weights::Clip(_) => spec.positions,
            Weights::WithoutText(backbone) => backbone.how,
        }
    }

    /// What becomes of a picture before they see it.
    pub fn preprocess(self) -> &'a Preprocess {
        match self {
            Weights::Clip(clip) => &clip.preprocess,
            Weights::WithoutText(backbone) => &backbone.preprocess,
        }
    }

    /// What tensors do not tell of the network, for telling one from another.
    pub fn network(self) -> String {
        match self {
            Weights::Clip(clip) => format!("{:?}", clip.network()),
            Weights::WithoutText(b) => format!("without text {} {}", b.heads, b.epsilon),
        }
    }

    /// The image encoder for pictures of `grid` patches a side, positions resized by `how`.
    pub fn tower(self, grid: usize, how: Positions, vv_layers: usize, m: &mut Maker) -> ImageTower {
        match self {
            Weights::Clip(clip) => {
                let positions = clip.visual.positions_by(grid, how);
                let activation = clip.activation;
                ImageTower::with_positions(&clip.visual, &positions, activation, vv_layers, m)
            }
            Weights::WithoutText(backbone) => {
                ImageTower::without_text(backbone, &backbone.positions_for(grid, how), m)
            }
        }
    }
}
