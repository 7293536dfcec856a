//! Figures of a memory of good parts: a few good pictures of a set are taught, as `teach` does it, and the others
//! are judged. All by the device's own code: on descriptors that were made once, or, where the method compares with
//! good parts as its paper does (WinCLIP, APRIL-GAN), on the pictures themselves.

use super::TrainError;
use super::datasets::Sample;
use super::evaluate::{Judged, segmentations};
use super::metrics::{Ranking, Segmentation, pixel_ranking, pro};
use crate::capture::load;
use crate::faprompt::map::{Map, joined};
use crate::inspector::{Inspection, Inspector};
use crate::memory::region::Regions;
use crate::memory::{Fusion, Kind, LIMIT, Lesson, Settings, Taught, Views, ZeroShot};
use half::f16;
use image::RgbImage;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// How many good pictures are taught.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shots {
    /// This number, but no more than half of the good ones where they are taken from the test pictures.
    Some(usize),
    /// All good pictures of the `train` part, else half of the good ones.
    All,
}

impl FromStr for Shots {
    type Err = String;
    fn from_str(text: &str) -> Result<Shots, String> {
        match text.parse() {
            Ok(n) if n > 0 => Ok(Shots::Some(n)),
            _ if text == "all" => Ok(Shots::All),
            _ => Err("a number from 1 on, or `all`".into()),
        }
    }
}

/// How memories of good parts are taught and judged.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The numbers of good pictures to teach, one after the other.
    pub shots: Vec<Shots>,
    /// How often each number is taught, with other pictures.
    pub draws: usize,
    /// The seed by which the pictures are drawn.
    pub seed: u64,
    /// The kind of memory; none: as `teach` has it.
    pub kind: Option<Kind>,
    /// How both scores become one.
    pub fusion: Fusion,
    /// What each picture is taught as beside what it is.
    pub views: Views,
    /// Whether pixel figures are wanted; they take most of the time.
    pub pixels: bool,
}

/// What the network says of a picture, before anything is taught.
#[derive(Clone, Debug)]
pub struct Encoded {
    descriptors: Vec<f16>,
    zero_shot: ZeroShot,
    map: Vec<f32>,
}

fn halves(values: &[f32]) -> Vec<f16> {
    values.iter().map(|v| f16::from_f32(*v)).collect()
}

fn numbers(values: &[f16]) -> Vec<f32> {
    values.iter().map(|v| v.to_f32()).collect()
}

impl Encoded {
    /// Of the picture that was inspected last; none of a network without a memory.
    pub fn of(inspection: &Inspection, descriptors: Option<&[f32]>) -> Option<Encoded> {
        let mut map = vec![];
        inspection.zero_shot_map(&mut map);
        Some(Encoded {
            descriptors: halves(descriptors?),
            zero_shot: inspection.as_zero_shot(),
            map,
        })
    }
}

/// Figures of a number of taught pictures; shares and areas 0..=1, `None` where one is not defined.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Row {
    /// Good pictures that were asked for; as many as were taught for `all`.
    pub shots: usize,
    /// Good pictures that were taught.
    pub references: usize,
    /// The kind of memory; the method's name where it has a form of its own.
    pub memory: String,
    /// Area under the ROC curve of image scores, 0..=1.
    pub image_auroc: Option<f64>,
    /// Average precision of image scores, 0..=1.
    pub image_ap: Option<f64>,
    /// Good pictures passed while 2 % of the bad are missed.
    pub pg2: Option<f64>,
    /// Bad pictures found while 2 % of the good are lost.
    pub pb2: Option<f64>,
    /// Area under the ROC curve of pixel scores, 0..=1.
    pub pixel_auroc: Option<f64>,
    /// Per-region overlap of pixel scores, 0..=1.
    pub pixel_pro: Option<f64>,
    /// Good pictures that the limit which teaching sets rejects; a method's own form sets none.
    pub false_rejects: Option<f64>,
    /// Bad pictures that it rejects.
    pub found: Option<f64>,
}

/// What a picture came to by what was taught.
#[derive(Clone, Debug, Serialize)]
pub struct Score {
    /// Path of the picture.
    pub image: String,
    /// The image score, 0..=1.
    pub score: f32,
}

/// A draw: what was taught, and what all other pictures came to.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Draw {
    /// The mean over the set's classes.
    #[serde(flatten)]
    pub mean: Row,
    /// Paths of the good pictures that were taught, class by class.
    pub taught: Vec<String>,
    /// The pictures that were judged, class by class.
    pub pictures: Vec<Score>,
}

