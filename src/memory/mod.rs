//! A memory of good parts: what a part is compared with once a station was taught.
//!
//! Good parts' patches are kept as [descriptors](descriptor) of the encoder's [taps](crate::bundle::tap). A new
//! part's patches are compared with them in one of several ways ([`Kind`]), its score is put together with
//! FAPrompt's ([`fusion`]), and held-out good parts say where the limit lies and how many good parts it will
//! reject ([`conformal`]). [`Lesson`] teaches, [`Taught`] judges and is a file ([`mod@file`]). [`course`] is a lesson on a
//! running station: it can be looked at, corrected and gone on with until it is accepted.
//!
//! Knows tensors and numbers; nothing of cameras, recipes, or what a verdict sets in motion. (What a station
//! remembers of its parameters is `control::memory`, another thing.)

mod anywhere;
mod combined;
pub mod conformal;
pub mod course;
pub mod descriptor;
pub mod drift;
pub(crate) mod eigen;
pub mod file;
pub mod fusion;
mod gaussian;
mod kind;
mod lesson;
pub mod light;
mod own_form;
pub(crate) mod part;
mod position;
pub mod region;
mod subspace;
mod taught;
#[cfg(test)]
mod tests;
pub mod views;

pub use descriptor::{Descriptor, Layout};
pub use drift::Watch;
pub use fusion::Fusion;
pub use kind::Kind;
pub use lesson::{Judged, Lesson, ODD, Settings, ZeroShot, most_learned};
pub use light::{Light, LightFlaw, LightLimits, TaughtLight};
pub use own_form::{UnknownOption, refuse_options};
pub use taught::{About, LIMIT, Outcome, Piece, Taught, Told};
pub use views::Views;
