//! Pictures to features, through the cache.

use super::Options;
use super::cache::{Cache, Features};
use crate::bundle::manifest::ImageSpec;
use crate::capture;
use crate::train::TrainError;
use crate::train::clip::{Clip, Preprocess};
use crate::train::datasets::Sample;
use crate::train::nn::image::{ImageTower, cut};
use crate::train::nn::layers::{Maker, put, unit, values};
use crate::train::progress::Interrupt;
use crate::vision::Preprocessor;
use burn::tensor::Device;
use indicatif::ProgressBar;
use std::path::{Path, PathBuf};

/// Pictures that go through the encoder at once.
const BATCH: usize = 4;

/// Brings picture files to an encoder's input.
pub struct Cutter {
    preprocessor: Preprocessor,
    size: usize,
    patch: usize,
}

impl Cutter {
    /// For inputs of `size` px a side and patches of `patch` px.
    pub fn new(preprocess: &Preprocess, size: usize, patch: usize) -> Cutter {
        let preprocessor = Preprocessor::new(&ImageSpec {
            size,
            patch,
            mean: preprocess.mean,
            std: preprocess.std,
            interpolation: preprocess.interpolation,
        });
        Cutter {
            preprocessor,
            size,
            patch,
        }
    }

    /// Patches of a picture file, [N, 3 * patch * patch].
    ///
    /// # Errors
    /// [`TrainError::Picture`] for a picture that cannot be read.
    pub fn patches(&mut self, path: &Path) -> Result<Vec<f32>, TrainError> {
        let fail = |what: String| TrainError::Data {
            path: path.into(),
            what,
        };
        let frame = capture::load(path)?;
        let tensor = self
            .preprocessor
            .run(&frame)
            .map_err(|e| fail(e.to_string()))?;
        let pixels = crate::ops::slice(&tensor).map_err(|e| fail(e.to_string()))?;
        let mut patches = vec![];
        cut(pixels, self.size, self.patch, &mut patches);
        Ok(patches)
    }
}

/// A frozen image encoder for one input size.
pub struct Encoder {
    tower: ImageTower,
    cutter: Cutter,
    device: Device,
}

impl Encoder {
    /// The encoder of `clip`, for pictures of the options' size, on a device without gradients.
    pub fn new(clip: &Clip, options: &Options, device: &Device) -> Encoder {
        let (patch, size, vv_layers) = (clip.visual.patch, options.image_size, options.vv_layers);
        let mut m = Maker::new(device, false).with(options.products);
        Encoder {
            tower: ImageTower::new(
                &clip.visual,
                clip.activation,
                size / patch,
                vv_layers,
                &mut m,
            ),
            cutter: Cutter::new(&clip.preprocess, size, patch),
            device: device.clone(),
        }
    }

    /// Features of picture files.
    ///
    /// # Errors
    /// [`TrainError::Picture`] for a picture that cannot be read.
    pub fn run(&mut self, paths: &[PathBuf]) -> Result<Vec<Features>, TrainError> {
        if paths.is_empty() {
            return Ok(vec![]);
        }
        let mut all = vec![];
        for path in paths {
            all.extend(self.cutter.patches(path)?);
        }
        let (b, grid) = (paths.len(), self.cutter.size / self.cutter.patch);
        let pixels = 3 * self.cutter.patch * self.cutter.patch;
        let input = put(all, [b, grid * grid, pixels], &self.device);
        let (patches, images) = self.tower.forward(input);
        let (patches, images) = (unit(patches), unit(images));
        let [_, n, c] = patches.dims();
        let (patches, images) = (values(&patches), values(&images));
        Ok((0..b)
            .map(|i| Features {
                patches: patches[i * n * c..(i + 1) * n * c].to_vec(),
                image: images[i * c..(i + 1) * c].to_vec(),
            })
            .collect())
    }
}

/// Makes sure that every sample's features are in the cache; returns where each one's are, or why its picture
/// cannot be read.
///
/// # Errors
/// [`TrainError::Output`], [`TrainError::Paused`].
pub fn fill(
    encoder: &mut Encoder,
    cache: &Cache,
    samples: &[Sample],
    stop: Interrupt,
    bar: &ProgressBar,
) -> Result<Vec<Result<PathBuf, TrainError>>, TrainError> {
    bar.set_length(samples.len() as u64);
    let mut paths = vec![];
    for (i, chunk) in samples.chunks(BATCH).enumerate() {
        if stop.came() {
            return Err(TrainError::Paused {
                after: format!("{} pictures", i * BATCH),
                saved: "the features so far".into(),
            });
        }
        let (mut images, mut missing) = (vec![], vec![]);
        for sample in chunk {
            let path = cache.path(&sample.image);
            if let Ok(path) = &path
                && !path.is_file()
            {
                images.push(sample.image.clone());
                missing.push((paths.len(), path.clone()));
            }
            paths.push(path);
        }
        match encoder.run(&images) {
            Ok(features) => {
                for (features, (_, path)) in features.iter().zip(&missing) {
                    cache.put(path, features)?;
                }
            }
            // One of them: each by itself.
            Err(_) => {
                for (image, (at, path)) in images.iter().zip(&missing) {
                    match encoder.run(std::slice::from_ref(image)) {
                        Ok(features) => features.iter().try_for_each(|f| cache.put(path, f))?,
                        Err(e) => paths[*at] = Err(e),
                    }
                }
            }
        }
        bar.inc(chunk.len() as u64);
    }
    Ok(paths)
}

/// A sample's features from the cache, or from the encoder if they are not (or no longer) there.
///
/// # Errors
/// As [`Encoder::run`].
pub fn features(
    encoder: &mut Encoder,
    cache: &Cache,
    sample: &Sample,
    path: &Path,
) -> Result<Features, TrainError> {
    if let Some(found) = cache.get(path) {
        return Ok(found);
    }
    let mut found = encoder.run(std::slice::from_ref(&sample.image))?;
    let found = found.swap_remove(0);
    cache.put(path, &found)?;
    Ok(found)
}
