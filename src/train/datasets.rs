//! Labelled pictures in the layouts that people have: AnomalyCLIP's and Real-IAD's JSON, MVTec AD's folders
//! and their relatives, and CSV tables.
//!
//! Reads what can be read, counts what is left out, and never takes a hidden file for a picture.

mod folders;
mod json;
mod table;
mod text;
mod train;

pub use train::train;

use super::TrainError;
use super::masks::{self, Mask, NEARLY_ALL};
use crate::bundle::envelope::hex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// A labelled picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Path of the picture.
    pub image: PathBuf,
    /// Where it is abnormal; `None` if it is normal, or abnormal without a pixel annotation.
    pub mask: Option<Mask>,
    /// The class of the part that it shows.
    pub class: String,
    /// The kind of its defect, or "good".
    pub kind: String,
    /// Whether it is labelled as defective.
    pub anomalous: bool,
}

/// The number of files in a data set's folders that are no part of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    /// Hidden files and folders (`.ipynb_checkpoints`, `._000.png`, `__MACOSX`).
    pub hidden: usize,
    /// Files beside the pictures that are no pictures.
    pub other: usize,
}

/// A data set of labelled pictures.
#[derive(Clone, Debug, Default)]
pub struct DataSet {
    /// Its pictures.
    pub samples: Vec<Sample>,
    /// What was left out.
    pub left_out: LeftOut,
    /// Sentences for the user about how it was read.
    pub notes: Vec<String>,
}

impl DataSet {
    /// Says which masks belong to pictures that are labelled good, and are therefore of no use.
    fn note_unused(&mut self, masks: &[PathBuf]) {
        let more = match masks.len() {
            0 => return,
            1 => " is the mask".into(),
            n => format!(" and {} others are masks", n - 1),
        };
        self.notes.push(format!(
            "{}{more} of what is labelled good: left out; if it marks a defect, label its picture as defective",
            masks[0].display()
        ));
    }
}

fn fail(path: &Path, what: impl std::fmt::Display) -> TrainError {
    TrainError::Data {
        path: path.to_path_buf(),
        what: what.to_string(),
    }
}

/// `name` below `root`, with the separators of Windows too; `None` if it is empty.
fn below(root: &Path, name: &str) -> Option<PathBuf> {
    let name = name.trim();
    if name.is_empty() {
        return None;
    }
    let path = root.join(name);
    if name.contains('\\') && !path.exists() {
        return Some(root.join(name.replace('\\', "/")));
    }
    Some(path)
}

/// Words for what is not defective, in any case.
const NORMAL: [&str; 3] = ["good", "ok", "normal"];

fn is_normal(word: &str) -> bool {
    NORMAL.iter().any(|w| word.eq_ignore_ascii_case(w))
}

/// Identifies a set without reading its pictures: SHA-256 of every sample's labels, its picture's name, and
/// how long picture and mask are. A set that was moved to another folder stays the same.
pub fn digest(samples: &[Sample]) -> String {
    let length = |path: &Path| std::fs::metadata(path).map_or(0, |m| m.len());
    let masks = |m: &Mask| m.files.iter().map(|f| length(f)).sum::<u64>();
    let mut all = Sha256::new();
    for s in samples {
        let line = format!(
            "{:?} {} {:?}{}\n",
            (&s.class, &s.kind, s.anomalous, name(&s.image)),
            length(&s.image),
            s.mask.as_ref().map(masks),
            match s.mask.as_ref().is_some_and(|m| m.inverted) {
                true => " inverted",
                false => "",
            }
        );
        all.update(line.as_bytes());
    }
    hex(&all.finalize())
}

/// Refuses a mask of another size than its picture: it would be stretched over it, and be of other places. Files
/// that are no pictures are reported by whoever loads them.
fn fits(sample: &Sample) -> Result<(), TrainError> {
    for mask in sample.mask.iter().flat_map(|m| &m.files) {
        if let (Some((w, h)), Some((width, height))) =
            (masks::size(mask), masks::size(&sample.image))
            && (w, h) != (width, height)
        {
            let picture = sample.image.display();
            let what = format!(
                "a mask of {w} x {h} pixels, but its picture {picture} has {width} x {height}"
            );
            return Err(fail(mask, what));
        }
    }
    Ok(())
}

fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// Reads the test part of a data set: a folder with `meta.json`, that file, a `.csv` file with the
/// columns image, mask, class, type, label, or folders as MVTec AD has them (of one class or of many).
///
/// # Errors
/// As [`read`].
pub fn load(path: &Path) -> Result<Vec<Sample>, TrainError> {
    Ok(read(path)?.samples)
}

