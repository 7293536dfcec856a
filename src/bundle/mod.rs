//! What the device loads: one file with manifest, encoder, prompt tower, prototypes and prior network.
//!
//! The only place that knows the file format (a safetensors container, see [`envelope`]). It
//! never trusts a size or a number in the file: everything is checked against the bytes that are
//! there before anything is allocated, and nothing is used before its digest was compared.

mod bytes;
pub mod envelope;
mod error;
pub mod manifest;
pub mod method;
pub mod network;
mod read;
mod signature;
pub mod tap;
#[cfg(feature = "train")]
mod write;

pub use crate::durable::save;
pub use error::BundleError;
pub use manifest::Manifest;
pub use read::Bundle;
pub use signature::{Keys, signature_of};
#[cfg(feature = "train")]
pub use write::{BundleWriter, TooLarge};
