//! Figures of merit of a bundle on labelled pictures, through the device's own code: what ships is what
//! is measured.

use super::TrainError;
use super::datasets::Sample;
use super::metrics::{Ranking, Segmentation, pixel_ranking, pro};
use crate::capture::load;
use crate::inspector::Inspector;
use image::imageops::FilterType;
use image::{GrayImage, RgbImage, imageops};
use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Image scores that need no network, in the order of [`Judged::trivial`].
pub const TRIVIAL: [&str; 3] = ["mean brightness", "gradient energy", "Laplacian variance"];

/// A sample and what became of it.
pub struct Judged {
    /// The sample.
    pub sample: Sample,
    /// The image score.
    pub score: f32,
    /// The scores of [`TRIVIAL`], if they were asked for.
    pub trivial: Option<[f32; 3]>,
    /// Map and mask; `None` for an abnormal picture without a mask.
    pub segmentation: Option<Segmentation>,
}

/// Figures of one class or of many; `None` where a figure is not defined.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Figures {
    /// Pictures.
    pub images: usize,
    /// Abnormal ones.
    pub anomalous: usize,
    /// Image AUROC.
    pub image_auroc: Option<f64>,
    /// Image average precision.
    pub image_ap: Option<f64>,
    /// Largest F1.
    pub f1_max: Option<f64>,
    /// The threshold that reaches it.
    pub f1_threshold: Option<f64>,
    /// Pixel AUROC.
    pub pixel_auroc: Option<f64>,
    /// Per-region overlap.
    pub pixel_pro: Option<f64>,
    /// Image AUROC of each of [`TRIVIAL`], in whichever direction is better.
    pub trivial_auroc: [Option<f64>; 3],
}

/// Mean brightness, mean squared gradient, variance of the Laplacian of the grey picture, 0..1 scaled.
fn trivial(frame: &RgbImage) -> [f32; 3] {
    let grey = imageops::grayscale(frame);
    let (w, h) = (grey.width() as usize, grey.height() as usize);
    let at = |x: usize, y: usize| f64::from(grey.as_raw()[y * w + x]) / 255.0;
    let brightness = grey.iter().map(|v| f64::from(*v) / 255.0).sum::<f64>() / (w * h) as f64;
    let (mut gradient, mut sum, mut squares, mut n) = (0f64, 0f64, 0f64, 0usize);
    for y in 1..h.saturating_sub(1) {
        for x in 1..w.saturating_sub(1) {
            let (dx, dy) = (at(x + 1, y) - at(x - 1, y), at(x, y + 1) - at(x, y - 1));
            let laplacian =
                at(x + 1, y) + at(x - 1, y) + at(x, y + 1) + at(x, y - 1) - 4.0 * at(x, y);
            gradient += dx * dx + dy * dy;
            (sum, squares, n) = (sum + laplacian, squares + laplacian * laplacian, n + 1);
        }
    }
    let n = n.max(1) as f64;
    [
        brightness as f32,
        (gradient / n) as f32,
        (squares / n - (sum / n).powi(2)) as f32,
    ]
}

/// A mask at the map's size, as the published code makes it: whatever is not black is abnormal (VisA's
/// masks hold the numbers of defects, from 1 on), resized bilinearly, cut at one half.
pub fn mask(path: &Path, side: usize) -> Result<Vec<bool>, TrainError> {
    let picture = load(path)?;
    let mut grey: GrayImage = imageops::grayscale(&picture);
    for value in grey.iter_mut() {
        *value = if *value > 0 { 255 } else { 0 };
    }
    let side = side as u32;
    Ok(imageops::resize(&grey, side, side, FilterType::Triangle)
        .iter()
        .map(|v| *v > 127)
        .collect())
}

/// Where a sample is abnormal, at the map's size; `None` for an abnormal picture without a mask.
///
/// # Errors
/// As [`mask`].
pub fn truth(sample: &Sample, side: usize) -> Result<Option<Vec<bool>>, TrainError> {
    match (&sample.mask, sample.anomalous) {
        (Some(path), _) => mask(path, side).map(Some),
        (None, false) => Ok(Some(vec![false; side * side])),
        (None, true) => Ok(None),
    }
}

