//! Labelled sets, and what an encoder sees in their pictures.

use super::pictures::{Encoder, Look, left_out, stacked};
use crate::train::TrainError;
use crate::train::clip::Visual;
use crate::train::datasets::{self, Sample};
use crate::train::fit::order;
use crate::train::progress::Interrupt;
use indicatif::ProgressBar;
use ndarray::Array2;
use std::path::{Path, PathBuf};

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
