//! Masks: where a defective picture is abnormal, in the forms in which people store it.
//!
//! Ids of defects in 8 or 16 bits, palettes, alpha channels, lossy files, several files for one picture.
//! Never changes what a mask marks without the user's word.

use crate::capture::{self, CaptureError, MAX_PIXELS};
use image::imageops::{self, FilterType};
use image::{DynamicImage, GrayImage, ImageDecoder, ImageFormat, ImageReader, Luma};
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

/// A mask that marks more of its picture than this is inverted, as far as anybody can see: the largest
/// defects of the public data sets cover about two thirds.
pub const NEARLY_ALL: f64 = 0.8;

/// What to do about masks that mark nearly all, by whether they were turned.
pub fn when_nearly_all(turned: bool) -> &'static str {
    match turned {
        true => "if white is what is defective: leave --invert-masks out",
        false => "if white is what is normal: --invert-masks",
    }
}

/// Where a picture is abnormal: whatever one of the files marks.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mask {
    /// The files; MVTec LOCO has one per defect.
    pub files: Vec<PathBuf>,
    /// Whether they mark what is normal.
    pub inverted: bool,
}

impl From<PathBuf> for Mask {
    fn from(file: PathBuf) -> Self {
        Mask {
            files: vec![file],
            inverted: false,
        }
    }
}

/// What a mask marks, at the size at which it was drawn.
pub struct Marks {
    marks: GrayImage,
}

/// The value of a marked pixel.
const ON: Luma<u8> = Luma([255]);

impl Mask {
    /// The first file, to name it by.
    pub fn name(&self) -> &Path {
        self.files.first().map_or(Path::new(""), PathBuf::as_path)
    }

    /// Reads all its files.
    ///
    /// # Errors
    /// The first file that cannot be read, or is of another size than those before it.
    pub fn read(&self) -> Result<Marks, CaptureError> {
        let mut all: Option<GrayImage> = None;
        for path in &self.files {
            let marks = read(path)?;
            match &mut all {
                None => all = Some(marks),
                Some(all) if all.dimensions() == marks.dimensions() => {
                    let pairs = all.iter_mut().zip(marks.iter());
                    pairs.for_each(|(a, b)| *a |= *b);
                }
                Some(all) => {
                    let (w, h) = all.dimensions();
                    let what = format!(
                        "{} x {} pixels, but another mask of the same picture has {w} x {h}",
                        marks.width(),
                        marks.height()
                    );
                    return Err(CaptureError::Unreadable {
                        path: path.clone(),
                        source: std::io::Error::other(what),
                    });
                }
            }
        }
        let mut marks = all.unwrap_or_default();
        if self.inverted {
            marks.iter_mut().for_each(|v| *v = !*v);
        }
        Ok(Marks { marks })
    }
}

impl Marks {
    /// How much of the picture is marked, 0..=1.
    pub fn share(&self) -> f64 {
        let marked = self.marks.iter().filter(|v| **v > 0).count();
        marked as f64 / self.marks.len().max(1) as f64
    }

    /// How much of each place of a grid is marked, 0..=1, `grid` * `grid` values, row by row.
    pub fn shares(&self, grid: usize) -> Vec<f32> {
        let (width, height) = self.marks.dimensions();
        // Where a pixel lies in places, and how much of it in each of them.
        let along = |pixels: u32| {
            let scale = grid as f32 / pixels.max(1) as f32;
            let one = move |at: u32| -> Vec<(usize, f32)> {
                let (from, to) = (at as f32 * scale, (at + 1) as f32 * scale);
                let last = (to.ceil() as usize).clamp(1, grid);
                (from as usize..last)
                    .map(|place| {
                        let within = to.min((place + 1) as f32) - from.max(place as f32);
                        (place, within.max(0.0))
                    })
                    .collect()
            };
            (0..pixels).map(one).collect::<Vec<_>>()
        };
        let (columns, rows) = (along(width), along(height));
        let mut shares = vec![0.0; grid * grid];
        for (x, y, v) in self.marks.enumerate_pixels() {
            if v.0[0] == 0 {
                continue;
            }
            for (row, tall) in &rows[y as usize] {
                for (column, wide) in &columns[x as usize] {
                    shares[row * grid + column] += tall * wide;
                }
            }
        }
        shares
    }

