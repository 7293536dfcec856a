//! RGB frame to normalised tensor, as the checkpoints were trained: Pillow's anti-aliased resizing.

use crate::bundle::manifest::{ImageSpec, Interpolation};
use crate::ops::slice_mut;
use crate::ops::tract::{IntoTValue, TValue, Tensor};
use crate::tiling::{Area, Tiling};
use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::F32x3;
use fast_image_resize::{FilterType, ImageView, ResizeAlg, ResizeError, ResizeOptions, Resizer};
use image::RgbImage;
use std::sync::Arc;

/// Why a frame could not be preprocessed.
#[derive(Debug, thiserror::Error)]
pub enum PreprocessError {
    /// A frame without pixels.
    #[error("a picture of {0} x {1} pixels")]
    Empty(u32, u32),
    /// The resizer's own.
    #[error("resizing: {0}")]
    Resize(#[from] ResizeError),
}

/// Resizes to S x S (aspect ratio ignored) and normalises.
///
/// Pillow resizes along one axis, rounds to 8 bits, and resizes along the other, with coefficients of
/// 22 bits. The 8-bit path of the resizing crate has shorter coefficients and an order of its own; it
/// lands one level off here and there, which moves patch scores by 3e-3. So both passes run in f32,
/// in Pillow's order, rounded in between.
pub struct Preprocessor {
    resizer: Resizer,
    options: ResizeOptions,
    /// The normalised value of each 8-bit level, per channel.
    levels: [[f32; 256]; 3],
    size: u32,
    source: Vec<F32x3>,
    between: TypedImage<'static, F32x3>,
    square: TypedImage<'static, F32x3>,
    /// What was handed on last: written again once nobody else holds it.
    tensor: Arc<Tensor>,
}

/// Rounds to the nearest of 256 levels, as storing to 8 bits does.
fn round_levels(image: &mut TypedImage<F32x3>) {
    image
        .pixels_mut()
        .iter_mut()
        // The conversion cuts off, and is one instruction everywhere; `floor` is a call on x86-64.
        .for_each(|p| p.0 = p.0.map(|v| f32::from((v + 0.5) as u8)));
}

/// Whether Pillow resizes vertically first: seen to hold for Pillow 13.0 on 254 random sizes.
fn rows_first(width: u32, height: u32, size: u32) -> bool {
    let (width, height, size) = (i64::from(width), i64::from(height), i64::from(size));
    height > size && height - size > 2 * (width - size)
}

impl Preprocessor {
    /// For frames of any size, to the size that the bundle asks for.
    pub fn new(spec: &ImageSpec) -> Self {
        let level = |c: usize, v: usize| (v as f32 / 255.0 - spec.mean[c]) / spec.std[c];
        let size = spec.size as u32;
        // Catmull-Rom is the cubic with a = -0.5, which is Pillow's BICUBIC, and the triangle its BILINEAR;
        // `Convolution` widens them when shrinking, as Pillow does.
        let filter = match spec.interpolation {
            Interpolation::Bicubic => FilterType::CatmullRom,
            Interpolation::Bilinear => FilterType::Bilinear,
        };
        Preprocessor {
            resizer: Resizer::new(),
            options: ResizeOptions::new()
                .resize_alg(ResizeAlg::Convolution(filter))
                .use_alpha(false),
            levels: std::array::from_fn(|c| std::array::from_fn(|v| level(c, v))),
            size,
            source: vec![],
            between: TypedImage::new(size, 1),
            square: TypedImage::new(size, size),
            tensor: Arc::new(
                Tensor::zero::<f32>(&[3, spec.size, spec.size]).expect("a small tensor"),
            ),
        }
    }

    /// A frame as [3, S, S] f32, normalised.
    ///
    /// # Errors
    /// A frame without pixels.
    pub fn run(&mut self, frame: &RgbImage) -> Result<TValue, PreprocessError> {
        let (width, height) = frame.dimensions();
        self.run_on(frame, Tiling::WHOLE.area(0, width, height))
    }

    /// The same of an area of a frame.
    ///
    /// # Errors
    /// An area without pixels, or that is not all of the frame's.
    pub fn run_on(&mut self, frame: &RgbImage, area: Area) -> Result<TValue, PreprocessError> {
        let (width, height) = (area.width, area.height);
        let inside = area.x + width <= frame.width() && area.y + height <= frame.height();
        if width == 0 || height == 0 || !inside {
            return Err(PreprocessError::Empty(width, height));
        }
        self.source.clear();
        let pixels = frame.as_raw().as_chunks::<3>().0;
        let rows = pixels.chunks_exact(frame.width() as usize);
        for row in rows.skip(area.y as usize).take(height as usize) {
            let row = &row[area.x as usize..][..width as usize];
            let pixels = row.iter().map(|p| F32x3::new(p.map(f32::from)));
            self.source.extend(pixels);
        }
        let between = if rows_first(width, height, self.size) {
            (width, self.size)
        } else {
            (self.size, height)
        };
        if (self.between.width(), self.between.height()) != between {
            self.between = TypedImage::new(between.0, between.1);
        }
        let source = TypedImageRef::new(width, height, &self.source)
            .map_err(|_| PreprocessError::Empty(width, height))?;
        self.resizer
            .resize_typed(&source, &mut self.between, &self.options)?;
        round_levels(&mut self.between);
        self.resizer
            .resize_typed(&self.between, &mut self.square, &self.options)?;
        round_levels(&mut self.square);
        let area = (self.size * self.size) as usize;
        let tensor = Arc::make_mut(&mut self.tensor);
        let values = slice_mut(tensor).expect("the tensor is f32 and contiguous");
        for (i, pixel) in self.square.pixels().iter().enumerate() {
            for c in 0..3 {
                values[c * area + i] = self.levels[c][pixel.0[c] as usize];
            }
        }
        Ok(self.tensor.clone().into_tvalue())
    }
}
