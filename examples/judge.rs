//! Judges one photo with a bundle: `cargo run --release --example judge -- photo.jpg [line1.bundle]`.
//!
//! Without a bundle the one in `models/` judges, whose scores are a first guess as long as no good parts were taught.

use faprompt_edge::bundle::{Bundle, Keys};
use faprompt_edge::capture::load;
use faprompt_edge::inspector::{Inspector, Options, cores};
use std::error::Error;
use std::path::Path;

/// The photo's score, 0..=1, and the bundle's threshold: a larger score is a reject.
pub fn judge(bundle: &Path, photo: &Path) -> Result<(f32, f32), Box<dyn Error>> {
    // A key in `Keys` would demand a signature.
    let bundle = Bundle::open(bundle, &Keys::default())?;
    let options = Options {
        threads: cores(),
        ..Options::default()
    };
    let mut inspector = Inspector::new(&bundle, options)?;
    let score = inspector.inspect(&load(photo)?)?.score;
    Ok((score, inspector.manifest().scores.threshold))
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let photo = arguments.next().ok_or("usage: judge PHOTO [BUNDLE]")?;
    let bundle = arguments
        .next()
        .unwrap_or(env!("DEFAULT_BUNDLE").to_string());
    let (score, threshold) = judge(Path::new(&bundle), Path::new(&photo))?;
    let verdict = if score > threshold { "reject" } else { "good" };
    println!("{photo}: {verdict}, score {score:.3}, threshold {threshold:.3}");
    Ok(())
}
