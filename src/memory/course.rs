//! A lesson on a running station: parts come by themselves; then somebody looks at the result, takes out the odd
//! part, adds one that was wrongly rejected, and accepts.
//!
//! The accepted result is the bytes of a file. Test pieces (parts that are known to be bad) stay in it from one
//! lesson to the next, and [`Report::passing`] names those that would pass.

use super::conformal::Promise;
use super::descriptor::Layout;
use super::lesson::{Lesson, Settings, ZeroShot};
use super::light::Light;
use super::part::Rows;
use super::taught::{About, Piece, Taught};
use super::views::Views;
use crate::ops::tract::*;
use std::sync::Arc;

/// Fewest good parts that are worth accepting.
pub const FEWEST: usize = 5;

/// A part that was judged, with what a lesson needs to learn it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// Its name: the number of the part.
    pub name: String,
    /// Its descriptors [places, dim].
    pub descriptors: Vec<f32>,
    /// FAPrompt's score, and the largest value of its map.
    pub zero_shot: ZeroShot,
    /// FAPrompt's score of each group of patches that is looked at.
    pub groups: Vec<f32>,
    /// Brightness and sharpness of its frame, if they are known.
    pub light: Option<Light>,
}

/// A change of what was taught.
#[derive(Clone, Debug, PartialEq)]
pub enum Edit {
    /// Take out the part, or the test piece, of this name.
    Forget(String),
    /// Add a good part, for example one that was wrongly rejected.
    Good(Sample),
    /// Add a test piece.
    Bad(Sample),
}

/// A part in the list of those that were taught.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    /// Its place among them, from 1.
    pub number: usize,
    /// Its name.
    pub name: String,
    /// How many spreads its score lies above the median, judged by the other parts.
    pub z: f32,
    /// Whether the part looks so different from the others that somebody should look at it.
    pub odd: bool,
}

/// The result of a lesson.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Name of the kind of memory.
    pub kind: &'static str,
    /// The parts, the oddest first.
    pub parts: Vec<Listed>,
    /// The scores, 0..=1, that the parts had while held out, the smallest first.
    pub scores: Vec<f32>,
    /// The test pieces by name, each with its score, 0..=1.
    pub pieces: Vec<(String, f32)>,
    /// Whether good parts are judged as by the memory in force, because only test pieces differ.
    pub same: bool,
}

impl std::fmt::Debug for Course {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Course({} of {} parts)", self.taken(), self.wanted)
    }
}

impl Report {
    /// The share of good parts that will be rejected if scores above `threshold` are; `None` if nothing can be
    /// promised.
    pub fn promise(&self, threshold: f32) -> Option<Promise> {
        let below = self.scores.iter().filter(|s| **s <= threshold).count();
        Promise::new(self.scores.len(), below)
    }

    /// The odd ones among the parts.
    pub fn odd(&self) -> impl Iterator<Item = &Listed> {
        self.parts.iter().filter(|p| p.odd)
    }

    /// The first test piece that would pass, and its score.
    pub fn passing(&self, threshold: f32) -> Option<(&str, f32)> {
        let mut passing = self.pieces.iter().filter(|(_, s)| *s <= threshold);
        passing.next().map(|(name, score)| (name.as_str(), *score))
    }

    /// The report on a memory that was taught, as it is.
    ///
    /// # Errors
    /// None in practice.
    pub fn of(taught: &mut Taught, same: bool) -> TractResult<Report> {
        let scores = taught.piece_scores()?;
        let about = taught.about();
        let mut parts: Vec<Listed> = (1..)
            .zip(&about.told)
            .map(|(number, part)| {
                let z = part.memory.map_or(0.0, |m| about.usual_memory.z(m));
                Listed {
                    number,
                    name: part.name.clone(),
                    z,
                    odd: z > super::ODD,
                }
            })
            .collect();
        parts.sort_by(|a, b| b.z.total_cmp(&a.z));
        let mut held_out = about.scores();
        held_out.sort_by(f32::total_cmp);
        let names = about.pieces.iter().map(|p| p.name.clone());
        Ok(Report {
            kind: about.kind.name(),
            parts,
            scores: held_out,
            pieces: names.zip(scores).collect(),
            same,
        })
    }
}

enum Stage {
    Taking(Box<Lesson>),
    Taught(Box<Taught>),
    /// The state after a step that failed.
    Nothing,
}

