//! What is learned from: the pictures of data sets, and what may be done with their masks.

use clap::Args;
use faprompt_edge::bundle::method::Method;
use faprompt_edge::report::{say, warn};
use faprompt_edge::train::TrainError;
use faprompt_edge::train::datasets::{self, DataSet, Sample};
use faprompt_edge::train::fit::refuse_one_kind;
use faprompt_edge::train::progress::bar;
use std::path::{Path, PathBuf};

/// What may be done with masks.
#[derive(Args)]
pub struct MaskOptions {
    /// Masks mark what is normal, not what is defective
    #[arg(long)]
    invert_masks: bool,
}

impl MaskOptions {
    /// Reads a data set, and says what was left out of it.
    pub fn read(&self, path: &Path) -> Result<DataSet, TrainError> {
        let mut set = datasets::read(path)?;
        if self.invert_masks {
            let masks = set.samples.iter_mut().filter_map(|s| s.mask.as_mut());
            masks.for_each(|m| m.inverted = true);
        }
        let left = set.left_out;
        if left.hidden > 0 {
            let what = format!("{} hidden files or folders left out", left.hidden);
            set.notes.push(what);
        }
        if left.other > 0 {
            let what = format!("{} files that are no pictures left out", left.other);
            set.notes.push(what);
        }
        for note in &set.notes {
            warn(format_args!("{}: {note}", path.display()));
        }
        Ok(set)
    }
}

/// Refuses a set that is named twice, by whatever path: its pictures would count twice.
///
/// # Errors
/// [`TrainError::Options`] with both names.
pub fn refuse_same_set(data: &[PathBuf]) -> Result<(), TrainError> {
    let mut known: Vec<(PathBuf, &PathBuf)> = vec![];
    for path in data {
        // One that is not there is reported by whoever reads it.
        let Ok(place) = path.canonicalize() else {
            continue;
        };
        if let Some((_, first)) = known.iter().find(|(other, _)| *other == place) {
            return Err(TrainError::Options(format!(
                "{}: this set is named twice (the first time as {}), and its pictures would count twice: name it once",
                path.display(),
                first.display()
            )));
        }
        known.push((place, path));
    }
    Ok(())
}

/// All samples of several sets.
pub fn samples(data: &[PathBuf], masks: &MaskOptions) -> Result<Vec<Sample>, TrainError> {
    refuse_same_set(data)?;
    let mut all = vec![];
    for path in data {
        all.extend(masks.read(path)?.samples);
    }
    Ok(all)
}

/// Samples that can teach where a defect is; says which were left out, and refuses masks that teach nonsense
/// unless they are accepted.
pub fn with_masks(samples: Vec<Sample>, accept: bool) -> Result<Vec<Sample>, TrainError> {
    let (kept, left) = apart(samples, accept)?;
    if let Some(first) = left.first() {
        warn(format_args!(
            "left out: {} abnormal pictures without a mask ({} is the first)",
            left.len(),
            first.image.display()
        ));
    }
    Ok(kept)
}

/// Good samples and those with a mask, whose masks are looked at, and the others.
fn apart(samples: Vec<Sample>, accept: bool) -> Result<(Vec<Sample>, Vec<Sample>), TrainError> {
    let defective = samples.iter().filter(|s| s.anomalous).count();
    let marked = samples.iter().filter(|s| s.mask.is_some()).count();
    say(format_args!(
        "{marked} of {defective} defective pictures have a mask"
    ));
    let (kept, left): (Vec<_>, Vec<_>) = samples
        .into_iter()
        .partition(|s| !s.anomalous || s.mask.is_some());
    if !accept {
        let bar = bar(marked, "masks");
        datasets::refuse_odd_masks(&kept, || bar.inc(1))?;
        bar.finish_and_clear();
    }
    Ok((kept, left))
}

/// What `method` can learn from, of these sets: what says where a defect is; DAPO learns which defect it is from
/// pictures without a mask too.
///
/// # Errors
/// [`TrainError::Data`], and [`TrainError::Options`] if nothing is abnormal, or nothing good.
pub fn to_learn_from(
    data: &[PathBuf],
    (masks, accept): (&MaskOptions, bool),
    method: Method,
) -> Result<Vec<Sample>, TrainError> {
    let samples = samples(data, masks)?;
    let samples = match method {
        Method::Dapo => {
            let (mut kept, left) = apart(samples, accept)?;
            if !left.is_empty() {
                let count = left.len();
                warn(format_args!(
                    "{count} defective pictures without a mask: they teach which defect a picture shows, not where"
                ));
            }
            kept.extend(left);
            kept
        }
        _ => with_masks(samples, accept)?,
    };
    refuse_one_kind(&samples)?;
    Ok(samples)
}
