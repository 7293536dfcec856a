//! Teaching: good parts come one by one. The first ones are learned, all of them calibrate, and no part judges
//! itself.

use super::conformal::{Promise, Usual, rank};
use super::descriptor::Layout;
use super::fusion::{Fusion, Scale, common};
use super::kind::{Kind, Memory, image_score};
use super::light::Light;
use super::part::{Learned, Rows};
use super::position;
use super::region::{Looked, Regions};
use super::taught::{About, Taught, Told};
use super::views::Views;
use crate::ops::tract::*;

/// Most bytes of the patches that a recipe has learned: its file is a little larger, and stays below 20 MB.
const ROOM: usize = 19_000_000;
/// Most parts that are learned.
const PARTS: usize = 64;
/// Bytes of a row's step.
const STEP: usize = size_of::<f32>();
/// A part that is being taught is called odd if it lies this many spreads above the median, or more.
pub const ODD: f32 = 3.5;

/// FAPrompt's judgement of a part.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZeroShot {
    /// The image score, 0..=1.
    pub score: f32,
    /// The largest value of its map, 0..=1.
    pub highest: f32,
}

/// How to teach.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The kind of memory; `None`: `combined`, and `position` of a single part.
    pub kind: Option<Kind>,
    /// How both scores become one.
    pub fusion: Fusion,
    /// The share of good parts, 0..=1, that may be rejected on average; with too few parts for it, the largest
    /// score is the limit.
    pub false_rejects: f64,
    /// Regions of the picture that are judged.
    pub regions: Regions,
    /// Further views in which each part is learned.
    pub views: Views,
}

/// A good part that is learned.
struct Sample {
    name: String,
    /// Its rows as it came, followed by those of its further views.
    rows: Vec<Rows>,
    zero_shot: ZeroShot,
    light: Option<Light>,
}

/// A lesson: parts that are being taught.
pub struct Lesson {
    layout: Layout,
    settings: Settings,
    looked: Looked,
    learned: Vec<Sample>,
    /// Parts that came when the memory was full: they only calibrate.
    later: Vec<Told>,
    /// Whether the part that came last is one of `later`.
    is_later: bool,
    /// The memory of the learned parts, made when the first of the later ones came.
    memory: Option<Memory>,
    work: Vec<f32>,
}

/// A part that was taught, and how it looks compared with the others.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// Its name.
    pub name: String,
    /// The memory's score of it as if it had not been taught; `None` if it is the only part.
    pub score: Option<f32>,
    /// By how many spreads the score lies above the median.
    pub z: f32,
}

impl Judged {
    /// Whether somebody should look at it.
    pub fn is_odd(&self) -> bool {
        self.z > ODD
    }
}

/// How many parts of a layout are learned in one view each; further parts calibrate.
pub fn most_learned(layout: Layout) -> usize {
    most_pictures(layout).min(PARTS)
}

/// How many pictures of parts are learned, where each is shown in several views.
fn most_pictures(layout: Layout) -> usize {
    (ROOM / (layout.places() * (layout.dim + STEP))).clamp(2, position::ROWS)
}

impl Lesson {
    /// Begins a lesson without parts.
    ///
    /// # Errors
    /// Regions without any place that is looked at.
    pub fn new(layout: Layout, settings: Settings) -> TractResult<Lesson> {
        Ok(Lesson {
            layout,
            looked: settings.regions.on(layout.grid, layout.tiles)?,
            settings,
            learned: vec![],
            later: vec![],
            is_later: false,
            memory: None,
            work: vec![],
        })
    }

    /// Whether one more part is learned; later ones calibrate.
    fn has_room(&self) -> bool {
        let pictures: usize = self.learned.iter().map(|p| p.rows.len()).sum();
        let more = self.settings.views.count();
        self.learned.is_empty()
            || self.learned.len() < PARTS && pictures + more <= most_pictures(self.layout)
    }

    /// The further views in which the lesson needs the next part ([`Lesson::view`]).
    pub fn wants_views(&self) -> Views {
        match self.has_room() {
            true => self.settings.views,
            false => Views::default(),
        }
    }

