//! Labelled pictures in the three layouts that people have: AnomalyCLIP's `meta.json`, MVTec AD's
//! folders, and a CSV table.

use super::TrainError;
use crate::bundle::envelope::hex;
use image::ImageReader;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A labelled picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The picture.
    pub image: PathBuf,
    /// Where it is abnormal; `None` if it is normal, or abnormal without a pixel annotation.
    pub mask: Option<PathBuf>,
    /// What is on it.
    pub class: String,
    /// Which defect, or "good".
    pub kind: String,
    /// Its label.
    pub anomalous: bool,
}

#[derive(Deserialize)]
struct Meta {
    #[serde(default)]
    test: BTreeMap<String, Vec<MetaSample>>,
}

#[derive(Deserialize)]
struct MetaSample {
    img_path: String,
    #[serde(default)]
    mask_path: String,
    cls_name: String,
    #[serde(default)]
    specie_name: String,
    anomaly: u8,
}

#[derive(Deserialize)]
struct Row {
    image: String,
    #[serde(default)]
    mask: String,
    #[serde(default)]
    class: String,
    #[serde(default, rename = "type")]
    kind: String,
    label: String,
}

fn fail(path: &Path, what: impl std::fmt::Display) -> TrainError {
    TrainError::Data {
        path: path.to_path_buf(),
        what: what.to_string(),
    }
}

/// `name` below `root`, if it is not empty.
fn below(root: &Path, name: &str) -> Option<PathBuf> {
    (!name.is_empty()).then(|| root.join(name))
}

fn meta(path: &Path) -> Result<Vec<Sample>, TrainError> {
    let text = std::fs::read_to_string(path).map_err(|e| fail(path, e))?;
    let meta: Meta = serde_json::from_str(&text).map_err(|e| fail(path, e))?;
    let root = path.parent().unwrap_or(Path::new("."));
    let sample = |s: MetaSample| Sample {
        image: root.join(s.img_path),
        mask: below(root, &s.mask_path).filter(|_| s.anomaly != 0),
        class: s.cls_name,
        kind: s.specie_name,
        anomalous: s.anomaly != 0,
    };
    Ok(meta.test.into_values().flatten().map(sample).collect())
}

fn table(path: &Path) -> Result<Vec<Sample>, TrainError> {
    let mut reader = csv::Reader::from_path(path).map_err(|e| fail(path, e))?;
    let root = path.parent().unwrap_or(Path::new("."));
    let header = reader.headers().map_err(|e| fail(path, e))?;
    if !["image", "label"]
        .iter()
        .all(|c| header.iter().any(|h| h == *c))
    {
        let found: Vec<&str> = header.iter().collect();
        let what = format!(
            "line 1: `{}`; it names the columns, with commas between them: image, label and, if there are any, mask, class, type",
            found.join(",")
        );
        return Err(fail(path, what));
    }
    let mut samples = vec![];
    for (i, row) in reader.deserialize::<Row>().enumerate() {
        // The header is line 1.
        let row = row.map_err(|e| fail(path, format!("line {}: {e}", i + 2)))?;
        let anomalous = match row.label.trim().to_ascii_lowercase().as_str() {
            "0" | "good" | "normal" | "ok" => false,
            "1" | "bad" | "anomalous" | "anomaly" | "defective" | "ng" => true,
            other => {
                let what = format!(
                    "line {}: label `{other}`; 0, good, normal, ok or 1, bad, anomalous, anomaly, defective, ng",
                    i + 2
                );
                return Err(fail(path, what));
            }
        };
        samples.push(Sample {
            image: root.join(&row.image),
            mask: below(root, &row.mask).filter(|_| anomalous),
            class: row.class,
            kind: row.kind,
            anomalous,
        });
    }
    Ok(samples)
}

/// Tells sets apart without reading their pictures: SHA-256 of every sample's labels, its picture's name, and
/// how long picture and mask are. A set that was moved to another folder stays the same.
pub fn digest(samples: &[Sample]) -> String {
    let length = |path: &Path| std::fs::metadata(path).map_or(0, |m| m.len());
    let mut all = Sha256::new();
    for s in samples {
        let line = format!(
            "{:?} {} {:?}\n",
            (&s.class, &s.kind, s.anomalous, name(&s.image)),
            length(&s.image),
            s.mask.as_deref().map(length)
        );
        all.update(line.as_bytes());
    }
    hex(&all.finalize())
}

