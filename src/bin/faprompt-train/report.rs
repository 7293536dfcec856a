//! What `evaluate` and `merge` say of judged sets: lines, JSON, a page.

use faprompt_edge::exit::ExitCode;
use faprompt_edge::report::{say, warn};
use faprompt_edge::train::TrainError;
use faprompt_edge::train::datasets::LeftOut;
use faprompt_edge::train::defect_types::{TypeFigures, type_figures};
use faprompt_edge::train::evaluate::{self, Figures, Judged, MaskCounts};
use faprompt_edge::train::few_shot::{FewShot, Row};
use faprompt_edge::train::metrics::threshold_text;
use faprompt_edge::train::page;
use faprompt_edge::train::shard::{About, Data};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// What `evaluate --json` writes for a data set.
#[derive(Serialize)]
struct SetReport {
    data: String,
    bundle: String,
    /// What each picture was cut into.
    tiles: String,
    warning: Option<String>,
    classes: BTreeMap<String, Figures>,
    mean: Figures,
    pooled: Figures,
    masks: MaskCounts,
    left_out: LeftOut,
    notes: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    few_shot: Vec<FewShot>,
    pictures: Vec<PictureReport>,
    failed: Vec<String>,
    /// How well types of defects were distinguished.
    #[serde(skip_serializing_if = "Option::is_none")]
    types: Option<TypeFigures>,
}

#[derive(Serialize)]
struct PictureReport {
    image: String,
    class: String,
    kind: String,
    anomalous: bool,
    /// Null of a bundle without words, which was taught nothing.
    score: Option<f32>,
    /// How much of it the mask marks, 0..=1; null without a mask.
    marked: Option<f64>,
    /// The most likely type of its defect, should it have one, or "unknown".
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    defect: Option<String>,
}

fn figure_row(name: &str, f: &Figures) -> String {
    let percent = |v: Option<f64>| v.map_or("    -".into(), |v| format!("{:5.1}", 100.0 * v));
    let threshold = f.f1_threshold.map_or("    -".into(), threshold_text);
    let trivial: Vec<String> = f.trivial_auroc.iter().map(|v| percent(*v)).collect();
    format!(
        "{name:24} {:6} {:5}  {} {}  {} {}  {} {}  {} {threshold}   {}",
        f.images,
        f.anomalous,
        percent(f.image_auroc),
        percent(f.image_ap),
        percent(f.pg2),
        percent(f.pb2),
        percent(f.pixel_auroc),
        percent(f.pixel_pro),
        percent(f.f1_max),
        trivial.join(" "),
    )
}

fn few_shot_row(r: &Row) -> String {
    let percent = |v: Option<f64>| v.map_or("    -".into(), |v| format!("{:5.1}", 100.0 * v));
    format!(
        "  {:3} shots, {:21}  {} {}  {} {}  {} {}  false rejects {} found {}",
        r.shots,
        format!("{} ({} taught)", r.memory, r.references),
        percent(r.image_auroc),
        percent(r.image_ap),
        percent(r.pg2),
        percent(r.pb2),
        percent(r.pixel_auroc),
        percent(r.pixel_pro),
        percent(r.false_rejects),
        percent(r.found),
    )
}

/// Says of a set why figures are missing, or are of fewer pictures than they seem to be.
fn doubts(path: &Path, judged: &[Judged]) {
    let bad = judged.iter().filter(|j| j.sample.anomalous).count();
    let marked = judged.iter().filter(|j| j.has_mask()).count();
    if bad == 0 || bad == judged.len() {
        warn(format_args!(
            "{}: {bad} of {} pictures are abnormal: AUROC and F1max need both kinds",
            path.display(),
            judged.len()
        ));
    }
    if (1..bad).contains(&marked) {
        warn(format_args!(
            "{}: pixel figures leave out the {} defective pictures without a mask",
            path.display(),
            bad - marked
        ));
    }
    if bad > 0 && marked == 0 {
        warn(format_args!(
            "{}: no defective picture has a mask: there are no pixel figures",
            path.display()
        ));
    }
}

/// Finds out now whether a result can be written; hours later it would be too late to say so. Leaves nothing
/// behind.
pub fn can_be_written(path: &Path) -> std::io::Result<()> {
    if path.exists() {
        return File::options().append(true).open(path).map(|_| ());
    }
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
    tempfile::tempfile_in(folder.unwrap_or(Path::new("."))).map(|_| ())
}

/// Where a file lies, whatever it is called by; the file itself need not be there.
fn place(path: &Path) -> PathBuf {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new(".")).canonicalize();
    let named = || Some(folder.ok()?.join(path.file_name()?));
    let known = path.canonicalize().ok();
    known.or_else(named).unwrap_or_else(|| path.to_path_buf())
}

/// Refuses results, by the options that name them, that would replace what they are made from or one another.
///
/// # Errors
/// [`TrainError::Options`].
pub fn refuse_own_inputs<'a>(
    results: &[(&str, Option<&PathBuf>)],
    inputs: impl IntoIterator<Item = Option<&'a Path>>,
) -> Result<(), TrainError> {
    let results = || results.iter().filter_map(|(o, path)| Some((o, (*path)?)));
    let mut taken: Vec<PathBuf> = inputs.into_iter().flatten().map(place).collect();
    for (option, path) in results() {
        let own = place(path);
        // What goes to a pipe or a device replaces nothing.
        if taken.contains(&own) && (own.is_file() || !own.exists()) {
            return Err(TrainError::Options(format!(
                "{option} {}: this is another of the files that were named, and would be replaced: choose another name",
                path.display()
            )));
        }
        taken.push(own);
    }
    Ok(())
}

