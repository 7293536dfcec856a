//! Pictures as a locked encoder sees them.

use crate::train::TrainError;
use crate::train::clip::{Preprocess, Visual};
use crate::train::fit::cache::Cache;
use crate::train::fit::encode::Cutter;
use crate::train::fit::order;
use crate::train::nn::image::ImageTower;
use crate::train::nn::layers::{Maker, put, unit, values};
use crate::train::progress::Interrupt;
use burn::tensor::Device;
use half::f16;
use indicatif::ProgressBar;
use ndarray::Array2;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Version of what is cached: it changes when its meaning does.
const VERSION: &str = "1";
/// Pictures that go through the encoder at once.
const BATCH: usize = 8;

/// What an encoder sees in a picture, up to its last block's MLP: nothing here changes when that one learns.
#[derive(Clone)]
pub struct Look {
    /// Patch features of length 1, [N, C], row by row.
    pub patches: Vec<f16>,
    /// The class row behind the last attention, `[width]`, rounded to f16.
    pub class: Vec<f32>,
}

impl Look {
    /// Patch features, [N, C].
    pub fn rows(&self, joint: usize) -> Array2<f32> {
        let values = self.patches.iter().map(|v| v.to_f32()).collect();
        Array2::from_shape_vec((self.patches.len() / joint, joint), values).expect("whole rows")
    }
}

/// A locked encoder, and what it has seen on disk.
pub struct Encoder {
    tower: ImageTower,
    cutter: Cutter,
    places: usize,
    pixels: usize,
    device: Device,
    cache: Cache,
}

impl Encoder {
    /// The encoder of the tower whose file has this digest; at most so many bytes stay in the folder of `cache`.
    ///
    /// # Errors
    /// [`TrainError::Output`] if the folder cannot be made.
    pub fn new(
        visual: &Visual,
        vv_layers: usize,
        digest: &str,
        cache: (&Path, u64),
        device: &Device,
    ) -> Result<Encoder, TrainError> {
        let mut maker = Maker::new(device, false);
        let activation = crate::bundle::manifest::ActivationKind::QuickGelu;
        let tower = ImageTower::new(visual, activation, visual.grid, vv_layers, &mut maker);
        let size = visual.patch * visual.grid;
        let key = format!("text {VERSION} {digest} {vv_layers}");
        Ok(Encoder {
            tower,
            cutter: Cutter::new(&Preprocess::default(), size, visual.patch),
            places: visual.grid * visual.grid,
            pixels: 3 * visual.patch * visual.patch,
            device: device.clone(),
            cache: Cache::keyed(cache.0, cache.1, &key, 1)?,
        })
    }

    /// What it sees in picture files, through the cache; an error for each that cannot be read.
    ///
    /// # Errors
    /// [`TrainError::Output`], [`TrainError::Interrupted`].
    pub fn look(
        &mut self,
        paths: &[PathBuf],
        stop: Interrupt,
        bar: &ProgressBar,
    ) -> Result<Vec<Result<Look, TrainError>>, TrainError> {
        let mut all = vec![];
        for chunk in paths.chunks(BATCH) {
            if stop.came() {
                return Err(TrainError::Interrupted {
                    after: "some pictures were looked at".into(),
                    checkpoint: "what was seen of them".into(),
                });
            }
            all.extend(self.chunk(chunk)?);
            bar.inc(chunk.len() as u64);
        }
        Ok(all)
    }

