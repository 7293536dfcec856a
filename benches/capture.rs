//! What a camera's frame costs on its way to the network's input, by how it comes: `cargo bench --bench capture`.
//! NV12 with 1920 x 1080 pixels in one piece of memory, in two (V4L2 multi-planar), and written by a command.

use faprompt_edge::bundle::{Bundle, Keys};
use faprompt_edge::capture::format::{Converter, Development, Layout, PixelFormat};
use faprompt_edge::capture::{Camera, CameraSettings, PipeCamera};
use faprompt_edge::vision::Preprocessor;
use image::RgbImage;
use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

const SIZE: (u32, u32) = (1920, 1080);
/// Rounds of every way in turn; the quickest of each counts: whatever else the machine does only slows.
const ROUNDS: usize = 60;

/// Bytes that no two rows have alike.
fn frame() -> Vec<u8> {
    let mut random = 1u32;
    let size = Layout::packed(PixelFormat::Nv12, SIZE.0, SIZE.1).size();
    let next = |_| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        64 + (random >> 25) as u8
    };
    (0..size).map(next).collect()
}

fn main() -> Result<(), Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let bundle = Bundle::open(&root.join("models/default.bundle"), &Keys::default())?;
    let mut preprocessor = Preprocessor::new(&bundle.manifest().image);
    let bytes = frame();
    let (luma, chroma) = bytes.split_at((SIZE.0 * SIZE.1) as usize);
    let converter = |format| {
        let layout = Layout::packed(format, SIZE.0, SIZE.1);
        Converter::new(layout, None, &Development::default())
    };
    let mut single = converter(PixelFormat::Nv12)?;
    let mut multi = converter(PixelFormat::Nv12M)?;

    let folder = std::env::temp_dir().join(format!("faprompt-capture-{}", std::process::id()));
    std::fs::create_dir(&folder)?;
    let file = folder.join("frame");
    std::fs::write(&file, &bytes)?;
    let script = format!("while :; do cat '{}'; sleep 0.03; done", file.display());
    let source = format!("pipe:NV12:{}x{}:sh -c \"{script}\"", SIZE.0, SIZE.1);
    let settings = CameraSettings {
        width: SIZE.0,
        height: SIZE.1,
        ..toml::from_str("device = 'pipe:'\nwidth = 1\nheight = 1\n")?
    };
    let mut pipe = PipeCamera::open(source.parse()?, settings, true)?;

    let mut image = RgbImage::default();
    let mut best = [f64::MAX; 3];
    for round in 0..ROUNDS {
        // Long enough that a frame is there, and nobody waits for it.
        std::thread::sleep(Duration::from_millis(45));
        // Each comes first as often as the others: after a pause the first is slower.
        for turn in 0..best.len() {
            let way = (turn + round) % best.len();
            let best = &mut best[way];
            let start = Instant::now();
            match way {
                0 => single.convert(&bytes, &mut image)?,
                1 => multi.convert_memories(&[luma, chroma], &mut image)?,
                _ => drop(pipe.capture(&mut image, Duration::from_secs(5))?),
            }
            preprocessor.run(&image)?;
            *best = best.min(start.elapsed().as_secs_f64());
        }
    }
    drop(pipe);
    std::fs::remove_dir_all(&folder)?;
    for (name, seconds) in ["one piece of memory", "two pieces", "a command"]
        .iter()
        .zip(best)
    {
        let (ms, times) = (1e3 * seconds, seconds / best[0]);
        println!("{name:20} {ms:7.2} ms  {times:.3} of one piece");
    }
    Ok(())
}
