//! Photos of a folder: upright, whole in every format, what is strange about them said, and what is left out counted.

use faprompt_edge::capture::{
    CaptureError, FolderCamera, Note, Photo, dimensions, list, load, survey,
};
use image::{DynamicImage, RgbImage};
use std::fs;
use std::path::{Path, PathBuf};

fn path(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/photos");
    folder.join(name)
}

fn notes(name: &str) -> Vec<Note> {
    Photo::open(&path(name)).unwrap().notes
}

#[test]
fn a_photo_is_turned_as_its_exif_data_say() {
    let upright = image::open(path("upright.png")).unwrap().into_rgb8();
    let (width, height) = upright.dimensions();
    for number in 1..=8 {
        for format in ["png", "tif", "webp"] {
            let file = path(&format!("turned{number}.{format}"));
            assert!(load(&file).unwrap() == upright, "{}", file.display());
            assert_eq!(
                dimensions(&file),
                Some((width, height)),
                "{}",
                file.display()
            );
        }
        let file = path(&format!("turned{number}.jpg"));
        let photo = load(&file).unwrap();
        assert_eq!(photo.dimensions(), (8 * width, 8 * height));
        assert_eq!(dimensions(&file), Some((8 * width, 8 * height)));
        for (x, y, pixel) in upright.enumerate_pixels() {
            let shown = photo.get_pixel(8 * x + 4, 8 * y + 4);
            let difference = (0..3).map(|c| shown[c].abs_diff(pixel[c])).max().unwrap();
            assert!(difference < 12, "{number}: {difference} at {x}, {y}");
        }
    }
}

#[test]
fn what_is_strange_about_a_photo_is_reported() {
    assert_eq!(notes("pages.tif"), [Note::Pictures(2)]);
    assert_eq!(notes("animation.png"), [Note::Animation]);
    assert_eq!(notes("animation.webp"), [Note::Animation]);
    assert_eq!(notes("twelve_in_sixteen.png"), [Note::LowBits(12)]);
    assert_eq!(notes("twelve_in_sixteen.tif"), [Note::LowBits(12)]);
    for name in [
        "sixteen.png",
        "plain.png",
        "jpeg.tif",
        "420.jpg",
        "lossy.webp",
    ] {
        assert_eq!(notes(name), [], "{name}");
    }
    assert!(Note::LowBits(12).to_string().contains("--sample-bits 12"));
}

#[test]
fn twelve_bits_in_sixteen_are_spread_on_request() {
    let deep = Photo::open(&path("sixteen.png")).unwrap().rgb(None);
    for name in ["twelve_in_sixteen.png", "twelve_in_sixteen.tif"] {
        let photo = Photo::open(&path(name)).unwrap();
        assert!(photo.clone().rgb(None).iter().all(|value| *value < 17));
        assert!(photo.clone().rgb(Some(12)) == deep, "{name}");
        assert!(photo.rgb(Some(16)).iter().all(|value| *value < 17));
    }
    // Samples of 8 bits stay as they are.
    let plain = Photo::open(&path("plain.png")).unwrap();
    assert!(plain.clone().rgb(Some(12)) == plain.rgb(None));
}

/// Whatever bytes a photo lost, or was filled up with: an error.
#[test]
fn a_photo_that_lost_bytes_is_an_error_in_every_format() {
    let folder = tempfile::tempdir().unwrap();
    for name in [
        "plain.png",
        "plain.bmp",
        "plain.ppm",
        "deflate.tif",
        "lzw.tif",
        "jpeg.tif",
        "lossy.webp",
        "sixteen.png",
        "turned6.webp",
    ] {
        let data = fs::read(path(name)).unwrap();
        let file = folder.path().join(name);
        let whole = load(&path(name)).unwrap();
        for cut in (0..data.len()).step_by(data.len().div_ceil(97)) {
            fs::write(&file, &data[..cut]).unwrap();
            // What a TIFF file has behind its picture, and a PNG behind its end, may be missing.
            match load(&file) {
                Ok(photo) => assert!(photo == whole, "{name} cut at {cut} of {}", data.len()),
                Err(e) => assert!(e.path() == Some(file.as_path()), "{e}"),
            }
        }
        fs::write(&file, &data[..data.len() / 2]).unwrap();
        let error = load(&file).unwrap_err();
        assert!(
            matches!(
                error,
                CaptureError::Damaged { .. } | CaptureError::Jpeg { .. }
            ),
            "{error}"
        );
    }
}