/// Refuses a mask of another size than its picture: it would be stretched over it, and be of other places. Files
/// that are no pictures are told by who loads them.
fn fits(sample: &Sample) -> Result<(), TrainError> {
    let Some(mask) = &sample.mask else {
        return Ok(());
    };
    let size = |path: &Path| {
        let reader = ImageReader::open(path).ok()?.with_guessed_format().ok()?;
        reader.into_dimensions().ok()
    };
    match (size(mask), size(&sample.image)) {
        (Some((w, h)), Some((width, height))) if (w, h) != (width, height) => Err(fail(
            mask,
            format!(
                "a mask of {w} x {h} pixels, but its picture {} has {width} x {height}",
                sample.image.display()
            ),
        )),
        _ => Ok(()),
    }
}

/// The folders in `path`, in name order.
fn folders(path: &Path) -> Result<Vec<PathBuf>, TrainError> {
    let mut found = vec![];
    for entry in std::fs::read_dir(path).map_err(|e| fail(path, e))? {
        let entry = entry.map_err(|e| fail(path, e))?.path();
        if entry.is_dir() {
            found.push(entry);
        }
    }
    found.sort();
    Ok(found)
}

fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// `CLASS/test/KIND/*`, masks in `CLASS/ground_truth/KIND/NAME_mask.png`, or, as in BTAD, `NAME.png` or
/// `NAME.bmp`. Normal pictures are those of the kinds `good` and, there, `ok`.
fn mvtec_class(class: &Path) -> Result<Vec<Sample>, TrainError> {
    let mut samples = vec![];
    for folder in folders(&class.join("test"))? {
        let kind = name(&folder);
        let anomalous = !["good", "ok"].contains(&kind.as_str());
        for image in crate::capture::list(&folder).map_err(|e| fail(&folder, e))? {
            let stem = image
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let masks = class.join("ground_truth").join(&kind);
            let mask = ["_mask.png", ".png", ".bmp"]
                .iter()
                .map(|end| masks.join(format!("{stem}{end}")))
                .find(|mask| anomalous && mask.is_file());
            samples.push(Sample {
                image,
                mask,
                class: name(class),
                kind: kind.clone(),
                anomalous,
            });
        }
    }
    Ok(samples)
}

/// Reads the test part of a data set: a folder with `meta.json`, that file, a `.csv` file with the
/// columns image, mask, class, type, label, or a folder in MVTec AD's layout (of one class or of many).
///
/// # Errors
/// [`TrainError::Data`]: no known layout, a malformed file, no samples, a file that is named but missing, or a
/// mask of another size than its picture.
pub fn load(path: &Path) -> Result<Vec<Sample>, TrainError> {
    let samples = if path.is_file() {
        if path
            .extension()
            .is_some_and(|e| e.eq_ignore_ascii_case("csv"))
        {
            table(path)?
        } else {
            meta(path)?
        }
    } else if path.join("meta.json").is_file() {
        meta(&path.join("meta.json"))?
    } else if path.join("test").is_dir() {
        mvtec_class(path)?
    } else {
        let mut samples = vec![];
        for class in folders(path)?.iter().filter(|c| c.join("test").is_dir()) {
            samples.extend(mvtec_class(class)?);
        }
        samples
    };
    if samples.is_empty() {
        return Err(fail(
            path,
            "no samples: neither meta.json, nor a CSV file with rows, nor CLASS/test/KIND folders as in MVTec AD",
        ));
    }
    for sample in &samples {
        for file in [Some(&sample.image), sample.mask.as_ref()]
            .into_iter()
            .flatten()
        {
            if !file.is_file() {
                return Err(fail(
                    path,
                    format!("it names {}, which does not exist", file.display()),
                ));
            }
        }
        fits(sample)?;
    }
    Ok(samples)
}
