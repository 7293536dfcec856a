//! The methods that FAPrompt is compared with, on the host: prompts as data, checkpoints, formulas that the
//! device does not run, and bundles of those that it does.
//!
//! | module | what it is |
//! |---|---|
//! | [`words`] | every template and state (`prompts.json`), and the prompts that they make |
//! | [`text`] | prompts to prototypes |
//! | [`learned`] | published checkpoints and this program's own |
//! | [`bundle`] | a method's bundle |
//! | [`fit`] | learning |

pub mod bundle;
pub mod fit;
pub mod learned;
pub mod text;
pub mod words;

pub use bundle::{MethodOptions, export};
