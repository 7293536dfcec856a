//! The kinds of memory behind one interface.

use super::anywhere::{self, Anywhere};
use super::combined::{Combined, Usuals};
use super::descriptor::Layout;
use super::gaussian::Gaussian;
use super::part::{Asked, Learned};
use super::position::{self, Position};
use super::region::{Group, Looked};
use super::subspace::{Components, Subspace};
use crate::ops::tract::*;
use serde::{Deserialize, Serialize};

/// How parts are compared with good ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// With the nearest good patch near the same place: parts that lie as they were taught
    Position,
    /// With the nearest good patch of all: parts that lie anyhow
    Anywhere,
    /// With the principal components of good patches
    Pca,
    /// With mean and variance at each place
    Gaussian,
    /// Both `position` and `pca`: the mean of their distances, each divided by what is usual for good parts
    Combined,
}

impl Kind {
    /// Name of the kind, as files, commands and parameters have it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Position => "position",
            Kind::Anywhere => "anywhere",
            Kind::Pca => "pca",
            Kind::Gaussian => "gaussian",
            Kind::Combined => "combined",
        }
    }
}

/// What of a memory is stored because it takes too long to compute at every start.
#[derive(Clone, Debug, PartialEq)]
pub enum Kept {
    /// Nothing: learning again is quick.
    Nothing,
    /// Indices of the patches that an `anywhere` memory keeps.
    Chosen(Vec<u32>),
    /// Mean and components of a `pca` memory.
    Components(Components),
    /// The same of a `combined` one, and what is usual for good parts.
    Combined(Components, Usuals),
}

enum Body {
    Position(Position),
    Anywhere(Anywhere, Vec<u32>),
    Pca(Subspace),
    Gaussian(Gaussian),
    Combined(Box<Combined>),
}

/// Good parts of any kind of memory, ready to be compared with.
pub struct Memory {
    layout: Layout,
    body: Body,
    asked: Asked,
    work: Vec<f32>,
}

impl Memory {
    /// Learns from these parts, each [places, dim]; what was stored in `kept` is not computed again.
    ///
    /// # Errors
    /// No parts, parts of other sizes, or something kept that is not of these parts.
    pub fn learn(
        kind: Kind,
        layout: Layout,
        learned: &Learned,
        kept: Option<Kept>,
    ) -> TractResult<Memory> {
        let parts = learned.rows();
        ensure!(
            !parts.is_empty() && parts.iter().all(|p| p.len() == layout.places()),
            "parts of other sizes than {} places",
            layout.places()
        );
        let body = match (kind, kept) {
            (Kind::Position, None | Some(Kept::Nothing)) => {
                Body::Position(Position::learn(layout, position::RADIUS, learned)?)
            }
            (Kind::Gaussian, None | Some(Kept::Nothing)) => {
                Body::Gaussian(Gaussian::learn(layout, learned)?)
            }
            (Kind::Anywhere, None) => {
                let chosen = anywhere::choose(layout, parts)?;
                Body::Anywhere(Anywhere::learn(layout, learned, &chosen)?, chosen)
            }
            (Kind::Anywhere, Some(Kept::Chosen(chosen))) => {
                Body::Anywhere(Anywhere::learn(layout, learned, &chosen)?, chosen)
            }
            (Kind::Pca, None) => Body::Pca(Subspace::new(layout, Components::of(layout, learned))?),
            (Kind::Pca, Some(Kept::Components(components))) => {
                Body::Pca(Subspace::new(layout, components)?)
            }
            (Kind::Combined, None) => Body::Combined(Box::new(Combined::learn(layout, learned)?)),
            (Kind::Combined, Some(Kept::Combined(components, usuals))) => Body::Combined(Box::new(
                Combined::restore(layout, learned, components, usuals)?,
            )),
            _ => bail!("a memory of the kind {} keeps something else", kind.name()),
        };
        Ok(Memory {
            layout,
            body,
            asked: Asked::default(),
            work: vec![],
        })
    }

    /// The kind of this memory.
    pub fn kind(&self) -> Kind {
        match self.body {
            Body::Position(_) => Kind::Position,
            Body::Anywhere(..) => Kind::Anywhere,
            Body::Pca(_) => Kind::Pca,
            Body::Gaussian(_) => Kind::Gaussian,
            Body::Combined(_) => Kind::Combined,
        }
    }

