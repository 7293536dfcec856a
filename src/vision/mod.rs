//! Frame to tensor to features: preprocessing, CLIP's image encoder with the V-V stream, networks of the user's own.
//!
//! Knows pictures and tensors; nothing of prompts, scores or where a picture came from. Which of the
//! encoder's rows are handed out is asked for by [taps](crate::bundle::tap).

pub(crate) mod blocks;
mod encoder;
mod network;
mod preprocess;

pub use encoder::{Encoder, Features};
pub use network::NetworkEncoder;
pub use preprocess::{PreprocessError, Preprocessor};