    /// Takes the descriptors of one further view of the part that came last. Those of a part that only calibrates
    /// are not learned.
    ///
    /// # Errors
    /// Descriptors of another size, or that are NaN or infinite.
    pub fn view(&mut self, descriptors: &[f32]) -> TractResult<()> {
        self.size(descriptors)?;
        let rows = Rows::of(descriptors, self.layout.dim)?;
        if let (false, Some(last)) = (self.is_later, self.learned.last_mut()) {
            last.rows.push(rows);
        }
        Ok(())
    }

    fn size(&self, descriptors: &[f32]) -> TractResult<()> {
        ensure!(
            descriptors.len() == self.layout.places() * self.layout.dim,
            "{} numbers for {} places of {}",
            descriptors.len(),
            self.layout.places(),
            self.layout.dim
        );
        Ok(())
    }

    /// Resumes with what was taught: parts can be added and taken out.
    ///
    /// # Errors
    /// As [`Lesson::new`].
    pub fn resume(taught: &Taught, settings: Settings) -> TractResult<Lesson> {
        let mut lesson = Lesson::new(taught.layout(), settings)?;
        let about = taught.about();
        for (told, rows) in about.told.iter().zip(taught.views()) {
            lesson.learned.push(Sample {
                name: told.name.clone(),
                rows: rows.to_vec(),
                zero_shot: told.zero_shot,
                light: told.light,
            });
        }
        lesson.later = about.told[lesson.learned.len()..].to_vec();
        Ok(lesson)
    }

    /// The layout of its parts.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// How many parts it has so far.
    pub fn len(&self) -> usize {
        self.learned.len() + self.later.len()
    }

    /// Whether there is none yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes a good part: its descriptors [places, dim] and FAPrompt's judgement.
    ///
    /// # Errors
    /// Descriptors of another size, or that are NaN or infinite.
    pub fn part(
        &mut self,
        name: &str,
        descriptors: &[f32],
        zero_shot: ZeroShot,
    ) -> TractResult<()> {
        self.size(descriptors)?;
        self.is_later = !self.has_room();
        if !self.is_later {
            self.learned.push(Sample {
                name: name.into(),
                rows: vec![Rows::of(descriptors, self.layout.dim)?],
                zero_shot,
                light: None,
            });
            return Ok(());
        }
        if self.memory.is_none() {
            self.memory = Some(self.learn()?);
        }
        let memory = self.memory.as_mut().context("it was just made")?;
        let mut map = vec![];
        memory.judge(descriptors, &mut map)?;
        self.later.push(Told {
            name: name.into(),
            memory: Some(image_score(
                &map,
                &self.looked,
                self.layout.tiles.count(),
                &mut self.work,
            )),
            zero_shot,
            light: None,
        });
        Ok(())
    }

    /// Brightness and sharpness of the frame of the part that came last: later frames are compared with the range
    /// of all parts.
    pub fn lit(&mut self, light: Light) {
        let last = match self.is_later {
            true => self.later.last_mut().map(|told| &mut told.light),
            false => self.learned.last_mut().map(|part| &mut part.light),
        };
        if let Some(last) = last {
            *last = Some(light);
        }
    }

    /// Takes a part out again; returns whether there was one of that name.
    pub fn forget(&mut self, name: &str) -> bool {
        let before = self.len();
        if let Some(at) = self.learned.iter().position(|p| p.name == name) {
            self.learned.remove(at);
        }
        self.later.retain(|p| p.name != name);
        // The later parts were judged by a memory with one part more, which makes no good part look worse.
        self.memory = None;
        self.len() < before
    }

    fn learn(&self) -> TractResult<Memory> {
        let (views, rows) = self.views();
        let learned = Learned::new(rows, &views);
        let kind = match self.settings.kind {
            // Nothing is held out of one part, so nothing says what is usual.
            None | Some(Kind::Combined) if learned.parts() < 2 => Kind::Position,
            None => Kind::Combined,
            Some(kind) => kind,
        };
        Memory::learn(kind, self.layout, &learned, None)
    }

