//! What the page shows of a data set, from the pictures as they were judged.
//!
//! Picks and arranges; every figure comes from `evaluate` and `metrics`.

use super::{Case, Curve, Curves, Group, Histogram, Level, Set, thin};
use crate::capture::load;
use crate::faprompt::map::Map;
use crate::report::heated;
use crate::train::defect_types::TypeFigures;
use crate::train::evaluate::{Figures, Judged, segmentations};
use crate::train::metrics::{Ranking, pixel_ranking};
use image::codecs::jpeg::JpegEncoder;
use image::imageops::FilterType;
use image::{GrayImage, ImageFormat, RgbImage, imageops};
use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::Path;

/// Pictures of a group.
const CASES: usize = 6;
/// Longer side of a thumbnail.
const THUMBNAIL: u32 = 320;
const JPEG_QUALITY: u8 = 82;
const BINS: usize = 40;

/// What became of a data set.
pub struct Outcome<'a> {
    /// Where it was read from.
    pub data: &'a Path,
    /// Every picture that was judged.
    pub judged: &'a [Judged],
    /// The figures of each class.
    pub classes: &'a BTreeMap<String, Figures>,
    /// Their mean.
    pub mean: &'a Figures,
    /// The figures of all pictures together.
    pub pooled: &'a Figures,
    /// Pictures that could not be judged, and masks that could not be read.
    pub failed: &'a [String],
    /// What else there is to say about the data.
    pub notes: &'a [String],
    /// The bundle's threshold.
    pub threshold: f32,
    /// How well types of defects were distinguished.
    pub types: Option<&'a TypeFigures>,
}

/// The page's data of a set. The pictures that it shows are read again; one that has gone since is
/// shown without its photo.
pub fn set(outcome: &Outcome) -> Set {
    let all: Vec<&Judged> = outcome.judged.iter().filter(|j| !j.untaught).collect();
    let mut curves = vec![curves_of("all pictures", &all, outcome.pooled)];
    if outcome.classes.len() > 1 {
        for (class, figures) in outcome.classes {
            let own = all.iter().copied().filter(|j| &j.sample.class == class);
            curves.push(curves_of(class, &own.collect::<Vec<_>>(), figures));
        }
    }
    let (groups, scale) = groups(outcome.data, &all);
    Set {
        name: outcome.data.display().to_string(),
        threshold: outcome.threshold,
        classes: outcome
            .classes
            .iter()
            .map(|(c, f)| (c.clone(), f.clone()))
            .collect(),
        mean: outcome.mean.clone(),
        pooled: outcome.pooled.clone(),
        curves,
        histogram: histogram(&all),
        groups,
        scale,
        failed: outcome.failed.to_vec(),
        notes: outcome.notes.to_vec(),
        types: outcome.types.cloned(),
    }
}

fn curves_of(name: &str, judged: &[&Judged], figures: &Figures) -> Curves {
    let image = Ranking::new(judged.iter().map(|j| (j.score, j.sample.anomalous)));
    let pixel = pixel_ranking(segmentations(judged));
    let (mut roc, mut precision_recall) = (vec![], vec![]);
    let areas = [
        (figures.image_auroc, figures.image_ap),
        (figures.pixel_auroc, pixel.average_precision()),
    ];
    let levels = [(Level::Image, &image), (Level::Pixel, &pixel)];
    for ((level, ranking), (auroc, ap)) in levels.into_iter().zip(areas) {
        if !ranking.is_defined() {
            continue;
        }
        roc.push(Curve {
            level,
            area: auroc,
            points: thin(ranking.roc()),
        });
        precision_recall.push(Curve {
            level,
            area: ap,
            points: thin(ranking.precision_recall()),
        });
    }
    Curves {
        name: name.to_string(),
        roc,
        precision_recall,
    }
}

/// `None` if no score is a number.
fn histogram(judged: &[&Judged]) -> Option<Histogram> {
    let scores = || judged.iter().map(|j| f64::from(j.score));
    let finite = || scores().filter(|s| s.is_finite());
    let (low, high) = finite().fold((f64::MAX, f64::MIN), |(l, h), s| (l.min(s), h.max(s)));
    if low > high {
        return None;
    }
    // Equal scores still need a bin of some width.
    let high = high.max(low + 1e-6 * low.abs().max(1.0));
    let mut out = Histogram {
        low,
        high,
        normal: vec![0; BINS],
        abnormal: vec![0; BINS],
    };
    for (j, score) in judged.iter().zip(scores()) {
        if score.is_finite() {
            let bin = ((score - low) / (high - low) * BINS as f64) as usize;
            let counts = if j.sample.anomalous {
                &mut out.abnormal
            } else {
                &mut out.normal
            };
            counts[bin.min(BINS - 1)] += 1;
        }
    }
    Some(out)
}

