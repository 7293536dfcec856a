//! A network of the user's own in a bundle: any graph that `faprompt-train export --encoder` could read.
//!
//! Part `network` holds it as NNEF: `network/graph` is the graph's text, every other tensor of the part is the
//! variable of that name. Without text in the bundle it is the image encoder; beside a CLIP it is a second encoder,
//! whose rows only the memory of good parts compares.

use super::BundleError;
use super::manifest::ImageSpec;
use serde::{Deserialize, Serialize};

/// The part that holds it.
pub const PART: &str = "network";
/// Its text, among the part's tensors.
pub const GRAPH: &str = "network/graph";
/// The longest text that is read: a thousand layers take a tenth of it.
pub const LONGEST: usize = 8 << 20;

/// What the memory compares of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkTap {
    /// What the user's file calls it.
    pub name: String,
    /// Numbers per place.
    pub channels: usize,
}

/// The network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkSpec {
    /// The frame as it wants it. `size / patch` is the grid that all taps are brought to.
    pub image: ImageSpec,
    /// What it hands out: rows [grid * grid, channels] each, in this order.
    pub taps: Vec<NetworkTap>,
    /// Multiplications for one frame.
    pub products: u64,
}

impl NetworkSpec {
    /// Checks what the manifest has no limits for.
    ///
    /// # Errors
    /// [`BundleError::Architecture`] that names the key.
    pub fn check(&self, grid: usize, widest: usize, most: usize) -> Result<(), BundleError> {
        let fail = |what: String| Err(BundleError::architecture("manifest", what));
        if self.image.grid() != grid {
            return fail(format!(
                "network.image has {0} x {0} places, image {grid} x {grid}",
                self.image.grid()
            ));
        }
        if self.taps.is_empty() || self.taps.len() > most {
            return fail(format!(
                "network.taps: {} of them, not 1..{most}",
                self.taps.len()
            ));
        }
        for tap in &self.taps {
            if tap.channels == 0 || tap.channels > widest {
                return fail(format!(
                    "network.taps: {} channels, not 1..{widest}",
                    tap.channels
                ));
            }
            if tap.name.len() > 4096 {
                return fail("network.taps: a name of more than 4096 bytes".into());
            }
        }
        Ok(())
    }
}