/// A lesson that is going on.
pub struct Course {
    /// Digest of the encoder, and name of the arithmetic, that the descriptors depend on.
    bound: (String, String),
    settings: Settings,
    stage: Stage,
    pieces: Vec<(Piece, Rows)>,
    wanted: usize,
    same: bool,
}

impl Course {
    /// Begins a lesson of this many parts. `pieces` of what was taught before stay test pieces.
    ///
    /// # Errors
    /// As [`Lesson::new`].
    pub fn begin(
        layout: Layout,
        settings: Settings,
        (encoder, arithmetic): (&str, &str),
        parts: usize,
        before: Option<&Taught>,
    ) -> TractResult<Course> {
        Ok(Course {
            bound: (encoder.into(), arithmetic.into()),
            stage: Stage::Taking(Box::new(Lesson::new(layout, settings.clone())?)),
            settings,
            pieces: before.map_or(vec![], pieces),
            wanted: parts,
            same: false,
        })
    }

    /// Resumes a lesson that waited to be accepted; `before` is the memory in force.
    ///
    /// # Errors
    /// As [`Lesson::resume`].
    pub fn waiting(
        lesson: Taught,
        how: (f64, Views),
        before: Option<&Taught>,
    ) -> TractResult<Course> {
        // Test pieces do not change how good parts are judged.
        let judging = |taught: &Taught| About {
            pieces: vec![],
            ..taught.about().clone()
        };
        let same = before.is_some_and(|b| judging(b) == judging(&lesson));
        let mut course = Course::resume(lesson, how, 0)?;
        course.same = same;
        Ok(course)
    }

    /// Resumes with what was taught, for this many parts more; with none more, it is done.
    ///
    /// # Errors
    /// As [`Lesson::resume`].
    pub fn resume(
        taught: Taught,
        (false_rejects, views): (f64, Views),
        more: usize,
    ) -> TractResult<Course> {
        let about = taught.about();
        let settings = Settings {
            kind: Some(about.kind),
            fusion: about.fusion,
            false_rejects,
            regions: about.regions.clone(),
            views,
        };
        let (bound, wanted) = (
            (about.encoder.clone(), about.arithmetic.clone()),
            about.told.len() + more,
        );
        let pieces = pieces(&taught);
        let stage = match more {
            0 => Stage::Taught(Box::new(taught)),
            _ => Stage::Taking(Box::new(Lesson::resume(&taught, settings.clone())?)),
        };
        Ok(Course {
            bound,
            settings,
            stage,
            pieces,
            wanted,
            same: more == 0,
        })
    }

    /// How many parts the lesson is to have.
    pub fn wanted(&self) -> usize {
        self.wanted
    }

    /// How many parts it has.
    pub fn taken(&self) -> usize {
        match &self.stage {
            Stage::Taking(lesson) => lesson.len(),
            Stage::Taught(taught) => taught.about().told.len(),
            Stage::Nothing => 0,
        }
    }

    /// Takes a part.
    ///
    /// # Errors
    /// As [`Lesson::part`]; also a lesson that takes no parts.
    pub fn part(&mut self, sample: &Sample) -> TractResult<()> {
        let Stage::Taking(lesson) = &mut self.stage else {
            bail!("the lesson takes no more parts");
        };
        lesson.part(&sample.name, &sample.descriptors, sample.zero_shot)?;
        sample.light.into_iter().for_each(|l| lesson.lit(l));
        Ok(())
    }

    /// The further views in which the lesson needs the next part ([`Course::view`]).
    pub fn wants_views(&self) -> Views {
        match &self.stage {
            Stage::Taking(lesson) => lesson.wants_views(),
            _ => Views::default(),
        }
    }

    /// Takes the descriptors of one further view of the part that came last.
    ///
    /// # Errors
    /// As [`Lesson::view`].
    pub fn view(&mut self, descriptors: &[f32]) -> TractResult<()> {
        match &mut self.stage {
            Stage::Taking(lesson) => lesson.view(descriptors),
            _ => Ok(()),
        }
    }

    /// Makes the memory that judges from the parts.
    ///
    /// # Errors
    /// As [`Lesson::finish`].
    pub fn finish(&mut self) -> TractResult<()> {
        let taught = match std::mem::replace(&mut self.stage, Stage::Nothing) {
            Stage::Taking(lesson) => lesson.finish(&self.bound.0, &self.bound.1)?,
            Stage::Taught(taught) => *taught,
            Stage::Nothing => bail!("nothing was taught"),
        };
        let mut taught = Box::new(taught);
        taught.set_pieces(self.pieces.clone());
        // Later corrections keep the kind of memory.
        self.settings.kind = Some(taught.about().kind);
        self.stage = Stage::Taught(taught);
        Ok(())
    }

