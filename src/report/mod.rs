//! What people and other programs get to see: overlays, map files, summaries.
//!
//! Looks on from the side: nothing here decides anything about a part.

pub(crate) mod canvas;
mod names;
mod npy;
mod overlay;
mod percentile;
mod say;

pub use crate::shown::{shown, shown_lines};
pub use names::fitting;
pub use npy::write_map;
pub use overlay::{Caption, heated, overlay};
pub use percentile::percentile;
pub use say::{log_line, say, warn};
