//! Pictures as an encoder sees them, and labelled ones with what their masks say.

use crate::train::TrainError;
use crate::train::clip::{Preprocess, Visual};
use crate::train::datasets::{self, Sample};
use crate::train::fit::cache::Cache;
use crate::train::fit::encode::Cutter;
use crate::train::fit::order;
use crate::train::nn::image::ImageTower;
use crate::train::nn::layers::{Maker, put, unit, values};
use crate::train::progress::Interrupt;
use burn::tensor::Device;
use half::f16;
use indicatif::ProgressBar;
use ndarray::Array2;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Version of what is cached: it changes when its meaning does.
const VERSION: &str = "1";
/// Pictures that go through the encoder at once.
const BATCH: usize = 8;

/// What an encoder sees in a picture, up to its last block's MLP: nothing here changes when that one learns.
#[derive(Clone)]
pub struct Look {
    /// Patch features of length 1, [N, C], row by row.
    pub patches: Vec<f16>,
    /// The class row behind the last attention, `[width]`, rounded to f16.
    pub class: Vec<f32>,
}

impl Look {
    /// Patch features, [N, C].
    pub fn rows(&self, joint: usize) -> Array2<f32> {
        let values = self.patches.iter().map(|v| v.to_f32()).collect();
        Array2::from_shape_vec((self.patches.len() / joint, joint), values).expect("whole rows")
    }
}

/// A locked encoder, and what it has seen on disk.
pub struct Encoder {
    tower: ImageTower,
    cutter: Cutter,
    places: usize,
    pixels: usize,
    device: Device,
    cache: Cache,
}

impl Encoder {
    /// The encoder of the tower whose file has this digest; at most so many bytes stay in the folder of `cache`.
    ///
    /// # Errors
    /// [`TrainError::Output`] if the folder cannot be made.
    pub fn new(
        visual: &Visual,
        vv_layers: usize,
        digest: &str,
        cache: (&Path, u64),
        device: &Device,
    ) -> Result<Encoder, TrainError> {
        let mut maker = Maker::new(device, false);
        let activation = crate::bundle::manifest::ActivationKind::QuickGelu;
        let tower = ImageTower::new(visual, activation, visual.grid, vv_layers, &mut maker);
        let size = visual.patch * visual.grid;
        let key = format!("text {VERSION} {digest} {vv_layers}");
        Ok(Encoder {
            tower,
            cutter: Cutter::new(&Preprocess::default(), size, visual.patch),
            places: visual.grid * visual.grid,
            pixels: 3 * visual.patch * visual.patch,
            device: device.clone(),
            cache: Cache::keyed(cache.0, cache.1, &key, 1)?,
        })
    }

    /// What it sees in picture files, through the cache; an error for each that cannot be read.
    ///
    /// # Errors
    /// [`TrainError::Output`], [`TrainError::Interrupted`].
    pub fn look(
        &mut self,
        paths: &[PathBuf],
        stop: Interrupt,
        bar: &ProgressBar,
    ) -> Result<Vec<Result<Look, TrainError>>, TrainError> {
        let mut all = vec![];
        for chunk in paths.chunks(BATCH) {
            if stop.came() {
                return Err(TrainError::Interrupted {
                    after: "some pictures were looked at".into(),
                    checkpoint: "what was seen of them".into(),
                });
            }
            all.extend(self.chunk(chunk)?);
            bar.inc(chunk.len() as u64);
        }
        Ok(all)
    }