    /// What of this memory is stored because it takes long to compute.
    pub fn kept(&self) -> Kept {
        match &self.body {
            Body::Position(_) | Body::Gaussian(_) => Kept::Nothing,
            Body::Anywhere(_, chosen) => Kept::Chosen(chosen.clone()),
            Body::Pca(memory) => Kept::Components(memory.components().clone()),
            Body::Combined(memory) => {
                let (components, usuals) = memory.kept();
                Kept::Combined(components, usuals)
            }
        }
    }

    /// Distance of each place of a part [places, dim] from good ones; replaces the contents of `out`.
    ///
    /// # Errors
    /// Descriptors of another size, or that are NaN or infinite.
    pub fn judge(&mut self, descriptors: &[f32], out: &mut Vec<f32>) -> TractResult<()> {
        let places = self.layout.places();
        ensure!(
            descriptors.len() == places * self.layout.dim,
            "{} numbers for {places} places of {}",
            descriptors.len(),
            self.layout.dim
        );
        out.resize(places, 0.0);
        match &mut self.body {
            Body::Position(memory) => {
                self.asked.take(descriptors, self.layout.dim)?;
                memory.judge(&self.asked, None, out)
            }
            Body::Anywhere(memory, _) => memory.judge(descriptors, None, out),
            Body::Pca(memory) => memory.judge(descriptors, out),
            Body::Gaussian(memory) => memory.judge(descriptors, &mut self.work, out),
            Body::Combined(memory) => {
                self.asked.take(descriptors, self.layout.dim)?;
                memory.judge(descriptors, &self.asked, out)
            }
        }
    }

    /// The same for the learned parts, each as if it had not been among them: [parts][places]. `None` if there are
    /// too few parts to judge one by the others: one part, or two where a variance is learned.
    ///
    /// # Errors
    /// None in practice.
    pub fn held_out(&mut self, learned: &Learned) -> TractResult<Option<Vec<Vec<f32>>>> {
        let fewest = match self.kind() {
            // The one part that would be left has no variance.
            Kind::Gaussian => 3,
            Kind::Position | Kind::Anywhere | Kind::Pca | Kind::Combined => 2,
        };
        if learned.parts() < fewest {
            return Ok(None);
        }
        match &mut self.body {
            Body::Position(memory) => memory.held_out(learned),
            Body::Anywhere(memory, _) => memory.held_out(learned),
            Body::Combined(memory) => memory.held_out(self.layout, learned),
            Body::Pca(_) => Ok(Subspace::held_out(self.layout, learned)?.1),
            Body::Gaussian(_) => Gaussian::held_out(self.layout, learned),
        }
        .map(Some)
    }
}

/// A group's score is the mean of the farthest patches, this share of a tile's patches.
const TOP: f32 = 0.05;

/// The score of a part: the largest score of its groups. `tiles` is the number of tiles of a picture.
pub fn image_score(map: &[f32], looked: &Looked, tiles: usize, work: &mut Vec<f32>) -> f32 {
    let scores = looked
        .groups()
        .iter()
        .map(|g| group_score(map, g, tiles, work));
    scores.fold(0.0, f32::max)
}

/// A group's score: the mean of its farthest patches, wherever they lie: as many as 5 % of its patches in one
/// tile, at least one. A picture is cut for the sake of small defects.
pub fn group_score(map: &[f32], group: &Group, tiles: usize, work: &mut Vec<f32>) -> f32 {
    work.clear();
    let all = map.iter().zip(&group.patches);
    work.extend(all.filter(|(_, looked)| **looked).map(|(v, _)| *v));
    let share = TOP / tiles.max(1) as f32;
    let count = ((work.len() as f32 * share).round() as usize).clamp(1, work.len().max(1));
    match work.len().checked_sub(count) {
        None => 0.0,
        Some(0) => work.iter().sum::<f32>() / count as f32,
        Some(rest) => {
            work.select_nth_unstable_by(rest, f32::total_cmp);
            work[rest..].iter().sum::<f32>() / count as f32
        }
    }
}
