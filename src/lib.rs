//! placeholder
pub mod bundle;
pub mod exit;
pub mod faprompt;
pub mod graph;
pub mod inspector;
pub mod ops;
#[cfg(feature = "train")]
pub mod train;
pub mod vision;
