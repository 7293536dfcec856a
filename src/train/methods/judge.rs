//! Judging a set by a method whose prompts name the class: a bundle for each class of the set, made in
//! memory and run by the device's own code.

use super::MethodOptions;
use super::bundle::bytes;
use super::learned::Learned;
use crate::bundle::Bundle;
use crate::bundle::manifest::ImageSpec;
use crate::capture::load;
use crate::faprompt::map::Map;
use crate::inspector::{Inspector, Options};
use crate::train::TrainError;
use crate::train::clip::Clip;
use crate::train::datasets::Sample;
use crate::train::evaluate::{self, Judged};
use crate::train::export::{ExportOptions, refuse_side};
use crate::train::nn::image::cut;
use crate::vision::Preprocessor;
use indicatif::ProgressBar;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

/// Samples by the class that `of` says, and where each picture stands in the set.
pub(super) fn by_class(
    samples: Vec<Sample>,
    of: impl Fn(&Sample) -> String,
) -> (BTreeMap<String, Vec<Sample>>, HashMap<PathBuf, usize>) {
    let mut classes: BTreeMap<String, Vec<Sample>> = BTreeMap::new();
    let mut place = HashMap::new();
    for (i, sample) in samples.into_iter().enumerate() {
        place.entry(sample.image.clone()).or_insert(i);
        classes.entry(of(&sample)).or_default().push(sample);
    }
    (classes, place)
}

/// What was judged class by class, in the order of the set.
pub(super) fn in_order(judged: &mut [Judged], place: &HashMap<PathBuf, usize>) {
    judged.sort_by_key(|j| place.get(&j.sample.image).copied());
}

/// Judges every sample; pictures that cannot be judged come back with the reason, the others go on. The class
/// of `asked` is every picture's; without one each is judged as what its set says it is.
///
/// # Errors
/// As [`bytes`].
#[allow(clippy::too_many_arguments)]
pub fn judge(
    clip: &Clip,
    asked: &MethodOptions,
    learned: Option<&Learned>,
    options: &ExportOptions,
    device: Options,
    samples: Vec<Sample>,
    bar: &ProgressBar,
) -> Result<(Vec<Judged>, Vec<String>), TrainError> {
    let each = asked.method.has_class() && asked.class.is_none();
    let (classes, place) = by_class(samples, |s| match each {
        true => s.class.clone(),
        false => String::new(),
    });
    let (mut judged, mut failed) = (vec![], vec![]);
    for (class, samples) in classes {
        let asked = MethodOptions {
            class: if each {
                Some(class)
            } else {
                asked.class.clone()
            },
            ..asked.clone()
        };
        let (_, bytes) = bytes(clip, &asked, learned, options)?;
        let bundle = Bundle::from_bytes(bytes)?;
        let mut inspector = Inspector::new(&bundle, device)?;
        drop(bundle);
        let (more, odd) = evaluate::judge(&mut inspector, samples, bar);
        judged.extend(more);
        failed.extend(odd);
    }
    in_order(&mut judged, &place);
    Ok((judged, failed))
}

/// Pictures for a method that the host alone runs.
pub(super) struct Frames<'a> {
    /// What becomes of a frame.
    pub spec: ImageSpec,
    /// Every picture's class; without one each picture is what its set says it is.
    pub class: Option<&'a str>,
    /// One step for each picture.
    pub bar: &'a ProgressBar,
}

impl Frames<'_> {
    /// Refuses a side that is not made of whole patches.
    ///
    /// # Errors
    /// [`TrainError::Options`]: the side is 0, no multiple of the patch's side, or too large.
    pub fn check(&self) -> Result<(), TrainError> {
        refuse_side(self.spec.size, self.spec.patch)
    }
}

/// Judges samples one by one: `prepare` makes what a class needs, `judge` the image score and the map of a picture
/// that was cut into patches, [N, 3 * patch * patch]. Pictures that cannot be judged come back with the reason.
///
/// # Errors
/// Those of `prepare`.
pub(super) fn on_host<N>(
    frames: &Frames,
    samples: Vec<Sample>,
    mut prepare: impl FnMut(&str) -> Result<N, TrainError>,
    mut judge: impl FnMut(&N, Vec<f32>) -> (f32, Map),
) -> Result<(Vec<Judged>, Vec<String>), TrainError> {
    let ImageSpec { size, patch, .. } = frames.spec;
    let mut preprocessor = Preprocessor::new(&frames.spec);
    let of = |s: &Sample| frames.class.unwrap_or(&s.class).to_string();
    let (classes, place) = by_class(samples, of);
    let (mut judged, mut failed) = (vec![], vec![]);
    for (class, samples) in classes {
        let network = prepare(&class)?;
        for sample in samples {
            frames.bar.inc(1);
            let frame = match load(&sample.image) {
                Ok(frame) => frame,
                Err(e) => {
                    failed.push(e.to_string());
                    continue;
                }
            };
            let tensor = preprocessor.run(&frame);
            let pixels = tensor.as_ref().map_err(ToString::to_string);
            let pixels = pixels.and_then(|t| crate::ops::slice(t).map_err(|e| e.to_string()));
            let mut patches = vec![];
            match pixels {
                Ok(pixels) => cut(pixels, size, patch, &mut patches),
                Err(e) => {
                    failed.push(format!("{}: {e}", sample.image.display()));
                    continue;
                }
            }
            let (score, map) = judge(&network, patches);
            let trivial = Some(evaluate::trivial(&frame));
            let one = evaluate::judged(sample, score, trivial, size, map, &mut failed);
            judged.push(one);
        }
    }
    in_order(&mut judged, &place);
    Ok((judged, failed))
}