    /// The mask at the size of a map, as the published code makes it: resized bilinearly, cut at one half. `side` *
    /// `side` values, row by row.
    pub fn at(&self, side: usize) -> Vec<bool> {
        let side = side as u32;
        imageops::resize(&self.marks, side, side, FilterType::Triangle)
            .iter()
            .map(|v| *v > 127)
            .collect()
    }
}

/// Width and height of a picture as it is shown: turned as its EXIF data say. `None` if the file does not say.
pub fn size(path: &Path) -> Option<(u32, u32)> {
    let reader = ImageReader::open(path).ok()?.with_guessed_format().ok()?;
    let mut decoder = reader.into_decoder().ok()?;
    let (w, h) = decoder.dimensions();
    use image::metadata::Orientation::*;
    Some(match decoder.orientation().ok()? {
        Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH => (h, w),
        _ => (w, h),
    })
}

/// What one file marks.
fn read(path: &Path) -> Result<GrayImage, CaptureError> {
    let unreadable = |source| CaptureError::Unreadable {
        path: path.to_path_buf(),
        source,
    };
    let damaged = |source| CaptureError::Damaged {
        path: path.to_path_buf(),
        source,
    };
    let reader = ImageReader::open(path)
        .map_err(unreadable)?
        .with_guessed_format()
        .map_err(unreadable)?;
    let format = reader.format();
    if format == Some(ImageFormat::Jpeg) {
        return capture::load(path).map(|picture| lossy(&picture.into()));
    }
    let mut decoder = reader.into_decoder().map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(CaptureError::TooLarge {
            path: path.to_path_buf(),
            width,
            height,
        });
    }
    let orientation = decoder.orientation().map_err(damaged)?;
    let mut picture = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    picture.apply_orientation(orientation);
    if format == Some(ImageFormat::WebP) {
        return Ok(lossy(&picture));
    }
    let marks = exact(&picture);
    let turned = orientation != image::metadata::Orientation::NoTransforms;
    let palette = (format == Some(ImageFormat::Png) && !turned)
        .then(|| indices(path))
        .flatten();
    Ok(match palette {
        // A palette's first entry is what is normal, whatever its colour; but a program that sorts palettes
        // by colour keeps black as normal instead. The reading that marks less is the one that was meant.
        Some(indices) if count(&indices) < count(&marks) => indices,
        _ => marks,
    })
}

fn count(marks: &GrayImage) -> usize {
    match marks.iter().filter(|v| **v > 0).count() {
        // Nothing is no reading.
        0 => usize::MAX,
        n => n,
    }
}

/// Whatever is not black and not transparent (VisA's masks hold the numbers of defects, from 1 on); of one
/// colour all over, the alpha channel alone.
fn exact(picture: &DynamicImage) -> GrayImage {
    // 16 bits: an id of 1 of 65,535 would round to nothing in 8.
    let wide = picture.to_rgba16();
    let first = wide.pixels().next().map(|p| [p.0[0], p.0[1], p.0[2]]);
    let (mut plain, mut opaque) = (true, true);
    for p in wide.pixels() {
        plain &= Some([p.0[0], p.0[1], p.0[2]]) == first;
        opaque &= p.0[3] == u16::MAX;
    }
    let by_alpha = plain && !opaque;
    let marked = |p: &[u16; 4]| match by_alpha {
        true => p[3] > 0,
        false => p[3] > 0 && p[..3].iter().any(|v| *v > 0),
    };
    GrayImage::from_fn(wide.width(), wide.height(), |x, y| {
        match marked(&wide.get_pixel(x, y).0) {
            true => ON,
            false => Luma([0]),
        }
    })
}