    fn chunk(&mut self, paths: &[PathBuf]) -> Result<Vec<Result<Look, TrainError>>, TrainError> {
        let (mut found, mut input, mut missing) = (vec![], vec![], vec![]);
        for path in paths {
            let kept = self.cache.path(path);
            let known = (kept.as_ref().ok()).and_then(|kept| self.known(kept));
            found.push(match (kept, known) {
                (Err(e), _) => Some(Err(e)),
                (Ok(_), Some(look)) => Some(Ok(look)),
                (Ok(kept), None) => match self.cutter.patches(path) {
                    Err(e) => Some(Err(e)),
                    Ok(patches) => {
                        input.extend(patches);
                        missing.push(kept);
                        None
                    }
                },
            });
        }
        let mut new = vec![];
        if !missing.is_empty() {
            let (b, n) = (missing.len(), self.places);
            let input = put(input, [b, n, self.pixels], &self.device);
            let (patches, class) = self.tower.before_last_mlp(input);
            let (c, width) = (patches.dims()[2], class.dims()[1]);
            let (patches, class) = (values(&unit(patches)), values(&class));
            for (i, kept) in missing.iter().enumerate() {
                // As it comes back from the cache, so that nothing depends on what lies there.
                let round = |v: &[f32]| -> Vec<f32> {
                    v.iter().map(|v| f16::from_f32(*v).to_f32()).collect()
                };
                let patches = round(&patches[i * n * c..(i + 1) * n * c]);
                let class = round(&class[i * width..(i + 1) * width]);
                let rows = |v, rows, columns| {
                    Array2::from_shape_vec((rows, columns), v).expect("whole rows")
                };
                let rows = [rows(patches, n, c), rows(class, 1, width)];
                self.cache.put_rows(kept, &rows)?;
                new.push(look(rows));
            }
        }
        let mut new = new.into_iter();
        let all = found.into_iter();
        Ok(all
            .map(|known| known.unwrap_or_else(|| Ok(new.next().expect("one of each missing"))))
            .collect())
    }

    /// What the cache knows of a picture.
    fn known(&self, kept: &Path) -> Option<Look> {
        let rows = <[_; 2]>::try_from(self.cache.get_rows(kept, 2)?).ok()?;
        (rows[0].nrows() == self.places && rows[1].nrows() == 1).then(|| look(rows))
    }
}

fn look([patches, class]: [Array2<f32>; 2]) -> Look {
    Look {
        patches: patches.iter().map(|v| f16::from_f32(*v)).collect(),
        class: class.into_raw_vec_and_offset().0,
    }
}

/// The class rows of some looks, [looks, width].
pub fn stacked<'a>(looks: impl Iterator<Item = &'a Look>) -> Array2<f32> {
    let rows: Vec<&[f32]> = looks.map(|l| l.class.as_slice()).collect();
    let width = rows.first().map_or(0, |r| r.len());
    Array2::from_shape_vec((rows.len(), width), rows.concat()).expect("rows of one width")
}

/// Says how many pictures cannot be read.
pub(super) fn left_out(wrong: &[String], what: &str) {
    if let Some(first) = wrong.first() {
        crate::report::warn(format_args!(
            "left out: {} {what} that cannot be read; the first: {first}",
            wrong.len()
        ));
    }
}

/// What is seen in a few photos of each label, chosen by chance; labels of which nothing can be read are left out.
///
/// # Errors
/// As [`Encoder::look`].
pub fn labelled(
    labels: &super::names::Labels,
    each: usize,
    encoder: &mut Encoder,
    seed: u64,
    stop: Interrupt,
    bar: &ProgressBar,
) -> Result<BTreeMap<String, Vec<Look>>, TrainError> {
    bar.set_length(labels.values().map(|p| p.len().min(each) as u64).sum());
    let (mut found, mut wrong) = (BTreeMap::new(), vec![]);
    for (label, paths) in labels {
        let chosen = order(paths.len(), seed, 0).into_iter().take(each);
        let paths: Vec<PathBuf> = chosen.map(|i| paths[i].clone()).collect();
        let mut looks = vec![];
        for look in encoder.look(&paths, stop, bar)? {
            match look {
                Ok(look) => looks.push(look),
                Err(e) => wrong.push(e.to_string()),
            }
        }
        if !looks.is_empty() {
            found.insert(label.clone(), looks);
        }
    }
    left_out(&wrong, "photos");
    Ok(found)
}
