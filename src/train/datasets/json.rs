//! Data sets described in JSON: AnomalyCLIP's `meta.json` (classes with lists of samples) and Real-IAD's
//! files (a list of samples and a prefix).

use super::{DataSet, Sample, TrainError, below, fail, is_normal, text};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// Reads the `test` part.
pub fn read(path: &Path) -> Result<DataSet, TrainError> {
    let (text, note) = text::read(path)?;
    if !text.trim_start().starts_with(['{', '[']) {
        let what = "neither a folder, nor JSON (as meta.json), nor a table (.csv, .tsv)";
        return Err(fail(path, what));
    }
    let mut set = DataSet {
        notes: note.into_iter().collect(),
        ..DataSet::default()
    };
    let root: Map<String, Value> = serde_json::from_str(&text).map_err(|e| fail(path, e))?;
    let mut unused = vec![];
    let samples = match root.get("test") {
        Some(Value::Array(list)) => list_of(path, &root, list, &mut unused)?,
        Some(Value::Object(classes)) => {
            let mut samples = vec![];
            for (class, list) in classes {
                let list = list
                    .as_array()
                    .ok_or_else(|| fail(path, format!("test.{class}: not a list")))?;
                for (i, sample) in list.iter().enumerate() {
                    let at = || format!("test.{class}[{i}]");
                    samples.push(
                        one(path, sample, class, &mut unused)
                            .map_err(|e| fail(path, format!("{}: {e}", at())))?,
                    );
                }
            }
            samples
        }
        None | Some(Value::Null) => vec![],
        Some(_) => return Err(fail(path, "test: neither classes nor a list")),
    };
    if samples.is_empty() {
        let count = |part: &str| match root.get(part) {
            Some(Value::Object(classes)) => classes
                .values()
                .filter_map(Value::as_array)
                .map(Vec::len)
                .sum(),
            Some(Value::Array(list)) => list.len(),
            _ => 0,
        };
        let what = match count("train") {
            0 => "no samples in its `test` part".into(),
            n => format!(
                "no samples in its `test` part, which is what is read ({n} are in its `train` part: if those are labelled and meant, rename that part)"
            ),
        };
        return Err(fail(path, what));
    }
    set.samples = samples;
    set.note_unused(&unused);
    Ok(set)
}

/// The mask of a sample, below `root`; that of a good one goes to `unused`.
fn mask(
    sample: &Value,
    root: &Path,
    anomalous: bool,
    unused: &mut Vec<PathBuf>,
) -> Option<PathBuf> {
    let mask = word(sample, "mask_path").and_then(|name| below(root, name));
    match anomalous {
        true => mask,
        false => {
            unused.extend(mask);
            None
        }
    }
}

fn word<'a>(sample: &'a Value, key: &str) -> Option<&'a str> {
    sample.get(key).and_then(Value::as_str)
}

/// A sample of `meta.json`.
fn one(
    path: &Path,
    sample: &Value,
    class: &str,
    unused: &mut Vec<PathBuf>,
) -> Result<Sample, String> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let image = word(sample, "img_path")
        .and_then(|name| below(folder, name))
        .ok_or("no `img_path`")?;
    let anomalous = match sample.get("anomaly") {
        Some(Value::Bool(b)) => *b,
        Some(Value::Number(n)) => n.as_f64() != Some(0.0),
        Some(Value::String(s)) => match s.trim() {
            "0" | "false" | "False" => false,
            "1" | "true" | "True" => true,
            other => return Err(format!("`anomaly` = \"{other}\": 0 or 1 is wanted")),
        },
        other => {
            let found = other.map_or("missing".into(), Value::to_string);
            return Err(format!("`anomaly` is {found}: 0 or 1 is wanted"));
        }
    };
    Ok(Sample {
        image,
        mask: mask(sample, folder, anomalous, unused).map(Into::into),
        class: word(sample, "cls_name").unwrap_or(class).into(),
        kind: word(sample, "specie_name").unwrap_or_default().into(),
        anomalous,
    })
}

/// Real-IAD's: `{"meta": {"normal_class", "prefix"}, "test": [{"category", "anomaly_class", "image_path",
/// "mask_path"}]}`; the prefix is of the folder in which the pictures of all its classes are.
fn list_of(
    path: &Path,
    root: &Map<String, Value>,
    list: &[Value],
    unused: &mut Vec<PathBuf>,
) -> Result<Vec<Sample>, TrainError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let meta = root.get("meta").unwrap_or(&Value::Null);
    let prefix = folder.join(word(meta, "prefix").unwrap_or_default());
    let normal = word(meta, "normal_class");
    let mut samples = vec![];
    for (i, sample) in list.iter().enumerate() {
        let missing = |key: &str| fail(path, format!("test[{i}]: no `{key}`"));
        let name = word(sample, "image_path").ok_or_else(|| missing("image_path"))?;
        let kind = word(sample, "anomaly_class").ok_or_else(|| missing("anomaly_class"))?;
        let anomalous = Some(kind) != normal && !(normal.is_none() && is_normal(kind));
        samples.push(Sample {
            image: below(&prefix, name).ok_or_else(|| missing("image_path"))?,
            mask: mask(sample, &prefix, anomalous, unused).map(Into::into),
            class: word(sample, "category").unwrap_or_default().into(),
            kind: kind.into(),
            anomalous,
        });
    }
    Ok(samples)
}
