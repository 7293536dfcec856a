//! A memory of good parts that was taught, ready to judge.

use super::conformal::{Promise, Usual};
use super::descriptor::Layout;
use super::fusion::{Fusion, Scale, common};
use super::kind::{Kept, Kind, Memory, group_score};
use super::lesson::{Judged, ZeroShot};
use super::light::{Light, TaughtLight};
use super::part::{Learned, Rows};
use super::region::{Looked, Regions};
use crate::ops::tract::*;
use serde::{Deserialize, Serialize};

/// A part that was taught.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Told {
    /// Its name: of its file, or the number of the part.
    pub name: String,
    /// The memory's score of it as if it had not been taught; `None` if it is the only part.
    pub memory: Option<f32>,
    /// FAPrompt's image score of it, and the largest value of its map.
    pub zero_shot: ZeroShot,
    /// Brightness and sharpness of its frame; `None` in files that were written before these were stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub light: Option<Light>,
}

/// A bad part that is kept as a test piece: nothing may be accepted under which it would pass.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Piece {
    /// Its name, as a good part's.
    pub name: String,
    /// FAPrompt's image score of it, and the largest value of its map.
    pub zero_shot: ZeroShot,
    /// FAPrompt's score of each group of patches that was looked at then.
    pub groups: Vec<f32>,
}

/// The manifest of a memory: everything but its patches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// SHA-256 of the encoder's weights and of the choice of its taps.
    pub encoder: String,
    /// Name of the arithmetic that the encoder's products were computed in.
    pub arithmetic: String,
    /// The grid of places.
    pub layout: Layout,
    /// The kind of memory.
    pub kind: Kind,
    /// How both scores become one.
    pub fusion: Fusion,
    /// The places that are judged.
    pub looked: Looked,
    /// The regions that choose them, to be drawn.
    #[serde(default, skip_serializing_if = "Regions::is_empty")]
    pub regions: Regions,
    /// Median and spread of the memory's score of held-out good parts.
    pub usual_memory: Usual,
    /// Median and spread of FAPrompt's image score.
    pub usual_score: Usual,
    /// Median and spread of the largest value of FAPrompt's map.
    pub usual_highest: Usual,
    /// Brings fused scores to 0..=1.
    pub scale: Scale,
    /// Rank of the held-out score that is the limit, from 1 for the smallest; `None` if there is a single part.
    pub rank: Option<usize>,
    /// The parts, those that were learned first.
    pub told: Vec<Told>,
    /// How many views each learned part was learned in; empty: one, as it came.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub views: Vec<usize>,
    /// The test pieces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pieces: Vec<Piece>,
}