/// The pictures that say most about the bundle, and the scale of their heat maps. No picture is in
/// two groups.
fn groups(data: &Path, judged: &[&Judged]) -> (Vec<Group>, Option<(f32, f32)>) {
    let falling = |anomalous: bool| {
        let mut kind: Vec<&Judged> = judged
            .iter()
            .copied()
            .filter(|j| j.sample.anomalous == anomalous)
            .collect();
        kind.sort_by(|a, b| b.score.total_cmp(&a.score));
        kind
    };
    let (abnormal, normal) = (falling(true), falling(false));
    let half = abnormal.len().div_ceil(2);
    let (best, worst) = abnormal.split_at(half);
    let lists = [
        ("Abnormal, highest scores", best.iter().collect::<Vec<_>>()),
        ("Abnormal, lowest scores", worst.iter().rev().collect()),
        ("Normal, highest scores", normal.iter().collect()),
    ];
    let lists = lists.map(|(title, list)| (title, list.into_iter().take(CASES)));
    // One scale for all: a map that is shown bright is bright among the others too.
    let shown = lists.iter().flat_map(|(_, list)| list.clone());
    let values = shown.filter_map(|j| map_of(j)).flat_map(|m| m.1);
    let scale = values.fold(None, |scale: Option<(f32, f32)>, v| {
        let (low, high) = scale.unwrap_or((*v, *v));
        Some((low.min(*v), high.max(*v)))
    });
    let groups = lists.map(|(title, list)| Group {
        title: title.to_string(),
        cases: list.map(|j| case(data, j, scale)).collect(),
    });
    (groups.into(), scale)
}

/// The side and the values of a picture's map.
fn map_of(j: &Judged) -> Option<(usize, &Vec<f32>)> {
    let counted = j.segmentation.as_ref().map(|s| (s.width, &s.scores));
    counted.or(j.map.as_ref().map(|m| (m.side, &m.values)))
}

fn case(data: &Path, j: &Judged, scale: Option<(f32, f32)>) -> Case {
    let file = &j.sample.image;
    // A table's pictures lie beside it.
    let roots = [Some(data), data.parent()];
    let mut below = roots
        .into_iter()
        .flatten()
        .filter_map(|root| file.strip_prefix(root).ok());
    let photo = load(file).ok().map(|p| thumbnail(&p));
    let heat = photo.as_ref().zip(map_of(j)).zip(scale);
    let heat = heat.map(|((photo, (side, values)), (low, high))| {
        let map = Map {
            side,
            values: values.clone(),
        };
        heated(photo, &map, low, high)
    });
    // As it was counted: at the map's size, stretched over the photo.
    let marked = j.segmentation.as_ref().filter(|_| j.sample.anomalous);
    let mask = marked.and_then(|s| {
        let side = s.width as u32;
        let values = s.mask.iter().map(|m| if *m { 255 } else { 0 }).collect();
        let mask = GrayImage::from_raw(side, side, values)?;
        let (w, h) = photo.as_ref().map_or((side, side), RgbImage::dimensions);
        let mask = imageops::resize(&mask, w, h, FilterType::Nearest);
        let mut out = Cursor::new(vec![]);
        mask.write_to(&mut out, ImageFormat::Png).ok()?;
        Some(out.into_inner())
    });
    Case {
        file: below.next().unwrap_or(file).display().to_string(),
        class: j.sample.class.clone(),
        kind: j.sample.kind.clone(),
        anomalous: j.sample.anomalous,
        score: j.score,
        photo: photo.as_ref().and_then(jpeg),
        heat: heat.as_ref().and_then(jpeg),
        mask,
    }
}

/// The picture in small; one that is small stays as it is.
fn thumbnail(picture: &RgbImage) -> RgbImage {
    let (w, h) = picture.dimensions();
    if w.max(h) <= THUMBNAIL {
        return picture.clone();
    }
    let scale = f64::from(THUMBNAIL) / f64::from(w.max(h));
    let side = |s: u32| ((f64::from(s) * scale) as u32).max(1);
    imageops::thumbnail(picture, side(w), side(h))
}

