//! `teach`: a folder of good parts in, a memory of them out.

use super::{CliError, Network, cores, good_parts};
use clap::Args;
use faprompt_edge::bundle::method::Method;
use faprompt_edge::capture::{PatternCamera, survey};
use faprompt_edge::exit::ExitCode;
use faprompt_edge::inspector::{CutError, Inspector};
use faprompt_edge::memory::{Fusion, Kind, LIMIT, Lesson, Light, Settings, Views, refuse_options};
use faprompt_edge::ops::tract::TractError;
use faprompt_edge::report::{say, warn};
use faprompt_edge::tiling::Tiling;
use image::RgbImage;
use std::path::{Path, PathBuf};

/// Fewest good parts that can be taught.
const FEWEST: usize = 5;
/// Seed of generated parts: others than those that `run` shows unless it is told to.
const SEED: u64 = 1 << 32;
/// Most lines about parts; the oddest are shown.
const SHOWN: usize = 10;

#[derive(Args)]
pub struct Teach {
    /// Photos of good parts, or folders of them
    #[arg(required_unless_present = "generated")]
    paths: Vec<PathBuf>,
    /// Learn so many good parts of the generator too, whose parts `run --source pattern` shows
    #[arg(long, value_name = "N", default_value_t = 0)]
    generated: u16,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// How parts are compared with good ones [default: combined]
    #[arg(long, value_enum)]
    memory: Option<Kind>,
    /// How the memory's score and FAPrompt's become one
    #[arg(long, value_enum, default_value = "hand-over")]
    fusion: Fusion,
    /// Good parts of 100 that may be rejected, on average; with too few parts for that, as many as the largest
    /// of their scores lets through
    #[arg(long, value_name = "PERCENT", default_value_t = 1.0, value_parser = percent)]
    false_rejects: f64,
    /// Where on the picture parts are judged: a file of regions
    #[arg(long, value_name = "FILE")]
    regions: Option<PathBuf>,
    /// Cut each photo into rows x columns of tiles, as in 2x3, each encoded at full size: for small defects and
    /// long parts; 2x3+20 has tiles lie over each other by 20 % of their side [default overlap: 10 %]
    #[arg(long, value_name = "RxC", default_value = "1x1")]
    tiles: Tiling,
    #[command(flatten)]
    views: Views,
    /// Leave these photos out, by the names that the list has; several with commas, or --drop several times
    #[arg(long, value_name = "NAME")]
    drop: Vec<String>,
    /// Threads [default: all cores]
    #[arg(long, value_parser = super::threads)]
    threads: Option<usize>,
    #[command(flatten)]
    network: Network,
}

/// A percentage on the command line.
fn percent(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(v) if (0.0..50.0).contains(&v) => Ok(v),
        _ => Err("a number from 0 to 50".into()),
    }
}

fn failed(e: TractError) -> CliError {
    CliError::Internal(format!("{e:#}"))
}

