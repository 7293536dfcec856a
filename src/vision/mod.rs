//! Frame to tensor to features: preprocessing and CLIP's image encoder with the V-V stream.
//!
//! Knows pictures and tensors; nothing of prompts, scores or where a picture came from. Which of the
//! encoder's rows are handed out is asked for by [taps](crate::bundle::tap).

mod encoder;
mod preprocess;

pub use encoder::{Encoder, Features};
pub use preprocess::{PreprocessError, Preprocessor};
