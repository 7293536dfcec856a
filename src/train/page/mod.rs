//! The report of an evaluation as one HTML file that people can read, print and pass on.
//!
//! [`set`] gathers what the page shows of a data set, [`page`] writes it down. The page stands alone:
//! no script, no font, no picture from elsewhere, and its own content policy forbids them. It must
//! never compute a figure: it shows those of `evaluate` and `metrics`, with "-" where there is none.

mod chart;
mod gather;
mod html;
mod tables;
mod thin;

pub use gather::{Outcome, set};
pub use html::page;
pub use thin::{MOST, thin};

use super::defect_types::TypeFigures;
use super::evaluate::Figures;

/// Everything on the page.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Heading of the page.
    pub title: String,
    /// The bundle that was measured.
    pub bundle: String,
    /// A line that must not be missed.
    pub warning: Option<String>,
    /// The program and its version.
    pub software: String,
    /// The data sets, in the order of the call.
    pub sets: Vec<Set>,
}

/// A data set.
#[derive(Clone, Debug, Default)]
pub struct Set {
    /// What to call it.
    pub name: String,
    /// The threshold of the bundle: image scores above it are rejects.
    pub threshold: f32,
    /// Each class and its figures.
    pub classes: Vec<(String, Figures)>,
    /// The mean over classes.
    pub mean: Figures,
    /// All pictures as one class.
    pub pooled: Figures,
    /// Curves of all pictures together first, then of each class where there are several.
    pub curves: Vec<Curves>,
    /// How the image scores spread.
    pub histogram: Option<Histogram>,
    /// The pictures to look at.
    pub groups: Vec<Group>,
    /// The map values of the lowest and the highest colour in their heat maps.
    pub scale: Option<(f32, f32)>,
    /// Pictures that are in no figure, and masks that could not be read, each with the reason.
    pub failed: Vec<String>,
    /// What else there is to say about the data: how many defective pictures have a mask, what was left out.
    pub notes: Vec<String>,
    /// How well types of defects were distinguished; none of a network that has no types.
    pub types: Option<TypeFigures>,
}

/// The curves of one class, or of all.
#[derive(Clone, Debug, Default)]
pub struct Curves {
    /// Of which set or method they are.
    pub name: String,
    /// False-positive rate and true-positive rate; the area is the AUROC.
    pub roc: Vec<Curve>,
    /// Recall and precision; the area is the average precision.
    pub precision_recall: Vec<Curve>,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// One score and one label per picture.
    Image,
    /// One score and one label per pixel.
    Pixel,
}

/// A curve in the unit square.
#[derive(Clone, Debug)]
pub struct Curve {
    /// What is counted.
    pub level: Level,
    /// The exact area, of the whole curve and not of the points that are drawn.
    pub area: Option<f64>,
    /// The points that are drawn, see [`thin`].
    pub points: Vec<(f64, f64)>,
}

/// How many pictures have which score, in bins of equal width.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    /// Where the first bin begins.
    pub low: f64,
    /// Where the last bin ends.
    pub high: f64,
    /// Normal pictures per bin.
    pub normal: Vec<usize>,
    /// Abnormal pictures per bin, as many bins.
    pub abnormal: Vec<usize>,
}

/// Pictures that belong together.
#[derive(Clone, Debug, Default)]
pub struct Group {
    /// What they have in common.
    pub title: String,
    /// The pictures, the most instructive one first.
    pub cases: Vec<Case>,
}

/// A picture with its verdict. Thumbnails are PNG or JPEG files.
#[derive(Clone, Debug, Default)]
pub struct Case {
    /// The file.
    pub file: String,
    /// What is on it.
    pub class: String,
    /// Name of the type of defect.
    pub kind: String,
    /// Whether the data set labels it as defective.
    pub anomalous: bool,
    /// The image score, 0..=1.
    pub score: f32,
    /// The photo, as the bytes of a picture file.
    pub photo: Option<Vec<u8>>,
    /// The photo under its heat map.
    pub heat: Option<Vec<u8>>,
    /// Where it is abnormal, white on black.
    pub mask: Option<Vec<u8>>,
}
