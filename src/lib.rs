//! placeholder
pub mod board;
pub mod bundle;
pub mod capture;
pub mod exit;
pub mod faprompt;
pub mod graph;
pub mod inspector;
pub mod line;
pub mod ops;
pub mod report;
#[cfg(feature = "train")]
pub mod train;
pub mod vision;