/// Whatever is brighter than half of the brightest: a lossy file leaves a fringe of nearly black pixels
/// around everything.
fn lossy(picture: &DynamicImage) -> GrayImage {
    let mut grey = picture.to_luma8();
    let most = grey.iter().copied().max().unwrap_or(0);
    // Below that it holds the numbers of defects.
    const FAINT: u8 = 8;
    let cut = if most < FAINT { 0 } else { most / 2 };
    grey.iter_mut()
        .for_each(|v| *v = if *v > cut { 255 } else { 0 });
    grey
}

/// The places of a PNG file's palette that are not its first; `None` if it has no palette.
fn indices(path: &Path) -> Option<GrayImage> {
    let file = BufReader::new(File::open(path).ok()?);
    let mut decoder = png::Decoder::new(file);
    decoder.set_transformations(png::Transformations::IDENTITY);
    let mut reader = decoder.read_info().ok()?;
    let info = reader.info();
    if info.color_type != png::ColorType::Indexed || info.interlaced {
        return None;
    }
    let (width, height, bits) = (info.width, info.height, info.bit_depth as usize);
    let mut marks = GrayImage::new(width, height);
    for y in 0..height {
        let row = reader.next_row().ok()??;
        let data = row.data();
        for x in 0..width as usize {
            let byte = data.get(x * bits / 8)?;
            let shift = 8 - bits - x * bits % 8;
            if (byte >> shift) & (0xffu8 >> (8 - bits)) > 0 {
                marks.put_pixel(x as u32, y, ON);
            }
        }
    }
    Some(marks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{LumaA, Rgb, RgbImage, Rgba, RgbaImage};

    const SIDE: u32 = 40;

    /// A square of 64 of 1600 pixels.
    fn inside(x: u32, y: u32) -> bool {
        (8..16).contains(&x) && (20..28).contains(&y)
    }

    /// Reads what `save` wrote, and checks that exactly the square is marked.
    fn square(name: &str, save: impl Fn(&Path)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        save(&path);
        let marks = Mask::from(path).read().unwrap();
        for (x, y, v) in marks.marks.enumerate_pixels() {
            assert_eq!(v.0[0] > 0, inside(x, y), "{name}: {x}, {y}");
        }
        assert_eq!(marks.share(), 0.04, "{name}");
    }

    #[test]
    fn every_form_marks_the_same_square() {
        for (name, value) in [("ids.png", 1u8), ("ids.bmp", 2), ("white.TIF", 255)] {
            square(name, |path| {
                let picture = GrayImage::from_fn(SIDE, SIDE, |x, y| {
                    Luma([if inside(x, y) { value } else { 0 }])
                });
                picture.save(path).unwrap();
            });
        }
        for value in [1u16, 255, 65_535] {
            square("ids16.png", |path| {
                let picture = image::ImageBuffer::<Luma<u16>, _>::from_fn(SIDE, SIDE, |x, y| {
                    Luma([if inside(x, y) { value } else { 0 }])
                });
                picture.save(path).unwrap();
            });
        }
        square("grey_alpha.png", |path| {
            let picture = image::ImageBuffer::<LumaA<u8>, _>::from_fn(SIDE, SIDE, |x, y| {
                LumaA([255, if inside(x, y) { 255 } else { 0 }])
            });
            picture.save(path).unwrap();
        });
        // Black on nothing, red on nothing, red on opaque black.
        for (marked, other) in [
            ([0, 0, 0, 255], [0, 0, 0, 0]),
            ([255, 0, 0, 128], [255, 0, 0, 0]),
            ([255, 0, 0, 255], [0, 0, 0, 255]),
            ([255, 0, 0, 255], [0, 0, 0, 0]),
        ] {
            square("rgba.png", |path| {
                let picture = RgbaImage::from_fn(SIDE, SIDE, |x, y| {
                    Rgba(if inside(x, y) { marked } else { other })
                });
                picture.save(path).unwrap();
            });
        }
        square("colour.png", |path| {
            let picture = RgbImage::from_fn(SIDE, SIDE, |x, y| {
                Rgb(if inside(x, y) { [0, 0, 3] } else { [0, 0, 0] })
            });
            picture.save(path).unwrap();
        });
    }

    /// A PNG file with a palette.
    fn palette(path: &Path, bits: png::BitDepth, palette: &[u8], index: impl Fn(u32, u32) -> u8) {
        let mut encoder = png::Encoder::new(File::create(path).unwrap(), SIDE, SIDE);
        encoder.set_color(png::ColorType::Indexed);
        encoder.set_depth(bits);
        encoder.set_palette(palette.to_vec());
        let bits = bits as u32;
        let mut data = vec![];
        for y in 0..SIDE {
            let mut row = vec![0u8; (SIDE * bits).div_ceil(8) as usize];
            for x in 0..SIDE {
                let at = x * bits;
                row[(at / 8) as usize] |= index(x, y) << (8 - bits - at % 8);
            }
            data.extend(row);
        }
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(&data).unwrap();
    }

    #[test]
    fn palettes_mean_their_numbers_or_their_colours() {
        let (marked, other) = (
            |x, y| u8::from(inside(x, y)),
            |x, y| u8::from(!inside(x, y)),
        );
        use png::BitDepth::{Eight, Four, One};
        for bits in [One, Four, Eight] {
            for colours in [[0, 0, 0, 255, 255, 255], [255, 255, 255, 0, 0, 0], [0; 6]] {
                square("numbers.png", |path| palette(path, bits, &colours, marked));
            }
            // White is the first entry of a palette that was sorted, and the square is white.
            square("sorted.png", |path| {
                palette(path, bits, &[255, 255, 255, 0, 0, 0], other)
            });
        }
    }

    #[test]
    fn shares_of_places_are_areas() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.png");
        // The left 7 of 10 columns of the upper 3 of 6 rows.
        let picture = GrayImage::from_fn(10, 6, |x, y| Luma([u8::from(x < 7 && y < 3)]));
        picture.save(&path).unwrap();
        let shares = Mask::from(path).read().unwrap().shares(4);
        // A place is 2.5 columns wide and 1.5 rows tall.
        let row = [1.0, 1.0, 0.8, 0.0];
        let want = [row, row, [0.0; 4], [0.0; 4]].concat();
        for (found, want) in shares.iter().zip(&want) {
            assert!((found - want).abs() < 1e-5, "{shares:?}");
        }
    }

    #[test]
    fn the_fringe_of_a_lossy_file_is_not_marked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jpg");
        let picture = GrayImage::from_fn(SIDE, SIDE, |x, y| {
            Luma([if inside(x, y) { 255 } else { 0 }])
        });
        picture.save(&path).unwrap();
        let share = Mask::from(path).read().unwrap().share();
        assert!((share - 0.04).abs() < 0.003, "{share}");
    }

    #[test]
    fn several_files_are_one_mask_and_an_inverted_one_is_turned() {
        let folder = tempfile::tempdir().unwrap();
        let save = |name: &str, at: u32, side: u32| {
            let path = folder.path().join(name);
            let picture = GrayImage::from_fn(side, side, |x, _| Luma([u8::from(x == at)]));
            picture.save(&path).unwrap();
            path
        };
        let files = vec![save("000.png", 1, 10), save("001.png", 7, 10)];
        let mask = |files, inverted| Mask { files, inverted };
        let read = |mask: Mask| mask.read().map(|m| m.share());
        assert_eq!(read(mask(files.clone(), false)).unwrap(), 0.2);
        assert_eq!(read(mask(files.clone(), true)).unwrap(), 0.8);
        let odd = vec![files[0].clone(), save("002.png", 1, 12)];
        let error = read(mask(odd, false)).unwrap_err().to_string();
        assert!(
            error.contains("002.png") && error.contains("10 x 10"),
            "{error}"
        );
        let absent = read(mask(vec![folder.path().join("absent.png")], false));
        assert!(absent.unwrap_err().to_string().contains("absent.png"));
    }
}
