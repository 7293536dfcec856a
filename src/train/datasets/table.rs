//! CSV tables: a row per picture, the columns in any order and case, with whatever separator the header has.

use super::{DataSet, Sample, TrainError, below, fail, text};
use std::path::{Path, PathBuf};

/// Names of a column, the first of them in messages.
const IMAGE: &[&str] = &[
    "image",
    "img",
    "path",
    "file",
    "filename",
    "image_path",
    "img_path",
];
const MASK: &[&str] = &["mask", "mask_path", "ground_truth"];
const CLASS: &[&str] = &["class", "object", "cls_name", "category"];
const KIND: &[&str] = &["type", "kind", "defect", "specie_name"];
const LABEL: &[&str] = &["label", "anomaly", "anomalous"];
const SPLIT: &[&str] = &["split"];

/// Reads it; where there is a column `split`, only the rows of `test`.
pub fn read(path: &Path) -> Result<DataSet, TrainError> {
    let (text, note) = text::read(path)?;
    let first = text.lines().next().unwrap_or_default();
    let separator = [b',', b';', b'\t']
        .into_iter()
        .max_by_key(|s| first.bytes().filter(|b| b == s).count())
        .unwrap_or(b',');
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(separator)
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let header = reader.headers().map_err(|e| fail(path, e))?.clone();
    let column = |names: &[&str]| {
        let mut known = names.iter();
        known.find_map(|n| header.iter().position(|h| h.eq_ignore_ascii_case(n)))
    };
    let (Some(image), Some(label)) = (column(IMAGE), column(LABEL)) else {
        let found: Vec<&str> = header.iter().collect();
        let what = format!(
            "line 1: `{}`; it names the columns, with commas between them: image, label and, if there are any, mask, class, type",
            found.join(",")
        );
        return Err(fail(path, what));
    };
    let (mask, class, kind, split) = (column(MASK), column(CLASS), column(KIND), column(SPLIT));
    let roots = roots(path);
    let mut set = DataSet {
        notes: note.into_iter().collect(),
        ..DataSet::default()
    };
    let mut unused = vec![];
    for row in reader.records() {
        let row = row.map_err(|e| {
            let line = e.position().map_or(0, csv::Position::line);
            fail(path, format!("line {line}: {e}"))
        })?;
        let line = row.position().map_or(0, csv::Position::line);
        let cell = |c: Option<usize>| c.and_then(|c| row.get(c)).unwrap_or_default();
        if split.is_some() && !cell(split).eq_ignore_ascii_case("test") {
            continue;
        }
        let anomalous = anomalous(cell(Some(label))).ok_or_else(|| {
            let what = format!(
                "line {line}: label `{}`; 0, false, good, normal, ok or 1, true, bad, anomalous, anomaly, abnormal, defective, defect, ng",
                cell(Some(label))
            );
            fail(path, what)
        })?;
        let file = |name: &str| {
            let mut all = roots.iter().filter_map(|root| below(root, name));
            let first = all.next();
            match first {
                Some(first) if !first.exists() => Some(all.find(|p| p.exists()).unwrap_or(first)),
                other => other,
            }
        };
        let picture = file(cell(Some(image)));
        let mut mask = file(cell(mask));
        if !anomalous {
            unused.extend(mask.take());
        }
        set.samples.push(Sample {
            image: picture.ok_or_else(|| fail(path, format!("line {line}: no image")))?,
            mask: mask.map(Into::into),
            class: cell(class).into(),
            kind: cell(kind).into(),
            anomalous,
        });
    }
    set.note_unused(&unused);
    Ok(set)
}

/// Where names in the table begin: its own folder; of VisA's `split_csv`, the folder above it.
fn roots(path: &Path) -> Vec<PathBuf> {
    let own = path.parent().unwrap_or(Path::new("."));
    let above = own.parent().map(Path::to_path_buf);
    std::iter::once(own.to_path_buf())
        .chain(above.filter(|_| own.ends_with("split_csv")))
        .collect()
}

fn anomalous(word: &str) -> Option<bool> {
    let word = word.to_ascii_lowercase();
    match word.as_str() {
        "0" | "0.0" | "false" | "no" | "good" | "normal" | "ok" => Some(false),
        "1" | "1.0" | "true" | "yes" | "bad" | "anomalous" | "anomaly" | "abnormal"
        | "defective" | "defect" | "ng" | "nok" => Some(true),
        _ => None,
    }
}
