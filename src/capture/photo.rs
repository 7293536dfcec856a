//! Reads photos: whole, upright, as RGB.

use super::jpeg::{Checker, JpegError};
use super::{CaptureError, MAX_PIXELS};
use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;
use image::error::DecodingError;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, RgbImage};
use std::cell::RefCell;
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use tiff::decoder::Decoder as TiffDecoder;
use tiff::tags::{CompressionMethod, Tag};

/// Most pages of a TIFF file that are counted.
const MOST_PAGES: u32 = 1000;
/// A quarter of full scale: if no sample of a photo with 16 bits reaches it, its high bits are empty.
const LOW: u16 = 1 << 14;

/// Something unusual about a photo that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// The file holds this many pictures; the first one was read.
    Pictures(u32),
    /// The file is an animation; its first picture was read.
    Animation,
    /// 16 bits are stored for a sample, and no sample needs more than this many: the photo is nearly black.
    LowBits(u32),
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::Pictures(count) if *count >= MOST_PAGES => {
                write!(f, "holds {count} pictures or more; the first one was taken")
            }
            Note::Pictures(count) => write!(f, "holds {count} pictures; the first one was taken"),
            Note::Animation => f.write_str("is an animation; its first picture was taken"),
            Note::LowBits(bits) => write!(
                f,
                "stores 16 bits per sample and uses {bits}: nearly black unless --sample-bits {bits} is given"
            ),
        }
    }
}

/// A photo, and what is unusual about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Photo {
    /// The picture, turned as its Exif data say, with the samples of the file.
    pub image: DynamicImage,
    /// What is unusual about it.
    pub notes: Vec<Note>,
}

impl Photo {
    /// Reads a photo. Its contents decide the format, not its name; of several pictures the first one is read.
    ///
    /// # Errors
    /// [`CaptureError::Unreadable`], [`CaptureError::Damaged`], [`CaptureError::Jpeg`],
    /// [`CaptureError::TooLarge`].
    pub fn open(path: &Path) -> Result<Photo, CaptureError> {
        let unreadable = |source| CaptureError::Unreadable {
            path: path.to_path_buf(),
            source,
        };
        let damaged = |source| CaptureError::Damaged {
            path: path.to_path_buf(),
            source,
        };
        let kind = std::fs::metadata(path).map_err(unreadable)?.file_type();
        if !kind.is_file() && !kind.is_dir() {
            // A pipe would be waited for.
            let what = std::io::Error::other("neither a file nor a folder");
            return Err(unreadable(what));
        }
        let reader = ImageReader::open(path)
            .map_err(unreadable)?
            .with_guessed_format()
            .map_err(unreadable)?;
        let format = reader.format();
        if format == Some(ImageFormat::Jpeg) {
            let file = std::fs::read(path).map_err(unreadable)?;
            let image = jpeg(&file).map_err(|e| at(path, e))?;
            let notes = vec![];
            return Ok(Photo { image, notes });
        }
        let mut notes = vec![];
        let open = || File::open(path).map(BufReader::new).map_err(unreadable);
        match format {
            Some(ImageFormat::Png) => {
                let png = PngDecoder::new(open()?).map_err(damaged)?;
                if png.is_apng().map_err(damaged)? {
                    notes.push(Note::Animation);
                }
            }
            Some(ImageFormat::WebP) => {
                // The decoder makes up what is missing at the end.
                let mut head = [0; 8];
                open()?.read_exact(&mut head).map_err(unreadable)?;
                let [.., a, b, c, d] = head;
                let said = 8 + u64::from(u32::from_le_bytes([a, b, c, d]));
                let length = std::fs::metadata(path).map_err(unreadable)?.len();
                if length < said {
                    let why = format!("cut off: {length} of {said} bytes");
                    let why = DecodingError::new(ImageFormat::WebP.into(), why);
                    return Err(damaged(ImageError::Decoding(why)));
                }
                let webp = WebPDecoder::new(open()?).map_err(damaged)?;
                if webp.has_animation() {
                    notes.push(Note::Animation);
                }
            }
            Some(ImageFormat::Tiff) => {
                if let Some(pages) = tiff(open()?).map_err(|e| at(path, e))? {
                    notes.push(Note::Pictures(pages));
                }
            }
            _ => (),
        }
        let mut decoder = reader.into_decoder().map_err(damaged)?;
        // Before anything is allocated for the pixels.
        let (width, height) = decoder.dimensions();
        if u64::from(width) * u64::from(height) > MAX_PIXELS {
            return Err(at(path, JpegError::TooLarge(width, height)));
        }
        // Exif data that make no sense say nothing.
        let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
        let mut image = DynamicImage::from_decoder(decoder).map_err(damaged)?;
        image.apply_orientation(orientation);
        if let Some(brightest) = brightest(&image).filter(|b| (1..LOW).contains(b)) {
            let bits = (16 - brightest.leading_zeros()).next_multiple_of(2).max(8);
            notes.push(Note::LowBits(bits));
        }
        Ok(Photo { image, notes })
    }

    /// What is unusual about it, as sentences, if `sample_bits` of each sample are used.
    pub fn notes_with(&self, sample_bits: Option<u32>) -> Vec<String> {
        let notes = self.notes.iter();
        notes
            .filter(|note| sample_bits.is_none() || !matches!(note, Note::LowBits(_)))
            .map(Note::to_string)
            .collect()
    }