/// Judges every sample. Pictures that cannot be judged are returned with the reason; the others go on.
///
/// # Errors
/// [`TrainError::Picture`] for a mask that cannot be read: figures without it would be of other pictures.
pub fn judge(
    inspector: &mut Inspector,
    samples: Vec<Sample>,
    bar: &ProgressBar,
) -> Result<(Vec<Judged>, Vec<String>), TrainError> {
    let (mut judged, mut failed) = (vec![], vec![]);
    let side = inspector.manifest().image.size;
    let sigma = inspector.manifest().scores.smoothing_sigma;
    for sample in samples {
        bar.inc(1);
        let frame = match load(&sample.image) {
            Ok(frame) => frame,
            Err(e) => {
                failed.push(e.to_string());
                continue;
            }
        };
        let inspection = match inspector.inspect(&frame) {
            Ok(inspection) => inspection,
            Err(e) => {
                failed.push(format!("{}: {e}", sample.image.display()));
                continue;
            }
        };
        let segmentation = truth(&sample, side)?.map(|mask| Segmentation {
            width: side,
            scores: inspection.map().smoothed(sigma).values,
            mask,
        });
        judged.push(Judged {
            score: inspection.score,
            trivial: Some(trivial(&frame)),
            segmentation,
            sample,
        });
    }
    Ok((judged, failed))
}

/// The maps that pixel figures are made of: none at all where no picture has a mask.
pub(super) fn segmentations<'a>(judged: &[&'a Judged]) -> Vec<&'a Segmentation> {
    let annotated = judged.iter().any(|j| j.sample.mask.is_some());
    judged
        .iter()
        .filter(|_| annotated)
        .filter_map(|j| j.segmentation.as_ref())
        .collect()
}

/// The figures of these pictures together.
pub fn figures(judged: &[&Judged]) -> Figures {
    let labelled = |f: &dyn Fn(&Judged) -> f32| {
        Ranking::new(judged.iter().map(|j| (f(j), j.sample.anomalous)))
    };
    let image = labelled(&|j| j.score);
    let pictures = segmentations(judged);
    let pixels = pixel_ranking(pictures.iter().copied());
    let best = image.f1_max();
    Figures {
        images: judged.len(),
        anomalous: judged.iter().filter(|j| j.sample.anomalous).count(),
        image_auroc: image.auroc(),
        image_ap: image.average_precision(),
        f1_max: best.map(|(f1, _)| f1),
        f1_threshold: best.map(|(_, t)| f64::from(t)),
        pixel_auroc: pixels.auroc(),
        pixel_pro: pro(pictures, &pixels),
        trivial_auroc: std::array::from_fn(|i| {
            let known = judged
                .iter()
                .filter_map(|j| Some((j.trivial?[i], j.sample.anomalous)));
            Ranking::new(known).auroc().map(|a| a.max(1.0 - a))
        }),
    }
}

/// Figures per class, in name order.
pub fn by_class(judged: &[Judged]) -> BTreeMap<String, Figures> {
    let mut classes: BTreeMap<&str, Vec<&Judged>> = BTreeMap::new();
    for j in judged {
        classes.entry(&j.sample.class).or_default().push(j);
    }
    classes
        .into_iter()
        .map(|(class, judged)| (class.to_string(), figures(&judged)))
        .collect()
}

/// The mean over classes of each figure, over the classes that have it.
pub fn mean(classes: &BTreeMap<String, Figures>) -> Figures {
    let mean = |f: &dyn Fn(&Figures) -> Option<f64>| {
        let values: Vec<f64> = classes.values().filter_map(f).collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    Figures {
        images: classes.values().map(|f| f.images).sum(),
        anomalous: classes.values().map(|f| f.anomalous).sum(),
        image_auroc: mean(&|f| f.image_auroc),
        image_ap: mean(&|f| f.image_ap),
        f1_max: mean(&|f| f.f1_max),
        // A mean of thresholds is no threshold.
        f1_threshold: None,
        pixel_auroc: mean(&|f| f.pixel_auroc),
        pixel_pro: mean(&|f| f.pixel_pro),
        trivial_auroc: std::array::from_fn(|i| mean(&|f| f.trivial_auroc[i])),
    }
}