/// The means over draws, and each draw.
#[derive(Clone, Debug, Serialize)]
pub struct FewShot {
    /// The means.
    #[serde(flatten)]
    pub mean: Row,
    /// Each draw.
    pub draws: Vec<Draw>,
}

/// The mean of each figure over the rows that have it; what the rows are of is the first one's.
fn mean(rows: &[Row]) -> Row {
    let of = |f: fn(&Row) -> Option<f64>| {
        let values: Vec<f64> = rows.iter().filter_map(f).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    let first = rows.first().cloned().unwrap_or_default();
    Row {
        image_auroc: of(|r| r.image_auroc),
        image_ap: of(|r| r.image_ap),
        pg2: of(|r| r.pg2),
        pb2: of(|r| r.pb2),
        pixel_auroc: of(|r| r.pixel_auroc),
        pixel_pro: of(|r| r.pixel_pro),
        false_rejects: of(|r| r.false_rejects),
        found: of(|r| r.found),
        ..first
    }
}

/// The first `count` of the numbers below `n` in an order drawn by `seed`.
fn drawn(n: usize, count: usize, seed: u64) -> Vec<usize> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut all: Vec<usize> = (0..n).collect();
    for i in 0..count.min(n) {
        let other = i + (rng.next_u64() % (n - i) as u64) as usize;
        all.swap(i, other);
    }
    all.truncate(count);
    all
}

/// A good picture that can be taught.
#[derive(Clone, Copy)]
struct Good<'a> {
    path: &'a Path,
    /// None where the method has a form of its own.
    encoded: Option<&'a Encoded>,
}

/// What pictures came to: scores and whether each is abnormal, and the maps of those that count in pixel figures.
#[derive(Default)]
struct Came {
    scores: Vec<(f32, bool)>,
    pictures: Vec<Score>,
    maps: Vec<Segmentation>,
}

impl Came {
    fn add(&mut self, j: &Judged, score: f32, map: impl FnOnce() -> Map, wanted: bool) {
        self.scores.push((score, j.sample.anomalous));
        self.pictures.push(Score {
            image: j.sample.image.display().to_string(),
            score,
        });
        if let (Some(truth), true) = (&j.segmentation, wanted) {
            let map = map();
            self.maps.push(Segmentation {
                width: map.side,
                scores: map.values,
                mask: truth.mask.clone(),
            });
        }
    }

    /// The figures, those of a limit where there is one.
    fn row(&self, limit: Option<f32>) -> Row {
        let ranking = Ranking::new(self.scores.iter().copied());
        let pixels = pixel_ranking(&self.maps);
        let share = |bad: bool| {
            let limit = limit?;
            let of = self.scores.iter().filter(|s| s.1 == bad);
            let of: Vec<f32> = of.map(|s| s.0).collect();
            let above = of.iter().filter(|s| **s > limit).count();
            (!of.is_empty()).then(|| above as f64 / of.len() as f64)
        };
        Row {
            image_auroc: ranking.auroc(),
            image_ap: ranking.average_precision(),
            pg2: ranking.passed_while_missing(0.02),
            pb2: ranking.found_while_losing(0.02),
            pixel_auroc: pixels.auroc(),
            pixel_pro: pro(&self.maps, &pixels),
            false_rejects: share(false),
            found: share(true),
            ..Row::default()
        }
    }
}

/// Teaches and judges a set.
pub struct FewShots<'a> {
    inspector: &'a mut Inspector,
    plan: &'a Plan,
    /// Pictures as they are taught beside what they are, by the picture: made when they are first wanted.
    views: HashMap<PathBuf, Vec<Vec<f16>>>,
}

