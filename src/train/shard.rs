//! Work that is shared by several machines: each takes every N-th picture, and what came of all is put together to
//! what one machine would have come to.
//!
//! A share is a file of its own, written whole or not at all: one that is missing is run again alone.

use super::TrainError;
use super::datasets::{LeftOut, Sample};
use super::evaluate::{Judged, judged};
use super::masks::Mask;
use super::tensors::Tensors;
use super::tensors::store::Store;
use crate::faprompt::map::Map;
use crate::tiling::Tiling;
use ndarray::Array2;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Key of the record in a share's metadata.
const RECORD: &str = "faprompt.shard";

/// The `index`-th of `count` shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    index: usize,
    count: usize,
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Shard, String> {
        let numbers = text.split_once('/');
        let numbers = numbers.and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match numbers {
            Some((index, count)) if (1..=count).contains(&index) && count <= 10_000 => {
                Ok(Shard { index, count })
            }
            _ => Err("I/N, from 1/N to N/N, N at most 10000".into()),
        }
    }
}

impl std::fmt::Display for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl Shard {
    /// How many shares there are.
    pub fn count(self) -> usize {
        self.count
    }

    /// Those of all that are its own.
    pub fn of<T>(self, all: impl IntoIterator<Item = T>) -> impl Iterator<Item = T> {
        all.into_iter().skip(self.index - 1).step_by(self.count)
    }

    /// Its file.
    pub fn path(self, folder: &Path) -> PathBuf {
        folder.join(format!(
            "shard-{}-of-{}.safetensors",
            self.index, self.count
        ))
    }

    /// The share of a file that is called as one.
    fn named(path: &Path) -> Option<Shard> {
        let name = path.file_name()?.to_str()?;
        let numbers = name.strip_prefix("shard-")?.strip_suffix(".safetensors")?;
        numbers.replacen("-of-", "/", 1).parse().ok()
    }
}

/// What judged: the same for all shares.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// What to call it.
    pub bundle: String,
    /// What distinguishes it from others of that name: digests and options.
    pub key: String,
    /// A line that must not be missed.
    pub warning: Option<String>,
    /// Scores above it are rejects.
    pub threshold: f32,
    /// What each picture was cut into.
    pub tiles: Tiling,
    /// The types of defects that it distinguishes.
    pub types: Vec<String>,
}

/// A data set, but for its pictures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Data {
    /// Where it was read from.
    pub path: PathBuf,
    /// What was left out of it.
    pub left_out: LeftOut,
    /// Sentences about how it was read.
    pub notes: Vec<String>,
}

/// A picture that was judged, but for its map.
#[derive(Serialize, Deserialize)]
struct Kept {
    place: usize,
    image: PathBuf,
    masks: Option<(Vec<PathBuf>, bool)>,
    class: String,
    kind: String,
    anomalous: bool,
    score: f32,
    defect: Option<String>,
    trivial: Option<[f32; 3]>,
}

/// What came of a set's pictures in one share.
#[derive(Serialize, Deserialize)]
pub struct Part {
    /// Of all pictures of the set.
    digest: String,
    kept: Vec<Kept>,
    /// Where in the set, and why.
    failed: Vec<(usize, String)>,
    #[serde(skip)]
    maps: Vec<Map>,
}

impl Part {
    /// Of a share's pictures `own` with their places in the set, in order; `judged` has them in the same order, but
    /// for those that `failed`. `digest` identifies the whole set.
    pub fn new(
        digest: String,
        own: &[(usize, Sample)],
        judged: Vec<Judged>,
        failed: Vec<String>,
    ) -> Part {
        let named = |text: &str, s: &Sample| {
            let masks = s.mask.iter().flat_map(|m| &m.files);
            let mut files = std::iter::once(&s.image).chain(masks);
            files.any(|f| text.contains(&f.display().to_string()))
        };
        let place_of = |text: &String| {
            let found = own.iter().find(|(_, s)| named(text, s));
            found.map_or(usize::MAX, |(place, _)| *place)
        };
        let failed = failed
            .into_iter()
            .map(|text| (place_of(&text), text))
            .collect();
        let (mut kept, mut maps) = (vec![], vec![]);
        let mut places = own.iter();
        for j in judged {
            let found = places.find(|(_, s)| s.image == j.sample.image);
            let place = found.map_or(usize::MAX, |(place, _)| *place);
            maps.push(match (j.segmentation, j.map) {
                (Some(s), _) => Map {
                    side: s.width,
                    values: s.scores,
                },
                (None, Some(map)) => map,
                (None, None) => Map {
                    side: 0,
                    values: vec![],
                },
            });
            let s = j.sample;
            kept.push(Kept {
                place,
                image: s.image,
                masks: s.mask.map(|m| (m.files, m.inverted)),
                class: s.class,
                kind: s.kind,
                anomalous: s.anomalous,
                score: j.score,
                defect: j.defect,
                trivial: j.trivial,
            });
        }
        Part {
            digest,
            kept,
            failed,
            maps,
        }
    }

