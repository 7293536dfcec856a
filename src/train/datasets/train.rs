//! The good pictures that a data set keeps for learning: what few-shot figures take their references from.

use super::{Sample, TrainError, below, fail, name};
use crate::capture;
use serde::Deserialize;
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

#[derive(Deserialize)]
struct Meta {
    /// Classes with lists of pictures; what other files have here is not read.
    #[serde(default)]
    train: serde_json::Value,
}

#[derive(Deserialize)]
struct Picture {
    img_path: String,
    cls_name: String,
    #[serde(default)]
    anomaly: u8,
}

fn good(image: PathBuf, class: String) -> Sample {
    Sample {
        image,
        mask: None,
        class,
        kind: "good".into(),
        anomalous: false,
    }
}

/// The good pictures of a data set's `train` part, by class; none where it has no such part (a table has none):
/// `meta.json`'s `train`, or `CLASS/train/good/*`.
///
/// # Errors
/// A malformed `meta.json`, or a folder that cannot be read.
pub fn train(path: &Path) -> Result<BTreeMap<String, Vec<Sample>>, TrainError> {
    let mut classes: BTreeMap<String, Vec<Sample>> = BTreeMap::new();
    let is_json = path
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("json"));
    let file = match is_json {
        true => path.to_path_buf(),
        false => path.join("meta.json"),
    };
    if file.is_file() {
        let text = std::fs::read_to_string(&file).map_err(|e| fail(&file, e))?;
        let meta: Meta = serde_json::from_str(&text).map_err(|e| fail(&file, e))?;
        let root = file.parent().unwrap_or(Path::new("."));
        let train: BTreeMap<String, Vec<Picture>> =
            serde_json::from_value(meta.train).unwrap_or_default();
        for picture in train.into_values().flatten() {
            if let (Some(image), 0) = (below(root, &picture.img_path), picture.anomaly) {
                let class = picture.cls_name;
                let sample = good(image, class.clone());
                classes.entry(class).or_default().push(sample);
            }
        }
    } else if path.is_dir() {
        let mut folders = vec![path.to_path_buf()];
        for entry in std::fs::read_dir(path).map_err(|e| fail(path, e))? {
            folders.push(entry.map_err(|e| fail(path, e))?.path());
        }
        folders.sort();
        for class in folders {
            let folder = class.join("train/good");
            if !folder.is_dir() {
                continue;
            }
            let hidden = |image: &PathBuf| name(image).starts_with('.');
            let images = capture::list(&folder).map_err(|e| fail(&folder, e))?;
            let images = images.into_iter().filter(|image| !hidden(image));
            let all = images.map(|image| good(image, name(&class)));
            classes.entry(name(&class)).or_default().extend(all);
        }
    }
    // None is taught twice.
    for samples in classes.values_mut() {
        let mut seen = HashSet::new();
        samples.retain(|s| seen.insert(s.image.clone()));
    }
    Ok(classes)
}
