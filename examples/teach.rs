//! Teaches from a folder of good parts and judges other photos by them:
//! `cargo run --release --example teach -- good-parts/ photo.jpg ...`.

use faprompt_edge::bundle::{Bundle, Keys};
use faprompt_edge::capture::{list, load};
use faprompt_edge::inspector::{Inspector, Options, cores};
use faprompt_edge::memory::region::Regions;
use faprompt_edge::memory::{Fusion, Kind, LIMIT, Lesson, Light, Settings, Views};
use std::error::Error;
use std::path::Path;
use std::sync::Arc;

/// An inspector that compares parts with the good ones of a folder. Its scores are 0..=1, and above [`LIMIT`] a part is
/// a reject. Five photos are the fewest that say anything about the spread of good parts.
pub fn teach(bundle: &Path, good_parts: &Path) -> Result<Inspector, Box<dyn Error>> {
    let bundle = Bundle::open(bundle, &Keys::default())?;
    let options = Options {
        threads: cores(),
        memory: true,
        ..Options::default()
    };
    let mut inspector = Inspector::new(&bundle, options)?;
    let settings = Settings {
        // Each place is compared with the same place of the good parts, which must lie alike.
        kind: Some(Kind::Position),
        fusion: Fusion::Memory,
        false_rejects: 0.01,
        regions: Regions::default(),
        // And each is learned only as it lies, in the light that it was photographed in.
        views: Views::default(),
    };
    let layout = inspector.layout().ok_or("a network without a memory")?;
    let mut lesson = Lesson::new(layout, settings)?;
    for photo in list(good_parts)? {
        let frame = load(&photo)?;
        let zero_shot = inspector.inspect(&frame)?.as_zero_shot();
        let descriptors = inspector.descriptors().unwrap_or_default();
        lesson.part(&photo.display().to_string(), descriptors, zero_shot)?;
        lesson.lit(Light::of(&frame));
    }
    let (encoder, arithmetic) = inspector.bound_to().ok_or("a network without a memory")?;
    let taught = lesson.finish(encoder, arithmetic)?;
    // The same bytes as `Taught::save` writes to a file.
    inspector.teach(Some(Arc::from(taught.bytes()?)))?;
    Ok(inspector)
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("usage: teach GOOD_PARTS PHOTO...")?;
    let mut inspector = teach(Path::new(env!("DEFAULT_BUNDLE")), Path::new(&folder))?;
    for photo in arguments {
        let score = inspector.inspect(&load(Path::new(&photo))?)?.score;
        let verdict = if score > LIMIT { "reject" } else { "good" };
        println!("{photo}: {verdict}, score {score:.3}, limit {LIMIT}");
    }
    Ok(())
}
