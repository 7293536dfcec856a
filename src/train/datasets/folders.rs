//! Data sets as folders: MVTec AD (`CLASS/test/KIND/*`, `CLASS/ground_truth/KIND/NAME_mask.png`), and what
//! is like it: BTAD, MVTec LOCO (a folder of masks per picture), MVTec AD 2 (`test_public`), VisA
//! (`Data/Images`, `Data/Masks`), and one folder with a folder per kind.

use super::{DataSet, LeftOut, NORMAL, Sample, TrainError, fail, is_normal, name};
use crate::capture;
use crate::train::masks::Mask;
use crate::train::some;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

/// Folders of masks, in any case.
const MASKS: [&str; 10] = [
    "ground_truth",
    "groundtruth",
    "ground-truth",
    "gt",
    "mask",
    "masks",
    "label",
    "labels",
    "annotation",
    "annotations",
];
/// Folders of pictures to measure with; the first that there is counts.
const TESTS: [&str; 2] = ["test", "test_public"];
/// Folders of pictures that a data set keeps apart.
const APART: [&str; 6] = [
    "train",
    "test",
    "val",
    "validation",
    "test_private",
    "split_csv",
];

fn is_one_of(names: &[&str], path: &Path) -> bool {
    let name = name(path);
    names.iter().any(|n| name.eq_ignore_ascii_case(n))
}

/// Whether programs hide it: its name begins with a full stop, or it is what macOS adds to archives.
fn is_hidden(name: &str) -> bool {
    name.starts_with('.') || name == "__MACOSX"
}

/// Folders in `path` that are not hidden, in name order.
fn folders(path: &Path) -> Result<Vec<PathBuf>, TrainError> {
    let mut found = vec![];
    for entry in std::fs::read_dir(path).map_err(|e| fail(path, e))? {
        let entry = entry.map_err(|e| fail(path, e))?.path();
        if entry.is_dir() && !is_hidden(&name(&entry)) {
            found.push(entry);
        }
    }
    found.sort();
    Ok(found)
}

/// Pictures in or under `folder`, in name order, without hidden ones.
fn pictures(folder: &Path) -> Result<Vec<PathBuf>, TrainError> {
    let visible = |file: &PathBuf| {
        let below = file.strip_prefix(folder).unwrap_or(file);
        !below.iter().any(|part| is_hidden(&part.to_string_lossy()))
    };
    let mut all = capture::list(folder).map_err(|e| fail(folder, e))?;
    all.retain(visible);
    Ok(all)
}

/// Hidden files and folders, and files that are no pictures, in or under `folder`.
fn left_out(folder: &Path, pictures: usize, out: &mut LeftOut) {
    let mut walk = WalkDir::new(folder).min_depth(1).into_iter();
    let mut files = 0;
    while let Some(Ok(entry)) = walk.next() {
        if is_hidden(&entry.file_name().to_string_lossy()) {
            out.hidden += 1;
            if entry.file_type().is_dir() {
                walk.skip_current_dir();
            }
        } else if !entry.file_type().is_dir() {
            files += 1;
        }
    }
    out.other += files - pictures.min(files);
}

/// Where a class keeps its kinds, and the folders that may hold its masks.
struct Class {
    kinds: Vec<PathBuf>,
    masks: Vec<PathBuf>,
}

/// The class that a folder is; `None` if it is none.
fn class(path: &Path) -> Result<Option<Class>, TrainError> {
    let inside = folders(path)?;
    let of_masks = |list: &[PathBuf]| -> Vec<PathBuf> {
        let masks = list.iter().filter(|p| is_one_of(&MASKS, p));
        masks.cloned().collect()
    };
    let kinds = |list: Vec<PathBuf>| -> Vec<PathBuf> {
        let kinds = list.into_iter().filter(|p| !is_one_of(&MASKS, p));
        kinds.collect()
    };
    for test in TESTS {
        if let Some(test) = inside.iter().find(|p| is_one_of(&[test], p)) {
            let list = folders(test)?;
            // MVTec AD 2 has them inside.
            let mut masks = of_masks(&inside);
            masks.extend(of_masks(&list));
            return Ok(Some(Class {
                kinds: kinds(list),
                masks,
            }));
        }
    }
    let images = path.join("Data/Images");
    if images.is_dir() {
        return Ok(Some(Class {
            kinds: folders(&images)?,
            masks: vec![path.join("Data/Masks")],
        }));
    }
    let masks = of_masks(&inside);
    let kinds: Vec<PathBuf> = kinds(inside)
        .into_iter()
        .filter(|p| !is_one_of(&APART, p))
        .collect();
    let normal = kinds.iter().find(|p| is_normal(&name(p)));
    Ok(match normal {
        Some(normal) if !pictures(normal)?.is_empty() => Some(Class { kinds, masks }),
        _ => None,
    })
}

/// What can be read and what is there instead, for a message about a path that holds no samples.
pub fn known(path: &Path) -> String {
    const SHOWN: usize = 8;
    let mut layouts = format!(
        "neither meta.json, nor a CSV file with rows, nor folders in a layout that is known: \
         CLASS/test/KIND with CLASS/ground_truth/KIND (MVTec AD, BTAD, LOCO; or {} for test), Data/Images/KIND with \
         Data/Masks/KIND (VisA), or a folder for each KIND, one of them good. The KIND {} (in any case) is what is good, \
         all others are defects; masks lie in a folder called {}",
        TESTS[1],
        NORMAL.join(" or "),
        MASKS.join(" or ")
    );
    let found = folders(path).unwrap_or_default();
    if !found.is_empty() {
        let names: Vec<String> = found.iter().map(|f| format!("`{}`", name(f))).collect();
        layouts += &format!("; its folders are {}", some(&names, SHOWN, "others"));
    }
    layouts
}