/// `None` if the encoder refuses it, as it does an empty picture.
fn jpeg(picture: &RgbImage) -> Option<Vec<u8>> {
    let mut out = vec![];
    JpegEncoder::new_with_quality(&mut out, JPEG_QUALITY)
        .encode_image(picture)
        .ok()?;
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::datasets::Sample;
    use crate::train::evaluate::{by_class, figures, mean};
    use crate::train::metrics::Segmentation;

    fn judged(image: &Path, class: &str, anomalous: bool, score: f32) -> Judged {
        let mask: Vec<bool> = (0..64).map(|i| anomalous && i % 8 < 2).collect();
        Judged {
            sample: Sample {
                image: image.to_path_buf(),
                mask: anomalous.then(|| image.to_path_buf().into()),
                class: class.into(),
                kind: if anomalous { "dent" } else { "good" }.into(),
                anomalous,
            },
            score,
            untaught: false,
            defect: None,
            trivial: Some([score, 0.0, 1.0]),
            encoded: None,
            segmentation: Some(Segmentation {
                width: 8,
                scores: mask.iter().map(|m| if *m { score } else { 0.1 }).collect(),
                mask,
            }),
            map: None,
            marked: anomalous.then_some(0.25),
        }
    }

    fn gathered(data: &Path, judged: &[Judged]) -> Set {
        let classes = by_class(judged);
        set(&Outcome {
            data,
            judged,
            mean: &mean(&classes),
            pooled: &figures(&judged.iter().collect::<Vec<_>>()),
            classes: &classes,
            failed: &[],
            notes: &[],
            threshold: 0.5,
            types: None,
        })
    }

    #[test]
    fn cases_are_the_extremes_once_each_and_photos_are_small() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.png");
        RgbImage::new(900, 450).save(&file).unwrap();
        let gone = folder.path().join("gone.png");
        let mut all = vec![judged(&gone, "nut", false, 0.9)];
        for i in 0..8 {
            all.push(judged(&file, "nut", true, 0.1 * i as f32));
            all.push(judged(&file, "bolt", false, 0.05 * i as f32));
        }
        let set = gathered(folder.path(), &all);
        let scores: Vec<Vec<f32>> = set
            .groups
            .iter()
            .map(|g| g.cases.iter().map(|c| c.score).collect())
            .collect();
        let tenths = |i: &[u8]| i.iter().map(|i| 0.1 * f32::from(*i)).collect::<Vec<_>>();
        assert_eq!(scores[0], tenths(&[7, 6, 5, 4]));
        assert_eq!(scores[1], tenths(&[0, 1, 2, 3]));
        assert_eq!((scores[2].len(), scores[2][0]), (CASES, 0.9));
        let lost = &set.groups[2].cases[0];
        assert!(lost.photo.is_none() && lost.heat.is_none() && lost.mask.is_none());
        let case = &set.groups[0].cases[0];
        assert_eq!(case.file, "a.png");
        for bytes in [&case.photo, &case.heat, &case.mask] {
            let picture = image::load_from_memory(bytes.as_ref().unwrap()).unwrap();
            assert_eq!((picture.width(), picture.height()), (320, 160));
        }
        // All, bolt (normal ones only: nothing to draw), nut.
        let drawn: Vec<_> = set.curves.iter().map(|c| (&*c.name, c.roc.len())).collect();
        assert_eq!(drawn, [("all pictures", 2), ("bolt", 0), ("nut", 2)]);
        assert_eq!(set.curves[0].roc[0].area, set.pooled.image_auroc);
        let histogram = set.histogram.unwrap();
        let count = |v: &[usize]| v.iter().sum::<usize>();
        assert_eq!(
            (count(&histogram.normal), count(&histogram.abnormal)),
            (9, 8)
        );
    }

    #[test]
    fn nothing_judged_and_scores_that_are_no_numbers() {
        let nowhere = Path::new("nowhere");
        let set = gathered(nowhere, &[]);
        assert!(set.histogram.is_none() && set.groups.iter().all(|g| g.cases.is_empty()));
        let set = gathered(nowhere, &[judged(nowhere, "", true, f32::NAN)]);
        assert!(set.histogram.is_none());
        assert_eq!(set.groups[0].cases.len(), 1);
    }
}