    /// Whether something could not be judged or read.
    pub fn has_failed(&self) -> bool {
        !self.failed.is_empty()
    }
}

/// What a share's file says beside maps.
#[derive(Serialize, Deserialize)]
struct Record {
    about: About,
    data: Vec<Data>,
    parts: Vec<Part>,
}

impl Shard {
    /// Writes a share: what became of each of the sets.
    ///
    /// # Errors
    /// [`TrainError::Output`]: the file cannot be written.
    pub fn save(
        self,
        folder: &Path,
        about: About,
        data: Vec<Data>,
        parts: Vec<Part>,
    ) -> Result<PathBuf, TrainError> {
        let path = self.path(folder);
        let mut store = Store::default();
        for (i, part) in parts.iter().enumerate() {
            for (k, map) in part.maps.iter().enumerate() {
                let rows = Array2::from_shape_vec((map.side, map.side), map.values.clone());
                store.array(format!("map.{i}.{k}"), &rows.expect("a square map"));
            }
        }
        let record = Record { about, data, parts };
        let text = serde_json::to_string(&record).map_err(|e| TrainError::Output {
            path: path.clone(),
            source: e.into(),
        })?;
        store.note(RECORD, text);
        store.save(&path)?;
        Ok(path)
    }
}

/// A set whose shares were put together.
pub struct Merged {
    /// The set.
    pub data: Data,
    /// Its pictures, in its order.
    pub judged: Vec<Judged>,
    /// Those that could not be judged, and masks that could not be read.
    pub failed: Vec<String>,
}

fn fail<T>(path: &Path, what: impl Into<String>) -> Result<T, TrainError> {
    Err(TrainError::Data {
        path: path.into(),
        what: what.into(),
    })
}

fn load(path: &Path) -> Result<Record, TrainError> {
    let wrong = |e: String| TrainError::Data {
        path: path.into(),
        what: format!("no share of `evaluate --shard`: {e}"),
    };
    let tensors = Tensors::load(path).map_err(|e| wrong(e.to_string()))?;
    let text = tensors
        .note(RECORD)
        .ok_or_else(|| wrong("no record".into()))?;
    let mut record: Record = serde_json::from_str(text).map_err(|e| wrong(e.to_string()))?;
    for (i, part) in record.parts.iter_mut().enumerate() {
        for k in 0..part.kept.len() {
            let rows = tensors
                .matrix(&format!("map.{i}.{k}"), None, None)
                .map_err(|e| wrong(e.to_string()))?;
            part.maps.push(Map {
                side: rows.ncols(),
                values: rows.into_raw_vec_and_offset().0,
            });
        }
    }
    Ok(record)
}

/// The shares of a folder: all of them, of one run.
fn shares(folder: &Path) -> Result<Vec<PathBuf>, TrainError> {
    let files = std::fs::read_dir(folder).map_err(|e| TrainError::Data {
        path: folder.into(),
        what: e.to_string(),
    })?;
    let found: Vec<(Shard, PathBuf)> = files
        .flatten()
        .filter_map(|f| Some((Shard::named(&f.path())?, f.path())))
        .collect();
    let Some((first, _)) = found.first() else {
        return fail(folder, "no share of `evaluate --shard` is in it");
    };
    if let Some((other, _)) = found.iter().find(|(s, _)| s.count != first.count) {
        return fail(
            folder,
            format!(
                "shares of {} and of {} are in it: take those of one run",
                first.count, other.count
            ),
        );
    }
    let all = (1..=first.count).map(|index| Shard { index, ..*first });
    let paths: Vec<(Shard, PathBuf)> = all.map(|s| (s, s.path(folder))).collect();
    let missing: Vec<String> = paths
        .iter()
        .filter(|(_, path)| !path.is_file())
        .map(|(s, _)| format!("--shard {s}"))
        .collect();
    if !missing.is_empty() {
        return fail(
            folder,
            format!("missing: run again with {}", missing.join(", ")),
        );
    }
    Ok(paths.into_iter().map(|(_, path)| path).collect())
}

