//! The papers' tables for weights and sets of the user's own: our figures beside the reported ones.
//!
//! Every method of every set is a file of its own in the folder, so a run that was stopped goes on where it
//! was. Reported figures are data (`reported.json`), in percent: image AUROC and AP, pixel AUROC and PRO.

use crate::bundle::method::Method;
use crate::train::TrainError;
use crate::train::evaluate::Figures;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Figures that a paper reports for a method on a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reported {
    /// Image AUROC and average precision.
    #[serde(default)]
    pub image: Option<[f64; 2]>,
    /// Pixel AUROC and PRO.
    #[serde(default)]
    pub pixel: Option<[f64; 2]>,
}

/// What was measured of a method on a set.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cell {
    /// The set's name, as the papers have it if it is one of theirs.
    pub set: String,
    /// The method.
    pub method: Method,
    /// What it was measured with: digests of weights and checkpoint.
    pub made_from: Vec<String>,
    /// Means over the set's classes.
    pub figures: Figures,
    /// What the paper reports.
    pub reported: Option<Reported>,
}

/// What the papers report, by set and method.
///
/// # Panics
/// If the program's own list is no JSON, which a test sees to.
pub fn reported() -> BTreeMap<String, BTreeMap<Method, Reported>> {
    serde_json::from_str(include_str!("reported.json")).expect("the program's own list of figures")
}

/// The file of a cell.
pub fn path(folder: &Path, set: &str, method: Method) -> PathBuf {
    // A set's name is the user's: nothing of it may lead elsewhere.
    let plain = |c: char| {
        if c.is_alphanumeric() || c == '-' {
            c
        } else {
            '_'
        }
    };
    let name: String = set.chars().map(plain).collect();
    folder.join(format!("{name}.{method}.json"))
}

/// A cell that is there and was made from the same files.
pub fn done(path: &Path, made_from: &[String]) -> Option<Cell> {
    let text = std::fs::read_to_string(path).ok()?;
    let cell: Cell = serde_json::from_str(&text).ok()?;
    (cell.made_from == made_from).then_some(cell)
}

/// Writes a file whole or not at all.
///
/// # Errors
/// [`TrainError::Output`]: the file cannot be written.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    crate::bundle::save(bytes, path).map_err(|source| TrainError::Output {
        path: path.into(),
        source,
    })
}

/// A number in percent, or a dash.
fn percent(v: Option<f64>) -> String {
    v.map_or("-".into(), |v| format!("{:.1}", 100.0 * v))
}

fn pair(v: Option<[f64; 2]>) -> String {
    v.map_or("-".into(), |[a, b]| format!("{a:.1}, {b:.1}"))
}

/// The tables as one HTML page: a row for each set and method.
pub fn page(cells: &[Cell]) -> String {
    let mut out = String::from(
        "<!doctype html><meta charset=utf-8><title>Tables</title>\
         <style>body{font:14px sans-serif}td,th{padding:2px 10px;text-align:right}\
         td:first-child,td:nth-child(2){text-align:left}</style>\
         <h1>Image AUROC, AP and pixel AUROC, PRO, in percent</h1>\
         <table><tr><th>set<th>method<th>pictures<th>image<th>reported<th>pixel<th>reported",
    );
    for cell in cells {
        let f = &cell.figures;
        let reported = cell.reported.unwrap_or_default();
        let escaped = cell.set.replace('&', "&amp;").replace('<', "&lt;");
        // Writing to a string cannot fail.
        let _ = write!(
            out,
            "<tr><td>{escaped}<td>{}<td>{}<td>{}, {}<td>{}<td>{}, {}<td>{}",
            cell.method,
            f.images,
            percent(f.image_auroc),
            percent(f.image_ap),
            pair(reported.image),
            percent(f.pixel_auroc),
            percent(f.pixel_pro),
            pair(reported.pixel),
        );
    }
    out + "</table>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reported_figures_are_the_papers() {
        let all = reported();
        let cell = all["MVTecAD"][&Method::Winclip];
        assert_eq!(cell.image, Some([91.8, 96.5]));
        assert_eq!(cell.pixel, Some([85.1, 64.6]));
        let ours = all["MVTecAD"][&Method::Faprompt];
        assert_eq!(
            (ours.image, ours.pixel),
            (Some([91.9, 95.7]), Some([90.6, 83.3]))
        );
        // Sets without masks, and sets with masks alone.
        assert_eq!(all["ELPV"][&Method::Clip].pixel, None);
        assert_eq!(all["Kvasir"][&Method::Clip].image, None);
    }

    #[test]
    fn a_cell_is_done_if_it_was_made_from_the_same_files() {
        let folder = tempfile::tempdir().unwrap();
        let cell = Cell {
            set: "a/../b".into(),
            method: Method::Clip,
            made_from: vec!["1".into()],
            figures: Figures::default(),
            reported: None,
        };
        let path = path(folder.path(), &cell.set, cell.method);
        assert_eq!(path, folder.path().join("a____b.clip.json"));
        write(&path, serde_json::to_string(&cell).unwrap().as_bytes()).unwrap();
        assert!(done(&path, &["1".into()]).is_some());
        assert!(done(&path, &["2".into()]).is_none());
        std::fs::write(&path, "half").unwrap();
        assert!(done(&path, &["1".into()]).is_none());
        assert!(page(&[cell]).contains("<td>a/../b<td>clip<td>0<td>-, -"));
    }
}