/// As [`load`], with what was left out and how it was understood.
///
/// # Errors
/// [`TrainError::Data`]: no known layout, a malformed file, no samples, a file that is named but missing, a picture that
/// is labelled in two ways, or a mask of another size than its picture.
pub fn read(path: &Path) -> Result<DataSet, TrainError> {
    let ends = |e: &str| path.extension().is_some_and(|x| x.eq_ignore_ascii_case(e));
    let mut set = if path.is_file() {
        match ends("csv") || ends("tsv") {
            true => table::read(path)?,
            false => json::read(path)?,
        }
    } else if path.join("meta.json").is_file() {
        json::read(&path.join("meta.json"))?
    } else if path.join("split_csv/1cls.csv").is_file() {
        // VisA as it is published.
        table::read(&path.join("split_csv/1cls.csv"))?
    } else {
        folders::read(path)?
    };
    if set.samples.is_empty() {
        return Err(fail(path, format!("no samples: {}", folders::known(path))));
    }
    count_once(path, &mut set)?;
    let named = |s: &Sample| {
        let masks = s.mask.iter().flat_map(|m| m.files.clone());
        std::iter::once(s.image.clone())
            .chain(masks)
            .collect::<Vec<_>>()
    };
    let mut missing = set.samples.iter().flat_map(named).filter(|f| !f.is_file());
    if let Some(first) = missing.next() {
        let more = match missing.count() {
            0 => String::new(),
            n => format!(" ({n} others are no files either)"),
        };
        let what = match first.is_dir() {
            true => "is a folder where a file is wanted",
            false => "does not exist",
        };
        return Err(fail(
            path,
            format!("it names {}, which {what}{more}", first.display()),
        ));
    }
    for sample in &set.samples {
        fits(sample)?;
    }
    Ok(set)
}

/// Takes each picture once, and says so; refuses one that is labelled in two ways.
fn count_once(path: &Path, set: &mut DataSet) -> Result<(), TrainError> {
    let mut known: HashMap<PathBuf, Sample> = HashMap::new();
    let mut odd = None;
    let before = set.samples.len();
    set.samples.retain(|sample| match known.get(&sample.image) {
        Some(other) => {
            if other != sample {
                odd.get_or_insert_with(|| (other.clone(), sample.clone()));
            }
            false
        }
        None => known.insert(sample.image.clone(), sample.clone()).is_none(),
    });
    if let Some((first, second)) = odd {
        let said = |s: &Sample| {
            let label = if s.anomalous { "abnormal" } else { "good" };
            let mask = match &s.mask {
                Some(mask) => format!("mask {}", mask.name().display()),
                None => "no mask".into(),
            };
            format!(
                "class \"{}\", type \"{}\", {label}, {mask}",
                s.class, s.kind
            )
        };
        let what = format!(
            "it names {} twice, and labels it in two ways ({}; {}): leave one of them out",
            first.image.display(),
            said(&first),
            said(&second)
        );
        return Err(fail(path, what));
    }
    let again = before - set.samples.len();
    if again > 0 {
        set.notes.push(format!(
            "{again} lines name a picture that another line names too: each picture counts once"
        ));
    }
    Ok(())
}

/// Why a mask teaches nonsense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Odd {
    Nothing,
    NearlyAll,
}

/// Refuses masks that mark nothing, whose pictures would teach that a defect is normal, and masks that mark
/// nearly everything, as inverted ones do.
///
/// # Errors
/// [`TrainError::Data`] that names the first; [`TrainError::Picture`] for a mask that cannot be read.
pub fn refuse_odd_masks(samples: &[Sample], step: impl Fn()) -> Result<(), TrainError> {
    let mut odd: Vec<(Odd, &Path)> = vec![];
    let mut all = 0;
    let turned = |s: &Sample| s.mask.as_ref().is_some_and(|m| m.inverted);
    let turned = samples.iter().any(turned);
    for mask in samples.iter().filter_map(|s| s.mask.as_ref()) {
        let share = mask.read()?.share();
        all += 1;
        step();
        if share == 0.0 {
            odd.push((Odd::Nothing, mask.name()));
        } else if share > NEARLY_ALL {
            odd.push((Odd::NearlyAll, mask.name()));
        }
    }
    let of = |kind: Odd| odd.iter().filter(move |(k, _)| *k == kind);
    let mut said = vec![];
    for (kind, what, advice) in [
        (
            Odd::Nothing,
            "mark nothing, so that their pictures would teach that a defect is normal",
            "leave these pictures out or draw their masks",
        ),
        (
            Odd::NearlyAll,
            "mark more than 80 % of their picture",
            masks::when_nearly_all(turned),
        ),
    ] {
        if let Some((_, first)) = of(kind).next() {
            said.push(format!(
                "{} of {all} masks {what} ({} is the first): {advice}",
                of(kind).count(),
                first.display()
            ));
        }
    }
    match odd.first() {
        None => Ok(()),
        Some((_, first)) => Err(fail(
            first,
            format!(
                "{}; to take them as they are: --accept-masks",
                said.join("; ")
            ),
        )),
    }
}