/// Puts the shares of a folder together.
///
/// # Errors
/// [`TrainError::Data`] for a share that is missing, or of another run.
pub fn merge(folder: &Path) -> Result<(About, Vec<Merged>), TrainError> {
    let mut all: Option<Record> = None;
    for path in shares(folder)? {
        let record = load(&path)?;
        let Some(before) = &mut all else {
            all = Some(record);
            continue;
        };
        let same_sets = before.parts.len() == record.parts.len()
            && (before.parts.iter().zip(&record.parts)).all(|(a, b)| a.digest == b.digest);
        if before.about != record.about || before.data != record.data || !same_sets {
            return fail(
                &path,
                "judged by something else, or of other data, than the first share: run it again",
            );
        }
        for (to, from) in before.parts.iter_mut().zip(record.parts) {
            to.kept.extend(from.kept);
            to.maps.extend(from.maps);
            to.failed.extend(from.failed);
        }
    }
    let Some(Record { about, data, parts }) = all else {
        return fail(folder, "no share of `evaluate --shard` is in it");
    };
    let sets = data.into_iter().zip(parts).map(|(data, mut part)| {
        // Sorting is stable: what has the same place stays in its order.
        part.failed.sort_by_key(|(place, _)| *place);
        let mut kept: Vec<(Kept, Map)> = part.kept.into_iter().zip(part.maps).collect();
        kept.sort_by_key(|(k, _)| k.place);
        let judged = kept.into_iter().map(|(k, map)| restored(k, map));
        Merged {
            data,
            judged: judged.collect(),
            failed: part.failed.into_iter().map(|(_, text)| text).collect(),
        }
    });
    Ok((about, sets.collect()))
}

/// A picture as it was judged; its mask is read again.
fn restored(kept: Kept, map: Map) -> Judged {
    let sample = Sample {
        image: kept.image,
        mask: kept.masks.map(|(files, inverted)| Mask { files, inverted }),
        class: kept.class,
        kind: kept.kind,
        anomalous: kept.anomalous,
    };
    // What cannot be read of it was said by its share.
    let mut said = vec![];
    Judged {
        defect: kept.defect,
        ..judged(sample, kept.score, kept.trivial, map.side, map, &mut said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_picture_is_in_one_share() {
        let shares = (1..=4).map(|i| format!("{i}/4").parse::<Shard>().unwrap());
        let mut all: Vec<usize> = shares
            .flat_map(|s| s.of(0..10).collect::<Vec<_>>())
            .collect();
        all.sort_unstable();
        assert_eq!(all, (0..10).collect::<Vec<_>>());
        for wrong in ["0/4", "5/4", "1", "1/0", "a/b", "1/10001", "-1/2"] {
            assert!(wrong.parse::<Shard>().is_err(), "{wrong}");
        }
        let shard: Shard = "3/12".parse().unwrap();
        assert_eq!(Shard::named(&shard.path(Path::new("x"))), Some(shard));
    }

    #[test]
    fn what_is_missing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let wrong = merge(folder.path()).err().unwrap().to_string();
        assert!(wrong.contains("no share"), "{wrong}");
        let one: Shard = "1/3".parse().unwrap();
        one.save(folder.path(), About::default(), vec![], vec![])
            .unwrap();
        let wrong = merge(folder.path()).err().unwrap().to_string();
        assert!(
            wrong.contains("run again with --shard 2/3, --shard 3/3"),
            "{wrong}"
        );
        for other in ["2/3", "3/3"] {
            let about = About {
                key: other.into(),
                ..About::default()
            };
            let shard: Shard = other.parse().unwrap();
            shard.save(folder.path(), about, vec![], vec![]).unwrap();
        }
        let wrong = merge(folder.path()).err().unwrap().to_string();
        assert!(
            wrong.contains("shard-2-of-3") && wrong.contains("run it again"),
            "{wrong}"
        );
    }
}