impl Teach {
    pub fn run(&self) -> Result<ExitCode, CliError> {
        let mut photos = vec![];
        for root in &self.paths {
            let found = survey(root)?;
            if !found.left_out.is_empty() {
                warn(format_args!("{}: {}", root.display(), found.left_out));
            }
            photos.extend(found.files);
        }
        let bundle = self.network.open()?;
        let options = self.network.options(self.threads.unwrap_or(cores()));
        if good_parts::has_form(&bundle) {
            let method = bundle.manifest().method_name();
            if self.generated > 0 {
                return Err(CliError::Usage(format!(
                    "--generated: {method} learns from photos only"
                )));
            }
            let others = [
                ("--false-rejects", self.false_rejects != 1.0),
                ("--regions", self.regions.is_some()),
                ("--drop", !self.drop.is_empty()),
            ];
            refuse_options(method, (self.memory, self.fusion, self.views), &others)
                .map_err(|e| CliError::Usage(e.to_string()))?;
            let encoder = good_parts::encoder(&bundle);
            let mut inspector = super::inspector(&bundle, options)?;
            if !self.tiles.is_whole() {
                let refused = CutError::GoodParts(method);
                return Err(CliError::Usage(format!("--tiles: {refused}")));
            }
            return good_parts::teach(&mut inspector, &encoder, &photos, &self.out);
        }
        let mut inspector = super::inspector(
            &bundle,
            faprompt_edge::inspector::Options {
                memory: true,
                ..options
            },
        )?;
        drop(bundle);
        super::cut(&mut inspector, self.tiles)?;
        let layout = inspector
            .layout()
            .ok_or_else(|| CliError::Internal("a network without a memory".into()))?;
        let method = inspector.manifest().method_name();
        if self.regions.is_some() && method != Method::Faprompt && self.fusion != Fusion::Memory {
            return Err(CliError::Usage(format!(
                "--regions: {method} has one score of the whole picture, whatever lies in regions: add --fusion memory"
            )));
        }
        if let Some(path) = &self.regions {
            super::look(&mut inspector, path)?;
        }
        let settings = Settings {
            kind: self.memory,
            fusion: self.fusion,
            false_rejects: self.false_rejects / 100.0,
            regions: inspector.regions().clone(),
            views: self.views,
        };
        let mut lesson = Lesson::new(layout, settings).map_err(failed)?;
        let drop = self.names_to_drop(&photos);
        let (mut unread, mut dropped) = (0, 0);
        let mut seen = good_parts::Photos::default();
        for photo in &photos {
            let name = photo.display().to_string();
            if drop.iter().any(|d| is_called(photo, d)) {
                dropped += 1;
                continue;
            }
            let taken = seen
                .load(photo)
                .and_then(|frame| self.part(&mut inspector, &mut lesson, &name, &frame));
            if let Err(e) = taken {
                warn(format_args!("not taught: {e}"));
                unread += 1;
            }
        }
        for (name, frame) in PatternCamera::good_parts(SEED).take(self.generated.into()) {
            if let Err(e) = self.part(&mut inspector, &mut lesson, &name, &frame) {
                warn(format_args!("not taught: {e}"));
                unread += 1;
            }
        }
        if dropped < drop.len() {
            let text = format!(
                "--drop names {} photos, and {dropped} of them are there",
                drop.len()
            );
            return Err(CliError::Usage(text));
        }
        if lesson.len() < FEWEST {
            return Err(CliError::NothingTaught(format!(
                "{} good parts; teaching takes {FEWEST} at least",
                lesson.len()
            )));
        }
        let (encoder, arithmetic) = inspector
            .bound_to()
            .ok_or_else(|| CliError::Internal("a network without a memory".into()))?;
        let taught = lesson.finish(encoder, arithmetic).map_err(failed)?;
        taught.save(&self.out)?;
        let about = taught.about();
        let odd = about.judged();
        let tiles = match about.layout.tiles {
            Tiling::WHOLE => String::new(),
            tiles => format!(" in tiles of {tiles}"),
        };
        say(format_args!(
            "{} good parts, memory {}{tiles}, {}; a score above {LIMIT} is a reject",
            about.told.len(),
            about.kind.name(),
            self.out.display()
        ));
        say("oddest parts, each judged by the others (spreads above the median):");
        for part in odd.iter().take(SHOWN) {
            let mark = match part.is_odd() {
                true => "  ODD: look at it; if it is not good, teach again with --drop",
                false => "",
            };
            say(format_args!("  {:6.1}  {}{mark}", part.z, part.name));
        }
        if let Some(promise) = about.promise() {
            say(promise);
        }
        inspector.manifest().warning().iter().for_each(warn);
        Ok(match unread {
            0 => ExitCode::Good,
            _ => ExitCode::SomeInputsFailed,
        })
    }

    /// What `--drop` names: a text that is a photo's name as it stands, commas and all, or several between commas.
    fn names_to_drop(&self, photos: &[PathBuf]) -> Vec<&str> {
        let several = |text: &str| !photos.iter().any(|photo| is_called(photo, text));
        let texts = self.drop.iter();
        texts
            .flat_map(|text| match several(text) {
                true => text.split(',').collect(),
                false => vec![text.as_str()],
            })
            .collect()
    }

    fn part(
        &self,
        inspector: &mut Inspector,
        lesson: &mut Lesson,
        name: &str,
        frame: &RgbImage,
    ) -> Result<(), String> {
        let named = |e: &dyn std::fmt::Display| format!("{name}: {e}");
        let views = lesson.wants_views();
        let zero_shot = inspector
            .inspect(frame)
            .map_err(|e| named(&e))?
            .as_zero_shot();
        let descriptors = inspector.descriptors().unwrap_or(&[]);
        lesson
            .part(name, descriptors, zero_shot)
            .map_err(|e| named(&e))?;
        lesson.lit(Light::of(frame));
        for view in views.of(frame) {
            inspector.inspect(&view).map_err(|e| named(&e))?;
            let descriptors = inspector.descriptors().unwrap_or(&[]);
            lesson.view(descriptors).map_err(|e| named(&e))?;
        }
        Ok(())
    }
}

/// Whether a text is the photo's name, or its whole path.
fn is_called(photo: &Path, text: &str) -> bool {
    photo.as_os_str() == text || photo.file_name().is_some_and(|n| n == text)
}
