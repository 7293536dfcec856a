//! Pictures to the rows that a method looks at, through the cache.

use super::{Batch, Options};
use crate::bundle::manifest::ImageSpec;
use crate::bundle::method::MethodSpec;
use crate::bundle::tap::Tap;
use crate::capture;
use crate::train::TrainError;
use crate::train::datasets::Sample;
use crate::train::fit::Masks;
use crate::train::fit::cache::Cache;
use crate::train::methods::weights::Weights;
use crate::train::methods::words::class_words;
use crate::train::nn::image::{ImageTower, cut};
use crate::train::nn::layers::{Maker, put, values};
use crate::train::progress::Interrupt;
use crate::vision::Preprocessor;
use burn::tensor::{Device, Tensor};
use indicatif::ProgressBar;
use ndarray::Array2;
use std::path::{Path, PathBuf};

/// Pictures that go through the encoder at once.
const BATCH: usize = 4;

/// A frozen image encoder and what is wanted of it.
pub struct Pictures {
    tower: ImageTower,
    preprocessor: Preprocessor,
    size: usize,
    patch: usize,
    taps: Vec<Tap>,
    device: Device,
}

impl Pictures {
    /// Of `weights`, for pictures of the options' size, on a device without gradients.
    pub fn new<'a>(
        weights: impl Into<Weights<'a>>,
        spec: &MethodSpec,
        options: &Options,
        taps: Vec<Tap>,
        device: &Device,
    ) -> Pictures {
        let weights = weights.into();
        let (patch, size) = (weights.patch(), options.image_size);
        let grid = size / patch;
        let vv = spec.vv_layers(options.vv_layers, weights.layers());
        let mut m = Maker::new(device, false).with(options.products);
        let preprocess = weights.preprocess();
        let image = ImageSpec {
            size,
            patch,
            mean: preprocess.mean,
            std: preprocess.std,
            interpolation: preprocess.interpolation,
        };
        Pictures {
            tower: weights.tower(grid, spec.positions, vv, &mut m),
            preprocessor: Preprocessor::new(&image),
            size,
            patch,
            taps,
            device: device.clone(),
        }
    }

    /// What a cache of these rows is kept under: everything that they depend on but the picture.
    pub fn key<'a>(
        weights: impl Into<Weights<'a>>,
        spec: &MethodSpec,
        options: &Options,
        taps: &[Tap],
    ) -> String {
        let weights = weights.into();
        let names: Vec<String> = taps.iter().map(ToString::to_string).collect();
        let vv = spec.vv_layers(options.vv_layers, weights.layers());
        format!(
            "rows 2 {} {} {vv} {} {:?} {:?} {:?} {}",
            weights.digest(),
            options.image_size,
            weights.network(),
            options.products,
            spec.positions,
            weights.preprocess(),
            names.join(", ")
        )
    }

    /// A picture file cut into patches, [N, 3 * patch * patch].
    ///
    /// # Errors
    /// [`TrainError::Picture`] for a picture that cannot be read, [`TrainError::Data`] for one without pixels.
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

    /// Whether the encoder itself learns: then nothing can be kept, and pictures go in as they are.
    fn learns(&self) -> bool {
        self.taps.is_empty()
    }

    /// The rows of each tap of picture files; without a tap the pictures, cut into patches.
    ///
    /// # Errors
    /// As [`Pictures::patches`].
    pub fn run(&mut self, paths: &[PathBuf]) -> Result<Vec<Vec<Array2<f32>>>, TrainError> {
        if paths.is_empty() {
            return Ok(vec![]);
        }
        if self.learns() {
            let pixels = 3 * self.patch * self.patch;
            return paths
                .iter()
                .map(|path| {
                    let patches = self.patches(path)?;
                    let rows = (patches.len() / pixels, pixels);
                    let rows = Array2::from_shape_vec(rows, patches);
                    Ok(vec![rows.expect("whole patches")])
                })
                .collect();
        }
        let mut all = vec![];
        for path in paths {
            all.extend(self.patches(path)?);
        }
        let (b, grid) = (paths.len(), self.size / self.patch);
        let input = put(
            all,
            [b, grid * grid, 3 * self.patch * self.patch],
            &self.device,
        );
        let mut pictures = vec![vec![]; b];
        for tap in self.tower.taps(input, &self.taps, &[]) {
            let [_, n, c] = tap.dims();
            let numbers = values(&tap);
            for (picture, rows) in pictures.iter_mut().zip(numbers.chunks_exact(n * c)) {
                let rows = Array2::from_shape_vec((n, c), rows.to_vec());
                picture.push(rows.expect("a value per element"));
            }
        }
        Ok(pictures)
    }
}

/// What a method adds to a sample: a row of numbers.
pub type More<'a> = dyn Fn(&Sample) -> Vec<f32> + 'a;

/// A set that is ready to be learned from.
pub struct Set<'a> {
    /// The pictures.
    pub samples: &'a [Sample],
    /// Where the rows of each are.
    paths: Vec<PathBuf>,
    cache: &'a Cache,
    masks: Masks,
}