    /// Changes what was taught, and makes the memory that judges anew.
    ///
    /// # Errors
    /// A name that does not exist, too few parts left, a lesson that still takes parts: nothing is changed then.
    /// Also as [`Lesson::finish`].
    pub fn edit(&mut self, edit: Edit) -> TractResult<()> {
        if let Edit::Bad(sample) = &edit {
            let rows = Rows::of(&sample.descriptors, self.dim()?)?;
            let piece = Piece {
                name: sample.name.clone(),
                zero_shot: sample.zero_shot,
                groups: sample.groups.clone(),
            };
            self.pieces.retain(|(p, _)| p.name != sample.name);
            self.pieces.push((piece, rows));
            return match &mut self.stage {
                Stage::Taught(taught) => {
                    taught.set_pieces(self.pieces.clone());
                    Ok(())
                }
                // Test pieces are judged when the lesson ends.
                _ => Ok(()),
            };
        }
        let Stage::Taught(taught) = &mut self.stage else {
            bail!("the lesson still takes parts");
        };
        if let Edit::Forget(name) = &edit
            && self.pieces.iter().any(|(p, _)| p.name == *name)
        {
            self.pieces.retain(|(p, _)| p.name != *name);
            taught.set_pieces(self.pieces.clone());
            return Ok(());
        }
        let mut lesson = Lesson::resume(taught, self.settings.clone())?;
        match &edit {
            Edit::Forget(name) => {
                ensure!(
                    lesson.len() > FEWEST,
                    "fewer than {FEWEST} good parts would be left"
                );
                ensure!(lesson.forget(name), "no part {name} was taught");
            }
            Edit::Good(sample) => {
                // A part that was taught twice would vouch for itself.
                lesson.forget(&sample.name);
                lesson.part(&sample.name, &sample.descriptors, sample.zero_shot)?;
                sample.light.into_iter().for_each(|l| lesson.lit(l));
            }
            Edit::Bad(_) => (),
        }
        self.wanted = lesson.len();
        self.same = false;
        self.stage = Stage::Taking(Box::new(lesson));
        self.finish()
    }

    fn dim(&self) -> TractResult<usize> {
        match &self.stage {
            Stage::Taking(lesson) => Ok(lesson.layout().dim),
            Stage::Taught(taught) => Ok(taught.layout().dim),
            Stage::Nothing => bail!("nothing was taught"),
        }
    }

    /// The report, and the bytes of the file.
    ///
    /// # Errors
    /// A lesson that is not finished.
    pub fn result(&mut self) -> TractResult<(Report, Arc<[u8]>)> {
        let Stage::Taught(taught) = &mut self.stage else {
            bail!("the lesson is not finished");
        };
        let bytes = taught.bytes().map_err(TractError::msg)?;
        Ok((Report::of(taught, self.same)?, bytes.into()))
    }
}