/// Writes a result: whole or not at all, unless it goes to a pipe or a device.
fn write(path: &Path, text: &str) -> Result<(), TrainError> {
    let written = match path.exists() && !path.is_file() {
        true => File::options()
            .write(true)
            .open(path)
            .and_then(|mut f| f.write_all(text.as_bytes())),
        false => faprompt_edge::bundle::save(text.as_bytes(), path),
    };
    written.map_err(|source| TrainError::Output {
        path: path.into(),
        source,
    })
}

/// The same of every file that is asked for.
///
/// # Errors
/// [`TrainError::Output`]: the file cannot be written.
pub fn can_all_be_written<'a>(
    files: impl IntoIterator<Item = &'a PathBuf>,
) -> Result<(), TrainError> {
    for path in files {
        can_be_written(path).map_err(|source| TrainError::Output {
            path: path.clone(),
            source,
        })?;
    }
    Ok(())
}

/// Collects what becomes of sets.
pub struct Reporter {
    about: About,
    json: Option<PathBuf>,
    html: Option<PathBuf>,
    reports: Vec<SetReport>,
    shown: Vec<page::Set>,
    any_failed: bool,
}

impl Reporter {
    /// Of what judged; prints the head of the table.
    pub fn new(about: About, json: Option<PathBuf>, html: Option<PathBuf>) -> Reporter {
        say(format_args!(
            "{:24} {:6} {:5}  {:11}  {:11}  {:11}  {:11}   trivial image AUROC",
            "", "", "", "image", "", "pixel", ""
        ));
        say(format_args!(
            "class                    images   bad  AUROC    AP    pg2   pb2  AUROC   PRO  F1max  thr.    light gradi lapla"
        ));
        Reporter {
            about,
            json,
            html,
            reports: vec![],
            shown: vec![],
            any_failed: false,
        }
    }

    /// Says what became of a set; `few_shot` is worked out between its lines.
    ///
    /// # Errors
    /// Those of `few_shot`.
    pub fn set(
        &mut self,
        data: Data,
        judged: &[Judged],
        failed: Vec<String>,
        few_shot: impl FnOnce() -> Result<Vec<FewShot>, TrainError>,
    ) -> Result<(), TrainError> {
        let path = &data.path;
        failed
            .iter()
            .for_each(|f| warn(format_args!("not counted: {f}")));
        self.any_failed |= !failed.is_empty();
        doubts(path, judged);
        let masks = MaskCounts::of(judged);
        let mut notes = vec![masks.to_string()];
        notes.extend(data.notes);
        let classes = evaluate::by_class(judged);
        let (mean, pooled) = (
            evaluate::mean(&classes),
            evaluate::figures(&judged.iter().collect::<Vec<_>>()),
        );
        say(format_args!("{}: {masks}", path.display()));
        classes
            .iter()
            .for_each(|(name, f)| say(figure_row(&format!("  {name}"), f)));
        if classes.len() > 1 {
            say(figure_row("  mean over classes", &mean));
            say(figure_row("  pooled", &pooled));
        }
        let types = type_figures(judged, &self.about.types);
        types.iter().for_each(|t| say(format_args!("  types: {t}")));
        let few_shot = few_shot()?;
        for row in &few_shot {
            match row.mean.references {
                0 => warn(format_args!(
                    "{}: --shots: nothing was taught, for no class has a good picture to spare: a set's `train` part is \
                     taken, else at most half of its good pictures",
                    path.display()
                )),
                _ => say(few_shot_row(&row.mean)),
            }
        }
        if self.html.is_some() {
            self.shown.push(page::set(&page::Outcome {
                data: path,
                judged,
                classes: &classes,
                mean: &mean,
                pooled: &pooled,
                failed: &failed,
                notes: &notes,
                threshold: self.about.threshold,
                types: types.as_ref(),
            }));
        }
        let picture = |j: &Judged| PictureReport {
            image: j.sample.image.display().to_string(),
            class: j.sample.class.clone(),
            kind: j.sample.kind.clone(),
            anomalous: j.sample.anomalous,
            score: (!j.untaught).then_some(j.score),
            marked: j.marked,
            defect: j.defect.clone(),
        };
        self.reports.push(SetReport {
            data: path.display().to_string(),
            bundle: self.about.bundle.clone(),
            tiles: self.about.tiles.to_string(),
            warning: self.about.warning.clone(),
            pictures: judged.iter().map(picture).collect(),
            classes,
            mean,
            pooled,
            masks,
            left_out: data.left_out,
            notes,
            few_shot,
            failed,
            types,
        });
        Ok(())
    }

    /// Writes what was asked for.
    ///
    /// # Errors
    /// [`TrainError::Output`]: the file cannot be written.
    pub fn finish(self) -> Result<ExitCode, TrainError> {
        if self.reports.len() > 1 {
            let means = |r: &SetReport| (r.data.clone(), r.mean.clone());
            let all = evaluate::mean(&self.reports.iter().map(means).collect());
            say(figure_row("mean over sets", &all));
        }
        if let Some(path) = &self.json {
            let text =
                serde_json::to_string_pretty(&self.reports).map_err(|e| TrainError::Output {
                    path: path.clone(),
                    source: e.into(),
                })?;
            write(path, &text)?;
        }
        if let Some(path) = &self.html {
            let text = page::page(&page::Page {
                title: "Evaluation".into(),
                bundle: self.about.bundle,
                warning: self.about.warning.clone(),
                software: concat!("faprompt-train ", env!("CARGO_PKG_VERSION")).into(),
                sets: self.shown,
            });
            write(path, &text)?;
        }
        self.about.warning.iter().for_each(say);
        Ok(if self.any_failed {
            ExitCode::SomeInputsFailed
        } else {
            ExitCode::Good
        })
    }
}