    /// The picture as RGB with 8 bits per channel; grey is spread, transparency dropped. Of samples with 16 bits
    /// the highest 8 are used, or, with `sample_bits` (8 to 16), the highest 8 of this many low bits, as in a
    /// camera's formats.
    pub fn rgb(self, sample_bits: Option<u32>) -> RgbImage {
        let Some(bits @ 8..=16) = sample_bits.filter(|_| brightest(&self.image).is_some()) else {
            return self.image.into_rgb8();
        };
        let deep = self.image.into_rgb16();
        let eight = |sample: &u16| (sample >> (bits - 8)).min(255) as u8;
        let (width, height) = deep.dimensions();
        let pixels = deep.as_raw().iter().map(eight).collect();
        // Of the right length: as many samples as before.
        RgbImage::from_raw(width, height, pixels).unwrap_or_default()
    }
}

/// Reads a photo as RGB with 8 bits per channel, upright. What is unusual about it is logged.
///
/// # Errors
/// As [`Photo::open`].
pub fn load(path: &Path) -> Result<RgbImage, CaptureError> {
    load_with(path, None)
}

/// As [`load`], with `sample_bits` as in [`Photo::rgb`].
///
/// # Errors
/// As [`Photo::open`].
pub fn load_with(path: &Path, sample_bits: Option<u32>) -> Result<RgbImage, CaptureError> {
    let photo = Photo::open(path)?;
    for note in photo.notes_with(sample_bits) {
        log::warn!("{}: {note}", path.display());
    }
    Ok(photo.rgb(sample_bits))
}

/// Width and height of a photo as [`load`] returns it, without decoding it; `None` if its header cannot be read.
pub fn dimensions(path: &Path) -> Option<(u32, u32)> {
    let reader = ImageReader::open(path).ok()?.with_guessed_format().ok()?;
    let mut decoder = reader.into_decoder().ok()?;
    let (width, height) = decoder.dimensions();
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    // From 5 on, Exif's orientations exchange rows with columns.
    Some(match orientation.to_exif() {
        1..=4 => (width, height),
        _ => (height, width),
    })
}

/// Adds the file's path to an error.
fn at(path: &Path, error: JpegError) -> CaptureError {
    let path = path.to_path_buf();
    match error {
        JpegError::TooLarge(width, height) => CaptureError::TooLarge {
            path,
            width,
            height,
        },
        source => CaptureError::Jpeg { path, source },
    }
}

thread_local! {
    /// Kept, because its tables are mostly those of the photo before.
    static CHECKER: RefCell<Checker> = RefCell::default();
}

/// Decodes a JPEG file.
fn jpeg(file: &[u8]) -> Result<DynamicImage, JpegError> {
    let picture = CHECKER.with_borrow_mut(|checker| checker.check(file))?;
    let mut pixels = RgbImage::new(picture.width, picture.height);
    picture.decode(&mut vec![], &mut pixels)?;
    let mut image = DynamicImage::ImageRgb8(pixels);
    image.apply_orientation(picture.orientation);
    Ok(image)
}

/// The largest of all samples; `None` unless they have 16 bits.
fn brightest(image: &DynamicImage) -> Option<u16> {
    match image {
        DynamicImage::ImageLuma16(i) => i.iter().max().copied(),
        DynamicImage::ImageRgb16(i) => i.iter().max().copied(),
        DynamicImage::ImageLumaA16(i) => i.pixels().map(|p| p[0]).max(),
        DynamicImage::ImageRgba16(i) => i.pixels().flat_map(|p| [p[0], p[1], p[2]]).max(),
        _ => None,
    }
}

/// Checks the JPEG pictures inside a TIFF file. Returns how many pages it has, if it is more than one. All other
/// faults of the file are left to the decoder.
fn tiff(mut file: impl BufRead + Seek) -> Result<Option<u32>, JpegError> {
    let Ok(mut decoder) = TiffDecoder::new(&mut file) else {
        return Ok(None);
    };
    let compression = decoder.get_tag_u32(Tag::Compression).ok();
    let is_jpeg = compression == Some(u32::from(CompressionMethod::ModernJPEG.to_u16()));
    let list = |decoder: &mut TiffDecoder<_>, tag| decoder.get_tag_u64_vec(tag).unwrap_or_default();
    let mut parts = vec![];
    let mut tables = vec![];
    if is_jpeg {
        let (offsets, counts) = match list(&mut decoder, Tag::StripOffsets) {
            strips if strips.is_empty() => (
                list(&mut decoder, Tag::TileOffsets),
                list(&mut decoder, Tag::TileByteCounts),
            ),
            strips => (strips, list(&mut decoder, Tag::StripByteCounts)),
        };
        parts = offsets.into_iter().zip(counts).collect();
        tables = decoder.get_tag_u8_vec(Tag::JPEGTables).unwrap_or_default();
    }
    let mut pages = 1;
    while pages < MOST_PAGES && decoder.more_images() && decoder.next_image().is_ok() {
        pages += 1;
    }
    drop(decoder);
    // Without its end marker: the part goes on from there.
    let tables = tables.strip_suffix(&[0xff, 0xd9]).unwrap_or(&tables);
    let mut part = vec![];
    for (offset, count) in parts {
        part.clear();
        part.extend_from_slice(tables);
        let start = file.seek(SeekFrom::Start(offset));
        let _ = start.and_then(|_| file.by_ref().take(count).read_to_end(&mut part));
        if !tables.is_empty()
            && part
                .get(tables.len()..)
                .is_some_and(|p| p.starts_with(&[0xff, 0xd8]))
        {
            // One start marker is enough.
            part.drain(tables.len()..tables.len() + 2);
        }
        CHECKER.with_borrow_mut(|checker| checker.check(&part).map(|_| ()))?;
    }
    Ok((pages > 1).then_some(pages))
}