/// Reads a folder: a class, or classes.
pub fn read(path: &Path) -> Result<DataSet, TrainError> {
    let mut set = DataSet::default();
    if let Some(found) = class(path)? {
        add(path, found, &mut set)?;
        return Ok(set);
    }
    for entry in std::fs::read_dir(path).map_err(|e| fail(path, e))? {
        let entry = entry.map_err(|e| fail(path, e))?;
        set.left_out.hidden += usize::from(is_hidden(&entry.file_name().to_string_lossy()));
    }
    for folder in folders(path)? {
        if let Some(found) = class(&folder)? {
            add(&folder, found, &mut set)?;
        }
    }
    Ok(set)
}

fn add(path: &Path, class: Class, set: &mut DataSet) -> Result<(), TrainError> {
    // A hidden folder beside the kinds would once have been a kind of defect.
    if let Some(above) = class.kinds.first().and_then(|k| k.parent()) {
        for entry in std::fs::read_dir(above).map_err(|e| fail(above, e))? {
            let entry = entry.map_err(|e| fail(above, e))?;
            set.left_out.hidden += usize::from(is_hidden(&entry.file_name().to_string_lossy()));
        }
    }
    let mut unused = vec![];
    let abnormal = class.kinds.iter().filter(|k| !is_normal(&name(k))).count();
    for folder in &class.kinds {
        let kind = name(folder);
        let anomalous = !is_normal(&kind);
        let images = pictures(folder)?;
        left_out(folder, images.len(), &mut set.left_out);
        let mut masks = masks(&class.masks, &kind, &images, anomalous && abnormal == 1)?;
        if !anomalous {
            unused.extend(std::mem::take(&mut masks).into_values().flatten());
        }
        for image in images {
            let files = masks.remove(&stem(&image));
            set.samples.push(Sample {
                mask: files.map(|files| Mask {
                    files,
                    inverted: false,
                }),
                image,
                class: name(path),
                kind: kind.clone(),
                anomalous,
            });
        }
    }
    set.note_unused(&unused);
    Ok(())
}

/// A file's name without its ending, for comparing.
fn stem(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default();
    stem.to_string_lossy().to_lowercase()
}

/// How a mask's name leads to its picture, the surest way first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Likeness {
    Same,
    Ending,
    Beginning,
}

/// Whose mask a file of this name is.
fn owner<'a>(mask: &str, images: &'a [String]) -> Option<(&'a String, Likeness)> {
    const ENDINGS: [&str; 8] = [
        "_mask",
        "-mask",
        ".mask",
        "mask",
        "_gt",
        "-gt",
        "_label",
        "_ground_truth",
    ];
    let called = |name: &str| images.iter().find(|i| *i == name);
    if let Some(image) = called(mask) {
        return Some((image, Likeness::Same));
    }
    let cut = ENDINGS.iter().filter_map(|end| mask.strip_suffix(end));
    if let Some(image) = cut.filter_map(called).next() {
        return Some((image, Likeness::Ending));
    }
    // 000_regular_mask, 000_1: of several pictures that it begins with the name of, the longest.
    let begins = |image: &&String| {
        let rest = mask.strip_prefix(image.as_str());
        rest.is_some_and(|r| r.starts_with(['_', '-', '.']))
    };
    let longest = images.iter().filter(begins).max_by_key(|i| i.len());
    longest.map(|image| (image, Likeness::Beginning))
}

/// The masks of a kind's pictures by the pictures' names, from the first folder that has any.
fn masks(
    roots: &[PathBuf],
    kind: &str,
    images: &[PathBuf],
    alone: bool,
) -> Result<BTreeMap<String, Vec<PathBuf>>, TrainError> {
    let stems: Vec<String> = images.iter().map(|i| stem(i)).collect();
    for root in roots.iter().filter(|r| r.is_dir()) {
        let own = folders(root)?
            .into_iter()
            .find(|f| name(f).eq_ignore_ascii_case(kind));
        // Without a folder of its own, a kind's masks lie among all others': only where it is the one kind
        // does a name say whose a mask is.
        let Some(folder) = own.or_else(|| alone.then(|| root.clone())) else {
            continue;
        };
        let mut found: BTreeMap<String, (Likeness, Vec<PathBuf>)> = BTreeMap::new();
        for file in pictures(&folder)? {
            // MVTec LOCO: a folder per picture.
            let first = file
                .strip_prefix(&folder)
                .ok()
                .and_then(|f| f.iter().next());
            let nested = first.filter(|_| file.parent() != Some(&folder));
            let called = nested.map_or_else(|| stem(&file), |n| n.to_string_lossy().to_lowercase());
            let Some((image, likeness)) = owner(&called, &stems) else {
                continue;
            };
            let entry = found.entry(image.clone()).or_insert((likeness, vec![]));
            if likeness < entry.0 {
                *entry = (likeness, vec![]);
            }
            if likeness == entry.0 {
                entry.1.push(file);
            }
        }
        if !found.is_empty() {
            return Ok(found.into_iter().map(|(k, v)| (k, v.1)).collect());
        }
    }
    Ok(BTreeMap::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_finds_its_picture() {
        let images: Vec<String> = ["000", "1", "1_2", "part0"].map(String::from).into();
        let of = |mask: &str| owner(mask, &images).map(|(image, _)| image.as_str());
        for (mask, image) in [
            ("000", Some("000")),
            ("000_mask", Some("000")),
            ("000_regular_mask", Some("000")),
            ("1_2_mask", Some("1_2")),
            ("1_2_3_mask", Some("1_2")),
            ("1_mask", Some("1")),
            ("part0_label", Some("part0")),
            ("0001", None),
            ("2", None),
        ] {
            assert_eq!(of(mask), image, "{mask}");
        }
    }
}