    fn chunk(&mut self, paths: &[PathBuf]) -> Result<Vec<Result<Look, TrainError>>, TrainError> {
        let (mut found, mut input, mut missing) = (vec![], vec![], vec![]);
        for path in paths {
            let kept = self.cache.path(path);
            let known = (kept.as_ref().ok()).and_then(|kept| self.known(kept));
            found.push(match (kept, known) {
                (Err(e), _) => Some(Err(e)),
                (Ok(_), Some(look)) => Some(Ok(look)),
                (Ok(kept), None) => match self.cutter.patches(path) {
                    Err(e) => Some(Err(e)),
                    Ok(patches) => {
                        input.extend(patches);
                        missing.push(kept);
                        None
                    }
                },
            });
        }
        let mut new = vec![];
        if !missing.is_empty() {
            let (b, n) = (missing.len(), self.places);
            let input = put(input, [b, n, self.pixels], &self.device);
            let (patches, class) = self.tower.before_last_mlp(input);
            let (c, width) = (patches.dims()[2], class.dims()[1]);
            let (patches, class) = (values(&unit(patches)), values(&class));
            for (i, kept) in missing.iter().enumerate() {
                // As it comes back from the cache, so that nothing depends on what lies there.
                let round = |v: &[f32]| -> Vec<f32> {
                    v.iter().map(|v| f16::from_f32(*v).to_f32()).collect()
                };
                let patches = round(&patches[i * n * c..(i + 1) * n * c]);
                let class = round(&class[i * width..(i + 1) * width]);
                let rows = |v, rows, columns| {
                    Array2::from_shape_vec((rows, columns), v).expect("whole rows")
                };
                let rows = [rows(patches, n, c), rows(class, 1, width)];
                self.cache.put_rows(kept, &rows)?;
                new.push(look(rows));
            }
        }
        let mut new = new.into_iter();
        let all = found.into_iter();
        Ok(all
            .map(|known| known.unwrap_or_else(|| Ok(new.next().expect("one of each missing"))))
            .collect())
    }

    /// What the cache knows of a picture.
    fn known(&self, kept: &Path) -> Option<Look> {
        let rows = <[_; 2]>::try_from(self.cache.get_rows(kept, 2)?).ok()?;
        (rows[0].nrows() == self.places && rows[1].nrows() == 1).then(|| look(rows))
    }
}

fn look([patches, class]: [Array2<f32>; 2]) -> Look {
    Look {
        patches: patches.iter().map(|v| f16::from_f32(*v)).collect(),
        class: class.into_raw_vec_and_offset().0,
    }
}

/// A labelled picture that was looked at.
pub struct Shown {
    /// Place of its set.
    pub set: usize,
    /// Whether it is labelled as defective.
    pub bad: bool,
    /// Whether it is known where: of a good picture always.
    pub masked: bool,
    /// Part of each patch that is damaged, 0..=1, `[N]`.
    pub cover: Vec<f32>,
    /// The kind of its defect.
    pub kind: String,
    /// What the encoder sees.
    pub look: Look,
}

/// A labelled set on its way.
#[derive(Clone, Debug)]
pub struct Set {
    /// The name of its folder.
    pub name: String,
    /// Whether its pictures are rendered.
    pub rendered: bool,
    /// Its pictures, in the order in which they are taken.
    pub samples: Vec<Sample>,
    /// What identifies them.
    pub digest: String,
}

impl Set {
    /// Takes at most `cap` pictures of a set by chance: of `samples`, its test part, and of the good ones of its train part.
    ///
    /// # Errors
    /// [`TrainError::Data`]: a train part that cannot be read, a set without good or without defective pictures, and,
    /// unless they are accepted, masks that mark nothing or nearly everything.
    pub fn new(
        path: &Path,
        mut samples: Vec<Sample>,
        rendered: bool,
        (cap, seed): (usize, u64),
        accept_masks: bool,
    ) -> Result<Set, TrainError> {
        samples.extend(datasets::train(path)?.into_values().flatten());
        let chosen = order(samples.len(), seed, 0).into_iter().take(cap);
        let samples: Vec<Sample> = chosen.map(|i| samples[i].clone()).collect();
        for (anomalous, what) in [(false, "good"), (true, "defective")] {
            if !samples.iter().any(|s| s.anomalous == anomalous) {
                let what = format!(
                    "none of the {} pictures that are taken is {what}: both kinds are wanted",
                    samples.len()
                );
                let path = path.into();
                return Err(TrainError::Data { path, what });
            }
        }
        if !accept_masks {
            datasets::refuse_odd_masks(&samples, || ())?;
        }
        let name = path.file_name().unwrap_or(path.as_os_str());
        Ok(Set {
            name: name.to_string_lossy().into_owned(),
            rendered,
            digest: datasets::digest(&samples),
            samples,
        })
    }
}

/// All labelled pictures.
pub struct Seen {
    /// The sets' names.
    pub names: Vec<String>,
    /// Which of them are rendered.
    pub rendered: Vec<bool>,
    /// The pictures, set by set.
    pub shown: Vec<Shown>,
    /// C, numbers of a feature.
    pub joint: usize,
    /// Pictures that cannot be read.
    pub broken: usize,
}

