//! That the conveyor's core needs no standard library, no allocator and nothing of the rest.
#![no_std]
#![forbid(unsafe_code)]

#[path = "../../src/line/mod.rs"]
pub mod line;