impl About {
    /// Refuses values that no lesson writes.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub(super) fn check(&self) -> Result<(), String> {
        let l = self.layout;
        if !(1..=256).contains(&l.grid) || !(1..=8192).contains(&l.dim) {
            return Err(format!(
                "{} tiles of {} x {} places of {}",
                l.tiles, l.grid, l.grid, l.dim
            ));
        }
        if !self.looked.is_of(l.places()) {
            return Err("it looks nowhere".into());
        }
        if self.views.contains(&0) || self.views.len() > self.told.len() {
            return Err("it learned from no picture of a part".into());
        }
        self.regions.check().map_err(|e| e.to_string())?;
        // What is shown as its regions is what decides.
        if self.regions.on(l.grid, l.tiles).as_ref() != Ok(&self.looked) {
            return Err("it does not look where its regions say".into());
        }
        let numbers = [
            self.usual_memory.middle,
            self.usual_score.middle,
            self.usual_highest.middle,
            self.scale.limit,
        ];
        let positive = [
            self.usual_memory.spread,
            self.usual_score.spread,
            self.usual_highest.spread,
            self.scale.unit,
        ];
        let sound = |t: &Told| {
            t.memory.is_none_or(f32::is_finite)
                && t.zero_shot.score.is_finite()
                && t.zero_shot.highest.is_finite()
                && t.light.is_none_or(|light| light.is_sound())
        };
        let piece = |p: &Piece| {
            p.zero_shot.score.is_finite()
                && p.zero_shot.highest.is_finite()
                && p.groups.iter().all(|g| g.is_finite())
        };
        if !numbers.iter().all(|v| v.is_finite())
            || !positive.iter().all(|v| v.is_finite() && *v > 0.0)
            || !self.told.iter().all(sound)
            || !self.pieces.iter().all(piece)
        {
            return Err("one of its numbers is none".into());
        }
        if self
            .rank
            .is_some_and(|rank| rank == 0 || rank > self.told.len())
        {
            return Err("its limit is no score of a part".into());
        }
        Ok(())
    }

    /// The share of good parts that will be rejected; `None` after a single part.
    pub fn promise(&self) -> Option<Promise> {
        Promise::new(self.told.len(), self.rank?)
    }

    /// The range of light of the parts; `None` of a file that was written before it was stored.
    pub fn light(&self) -> Option<TaughtLight> {
        TaughtLight::of(self.told.iter().filter_map(|t| t.light))
    }

    /// Every part, the oddest first.
    pub fn judged(&self) -> Vec<Judged> {
        let mut all: Vec<Judged> = self
            .told
            .iter()
            .map(|t| Judged {
                name: t.name.clone(),
                score: t.memory,
                z: t.memory.map_or(0.0, |m| self.usual_memory.z(m)),
            })
            .collect();
        all.sort_by(|a, b| b.z.total_cmp(&a.z));
        all
    }

    fn fuse(&self, memory: f32, zero_shot: f32) -> f32 {
        let parts = self.told.len();
        self.scale.apply(self.fusion.fuse(memory, zero_shot, parts))
    }

    /// Fuses the memory's and FAPrompt's score of a part to one, 0..=1.
    pub fn score(&self, memory: f32, zero_shot: f32) -> f32 {
        self.fuse(
            common(&self.usual_memory, memory),
            common(&self.usual_score, zero_shot),
        )
    }

    /// The scores, 0..=1, that the parts had while they were held out.
    pub fn scores(&self) -> Vec<f32> {
        let held_out = self
            .told
            .iter()
            .filter_map(|t| Some((t.memory?, t.zero_shot.score)));
        held_out.map(|(m, z)| self.score(m, z)).collect()
    }
}

/// The score, 0..=1, above which teaching would reject.
pub const LIMIT: f32 = 0.5;

/// The scores of a part, judged by a memory.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outcome {
    /// The score fused of the memory's and FAPrompt's, 0..=1.
    pub score: f32,
    /// The memory's own score: how far the part is from good ones, in the unit of the kind of memory.
    pub memory: f32,
}

/// A memory of good parts with its manifest and test pieces.
pub struct Taught {
    about: About,
    /// The rows of each learned part as it came, followed by its further views.
    parts: Vec<Rows>,
    /// How many parts were learned.
    learned: usize,
    /// The rows of the test pieces, in their order.
    pieces: Vec<Rows>,
    memory: Memory,
    work: Vec<f32>,
}

impl Taught {
    /// Puts together what a lesson made.
    pub(super) fn new(about: About, parts: Vec<Rows>, memory: Memory) -> TractResult<Taught> {
        let learned = match &about.views[..] {
            [] => parts.len(),
            views => {
                let rows: usize = views.iter().sum();
                ensure!(
                    rows == parts.len(),
                    "{rows} pictures, and {} rows",
                    parts.len()
                );
                views.len()
            }
        };
        ensure!(!parts.is_empty() && learned <= about.told.len());
        Ok(Taught {
            about,
            parts,
            learned,
            pieces: vec![],
            memory,
            work: vec![],
        })
    }

    /// The same from the contents of a file.
    ///
    /// # Errors
    /// Parts that do not fit the manifest.
    pub(super) fn restore(about: About, parts: Vec<Rows>, kept: Kept) -> TractResult<Taught> {
        let learned = Learned::new(&parts, &about.views);
        ensure!(learned.owners().len() == parts.len(), "rows of other parts");
        let memory = Memory::learn(about.kind, about.layout, &learned, Some(kept))?;
        Taught::new(about, parts, memory)
    }

    /// The manifest.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// The grid of places.
    pub fn layout(&self) -> Layout {
        self.about.layout
    }

