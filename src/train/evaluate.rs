//! Figures of merit of a bundle on labelled pictures, through the device's own code: what ships is what
//! is measured.

use super::TrainError;
use super::datasets::Sample;
use super::few_shot::Encoded;
use super::masks::{Mask, NEARLY_ALL, when_nearly_all};
use super::metrics::{Ranking, Segmentation, pixel_ranking, pro};
use crate::capture::load;
use crate::control::host::UNKNOWN;
use crate::faprompt::map::Map;
use crate::inspector::Inspector;
use crate::methods::TYPE_MARGIN;
use image::{RgbImage, imageops};
use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Image scores that need no network, in the order of [`Judged::trivial`].
pub const TRIVIAL: [&str; 3] = ["mean brightness", "gradient energy", "Laplacian variance"];

/// A sample and what became of it.
pub struct Judged {
    /// The sample.
    pub sample: Sample,
    /// The image score, 0..=1.
    pub score: f32,
    /// Whether that says nothing: the bundle compares parts with good ones alone, and was taught none.
    pub untaught: bool,
    /// The most likely type of its defect, should it have one, or "unknown"; none of a network without types.
    pub defect: Option<String>,
    /// The scores of [`TRIVIAL`], if they were asked for.
    pub trivial: Option<[f32; 3]>,
    /// What few-shot figures are made of; none of a network without a memory.
    pub encoded: Option<Encoded>,
    /// Map and mask; `None` for an abnormal picture without a mask, or whose mask marks nothing.
    pub segmentation: Option<Segmentation>,
    /// The map of a picture that has no [`Judged::segmentation`]: to look at, in no figure.
    pub map: Option<Map>,
    /// How much of the picture its mask marks, 0..=1; `None` if it has none that can be read.
    pub marked: Option<f64>,
}

impl Judged {
    /// Looks at the picture itself for the scores of [`TRIVIAL`], where it was judged by features that were kept. A
    /// picture that is gone has none.
    pub fn look(&mut self) {
        if self.trivial.is_none() {
            self.trivial = load(&self.sample.image).ok().map(|frame| trivial(&frame));
        }
    }

    /// Whether it is abnormal and its mask says where.
    pub fn has_mask(&self) -> bool {
        self.sample.anomalous && self.marked.is_some_and(|m| m > 0.0)
    }
}

/// What the masks of a set are worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MaskCounts {
    /// Number of defective pictures.
    pub defective: usize,
    /// Of these, with a mask that marks something: they are what pixel figures are made of.
    pub with_mask: usize,
    /// Of these, with a mask that marks nothing.
    pub nothing_marked: usize,
    /// Of those with a mask, how many mark more than four fifths: inverted, perhaps.
    pub nearly_all_marked: usize,
    /// Whether the user had masks turned.
    #[serde(skip)]
    pub turned: bool,
    /// Of those with a mask, how many mark nothing any more at the size of the maps.
    pub lost_at_this_size: usize,
}

impl MaskCounts {
    /// Counts the masks of these pictures.
    pub fn of(judged: &[Judged]) -> MaskCounts {
        let count = |f: &dyn Fn(&Judged) -> bool| {
            let defective = judged.iter().filter(|j| j.sample.anomalous);
            defective.filter(|j| f(j)).count()
        };
        let lost = |j: &Judged| {
            let gone = |s: &Segmentation| !s.mask.contains(&true);
            j.has_mask() && j.segmentation.as_ref().is_some_and(gone)
        };
        MaskCounts {
            defective: count(&|_| true),
            with_mask: count(&Judged::has_mask),
            nothing_marked: count(&|j| j.marked == Some(0.0)),
            nearly_all_marked: count(&|j| j.marked.is_some_and(|m| m > NEARLY_ALL)),
            turned: judged
                .iter()
                .any(|j| j.sample.mask.as_ref().is_some_and(|m| m.inverted)),
            lost_at_this_size: count(&lost),
        }
    }
}