    /// How many views each part has, and the rows of all of them.
    fn views(&self) -> (Vec<usize>, impl Iterator<Item = &Rows>) {
        let views = self.learned.iter().map(|p| p.rows.len()).collect();
        (views, self.learned.iter().flat_map(|p| &p.rows))
    }

    /// Ends the lesson. `encoder` and `arithmetic` are what descriptors depend on.
    ///
    /// # Errors
    /// No part.
    pub fn finish(mut self, encoder: &str, arithmetic: &str) -> TractResult<Taught> {
        let mut memory = match self.memory.take() {
            Some(memory) => memory,
            None => self.learn()?,
        };
        let (mut views, rows) = self.views();
        let tiles = self.layout.tiles.count();
        let held_out = memory.held_out(&Learned::new(rows, &views))?;
        if views.iter().all(|n| *n == 1) {
            views.clear();
        }
        let scores = held_out.map(|maps| {
            maps.iter()
                .map(|map| image_score(map, &self.looked, tiles, &mut self.work))
                .collect::<Vec<f32>>()
        });
        let mut told: Vec<Told> = self
            .learned
            .iter()
            .enumerate()
            .map(|(i, part)| Told {
                name: part.name.clone(),
                memory: scores.as_ref().map(|s| s[i]),
                zero_shot: part.zero_shot,
                light: part.light,
            })
            .collect();
        told.append(&mut self.later);
        let mut about = About::new(
            self.layout,
            memory.kind(),
            &self.settings,
            self.looked,
            told,
            (encoder, arithmetic),
        );
        about.views = views;
        let parts = self.learned.into_iter().flat_map(|p| p.rows).collect();
        Taught::new(about, parts, memory)
    }
}

impl About {
    /// Works out limit, scale and usual scores from the parts that were taught.
    fn new(
        layout: Layout,
        kind: Kind,
        settings: &Settings,
        looked: Looked,
        told: Vec<Told>,
        (encoder, arithmetic): (&str, &str),
    ) -> About {
        let memory: Vec<f32> = told.iter().filter_map(|t| t.memory).collect();
        let of = |f: fn(&ZeroShot) -> f32| -> Vec<f32> {
            told.iter().map(|t| f(&t.zero_shot)).collect()
        };
        // A single part cannot be judged by others: the distances of its places are small numbers, and one is far.
        let usual_memory = match memory.len() {
            0 => match kind {
                // This kind counts deviations, which are not distances.
                Kind::Gaussian => Usual {
                    middle: 1.0,
                    spread: 0.25,
                },
                Kind::Position | Kind::Anywhere | Kind::Pca | Kind::Combined => Usual {
                    middle: 0.2,
                    spread: 0.05,
                },
            },
            _ => Usual::of(&memory),
        };
        let (score, highest) = (of(|z| z.score), of(|z| z.highest));
        let (usual_score, usual_highest) =
            (Usual::of_zero_shot(&score), Usual::of_zero_shot(&highest));
        let fuse = |t: &Told| {
            let memory = common(&usual_memory, t.memory.unwrap_or(usual_memory.middle));
            let zero_shot = common(&usual_score, t.zero_shot.score);
            settings.fusion.fuse(memory, zero_shot, told.len())
        };
        let mut fused: Vec<f32> = told.iter().map(fuse).collect();
        fused.sort_by(f32::total_cmp);
        let (middle, parts) = (super::conformal::median(&fused), memory.len());
        let (limit, promise) = match parts {
            // No good part is known but this one.
            0 => (settings.fusion.fuse(0.5, 0.5, told.len()), None),
            n => {
                let rank = rank(n, settings.false_rejects);
                (fused[rank - 1], Promise::new(n, rank))
            }
        };
        About {
            encoder: encoder.into(),
            arithmetic: arithmetic.into(),
            layout,
            kind,
            fusion: settings.fusion,
            looked,
            regions: settings.regions.clone(),
            usual_memory,
            usual_score,
            usual_highest,
            scale: Scale::new(middle, limit),
            rank: promise.map(|p| p.rank),
            told,
            views: vec![],
            pieces: vec![],
        }
    }
}