    pub(super) fn parts(&self) -> &[Rows] {
        &self.parts
    }

    /// The rows of each learned part: as it came first, then its further views.
    pub(super) fn views(&self) -> impl Iterator<Item = &[Rows]> {
        let mut rest = &self.parts[..];
        (0..self.learned).map(move |part| {
            let count = self.about.views.get(part).copied().unwrap_or(1);
            let (own, others) = rest.split_at(count.min(rest.len()));
            rest = others;
            own
        })
    }

    /// The scores, 0..=1, of the parts that came when the memory was full, and were not learned.
    pub(super) fn later_scores(&self) -> Vec<f32> {
        let later = self.about.told.iter().skip(self.learned);
        let scores = later.filter_map(|t| Some(self.about.score(t.memory?, t.zero_shot.score)));
        scores.collect()
    }

    /// The test pieces' descriptors, in the order of [`About::pieces`].
    pub(super) fn piece_rows(&self) -> &[Rows] {
        &self.pieces
    }

    /// Replaces the test pieces.
    pub(super) fn set_pieces(&mut self, pieces: Vec<(Piece, Rows)>) {
        (self.about.pieces, self.pieces) = pieces.into_iter().unzip();
    }

    /// The score of each test piece, 0..=1.
    ///
    /// # Errors
    /// None in practice.
    pub fn piece_scores(&mut self) -> TractResult<Vec<f32>> {
        let (mut scores, mut map) = (vec![], vec![]);
        let dim = self.about.layout.dim;
        for i in 0..self.pieces.len() {
            let descriptors = self.pieces[i].numbers(dim);
            let piece = &self.about.pieces[i];
            let count = self.about.looked.groups().len();
            // With other regions than then, the score of the whole picture counts, which is the largest of its
            // groups.
            let groups = match piece.groups.len() == count {
                true => piece.groups.clone(),
                false => vec![piece.zero_shot.score; count],
            };
            let zero_shot_map = vec![piece.zero_shot.highest; self.about.layout.places()];
            let outcome = self.judge(&descriptors, &groups, &zero_shot_map, &mut map)?;
            scores.push(outcome.score);
        }
        Ok(scores)
    }

    pub(super) fn kept(&self) -> Kept {
        self.memory.kept()
    }

    /// Judges a part by its descriptors [places, dim], FAPrompt's score of each group that is judged, and
    /// FAPrompt's map `[places]`. `map` gets the fused map, 0..=1, with 0 for places that are not judged. The
    /// score is the largest over the groups, each lowered by the offset of its threshold.
    ///
    /// # Errors
    /// Descriptors or a map of another size, or values that are NaN or infinite.
    pub fn judge(
        &mut self,
        descriptors: &[f32],
        zero_shot: &[f32],
        zero_shot_map: &[f32],
        map: &mut Vec<f32>,
    ) -> TractResult<Outcome> {
        let about = &self.about;
        self.memory.judge(descriptors, map)?;
        ensure!(
            zero_shot_map.len() == map.len(),
            "a map of {} places, of {}",
            zero_shot_map.len(),
            map.len()
        );
        let groups = about.looked.groups();
        ensure!(
            zero_shot.len() == groups.len(),
            "{} scores for {} groups of patches",
            zero_shot.len(),
            groups.len()
        );
        let (mut score, mut memory) = (0f32, 0f32);
        for (group, zero_shot) in groups.iter().zip(zero_shot) {
            let tiles = about.layout.tiles.count();
            let of_group = group_score(map, group, tiles, &mut self.work);
            let own = about.score(of_group, *zero_shot) - group.offset;
            ensure!(own.is_finite(), "the score is {own}");
            (score, memory) = (score.max(own), memory.max(of_group));
        }
        let score = score.min(1.0);
        for (patch, (value, zero_shot)) in map.iter_mut().zip(zero_shot_map).enumerate() {
            let both = about.fuse(
                common(&about.usual_memory, *value),
                common(&about.usual_highest, *zero_shot),
            );
            *value = if about.looked.counts(patch) {
                both
            } else {
                0.0
            };
        }
        Ok(Outcome { score, memory })
    }
}