impl std::fmt::Display for MaskCounts {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let MaskCounts {
            defective,
            with_mask,
            ..
        } = self;
        write!(
            f,
            "{with_mask} of {defective} defective pictures have a mask"
        )?;
        if self.nothing_marked > 0 {
            write!(f, "; {} masks mark nothing", self.nothing_marked)?;
        }
        if self.nearly_all_marked > 0 {
            write!(
                f,
                "; {} mark more than 80 % of their picture ({})",
                self.nearly_all_marked,
                when_nearly_all(self.turned)
            )?;
        }
        if self.lost_at_this_size > 0 {
            let lost = self.lost_at_this_size;
            write!(f, "; {lost} mark too little to be seen at the maps' size")?;
        }
        Ok(())
    }
}

/// Figures of one class or of many; `None` where a figure is not defined.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Figures {
    /// Number of pictures.
    pub images: usize,
    /// Number of pictures with a defect.
    pub anomalous: usize,
    /// Abnormal ones whose mask says where.
    #[serde(default)]
    pub with_mask: usize,
    /// Area under the ROC curve of image scores, 0..=1.
    pub image_auroc: Option<f64>,
    /// Average precision of image scores, 0..=1.
    pub image_ap: Option<f64>,
    /// Good pictures passed while 2 % of the bad are missed.
    #[serde(default)]
    pub pg2: Option<f64>,
    /// Bad pictures found while 2 % of the good are lost.
    #[serde(default)]
    pub pb2: Option<f64>,
    /// Largest F1 of image scores over all thresholds, 0..=1.
    pub f1_max: Option<f64>,
    /// A threshold that reaches it: what scores above it is called abnormal, as devices compare.
    pub f1_threshold: Option<f64>,
    /// Area under the ROC curve of pixel scores, 0..=1.
    pub pixel_auroc: Option<f64>,
    /// Per-region overlap of pixel scores, 0..=1.
    pub pixel_pro: Option<f64>,
    /// Image AUROC of each of [`TRIVIAL`], in whichever direction is better.
    pub trivial_auroc: [Option<f64>; 3],
}