impl<'a> Set<'a> {
    /// Sees to it that every sample's rows are in the cache.
    ///
    /// # Errors
    /// [`TrainError::Pictures`] that names all that cannot be read, [`TrainError::Output`], [`TrainError::Paused`].
    pub fn encode(
        pictures: &mut Pictures,
        cache: &'a Cache,
        samples: &'a [Sample],
        stop: Interrupt,
        bar: &ProgressBar,
    ) -> Result<Set<'a>, TrainError> {
        bar.set_length(samples.len() as u64);
        let (mut paths, mut unread) = (vec![], vec![]);
        if pictures.learns() {
            return Ok(Set {
                samples,
                paths,
                cache,
                masks: Masks::default(),
            });
        }
        for (i, chunk) in samples.chunks(BATCH).enumerate() {
            if stop.came() {
                return Err(TrainError::Paused {
                    after: format!("{} pictures", i * BATCH),
                    saved: "the features so far".into(),
                });
            }
            let (mut images, mut missing) = (vec![], vec![]);
            for sample in chunk {
                match cache.path(&sample.image) {
                    Ok(path) if !path.is_file() => {
                        images.push(sample.image.clone());
                        missing.push(path.clone());
                        paths.push(path);
                    }
                    Ok(path) => paths.push(path),
                    Err(e) => unread.push(e.to_string()),
                }
            }
            match pictures.run(&images) {
                Ok(all) => {
                    for (rows, path) in all.iter().zip(&missing) {
                        cache.put_rows(path, rows)?;
                    }
                }
                // One of them: each by itself.
                Err(_) => {
                    for (image, path) in images.iter().zip(&missing) {
                        match pictures.run(std::slice::from_ref(image)) {
                            Ok(all) => all.iter().try_for_each(|r| cache.put_rows(path, r))?,
                            Err(e) => unread.push(e.to_string()),
                        }
                    }
                }
            }
            bar.inc(chunk.len() as u64);
        }
        if !unread.is_empty() {
            return Err(TrainError::Pictures(unread));
        }
        Ok(Set {
            samples,
            paths,
            cache,
            masks: Masks::default(),
        })
    }

    /// A sample's rows from the cache, or from the encoder if they are not (or no longer) there.
    ///
    /// # Errors
    /// As [`Pictures::run`].
    pub fn rows(&self, pictures: &mut Pictures, i: usize) -> Result<Vec<Array2<f32>>, TrainError> {
        let image = self.samples[i].image.clone();
        if pictures.learns() {
            return Ok(pictures.run(&[image])?.swap_remove(0));
        }
        if let Some(found) = self.cache.get_rows(&self.paths[i], pictures.taps.len()) {
            return Ok(found);
        }
        let rows = pictures.run(&[image])?.swap_remove(0);
        self.cache.put_rows(&self.paths[i], &rows)?;
        Ok(rows)
    }

    /// The batch of samples `chosen`; `extra` adds a row of its own to each sample, as a last tap.
    ///
    /// # Errors
    /// [`TrainError::Picture`] for a picture or mask that cannot be read.
    pub fn batch(
        &self,
        pictures: &mut Pictures,
        chosen: &[usize],
        extra: Option<&More<'_>>,
        types: &[String],
        device: &Device,
    ) -> Result<Batch, TrainError> {
        let size = pictures.size;
        let (mut taps, mut masks, mut labels): (Vec<(Vec<f32>, [usize; 2])>, _, _) =
            (vec![], vec![], vec![]);
        for i in chosen {
            let sample = &self.samples[*i];
            let mut rows = self.rows(pictures, *i)?;
            if let Some(extra) = extra {
                let row = extra(sample);
                let row = Array2::from_shape_vec((1, row.len()), row);
                rows.push(row.expect("a row"));
            }
            taps.resize(rows.len(), (vec![], [0, 0]));
            for ((all, dims), rows) in taps.iter_mut().zip(&rows) {
                all.extend(rows.iter());
                *dims = [rows.nrows(), rows.ncols()];
            }
            match &sample.mask {
                Some(path) => self.masks.append(*i, path, size, &mut masks)?,
                None => masks.resize(masks.len() + size * size, 0.0),
            }
            labels.push(f32::from(sample.anomalous));
        }
        let b = chosen.len();
        let taps = taps
            .into_iter()
            .map(|(values, [n, c])| put(values, [b, n, c], device))
            .collect::<Vec<Tensor<3>>>();
        Ok(Batch {
            taps,
            masks: put(masks, [b, size * size], device),
            labels: put(labels, [b], device),
            kinds: chosen
                .iter()
                .map(|i| kind(&self.samples[*i], types))
                .collect(),
            marked: chosen
                .iter()
                .map(|i| !self.samples[*i].anomalous || self.samples[*i].mask.is_some())
                .collect(),
        })
    }
}

/// 0 for a good picture, else 1 + its type's place among `types`; 1 for a type that is not there.
fn kind(sample: &Sample, types: &[String]) -> usize {
    if !sample.anomalous {
        return 0;
    }
    let word = class_words(&sample.kind);
    1 + types.iter().position(|t| *t == word).unwrap_or(0)
}