impl Seen {
    /// Looks at every picture of the sets. Those that cannot be read are left out, counted, and the first one is named.
    ///
    /// # Errors
    /// As [`Encoder::look`]; [`TrainError::Picture`] for a mask that cannot be read; [`TrainError::Data`] for a set of
    /// which nothing good or nothing defective can be read.
    pub fn look(
        sets: &[Set],
        visual: &Visual,
        encoder: &mut Encoder,
        stop: Interrupt,
        bar: &ProgressBar,
    ) -> Result<Seen, TrainError> {
        bar.set_length(sets.iter().map(|s| s.samples.len() as u64).sum());
        let (mut shown, mut wrong) = (vec![], vec![]);
        for (number, set) in sets.iter().enumerate() {
            let paths: Vec<PathBuf> = set.samples.iter().map(|s| s.image.clone()).collect();
            let looks = encoder.look(&paths, stop, bar)?;
            let before = shown.len();
            for (sample, look) in set.samples.iter().zip(looks) {
                let look = match look {
                    Ok(look) => look,
                    Err(e) => {
                        wrong.push(e.to_string());
                        continue;
                    }
                };
                let mask = sample.mask.as_ref().filter(|_| sample.anomalous);
                let cover = match mask {
                    Some(mask) => mask.read()?.shares(visual.grid),
                    None => vec![0.0; visual.grid * visual.grid],
                };
                shown.push(Shown {
                    set: number,
                    bad: sample.anomalous,
                    masked: !sample.anomalous || mask.is_some(),
                    cover,
                    kind: sample.kind.clone(),
                    look,
                });
            }
            let of = |bad| shown[before..].iter().any(|s: &Shown| s.bad == bad);
            if !of(true) || !of(false) {
                return Err(TrainError::Data {
                    path: set.samples[0].image.clone(),
                    what: format!(
                        "nothing good or nothing defective of set {} can be read; the first: {}",
                        set.name,
                        wrong.last().map_or("", String::as_str)
                    ),
                });
            }
        }
        left_out(&wrong, "labelled pictures");
        Ok(Seen {
            names: sets.iter().map(|s| s.name.clone()).collect(),
            rendered: sets.iter().map(|s| s.rendered).collect(),
            shown,
            joint: visual.proj.nrows(),
            broken: wrong.len(),
        })
    }

    /// Places of the pictures of a set that are good, and that are not.
    pub fn groups(&self, set: usize) -> [Vec<usize>; 2] {
        [false, true].map(|bad| {
            let all = self.shown.iter().enumerate();
            let own = all.filter(|(_, s)| s.set == set && s.bad == bad);
            own.map(|(i, _)| i).collect()
        })
    }

    /// The class rows of all pictures, [pictures, width].
    pub fn class_rows(&self) -> Array2<f32> {
        stacked(self.shown.iter().map(|s| &s.look))
    }
}

/// The class rows of some looks, [looks, width].
pub fn stacked<'a>(looks: impl Iterator<Item = &'a Look>) -> Array2<f32> {
    let rows: Vec<&[f32]> = looks.map(|l| l.class.as_slice()).collect();
    let width = rows.first().map_or(0, |r| r.len());
    Array2::from_shape_vec((rows.len(), width), rows.concat()).expect("rows of one width")
}

/// Says how many pictures cannot be read.
fn left_out(wrong: &[String], what: &str) {
    if let Some(first) = wrong.first() {
        crate::report::warn(format_args!(
            "left out: {} {what} that cannot be read; the first: {first}",
            wrong.len()
        ));
    }
}

/// What is seen in a few photos of each label, chosen by chance; labels of which nothing can be read are left out.
///
/// # Errors
/// As [`Encoder::look`].
pub fn labelled(
    labels: &super::names::Labels,
    each: usize,
    encoder: &mut Encoder,
    seed: u64,
    stop: Interrupt,
    bar: &ProgressBar,
) -> Result<BTreeMap<String, Vec<Look>>, TrainError> {
    bar.set_length(labels.values().map(|p| p.len().min(each) as u64).sum());
    let (mut found, mut wrong) = (BTreeMap::new(), vec![]);
    for (label, paths) in labels {
        let chosen = order(paths.len(), seed, 0).into_iter().take(each);
        let paths: Vec<PathBuf> = chosen.map(|i| paths[i].clone()).collect();
        let mut looks = vec![];
        for look in encoder.look(&paths, stop, bar)? {
            match look {
                Ok(look) => looks.push(look),
                Err(e) => wrong.push(e.to_string()),
            }
        }
        if !looks.is_empty() {
            found.insert(label.clone(), looks);
        }
    }
    left_out(&wrong, "photos");
    Ok(found)
}
