//! The methods that FAPrompt is compared with, on the host: prompts as data, checkpoints, formulas that the
//! device does not run, and bundles of those that it does.
//!
//! | module | what it is |
//! |---|---|
//! | [`words`] | every template and state (`prompts.json`), and the prompts that they make |
//! | [`text`] | prompts to prototypes |
//! | [`learned`] | published checkpoints and this program's own |
//! | [`options`] | what a user may choose of a method, and whether it fits what was learned |
//! | [`bundle`] | a method's bundle |
//! | [`fit`] | learning |
//! | [`cost`] | what each costs beside FAPrompt |
//! | [`tables`] | the papers' tables |
//! | [`weights`] | what is learned on: with text or without |
//! | [`judge`] | a set by a bundle for each of its classes |
//! | [`anovl`], [`filo`], [`blip`] | what the device does not run of them |

pub mod anovl;
pub mod blip;
pub mod bundle;
pub mod cost;
pub mod filo;
pub mod fit;
pub mod judge;
pub mod learned;
pub mod options;
pub mod tables;
pub mod text;
pub mod weights;
pub mod words;

pub use bundle::export;
pub use options::MethodOptions;
