//! What a text encoder shall meet: directions of damage, the last MLP taught to answer along them, and names.

use super::super::student::HEAD;
use super::checkpoint::Locked;
use super::directions;
use super::last::{self, Last, Wanted};
use super::names::{self, Names};
use super::pictures::{Encoder, labelled, stacked};
use super::seen::Seen;
use super::{Given, News, Options};
use crate::train::TrainError;
use crate::train::clip::Visual;
use crate::train::progress::{Interrupt, bar};
use crate::train::tensors::{Tensors, VV_LAYERS};
use burn::tensor::Device;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

/// Runs with other random numbers whose mean the directions are.
const RUNS: u64 = 3;

/// A distilled encoder from its file.
pub struct Tower {
    /// Its numbers.
    pub visual: Visual,
    /// Blocks with the V-V stream, counted from the last.
    pub vv_layers: usize,
    /// SHA-256 of the file.
    pub digest: String,
    /// What it was made from: its teachers and photos.
    pub sources: BTreeMap<String, String>,
}

impl Tower {
    /// Reads what `distil` writes with the ending .safetensors.
    ///
    /// # Errors
    /// [`TrainError::Weights`]: unreadable, no image encoder in it, or one whose features a text encoder of heads 64
    /// channels wide cannot have.
    pub fn load(path: &Path) -> Result<Tower, TrainError> {
        let wrong = |what: String| TrainError::Weights {
            path: path.into(),
            what,
        };
        let tensors = Tensors::load(path).map_err(|e| wrong(e.to_string()))?;
        let visual = Visual::of_file(&tensors).map_err(|e| wrong(e.to_string()))?;
        let joint = visual.proj.nrows();
        if !joint.is_multiple_of(HEAD) {
            return Err(wrong(format!(
                "its features have {joint} numbers, which a text encoder of heads {HEAD} channels wide cannot have: distil \
                 it with --joint {}",
                joint.next_multiple_of(HEAD)
            )));
        }
        let vv_layers = tensors.note(VV_LAYERS).and_then(|v| v.parse().ok());
        let vv_layers = vv_layers.filter(|n| (1..=visual.blocks.len()).contains(n));
        Ok(Tower {
            vv_layers: vv_layers.ok_or_else(|| {
                wrong(format!("metadata `{VV_LAYERS}`: how many blocks carry the V-V stream; `distil` writes it"))
            })?,
            digest: tensors.digest().map_err(|e| wrong(e.to_string()))?,
            sources: tensors.sources(),
            visual,
        })
    }
}

/// What the locked encoder sees, and how.
struct Looked<'a> {
    seen: &'a Seen,
    images: ndarray::Array2<f32>,
    last: Last,
}

