//! Frames for the rig's camera: photos from a folder, cut to one size, each as a PNG for the host's
//! verdict, and all of them as the raw RGB24 bytes that vivid is fed with. The pixels are the same.

use faprompt_edge::capture::{View, ViewLimits};
use image::RgbImage;
use image::imageops::FilterType;
use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use walkdir::WalkDir;

const SIZE: (u32, u32) = (320, 240);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, photos, count, out] = arguments.as_slice() else {
        return Err("usage: rig-frames PHOTOS COUNT OUT".into());
    };
    let count: usize = count.parse()?;
    let found = photos_in(Path::new(photos))?;
    if found.len() < count {
        return Err(format!("{photos}: {} photos, {count} are needed", found.len()).into());
    }
    // Evenly spread over all data sets in the folder; the others stand in for those that show nothing, which no
    // station judges.
    let mut chosen = vec![false; found.len()];
    (0..count).for_each(|i| chosen[i * found.len() / count] = true);
    let (firsts, mut spares): (Vec<_>, Vec<_>) = (0..found.len()).partition(|i| chosen[*i]);
    spares.reverse();
    let mut raw = File::create(Path::new(out).with_extension("rgb"))?;
    for (i, first) in firsts.into_iter().enumerate() {
        let mut frame = frame_of(&found[first])?;
        while View::of(&frame).flaw(&ViewLimits::default()).is_some() {
            let spare = spares.pop().ok_or_else(|| {
                format!("{photos}: fewer than {count} photos on which something can be seen")
            })?;
            frame = frame_of(&found[spare])?;
        }
        frame.save(Path::new(out).join(format!("{i:03}.png")))?;
        raw.write_all(&frame)?;
    }
    Ok(())
}

/// A photo cut to the camera's size.
fn frame_of(photo: &Path) -> image::ImageResult<RgbImage> {
    let (width, height) = SIZE;
    let photo = image::open(photo)?;
    Ok(photo
        .resize_to_fill(width, height, FilterType::Triangle)
        .to_rgb8())
}

/// Every picture below a folder in the order of names, without masks.
fn photos_in(folder: &Path) -> Result<Vec<PathBuf>, walkdir::Error> {
    let mut found = Vec::new();
    let masks = |name: &std::ffi::OsStr| name == "masks" || name == "ground_truth";
    let walk = WalkDir::new(folder).sort_by_file_name().into_iter();
    for entry in walk.filter_entry(|e| !masks(e.file_name())) {
        let path = entry?.into_path();
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("");
        if ["png", "jpg", "jpeg", "bmp"].contains(&extension.to_ascii_lowercase().as_str()) {
            found.push(path);
        }
    }
    Ok(found)
}