/// Mean brightness, mean squared gradient, variance of the Laplacian of the grey picture, 0..1 scaled.
pub(super) fn trivial(frame: &RgbImage) -> [f32; 3] {
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

/// What a sample's mask says, at the map's size.
pub struct Truth {
    /// Where it is abnormal; `None` for an abnormal picture of which nobody says where.
    pub mask: Option<Vec<bool>>,
    /// How much of the picture is marked, 0..=1.
    pub marked: Option<f64>,
    /// Why its mask could not be read.
    pub failed: Option<String>,
}

/// A mask at the map's size: resized bilinearly, cut at one half.
///
/// # Errors
/// [`TrainError::Picture`]: the file cannot be read, or is no picture.
pub fn mask(mask: &Mask, side: usize) -> Result<Vec<bool>, TrainError> {
    Ok(mask.read()?.at(side))
}

/// Where a sample is abnormal, at the map's size. A mask that cannot be read, or that marks nothing, says as
/// much as none.
pub fn truth(sample: &Sample, side: usize) -> Truth {
    let nothing = Truth {
        mask: (!sample.anomalous).then(|| vec![false; side * side]),
        marked: None,
        failed: None,
    };
    match sample.mask.as_ref().map(Mask::read) {
        None => nothing,
        Some(Err(e)) => Truth {
            failed: Some(format!("{e}; its picture counts without a mask")),
            ..nothing
        },
        Some(Ok(marks)) => {
            let share = marks.share();
            Truth {
                mask: (share > 0.0).then(|| marks.at(side)).or(nothing.mask),
                marked: Some(share),
                failed: None,
            }
        }
    }
}

/// Puts together what was judged and what its mask says; `map` makes the map.
pub(super) fn judged(
    sample: Sample,
    score: f32,
    trivial: Option<[f32; 3]>,
    side: usize,
    map: Map,
    failed: &mut Vec<String>,
) -> Judged {
    let truth = truth(&sample, side);
    failed.extend(truth.failed);
    let (segmentation, map) = match truth.mask {
        Some(mask) => {
            let segmentation = Segmentation {
                width: side,
                scores: map.values,
                mask,
            };
            (Some(segmentation), None)
        }
        None => (None, Some(map)),
    };
    Judged {
        sample,
        score,
        untaught: false,
        defect: None,
        trivial,
        encoded: None,
        segmentation,
        map,
        marked: truth.marked,
    }
}

/// Judges every sample. Pictures that cannot be judged, and masks that cannot be read, are returned with the
/// reason; the others go on.
pub fn judge(
    inspector: &mut Inspector,
    samples: Vec<Sample>,
    bar: &ProgressBar,
) -> (Vec<Judged>, Vec<String>) {
    let (mut all, mut failed) = (vec![], vec![]);
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
            Ok(inspection) => inspection.clone(),
            Err(e) => {
                failed.push(format!("{}: {e}", sample.image.display()));
                continue;
            }
        };
        let encoded = Encoded::of(&inspection, inspector.descriptors());
        let map = inspection.map().smoothed(sigma);
        let trivial = Some(trivial(&frame));
        let score = inspection.score;
        let types = inspector.manifest().method.as_ref().map(|m| &m.types);
        let defect = types.filter(|t| !t.is_empty()).map(|types| {
            let most = inspection.kind(TYPE_MARGIN).and_then(|(i, _)| types.get(i));
            most.map_or(UNKNOWN, String::as_str).to_string()
        });
        let judged = judged(sample, score, trivial, side, map, &mut failed);
        all.push(Judged {
            untaught: inspector.is_untaught(),
            encoded,
            defect,
            ..judged
        });
    }
    (all, failed)
}

/// The maps that pixel figures are made of: none at all where no picture has a mask.
pub(super) fn segmentations<'a>(judged: &[&'a Judged]) -> Vec<&'a Segmentation> {
    let annotated = judged.iter().any(|j| j.has_mask());
    judged
        .iter()
        .filter(|_| annotated)
        .filter_map(|j| j.segmentation.as_ref())
        .collect()
}

/// The figures of these pictures together.
pub fn figures(judged: &[&Judged]) -> Figures {
    let known: Vec<&Judged> = judged.iter().copied().filter(|j| !j.untaught).collect();
    let image = Ranking::new(known.iter().map(|j| (j.score, j.sample.anomalous)));
    let pictures = segmentations(&known);
    let pixels = pixel_ranking(pictures.iter().copied());
    Figures {
        images: judged.len(),
        anomalous: judged.iter().filter(|j| j.sample.anomalous).count(),
        with_mask: judged.iter().filter(|j| j.has_mask()).count(),
        image_auroc: image.auroc(),
        image_ap: image.average_precision(),
        pg2: image.passed_while_missing(0.02),
        pb2: image.found_while_losing(0.02),
        f1_max: image.f1_max().map(|(f1, _)| f1),
        // As the shortest decimal number that it is read from.
        f1_threshold: image
            .f1_threshold()
            .map(|t| t.to_string().parse().unwrap_or(f64::from(t))),
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
        with_mask: classes.values().map(|f| f.with_mask).sum(),
        image_auroc: mean(&|f| f.image_auroc),
        image_ap: mean(&|f| f.image_ap),
        pg2: mean(&|f| f.pg2),
        pb2: mean(&|f| f.pb2),
        f1_max: mean(&|f| f.f1_max),
        // A mean of thresholds is no threshold.
        f1_threshold: None,
        pixel_auroc: mean(&|f| f.pixel_auroc),
        pixel_pro: mean(&|f| f.pixel_pro),
        trivial_auroc: std::array::from_fn(|i| mean(&|f| f.trivial_auroc[i])),
    }
}