impl<'a> Looked<'a> {
    fn new(tower: &Tower, seen: &'a Seen, device: &Device) -> Looked<'a> {
        let last = Last::new(&tower.visual, device);
        Looked {
            images: last.images(&seen.class_rows()),
            seen,
            last,
        }
    }
}

fn encoder(given: &Given, cache: (&Path, u64), device: &Device) -> Result<Encoder, TrainError> {
    let tower = given.tower;
    Encoder::new(&tower.visual, tower.vv_layers, &tower.digest, cache, device)
}

fn look(
    given: &Given,
    encoder: &mut Encoder,
    stop: Interrupt,
    told: &mut impl FnMut(News),
) -> Result<Seen, TrainError> {
    let (clock, bar) = (Instant::now(), bar(0, "labelled pictures"));
    let seen = Seen::look(given.sets, &given.tower.visual, encoder, stop, &bar)?;
    bar.finish_and_clear();
    told(News::Looked {
        pictures: seen.shown.len(),
        broken: seen.broken,
        seconds: clock.elapsed().as_secs_f64(),
    });
    Ok(seen)
}

/// Judges each set that is not rendered by what all others teach.
///
/// # Errors
/// As for [`super::text`]; [`TrainError::Options`] if nothing would teach.
pub fn leave_out(
    options: &Options,
    given: &Given,
    cache: (&Path, u64),
    device: &Device,
    stop: Interrupt,
    mut told: impl FnMut(News),
) -> Result<(), TrainError> {
    if given.sets.len() < 2 {
        return Err(TrainError::Options(
            "--leave-out: at least two sets are wanted: one to be judged, and one that teaches"
                .into(),
        ));
    }
    let seen = look(given, &mut encoder(given, cache, device)?, stop, &mut told)?;
    let learning = device.clone().autodiff();
    let looked = Looked::new(given.tower, &seen, &learning);
    for (set, name) in seen
        .names
        .iter()
        .enumerate()
        .filter(|(i, _)| !seen.rendered[*i])
    {
        let others: Vec<usize> = (0..seen.names.len()).filter(|s| *s != set).collect();
        let part = options.rendered_part;
        let found = directions::learn(
            &seen,
            &looked.images,
            &others,
            part,
            options.seed,
            &learning,
        );
        let judged = directions::judge(&seen, looked.images.view(), set, &found);
        told(News::LeftOut(name.clone(), judged));
    }
    Ok(())
}

/// Finds the directions, and teaches the last MLP.
pub(super) fn lock(
    options: &Options,
    given: &Given,
    cache: (&Path, u64),
    device: &Device,
    stop: Interrupt,
    told: &mut impl FnMut(News),
) -> Result<Locked, TrainError> {
    let labels = names::labels(given.labels)?;
    let mut encoder = encoder(given, cache, device)?;
    let seen = look(given, &mut encoder, stop, told)?;
    let learning = device.clone().autodiff();
    let looked = Looked::new(given.tower, &seen, &learning);
    let all: Vec<usize> = (0..seen.names.len()).collect();
    let runs: Vec<directions::Found> = (0..RUNS)
        .map(|run| {
            let seed = options.seed + run;
            let part = options.rendered_part;
            directions::learn(looked.seen, &looked.images, &all, part, seed, &learning)
        })
        .collect();
    let found = directions::mean(&runs);
    let wanted = Wanted::new(seen.class_rows(), looked.images, &found);
    let (last, agreed) = looked.last.learn(&wanted, &found.patches, options.seed);
    let length = |v: &ndarray::Array1<f32>| v.dot(v).sqrt();
    told(News::Directions {
        patches: length(&found.patches),
        images: length(&found.images),
        agreed,
    });
    let bar = bar(0, "photos");
    let photos = labelled(
        &labels,
        options.each,
        &mut encoder,
        options.seed,
        stop,
        &bar,
    )?;
    bar.finish_and_clear();
    if photos.is_empty() {
        return Err(TrainError::Data {
            path: given.labels.into(),
            what: "none of its photos can be read".into(),
        });
    }
    let features: BTreeMap<String, _> = photos
        .iter()
        .map(|(label, looks)| (label.clone(), last.images(&stacked(looks.iter()))))
        .collect();
    let [normal, damaged] = last::axis(&found.patches);
    let names = Names {
        normal,
        damaged,
        things: names::things(&features),
        kinds: names::kinds(&seen),
    };
    told(News::Named {
        photos: photos.values().map(Vec::len).sum(),
        things: names.things.len(),
        kinds: names.kinds.keys().cloned().collect(),
    });
    let from = &given.tower.visual;
    let mut blocks = from.blocks.clone();
    if let Some(block) = blocks.last_mut() {
        *block = last.export();
    }
    let visual = Visual {
        conv1: from.conv1.clone(),
        class: from.class.clone(),
        positions: from.positions.clone(),
        ln_pre: from.ln_pre.clone(),
        blocks,
        ln_post: from.ln_post.clone(),
        proj: from.proj.clone(),
        ..*from
    };
    Ok(Locked { visual, names })
}