/// A TIFF whose samples are complex numbers, which no format of photos has: whoever made it is told what is read.
#[test]
fn a_kind_of_picture_that_is_not_read_is_refused_with_what_is() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.tif");
    // One pixel, one strip: width, height, bits per sample, compression, black is zero, strip's place, samples, rows, bytes, format.
    let fields: [(u16, u16, u32); 10] = [
        (256, 3, 1),
        (257, 3, 1),
        (258, 3, 64),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 8),
        (277, 3, 1),
        (278, 3, 1),
        (279, 4, 8),
        (339, 3, 6),
    ];
    let mut bytes = b"II*\0\x10\0\0\0\0\0\0\0\0\0\0\0\x0a\0".to_vec();
    for (tag, kind, value) in fields {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(kind.to_le_bytes());
        bytes.extend(1u32.to_le_bytes());
        bytes.extend(value.to_le_bytes());
    }
    bytes.extend([0; 4]);
    fs::write(&file, bytes).unwrap();
    let said = load(&file).unwrap_err().to_string();
    assert!(
        said.contains("a.tif") && said.contains("8 or 16 whole bits per sample"),
        "{said}"
    );
}

/// PNG has sums over its bytes: one that changed is found, wherever it is.
#[test]
fn a_changed_byte_of_a_png_is_an_error_or_changes_nothing() {
    let data = fs::read(path("plain.png")).unwrap();
    let whole = load(&path("plain.png")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.png");
    for at in 0..data.len() {
        let mut changed = data.clone();
        changed[at] ^= 1 << (at % 8);
        fs::write(&file, &changed).unwrap();
        if let Ok(photo) = load(&file) {
            assert!(photo == whole, "byte {at}");
        }
    }
}

#[test]
fn jpeg_inside_tiff_is_checked_too() {
    let mut data = fs::read(path("jpeg.tif")).unwrap();
    let scan = data
        .windows(2)
        .position(|pair| pair == [0xff, 0xda])
        .unwrap();
    data[scan + 400..scan + 700].fill(0);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.tif");
    fs::write(&file, &data).unwrap();
    let error = load(&file).unwrap_err();
    assert!(matches!(error, CaptureError::Jpeg { .. }), "{error}");
}

fn photo(file: &Path) {
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    DynamicImage::from(RgbImage::from_pixel(4, 3, image::Rgb([9, 8, 7])))
        .save_with_format(file, image::ImageFormat::Png)
        .unwrap();
}

#[test]
fn a_folder_is_read_with_its_links_once_and_the_rest_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("photos");
    for name in [
        "a.jfif",
        "b.JPE",
        "c.jpeg",
        "sub/d.PNG",
        "sub/._d.png",
        ".thumbs/e.png",
        "._a.png",
    ] {
        photo(&root.join(name));
    }
    photo(&folder.path().join("elsewhere/f.tif"));
    fs::write(root.join("notes.txt"), "none").unwrap();
    let link = |to: &Path, name: &str| std::os::unix::fs::symlink(to, root.join(name)).unwrap();
    link(&folder.path().join("elsewhere"), "x_link");
    link(&folder.path().join("elsewhere"), "y_again");
    link(&root, "z_loop");
    link(Path::new("nowhere.png"), "g_gone.png");
    let found = survey(&root).unwrap();
    let below: Vec<_> = found
        .files
        .iter()
        .map(|f| f.strip_prefix(&root).unwrap().to_str().unwrap())
        .collect();
    let wanted = [
        "a.jfif",
        "b.JPE",
        "c.jpeg",
        "g_gone.png",
        "sub/d.PNG",
        "x_link/f.tif",
    ];
    assert_eq!(below, wanted);
    assert_eq!(list(&root).unwrap(), found.files);
    let left = found.left_out;
    assert_eq!((left.hidden, left.others, left.again), (3, 1, 2));
    assert_eq!(
        left.to_string(),
        "left out: 3 hidden, 1 without a picture's ending, 2 linked twice"
    );
    assert_eq!(FolderCamera::open(&root).unwrap().left_out(), left);
    // Named by itself, a hidden file is what is wanted.
    let hidden = root.join("._a.png");
    assert_eq!(list(&hidden).unwrap(), [hidden]);
    assert!(survey(&root.join(".thumbs")).unwrap().left_out.is_empty());
}
