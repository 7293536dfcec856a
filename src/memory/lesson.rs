//! Teaching: good parts come one by one, the first ones are learned, all of them calibrate, and no part judges
//! itself.

use super::choose::{self, Pasted};
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

/// Bytes of what a recipe has learned, at most: its file has a little more, which stays below 20 MB.
const ROOM: usize = 19_000_000;
/// Parts that are learned, at most.
const PARTS: usize = 64;
/// Bytes of a row's step.
const STEP: usize = size_of::<f32>();
/// Spreads above the median from which on a part that is being taught is called odd.
pub const ODD: f32 = 3.5;

/// What FAPrompt says of a part.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ZeroShot {
    /// The image score.
    pub score: f32,
    /// The largest value of its map.
    pub highest: f32,
}

/// How to teach.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The kind of memory; none: chosen by the parts themselves.
    pub kind: Option<Kind>,
    /// How both scores become one.
    pub fusion: Fusion,
    /// The share of good parts that may be rejected, on average: the largest score is the limit where there
    /// are too few parts for it.
    pub false_rejects: f64,
    /// Where parts are looked at.
    pub regions: Regions,
    /// What each part is learned as beside what it is.
    pub views: Views,
}

/// A good part.
struct Sample {
    name: String,
    /// As it came, and as it was shown beside that.
    rows: Vec<Rows>,
    zero_shot: ZeroShot,
    light: Option<Light>,
}

/// Parts being taught.
pub struct Lesson {
    layout: Layout,
    settings: Settings,
    looked: Looked,
    learned: Vec<Sample>,
    /// Those that came when the memory was full: they calibrate.
    later: Vec<Told>,
    /// Whether the part that came last is among the latter.
    is_later: bool,
    /// Made when the first of them came.
    memory: Option<Memory>,
    pasted: Vec<Pasted>,
    work: Vec<f32>,
}

/// A part that was taught and what its being good looks like to the others.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// Its name.
    pub name: String,
    /// The memory's score of it, had it not been taught; none of a single part.
    pub score: Option<f32>,
    /// Spreads above the median.
    pub z: f32,
}

impl Judged {
    /// Whether somebody should look at it.
    pub fn is_odd(&self) -> bool {
        self.z > ODD
    }
}

/// How many parts of a layout are learned as they come; the others calibrate.
pub fn most_learned(layout: Layout) -> usize {
    most_pictures(layout).min(PARTS)
}

/// How many pictures of parts are learned, where each is shown in several views.
fn most_pictures(layout: Layout) -> usize {
    (ROOM / (layout.places() * (layout.dim + STEP))).clamp(2, position::ROWS)
}

impl Lesson {
    /// No part yet.
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
            pasted: vec![],
            work: vec![],
        })
    }

    /// Whether the next part is wanted with a defect pasted into it too ([`Lesson::pasted`]): the kind of memory
    /// is chosen by those.
    pub fn wants_pasted(&self) -> bool {
        self.settings.kind.is_none()
            && self.memory.is_none()
            && self.pasted.len() < choose::PASTED
            && self.has_room()
    }

    /// Whether one more part is learned; later ones calibrate.
    fn has_room(&self) -> bool {
        let pictures: usize = self.learned.iter().map(|p| p.rows.len()).sum();
        let more = self.settings.views.count();
        self.learned.is_empty()
            || self.learned.len() < PARTS && pictures + more <= most_pictures(self.layout)
    }

    /// What the part that comes next is wanted as too ([`Lesson::view`]).
    pub fn wants_views(&self) -> Views {
        match self.has_room() {
            true => self.settings.views,
            false => Views::default(),
        }
    }

    /// The descriptors of the part that came last as it was shown beside what it is. Of a part that only calibrates
    /// nothing is learned.
    ///
    /// # Errors
    /// Descriptors of another size, or that are no numbers.
    pub fn view(&mut self, descriptors: &[f32]) -> TractResult<()> {
        self.size(descriptors)?;
        let rows = Rows::of(descriptors, self.layout.dim)?;
        if let (false, Some(last)) = (self.is_later, self.learned.last_mut()) {
            last.rows.push(rows);
        }
        Ok(())
    }

    /// The descriptors of the part that came last, with a defect pasted into it.
    ///
    /// # Errors
    /// Descriptors of another size, or no part yet.
    pub fn pasted(&mut self, descriptors: &[f32]) -> TractResult<()> {
        self.size(descriptors)?;
        let part = self.learned.len().checked_sub(1);
        self.pasted.push(Pasted {
            part: part.context("a defect in no part")?,
            descriptors: descriptors.to_vec(),
        });
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

    /// Goes on with what was taught: parts can be added and forgotten.
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

    /// The places of its parts.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Parts so far.
    pub fn len(&self) -> usize {
        self.learned.len() + self.later.len()
    }

    /// Whether there is none yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A good part: its descriptors [places, dim] and what FAPrompt says of it.
    ///
    /// # Errors
    /// Descriptors of another size, or that are no numbers.
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

    /// How bright and sharp the frame of the part that came last was: later frames are compared with the range of
    /// all parts.
    pub fn lit(&mut self, light: Light) {
        let last = match self.is_later {
            true => self.later.last_mut().map(|told| &mut told.light),
            false => self.learned.last_mut().map(|part| &mut part.light),
        };
        if let Some(last) = last {
            *last = Some(light);
        }
    }

    /// Takes a part out again; whether there was one of that name.
    pub fn forget(&mut self, name: &str) -> bool {
        let before = self.len();
        if let Some(at) = self.learned.iter().position(|p| p.name == name) {
            self.learned.remove(at);
            self.pasted.retain(|p| p.part != at);
            for p in &mut self.pasted {
                p.part -= usize::from(p.part > at);
            }
        }
        self.later.retain(|p| p.name != name);
        // What calibrates was judged by a memory of one part more, which makes no good part look worse.
        self.memory = None;
        self.len() < before
    }

    fn learn(&self) -> TractResult<Memory> {
        let (views, rows) = self.views();
        let learned = Learned::new(rows, &views);
        let kind = match self.settings.kind {
            Some(kind) => kind,
            None => choose::kind(self.layout, &learned, &self.pasted, &self.looked)?,
        };
        Memory::learn(kind, self.layout, &learned, None)
    }

    /// How many rows each part has, and all of them.
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
    /// What follows from the parts that were taught.
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
        // A single part has nobody who judges it: places' distances are small numbers, and one is far.
        let usual_memory = match memory.len() {
            0 => match kind {
                // Deviations, not distances.
                Kind::Gaussian => Usual {
                    middle: 1.0,
                    spread: 0.25,
                },
                Kind::Position | Kind::Anywhere | Kind::Pca => Usual {
                    middle: 0.2,
                    spread: 0.05,
                },
            },
            _ => Usual::of(&memory),
        };
        let (score, highest) = (of(|z| z.score), of(|z| z.highest));
        let (usual_score, usual_highest) = (Usual::of(&score), Usual::of(&highest));
        let fuse = |t: &Told| {
            let memory = common(&usual_memory, t.memory.unwrap_or(usual_memory.middle));
            let zero_shot = common(&usual_score, t.zero_shot.score);
            settings.fusion.fuse(memory, zero_shot)
        };
        let mut fused: Vec<f32> = told.iter().map(fuse).collect();
        fused.sort_by(f32::total_cmp);
        let (middle, parts) = (super::conformal::median(&fused), memory.len());
        let (limit, promise) = match parts {
            // Nothing is known of good parts but this one.
            0 => (settings.fusion.fuse(0.5, 0.5), None),
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
