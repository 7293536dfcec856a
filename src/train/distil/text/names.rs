//! What things and kinds of damage look like to an encoder: a direction for each name.

use super::seen::Seen;
use crate::train::TrainError;
use ndarray::{Array1, Array2, Axis};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Pictures of a kind of damage that are looked at.
const PICTURES: usize = 40;
/// A patch of which more than this is damaged shows what the damage looks like.
const SHOWS: f32 = 0.3;
/// Fewer patches than this say nothing of a kind.
const PATCHES: usize = 20;

/// Directions in the joint space, `[C]` each, of length 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Names {
    /// What is sound.
    pub normal: Array1<f32>,
    /// What is damaged.
    pub damaged: Array1<f32>,
    /// Each thing's mean image feature from the middle of all things.
    pub things: BTreeMap<String, Array1<f32>>,
    /// Each kind of damage's mean patch feature from the ground on which it lies.
    pub kinds: BTreeMap<String, Array1<f32>>,
}

/// A table of photos: the label of each, and where it is.
pub type Labels = BTreeMap<String, Vec<PathBuf>>;

/// Reads a table of two columns, label and path; a path is one from the table's own folder on if there is no such file
/// otherwise.
///
/// # Errors
/// [`TrainError::Data`] for a row with other columns, an empty table, and a file that is not there.
pub fn labels(path: &Path) -> Result<Labels, TrainError> {
    let fail = |what: String| TrainError::Data {
        path: path.into(),
        what,
    };
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .trim(csv::Trim::All)
        .from_path(path)
        .map_err(|e| fail(e.to_string()))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut labels = Labels::new();
    for row in reader.records() {
        let row = row.map_err(|e| fail(e.to_string()))?;
        let line = row.position().map_or(0, csv::Position::line);
        let (Some(label), Some(photo), 2) = (row.get(0), row.get(1), row.len()) else {
            return Err(fail(format!(
                "line {line}: {} columns; two are wanted, label and path",
                row.len()
            )));
        };
        let beside = folder.join(photo);
        let photo = match Path::new(photo).is_file() {
            true => PathBuf::from(photo),
            false => beside,
        };
        if label.is_empty() || !photo.is_file() {
            return Err(fail(format!(
                "line {line}: label `{label}`, and no file {}; the columns are label and path, without a header",
                photo.display()
            )));
        }
        labels.entry(label.into()).or_default().push(photo);
    }
    match labels.is_empty() {
        true => Err(fail(
            "no rows: label and path of photos, a line each".into(),
        )),
        false => Ok(labels),
    }
}

fn mean(rows: &Array2<f32>) -> Array1<f32> {
    rows.mean_axis(Axis(0)).expect("at least one row")
}

fn unit(v: Array1<f32>) -> Array1<f32> {
    let length = v.dot(&v).sqrt().max(1e-12);
    v / length
}

/// The mean of some vectors; none of none.
fn middle<'a>(mut all: impl Iterator<Item = &'a Array1<f32>>) -> Option<Array1<f32>> {
    let first = all.next()?.clone();
    let (sum, count) = all.fold((first, 1), |(sum, count), v| (sum + v, count + 1));
    Some(sum / count as f32)
}

/// Directions of length 1 from a point.
fn from(
    point: Option<Array1<f32>>,
    all: BTreeMap<String, Array1<f32>>,
) -> BTreeMap<String, Array1<f32>> {
    let Some(point) = point else {
        return all;
    };
    let apart = all.into_iter().map(|(name, v)| (name, unit(v - &point)));
    apart.collect()
}

/// Each label's mean of unit image features, rows of [photos, C].
pub fn things(features: &BTreeMap<String, Array2<f32>>) -> BTreeMap<String, Array1<f32>> {
    let means = features
        .iter()
        .map(|(name, rows)| (name.clone(), mean(rows)));
    let means: BTreeMap<String, Array1<f32>> = means.collect();
    from(middle(means.values()), means)
}

