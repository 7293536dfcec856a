//! FAPrompt on the device: finds defects that it was never trained on, and rejects the part.
//!
//! A frame's way is a straight walk, with reports looking on from the side:
//!
//! ```text
//! capture -> vision -> faprompt -> line -> board
//! ```
//!
//! | module | what it does | may use |
//! |---|---|---|
//! | [`bundle`] | the one file that the device loads: manifest, parts, digests, signature | `ops` (matrix type), `durable`, `exit` |
//! | [`ops`] | the project's own tract operators, on own kernels and tract-linalg's; tract's names for the other rooms | nothing of the project |
//! | [`graph`] | bundle tensors to tract models; what both towers share | `bundle`, `ops` |
//! | [`vision`] | RGB frame to tensor to features: CLIP's image encoder with the V-V stream, a network of the user's own | `bundle`, `graph`, `ops`, `tiling` |
//! | [`faprompt`] | the method: prompt tower, prior, scores, maps | `bundle`, `graph`, `ops`, `tiling` |
//! | [`methods`] | the methods that it is compared with: a short room for each | `bundle`, `graph`, `ops`, `faprompt` (scores, maps) |
//! | [`memory`] | good parts to compare with: four kinds of memory, teaching, the bound on false rejects, the light they were taught in, the file | `bundle` (taps, envelope), `ops`, `tiling`, `durable`, `exit` |
//! | [`tiling`] | how a frame is cut into tiles | nothing of the project |
//! | [`gpu`] | the same frame as one model for tract's CUDA runtime (`--runtime cuda`) | `bundle`, `ops`, `faprompt` |
//! | [`inspector`] | all of it on one frame, timed | `bundle`, `vision`, `faprompt`, `memory`, `gpu`, `ops`, `tiling` |
//! | [`capture`] | cameras (V4L2, commands, folder, generator, fault injector), pixel formats, whole JPEG, frames that show nothing, when a camera counts as lost | nothing of the project |
//! | [`mod@line`] | the conveyor: triggers, pairing, part queue, rejects, alarms, counters; no clock, no I/O, no allocation | nothing of the project |
//! | [`board`] | `boards/*.toml` to pins, ports and devices; simulated ones | `line` (signals, pins) |
//! | [`control`] | the parameter table, command set, Modbus, the memory that survives power cuts | `line` (plain types), `memory` (lessons, backups), `durable` |
//! | [`runtime`] | the station's threads: camera, inputs, inference, outputs, records | all above, `report` |
//! | `web` | the station's page, its state as JSON, metrics (feature `web`) | `control`, `runtime`, `memory` (regions), `durable` |
//! | `plant` | messages to the plant: MQTT, webhook, the queue that survives power cuts (feature `plant`) | `control`, `runtime`, `web` (state as JSON, `links`) |
//! | [`release`] | what is flashed: packages, two slots, which of them runs | `bundle`, `durable` |
//! | `priority` | threads that give way, and how they hold a lock: for everybody | nothing of the project |
//! | `clock`, `hex` | the clock that events are stamped with; bytes in hexadecimal: for everybody | nothing of the project |
//! | `durable` | small files, each replaced whole: old or new after a power cut | nothing of the project |
//! | `shown` | others' text, names of files foremost, as terminals and logs get it: escaped | nothing of the project |
//! | [`report`] | overlays, maps, percentiles | `faprompt` (maps), `memory` (regions) |
//! | [`exit`] | exit codes | nothing of the project |
//! | `train` | host only (feature `train`): CLIP import, fit, ablate, evaluate, export, rendered pictures | everything |
//!
//! Judging one photo:
//!
//! ```no_run
//! use faprompt_edge::bundle::{Bundle, Keys};
//! use faprompt_edge::capture::load;
//! use faprompt_edge::inspector::{Inspector, Options};
//! use std::path::Path;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let bundle = Bundle::open(Path::new("line1.bundle"), &Keys::default())?;
//! let options = Options { threads: 4, ..Options::default() };
//! let mut inspector = Inspector::new(&bundle, options)?;
//! let score = inspector.inspect(&load(Path::new("part.png"))?)?.score;
//! println!("{score:.3} (reject above {})", inspector.manifest().scores.threshold);
//! # Ok(())
//! # }
//! ```
//!
//! `unsafe` stands in named modules, each with its reason: `ops::tile`, `ops::int8::kernel` and
//! `ops::fp16::kernel` (vector instructions), `ops::simd` (calls after asking the processor), `ops::scratch` (uninitialised tensors),
//! `capture::v4l2::sys` (what the `v4l` crate leaves out), `capture::pipe::sys` (a child process before it is the command), `runtime::system`
//! (priority, locked memory, watchdog), and the device program's `cli::memory` (one libc call). The trainer
//! has one more call with the feature `cuda` (`train::nn::device`).

pub mod board;
pub mod bundle;
pub mod capture;
mod clock;
pub mod control;
mod durable;
pub mod exit;
pub mod faprompt;
pub mod gpu;
pub mod graph;
mod hex;
pub mod inspector;
pub mod line;
pub mod memory;
pub mod methods;
pub mod ops;
#[cfg(feature = "plant")]
pub mod plant;
mod priority;
pub mod release;
pub mod report;
pub mod runtime;
mod shown;
pub mod tiling;
// No fuzz target reads it, and it is a third of the code.
#[cfg(all(feature = "train", not(fuzzing)))]
pub mod train;
pub mod vision;
#[cfg(feature = "web")]
pub mod web;
