//! The method: prompt tower, data-dependent prior (DAP), scores, maps.
//!
//! Knows tensors and numbers; nothing of cameras, files of pictures, or what a verdict sets in motion.

pub mod adaptation;
pub mod map;
pub mod score;
pub(crate) mod tower;

pub use adaptation::{Adaptation, AdaptationMode};
