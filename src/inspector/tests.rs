use super::judge::finite;
use super::*;
use crate::bundle::Keys;
use image::imageops;
use std::path::Path;

#[test]
fn a_frame_in_tiles_is_what_its_tiles_are() {
    let bundle = Bundle::open(Path::new(env!("DEFAULT_BUNDLE")), &Keys::default()).unwrap();
    let options = Options {
        memory: true,
        ..Options::default()
    };
    let mut whole = Inspector::new(&bundle, options).unwrap();
    let mut cut = whole.beside().unwrap();
    let frame = imageops::resize(&known_frame(), 500, 400, imageops::FilterType::Triangle);
    let tiles: Tiling = "2x2+20".parse().unwrap();
    cut.cut(tiles).unwrap();
    let known = cut.known_frame_score().unwrap();
    assert_eq!(known, whole.inspect(&known_frame()).unwrap().score);
    // Twice: nothing of the frame before is left.
    cut.inspect(&known_frame()).unwrap();
    let joined = cut.inspect(&frame).unwrap().clone();
    let (mut patches, mut descriptors, mut scores) = (vec![], vec![], vec![]);
    for tile in 0..4 {
        let a = tiles.area(tile, 500, 400);
        let tile = imageops::crop_imm(&frame, a.x, a.y, a.width, a.height).to_image();
        let alone = whole.inspect(&tile).unwrap();
        scores.push(alone.score);
        patches.extend_from_slice(&alone.patch_scores);
        descriptors.extend_from_slice(whole.descriptors().unwrap());
    }
    assert_eq!(joined.score, scores.iter().fold(0.0, |m, s| s.max(m)));
    assert_eq!(joined.zero_shot, joined.score);
    assert_eq!(
        (&joined.patch_scores, cut.descriptors()),
        (&patches, Some(&descriptors[..]))
    );
    let layout = cut.layout().unwrap();
    assert_eq!(descriptors.len(), layout.places() * layout.dim);
    assert_eq!(joined.map().side, bundle.manifest().image.size);

    // Nobody looks at three of the tiles: the score is the fourth one's, looked at in the same place.
    let region = |share: f32| {
        let text = format!(
            "[[region]]\nname = \"corner\"\nrectangle = [{share}, {share}, 1, 1]\noffset = 0.1"
        );
        Regions::parse(&text).unwrap()
    };
    let [left, top, right, bottom] = tiles.shares(3);
    assert!(left == top && right == bottom);
    cut.look(&region(0.6)).unwrap();
    let found = cut.inspect(&frame).unwrap().clone();
    whole.look(&region((0.6 - left) / (right - left))).unwrap();
    let a = tiles.area(3, 500, 400);
    let tile = imageops::crop_imm(&frame, a.x, a.y, a.width, a.height).to_image();
    let alone = whole.inspect(&tile).unwrap();
    assert_eq!(
        (found.score, found.zero_shot),
        (alone.score, alone.zero_shot)
    );
    assert!((found.zero_shot - found.score - 0.1).abs() < 1e-6);
    assert_eq!(found.regions(), &region(0.6));
    assert_eq!(
        cut.beside().unwrap().inspect(&frame).unwrap().regions(),
        &region(0.6)
    );
}

/// Maxima skip NaN: a frame whose scores have some would have a score, and perhaps a good one.
#[test]
fn a_network_that_answers_with_something_that_is_no_number_gives_no_score() {
    let bundle = Bundle::open(Path::new(env!("DEFAULT_BUNDLE")), &Keys::default()).unwrap();
    let mut inspector = Inspector::new(&bundle, Options::default()).unwrap();
    inspector.inspect(&known_frame()).unwrap();
    for value in [f32::NAN, f32::INFINITY] {
        inspector.normal.fill(value);
        let error = inspector.inspect(&known_frame()).unwrap_err().to_string();
        assert!(
            error.contains("the patch scores hold NaN"),
            "{value}: {error}"
        );
    }
    assert!(finite("scores", &[0.5, 1.0]).is_ok());
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert!(finite("scores", &[0.5, value, 1.0]).is_err());
    }
}

/// A station whose verdicts hang on the memory's own network has that tested too.
#[cfg(feature = "train")]
#[test]
fn a_memorys_own_network_that_sees_otherwise_than_at_first_fails_the_self_test() {
    use crate::train::clip::Overrides;
    use crate::train::export::ExportOptions;
    use crate::train::network::{Asked, Network};
    let plain = Bundle::open(Path::new(env!("DEFAULT_BUNDLE")), &Keys::default()).unwrap();
    let grid = plain.manifest().image.grid();
    let asked = Asked {
        taps: &["last".to_string()],
        image_size: Some(8 * grid),
        grid: Some(grid),
        overrides: &Overrides::default(),
    };
    let graph = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/networks/maps.onnx");
    let network = Network::load(&graph, &asked).unwrap();
    let path = tempfile::tempdir().unwrap();
    let path = path.path().join("both.bundle");
    (network.export_beside(&plain, &ExportOptions::plain(1), &path)).unwrap();
    let bundle = Bundle::open(&path, &Keys::default()).unwrap();
    let options = Options {
        memory: true,
        ..Options::default()
    };
    let mut inspector = Inspector::new(&bundle, options).unwrap();
    inspector.known_frame_score().unwrap();
    let mut beside = inspector.beside().unwrap();
    beside.known_frame_score().unwrap();
    for changed in [0.01, f32::NAN] {
        let known = inspector.good.as_mut().and_then(|good| good.known.as_mut());
        known.unwrap()[3] += changed;
        let failed = inspector.known_frame_score().unwrap_err();
        assert!(failed.to_string().contains("otherwise"), "{failed}");
    }
    // Another thread's has its own.
    beside.known_frame_score().unwrap();
}
