//! What this memory knows and a method's own few-shot form does not.

use super::{Fusion, Kind, Views};
use crate::bundle::method::Method;

/// An option that means nothing to a method which compares with good parts as its paper does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{option}: {method} compares parts with good ones as its paper does, which knows no such option"
)]
pub struct UnknownOption {
    /// Its name on the command line.
    pub option: &'static str,
    /// The method.
    pub method: Method,
}

/// Refuses options of this memory beside the few-shot form of `method`; `others` are those that only one command has,
/// and whether each was said.
///
/// # Errors
/// [`UnknownOption`]: the first that was said.
pub fn refuse_options(
    method: Method,
    (kind, fusion, views): (Option<Kind>, Fusion, Views),
    others: &[(&'static str, bool)],
) -> Result<(), UnknownOption> {
    let usual = Views::default();
    let said = [
        ("--memory", kind.is_some()),
        ("--fusion", fusion != Fusion::default()),
        ("--rotations", views.rotations != usual.rotations),
        ("--brightness", views.brightness != usual.brightness),
    ];
    let mut said = said.iter().chain(others);
    match said.find(|(_, said)| *said) {
        None => Ok(()),
        Some((option, _)) => Err(UnknownOption { option, method }),
    }
}
