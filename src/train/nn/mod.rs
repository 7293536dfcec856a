//! The networks that learn, in burn: CLIP's two towers and what they are made of.
//!
//! Numbers go in and out as [`super::clip`]'s plain arrays. Knows nothing of files, data sets or losses.
//! The device program never links it.

pub mod device;
pub mod image;
pub mod layers;
pub mod text;

pub use device::DeviceKind;
pub use layers::{Maker, Products};