impl<'a> FewShots<'a> {
    /// By a network that was made with a memory, and was taught nothing.
    pub fn new(inspector: &'a mut Inspector, plan: &'a Plan) -> FewShots<'a> {
        FewShots {
            inspector,
            plan,
            views: HashMap::new(),
        }
    }

    fn fail(path: &Path, what: impl std::fmt::Display) -> TrainError {
        TrainError::Data {
            path: path.into(),
            what: what.to_string(),
        }
    }

    /// Encodes the pictures of a `train` part.
    ///
    /// # Errors
    /// A picture that cannot be judged.
    fn encode(&mut self, samples: &[Sample]) -> Result<Vec<Encoded>, TrainError> {
        let mut all = vec![];
        for sample in samples {
            let frame = load(&sample.image)?;
            let inspection = self.inspector.inspect(&frame);
            let inspection = inspection
                .map_err(|e| Self::fail(&sample.image, e))?
                .clone();
            let encoded = Encoded::of(&inspection, self.inspector.descriptors());
            all.extend(encoded);
        }
        Ok(all)
    }

    /// The descriptors of a picture that was made of another one.
    fn descriptors(&mut self, path: &Path, frame: &RgbImage) -> Result<Vec<f16>, TrainError> {
        self.inspector
            .inspect(frame)
            .map_err(|e| Self::fail(path, e))?;
        Ok(halves(self.inspector.descriptors().unwrap_or(&[])))
    }

    fn views(&mut self, path: &Path) -> Result<Vec<Vec<f16>>, TrainError> {
        if let Some(known) = self.views.get(path) {
            return Ok(known.clone());
        }
        let (frame, views) = (load(path)?, self.plan.views);
        let made = views.of(&frame).map(|view| self.descriptors(path, &view));
        let made = made.collect::<Result<Vec<_>, _>>()?;
        self.views.insert(path.into(), made.clone());
        Ok(made)
    }

    fn teach(&mut self, references: &[Good]) -> Result<Taught, TrainError> {
        let wrong = |e: crate::ops::tract::TractError| TrainError::Options(format!("{e:#}"));
        let layout = self.inspector.layout();
        let layout = layout.ok_or_else(|| TrainError::Options("no memory".into()))?;
        let settings = Settings {
            kind: self.plan.kind,
            fusion: self.plan.fusion,
            false_rejects: 0.01,
            regions: Regions::default(),
            views: self.plan.views,
        };
        let mut lesson = Lesson::new(layout, settings).map_err(wrong)?;
        for good in references {
            let Some(encoded) = good.encoded else {
                continue;
            };
            let views = lesson.wants_views();
            let descriptors = numbers(&encoded.descriptors);
            let name = good.path.display().to_string();
            lesson
                .part(&name, &descriptors, encoded.zero_shot)
                .map_err(wrong)?;
            if views.count() > 1 {
                for view in self.views(good.path)? {
                    lesson.view(&numbers(&view)).map_err(wrong)?;
                }
            }
        }
        lesson.finish("", "").map_err(wrong)
    }

    /// The figures of a set: `judged` pictures, all of which are tested but those that are taught; references
    /// come from `train` if there are any of the class.
    ///
    /// # Errors
    /// A picture that cannot be read any more, or judged.
    pub fn run(
        &mut self,
        judged: &[Judged],
        train: &BTreeMap<String, Vec<Sample>>,
    ) -> Result<Vec<FewShot>, TrainError> {
        let mut classes: BTreeMap<&str, Vec<&Judged>> = BTreeMap::new();
        for j in judged {
            classes.entry(&j.sample.class).or_default().push(j);
        }
        let mut encoded = BTreeMap::new();
        if !self.has_own_form() {
            for class in classes.keys() {
                let samples = train.get(*class).map_or(&[][..], |v| v);
                encoded.insert(*class, self.encode(samples)?);
            }
        }
        let mut rows = vec![];
        for shots in &self.plan.shots.clone() {
            let mut draws = vec![];
            for draw in 0..self.plan.draws as u64 {
                let (mut of_classes, mut all) = (vec![], Draw::default());
                for (class, pictures) in &classes {
                    let own = train.get(*class).map_or(&[][..], |v| v);
                    let own: Vec<Good> = own
                        .iter()
                        .enumerate()
                        .map(|(i, sample)| Good {
                            path: &sample.image,
                            encoded: encoded.get(class).and_then(|all| all.get(i)),
                        })
                        .collect();
                    of_classes.extend(self.class(*shots, draw, pictures, own, &mut all)?);
                }
                all.mean = mean(&of_classes);
                draws.push(all);
            }
            let means: Vec<Row> = draws.iter().map(|d: &Draw| d.mean.clone()).collect();
            let mut mean = mean(&means);
            if means.iter().any(|r| r.memory != mean.memory) {
                mean.memory = "auto".into();
            }
            rows.push(FewShot { mean, draws });
        }
        Ok(rows)
    }

    /// One draw of one class, what was taught and judged added to `all`; none if it has no good picture to spare.
    fn class(
        &mut self,
        shots: Shots,
        draw: u64,
        pictures: &[&Judged],
        own: Vec<Good>,
        all: &mut Draw,
    ) -> Result<Option<Row>, TrainError> {
        let apart = !own.is_empty();
        let goods: Vec<Good> = if apart {
            own
        } else {
            let good = pictures.iter().filter(|j| !j.sample.anomalous);
            good.map(|j| Good {
                path: &j.sample.image,
                encoded: j.encoded.as_ref(),
            })
            .filter(|good| self.has_own_form() || good.encoded.is_some())
            .collect()
        };
        let most = if apart { goods.len() } else { goods.len() / 2 };
        let count = match shots {
            Shots::Some(n) => n.min(most),
            Shots::All => most,
        };
        if count == 0 {
            return Ok(None);
        }
        let chosen = drawn(goods.len(), count, self.plan.seed.wrapping_add(draw));
        let references: Vec<Good> = chosen.iter().map(|i| goods[*i]).collect();
        let taken: Vec<&Path> = references.iter().map(|g| g.path).collect();
        let rest: Vec<&Judged> = pictures
            .iter()
            .copied()
            .filter(|j| !taken.contains(&j.sample.image.as_path()))
            .collect();
        let (memory, came, limit) = match self.has_own_form() {
            true => {
                let came = self.by_own_form(&references, &rest);
                // What comes next is judged without them.
                self.inspector.forget();
                let name = self.inspector.manifest().method_name().name();
                (name, came?, None)
            }
            false => {
                let mut taught = self.teach(&references)?;
                let came = self.by_memory(&mut taught, &rest)?;
                (taught.about().kind.name(), came, Some(LIMIT))
            }
        };
        let figures = came.row(limit);
        all.taught
            .extend(taken.iter().map(|path| path.display().to_string()));
        all.pictures.extend(came.pictures);
        let row = Row {
            shots: match shots {
                Shots::Some(n) => n,
                Shots::All => count,
            },
            references: count,
            memory: memory.into(),
            ..figures
        };
        Ok(Some(row))
    }

    fn has_own_form(&self) -> bool {
        let method = self.inspector.manifest().method_name();
        method.has_few_shot_form()
    }

    /// What pictures come to that the method itself compares with `references`, as it does on a device.
    fn by_own_form(&mut self, references: &[Good], rest: &[&Judged]) -> Result<Came, TrainError> {
        let sigma = self.inspector.manifest().scores.smoothing_sigma;
        let wanted = self.plan.pixels && !segmentations(rest).is_empty();
        self.inspector.forget();
        for good in references {
            let frame = load(good.path)?;
            let shown = self.inspector.remember(&frame);
            shown.map_err(|e| Self::fail(good.path, e))?;
        }
        let mut came = Came::default();
        for j in rest {
            let frame = load(&j.sample.image)?;
            let inspection = self.inspector.inspect(&frame);
            let inspection = inspection.map_err(|e| Self::fail(&j.sample.image, e))?;
            came.add(
                j,
                inspection.score,
                || inspection.map().smoothed(sigma),
                wanted,
            );
        }
        Ok(came)
    }

    /// What pictures come to that are judged by what was taught.
    fn by_memory(&self, taught: &mut Taught, rest: &[&Judged]) -> Result<Came, TrainError> {
        let (manifest, tiles) = (self.inspector.manifest(), self.inspector.tiles());
        let (grid, side) = (manifest.image.grid(), manifest.image.size);
        let sigma = manifest.scores.smoothing_sigma;
        let wanted = self.plan.pixels && !segmentations(rest).is_empty();
        let (mut came, mut map) = (Came::default(), vec![]);
        for j in rest {
            let Some(e) = &j.encoded else { continue };
            let descriptors = numbers(&e.descriptors);
            let outcome = taught
                .judge(&descriptors, &[e.zero_shot.score], &e.map, &mut map)
                .map_err(|e| Self::fail(&j.sample.image, format!("{e:#}")))?;
            let drawn = || joined(&map, grid, tiles, side).smoothed(sigma);
            came.add(j, outcome.score, drawn, wanted);
        }
        Ok(came)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_differ_and_repeat() {
        let (a, b) = (drawn(50, 16, 1), drawn(50, 16, 2));
        assert!(a != b && a == drawn(50, 16, 1) && a[..4] == drawn(50, 4, 1)[..]);
        let mut sorted = a.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert!(sorted.len() == 16 && sorted[15] < 50);
        assert_eq!(drawn(3, 9, 1).len(), 3);
    }

    #[test]
    fn shots_on_the_command_line() {
        assert_eq!("16".parse(), Ok(Shots::Some(16)));
        assert_eq!("all".parse(), Ok(Shots::All));
        assert!("0".parse::<Shots>().is_err() && "few".parse::<Shots>().is_err());
    }
}
