//! Judging a set by a method whose prompts name the class: a bundle for each class of the set, made in
//! memory and run by the device's own code.

use super::MethodOptions;
use super::bundle::bytes;
use super::learned::Learned;
use crate::bundle::Bundle;
use crate::inspector::{Inspector, Options};
use crate::train::TrainError;
use crate::train::clip::Clip;
use crate::train::datasets::Sample;
use crate::train::evaluate::{self, Judged};
use crate::train::export::ExportOptions;
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