fn pieces(taught: &Taught) -> Vec<(Piece, Rows)> {
    let named = taught.about().pieces.iter().cloned();
    named.zip(taught.piece_rows().iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::region::Regions;
    use crate::memory::{Fusion, Kind};
    use crate::tiling::Tiling;

    const LAYOUT: Layout = Layout {
        grid: 4,
        tiles: Tiling::WHOLE,
        dim: 8,
    };

    /// A part that lies `off` from the others at one place.
    fn sample(number: usize, off: f32) -> Sample {
        let mut state = number as u32 * 7919 + 1;
        let mut noise = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 * 0.1
        };
        let mut descriptors: Vec<f32> = (0..16 * 8).map(|i| (i % 5) as f32 + noise()).collect();
        descriptors[40..48].iter_mut().for_each(|v| *v += off);
        Sample {
            name: number.to_string(),
            descriptors,
            zero_shot: ZeroShot {
                score: 0.3 + noise(),
                highest: 0.4,
            },
            groups: vec![0.3],
            light: None,
        }
    }

    fn settings() -> Settings {
        Settings {
            kind: Some(Kind::Position),
            fusion: Fusion::default(),
            false_rejects: 0.005,
            regions: Regions::default(),
            views: Views::default(),
        }
    }

    fn taught(odd: Option<usize>) -> Course {
        let mut course = Course::begin(LAYOUT, settings(), ("encoder", "int8"), 12, None).unwrap();
        for number in 1..=12 {
            let off = if odd == Some(number) { 2.0 } else { 0.0 };
            course.part(&sample(number, off)).unwrap();
        }
        course.finish().unwrap();
        course
    }

    #[test]
    fn the_odd_part_is_listed_first_and_without_it_the_limit_falls() {
        let mut course = taught(Some(7));
        let (with, _) = course.result().unwrap();
        let oddest = with.odd().next().unwrap();
        assert_eq!((oddest.number, oddest.name.as_str()), (7, "7"));
        let promise = with.promise(0.5).unwrap();
        assert_eq!((promise.parts, promise.rank), (12, 12));
        course.edit(Edit::Forget("7".into())).unwrap();
        let (without, bytes) = course.result().unwrap();
        assert_eq!(without.parts.len(), 11);
        assert!(without.parts.iter().all(|p| p.name != "7"));
        assert!(course.edit(Edit::Forget("7".into())).is_err());
        let mut memory = Taught::from_bytes(&bytes).unwrap();
        let mut map = vec![];
        let mut score = |s: &Sample| {
            let zero_shot = [s.zero_shot.score];
            let judged = memory.judge(&s.descriptors, &zero_shot, &[0.4; 16], &mut map);
            judged.unwrap().score
        };
        assert!(score(&sample(7, 2.0)) > 0.5);
        // One of twelve is to be expected.
        let rejected = (100..112).filter(|n| score(&sample(*n, 0.0)) > 0.5);
        assert!(rejected.count() <= 4);
    }

    #[test]
    fn a_part_that_was_wrongly_rejected_passes_once_it_is_added() {
        let mut course = taught(None);
        let alarm = sample(50, 0.8);
        let before = course.result().unwrap().0.scores.len();
        course.edit(Edit::Good(alarm.clone())).unwrap();
        let (report, bytes) = course.result().unwrap();
        assert_eq!(report.scores.len(), before + 1);
        let (mut memory, mut map) = (Taught::from_bytes(&bytes).unwrap(), vec![]);
        let again = sample(51, 0.8);
        let judged = memory.judge(&again.descriptors, &[0.3], &[0.4; 16], &mut map);
        assert!(judged.unwrap().score <= 0.5);
    }

    #[test]
    fn test_pieces_go_along_and_one_that_would_pass_is_named() {
        let mut course = taught(None);
        course.edit(Edit::Bad(sample(60, 3.0))).unwrap();
        let (report, bytes) = course.result().unwrap();
        assert!(report.same == course.same && report.passing(0.5).is_none());
        assert_eq!(report.pieces.len(), 1);
        // Stored, read again, gone on with.
        let memory = Taught::from_bytes(&bytes).unwrap();
        let mut course = Course::resume(memory, (0.005, Views::default()), 0).unwrap();
        assert!(course.result().unwrap().0.same);
        // The same defect on a part that is said to be good: its memory lets the test piece pass.
        course.edit(Edit::Good(sample(61, 3.0))).unwrap();
        let (report, _) = course.result().unwrap();
        assert_eq!(report.passing(0.5).unwrap().0, "60");
        assert!(!report.same);
        course.edit(Edit::Forget("60".into())).unwrap();
        assert!(course.result().unwrap().0.passing(0.5).is_none());
        // A new lesson keeps them too.
        let (_, bytes) = {
            let mut course = taught(None);
            course.edit(Edit::Bad(sample(60, 3.0))).unwrap();
            course.result().unwrap()
        };
        let before = Taught::from_bytes(&bytes).unwrap();
        let bound = ("encoder", "int8");
        let course = Course::begin(LAYOUT, settings(), bound, 12, Some(&before)).unwrap();
        assert_eq!(course.pieces.len(), 1);
    }

    #[test]
    fn a_file_with_a_test_piece_that_is_damaged_is_refused() {
        let mut course = taught(None);
        course.edit(Edit::Bad(sample(60, 3.0))).unwrap();
        let (_, bytes) = course.result().unwrap();
        for at in (0..bytes.len()).step_by(bytes.len() / 40) {
            let mut bad = bytes.to_vec();
            bad[at] ^= 1;
            assert!(Taught::from_bytes(&bad).is_err(), "byte {at}");
        }
    }
}
