//! The photos that views are cut from: squares in memory.

use crate::capture;
use crate::report::warn;
use crate::train::TrainError;
use crate::train::progress::Interrupt;
use crate::train::render;
use crate::train::tensors::file_digest;
use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::{InnerPixel, U8x3};
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use image::RgbImage;
use indicatif::ProgressBar;
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// Red, green, blue.
pub const CHANNELS: usize = 3;

/// A photo as a square of bytes.
pub struct Square {
    /// Its side in pixels.
    pub side: usize,
    /// RGB, [side, side, 3].
    pub bytes: Vec<u8>,
}

impl Square {
    /// The middle of a picture, its shorter side brought to `side` px (Lanczos, as Pillow does).
    ///
    /// # Errors
    /// The resizer's, for a picture without pixels.
    pub fn of(picture: RgbImage, side: usize) -> Result<Square, String> {
        let (width, height) = picture.dimensions();
        if (width as usize, height as usize) == (side, side) {
            let bytes = picture.into_raw();
            return Ok(Square { side, bytes });
        }
        // For pixels of one type: `resize` would bring the code for all of them.
        let from = TypedImageRef::<U8x3>::from_buffer(width, height, picture.as_raw());
        let from = from.map_err(|e| e.to_string())?;
        let mut square = TypedImage::new(side as u32, side as u32);
        let options = ResizeOptions::new()
            .resize_alg(ResizeAlg::Convolution(FilterType::Lanczos3))
            .fit_into_destination(Some((0.5, 0.5)));
        let done = Resizer::new().resize_typed(&from, &mut square, &options);
        done.map_err(|e| e.to_string())?;
        let bytes = U8x3::components(square.pixels()).to_vec();
        Ok(Square { side, bytes })
    }

    fn at(&self, x: usize, y: usize) -> [f32; CHANNELS] {
        let at = CHANNELS * (y * self.side + x);
        std::array::from_fn(|c| f32::from(self.bytes[at + c]) / 255.0)
    }

    /// The colour at a place within the square, 0..=1, between its four neighbours.
    pub fn sample(&self, x: f32, y: f32) -> [f32; CHANNELS] {
        let last = self.side - 1;
        let (x0, y0) = ((x as usize).min(last), (y as usize).min(last));
        let (x1, y1) = ((x0 + 1).min(last), (y0 + 1).min(last));
        let (fx, fy) = (x - x0 as f32, y - y0 as f32);
        let four = [
            self.at(x0, y0),
            self.at(x1, y0),
            self.at(x0, y1),
            self.at(x1, y1),
        ];
        let weights = [
            (1.0 - fx) * (1.0 - fy),
            fx * (1.0 - fy),
            (1.0 - fx) * fy,
            fx * fy,
        ];
        std::array::from_fn(|c| four.iter().zip(weights).map(|(p, w)| w * p[c]).sum())
    }

    /// The same anywhere, where the square lies on a ground of one colour.
    pub fn sample_on(&self, x: f32, y: f32, ground: [f32; CHANNELS]) -> [f32; CHANNELS] {
        let (x0, y0) = (x.floor(), y.floor());
        let (fx, fy) = (x - x0, y - y0);
        let mut sum = [0.0; CHANNELS];
        for (dx, wx) in [(0.0, 1.0 - fx), (1.0, fx)] {
            for (dy, wy) in [(0.0, 1.0 - fy), (1.0, fy)] {
                let (px, py) = (x0 + dx, y0 + dy);
                let within = |v: f32| v >= 0.0 && v < self.side as f32;
                let pixel = match within(px) && within(py) {
                    true => self.at(px as usize, py as usize),
                    false => ground,
                };
                for (sum, value) in sum.iter_mut().zip(pixel) {
                    *sum += wx * wy * value;
                }
            }
        }
        sum
    }
}

/// Every photo, and what they are.
pub struct Photos {
    /// The photos in the order of their sorted names, folder by folder; rendered scenes last.
    pub squares: Vec<Square>,
    /// Photos that cannot be read.
    pub broken: usize,
    /// SHA-256 over the photos' files, in order, and over how many scenes are rendered.
    pub digest: String,
}

/// What one file came to.
type Read = Result<(Square, String), String>;

fn read(path: &Path, side: usize) -> Read {
    let picture = capture::load(path).map_err(|e| e.to_string())?;
    let square = Square::of(picture, side).map_err(|e| format!("{}: {e}", path.display()))?;
    let digest = file_digest(path).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok((square, digest))
}

impl Photos {
    /// Reads every picture in or under `folders` as a square of `side` px, and renders as many scenes beside them.
    /// Files that cannot be read are left out, counted, and the first one is named.
    ///
    /// # Errors
    /// [`TrainError::Data`] if there is none; [`TrainError::Picture`] for a folder that cannot be read;
    /// [`TrainError::Interrupted`].
    pub fn load(
        folders: &[PathBuf],
        rendered: usize,
        side: usize,
        seed: u64,
        stop: Interrupt,
        bar: &ProgressBar,
    ) -> Result<Photos, TrainError> {
        let mut paths = vec![];
        for folder in folders {
            let found = capture::list(folder)?;
            if found.is_empty() {
                return Err(TrainError::Data {
                    path: folder.clone(),
                    what: "--photos: no picture in it".into(),
                });
            }
            paths.extend(found);
        }
        bar.set_length((paths.len() + rendered) as u64);
        let interrupted = || TrainError::Interrupted {
            after: "some photos were read".into(),
            checkpoint: "nothing new".into(),
        };
        let one = |path: &PathBuf| {
            bar.inc(1);
            (!stop.came()).then(|| read(path, side))
        };
        let all: Vec<Option<Read>> = paths.par_iter().map(one).collect();
        let mut digest = Sha256::new();
        let (mut squares, mut wrong) = (vec![], vec![]);
        for read in all {
            match read.ok_or_else(interrupted)? {
                Ok((square, own)) => {
                    digest.update(own);
                    squares.push(square);
                }
                Err(what) => wrong.push(what),
            }
        }
        if let Some(first) = wrong.first() {
            warn(format_args!(
                "left out: {} of {} photos that cannot be read; the first: {first}",
                wrong.len(),
                paths.len()
            ));
        }
        if squares.is_empty() && rendered == 0 {
            return Err(TrainError::Data {
                path: folders.first().cloned().unwrap_or_default(),
                what: "--photos: none of its pictures can be read".into(),
            });
        }
        let scene = |index: usize| {
            bar.inc(1);
            // Half of them as they should be, half with a defect.
            let (good, bad) = render::pair(seed, index as u64, side);
            let picture = if index.is_multiple_of(2) { good } else { bad };
            (!stop.came()).then(|| Square::of(picture.image, side))
        };
        let scenes: Vec<_> = (0..rendered).into_par_iter().map(scene).collect();
        for scene in scenes {
            let square = scene.ok_or_else(interrupted)?;
            squares.push(square.map_err(TrainError::Options)?);
        }
        digest.update(format!("{rendered} rendered {seed}"));
        Ok(Photos {
            squares,
            broken: wrong.len(),
            digest: crate::bundle::envelope::hex(&digest.finalize()),
        })
    }
}