/// A kind as people say it; none for words that say nothing of how it looks.
fn word(kind: &str) -> Option<String> {
    let kind = kind.replace('_', " ");
    match kind.trim() {
        "" | "bad" | "good" | "ok" | "normal" | "defect" => None,
        "scratches" => Some("scratch".into()),
        other => Some(other.into()),
    }
}

/// Each kind of damage's mean patch feature, where masks show at least a few patches of it, from the mean of all patches
/// of the pictures that show it.
pub fn kinds(seen: &Seen) -> BTreeMap<String, Array1<f32>> {
    let mut by: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (i, shown) in seen.shown.iter().enumerate() {
        if let (Some(word), true) = (word(&shown.kind), shown.bad) {
            by.entry(word).or_default().push(i);
        }
    }
    let (mut found, mut grounds) = (BTreeMap::new(), vec![]);
    for (word, mut pictures) in by {
        pictures.truncate(PICTURES);
        let mut damaged = Array1::<f32>::zeros(seen.joint);
        let mut ground = Array1::<f32>::zeros(seen.joint);
        let mut count = 0;
        for i in &pictures {
            let shown = &seen.shown[*i];
            let rows = shown.look.rows(seen.joint);
            for (row, cover) in rows.outer_iter().zip(&shown.cover) {
                ground += &row;
                if *cover > SHOWS {
                    damaged += &row;
                    count += 1;
                }
            }
        }
        if count > PATCHES {
            found.insert(word, damaged / count as f32);
            let patches = seen.shown[pictures[0]].cover.len() * pictures.len();
            grounds.push(ground / patches as f32);
        }
    }
    from(middle(grounds.iter()), found)
}

#[cfg(test)]
mod tests {
    use super::super::pictures::Look;
    use super::super::seen::Shown;
    use super::*;
    use half::f16;

    #[test]
    fn things_lie_around_their_middle() {
        let rows = |v: [[f32; 2]; 2]| ndarray::arr2(&v);
        let features = BTreeMap::from([
            ("a".to_string(), rows([[1.0, 0.0], [3.0, 0.0]])),
            ("b".to_string(), rows([[0.0, 2.0], [0.0, 0.0]])),
        ]);
        // Means (2, 0) and (0, 1), their middle (1, 0.5).
        let found = things(&features);
        let length = 1.25f32.sqrt();
        for (name, want) in [("a", [1.0, -0.5]), ("b", [-1.0, 0.5])] {
            for (found, want) in found[name].iter().zip(want) {
                assert!((found - want / length).abs() < 1e-6, "{name}: {found}");
            }
        }
    }

    #[test]
    fn kinds_are_what_masks_show_from_their_ground() {
        let places = 30;
        let shown = |kind: &str, bad: bool, damaged: [f32; 2], covered: usize| {
            let patch = |i: usize| if i < covered { damaged } else { [1.0, 0.0] };
            let patches = (0..places).flat_map(patch).map(f16::from_f32).collect();
            Shown {
                set: 0,
                bad,
                masked: true,
                cover: (0..places)
                    .map(|i| f32::from(u8::from(i < covered)))
                    .collect(),
                kind: kind.into(),
                look: Look {
                    patches,
                    class: vec![],
                },
            }
        };
        let seen = Seen {
            names: vec!["set".into()],
            rendered: vec![false],
            shown: vec![
                shown("good", false, [1.0, 0.0], 0),
                shown("scratches", true, [0.0, 1.0], 15),
                shown("scratch", true, [0.0, 1.0], 15),
                // A word that says nothing, and a kind of which masks show too little.
                shown("bad", true, [0.0, 1.0], 30),
                shown("dent", true, [0.0, 1.0], 20),
            ],
            joint: 2,
            broken: 0,
        };
        let found = kinds(&seen);
        assert_eq!(found.keys().collect::<Vec<_>>(), ["scratch"]);
        // (0, 1) from the ground (0.5, 0.5).
        let side = 0.5f32.sqrt();
        let off = &found["scratch"] - &ndarray::arr1(&[-side, side]);
        assert!(off.iter().all(|v| v.abs() < 1e-3), "{:?}", found["scratch"]);
    }
}
