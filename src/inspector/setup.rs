//! What frames are compared with and where they are looked at: good parts, regions, tiles.

use super::{CutError, Inspection, Inspector};
use crate::bundle::method::Method;
use crate::memory::file::TaughtError;
use crate::memory::region::{Looked, RegionError, Regions};
use crate::memory::{Layout, Taught};
use crate::ops::tract::*;
use crate::tiling::Tiling;
use std::sync::Arc;

/// What of regions lies in each tile.
fn per_tile(looked: &Looked, tiles: Tiling, patches: usize) -> Vec<Looked> {
    let tile = |tile| looked.tile(tile, patches);
    (0..tiles.count()).map(tile).collect()
}

impl Inspector {
    /// Compares frames with the good parts of a file's bytes from now on, or with none.
    ///
    /// # Errors
    /// [`TaughtError`]: no whole memory, or one that was taught on another encoder or in another arithmetic;
    /// with other regions than those that are set; or this one was made without
    /// [`Options::memory`](super::Options::memory). What was
    /// taught before stays then.
    pub fn teach(&mut self, taught: Option<Arc<[u8]>>) -> Result<(), TaughtError> {
        let (arithmetic, layout) = (self.arithmetic(), self.layout());
        let (Some(good), Some(layout)) = (&mut self.good, layout) else {
            let what = "a network that was made without a memory";
            return Err(TaughtError::Failed(TractError::msg(what)));
        };
        let memory = match &taught {
            None => None,
            Some(bytes) => Some(good.restore(bytes, layout, arithmetic)?),
        };
        let looked = match &memory {
            Some(memory) => {
                let regions = &memory.about().regions;
                if !self.regions.is_empty() && *self.regions != *regions {
                    let what = "taught with other regions than those that are set";
                    return Err(TaughtError::Another(what.into()));
                }
                self.last.regions = Arc::new(regions.clone());
                memory.about().looked.clone()
            }
            None => {
                self.last.regions = self.regions.clone();
                let looked = self.regions.on(layout.grid, layout.tiles);
                // They were accepted for these tiles.
                looked.unwrap_or_else(|_| Looked::everywhere(layout.places()))
            }
        };
        self.looked = per_tile(&looked, layout.tiles, layout.tile());
        if memory.is_none() {
            (self.last.memory, self.last.patch_mixture) = (None, vec![]);
        }
        (good.taught, good.memory) = (taught, memory);
        Ok(())
    }

    /// Looks at these regions only from now on. What is taught afterwards brings its own, and is refused where both
    /// differ.
    ///
    /// # Errors
    /// Regions without a patch that is looked at.
    pub fn look(&mut self, regions: &Regions) -> Result<(), RegionError> {
        let grid = self.manifest.image.grid();
        let looked = regions.on(grid, self.tiles)?;
        self.looked = per_tile(&looked, self.tiles, grid * grid);
        self.regions = Arc::new(regions.clone());
        self.last.regions = self.regions.clone();
        Ok(())
    }

    /// Where parts are looked at.
    pub fn regions(&self) -> &Regions {
        &self.last.regions
    }

    /// Why the regions decide nothing, or not what they should; `None` if they do. A method other than FAPrompt has one
    /// score of the whole picture: only comparing with good parts makes it one for each region.
    pub fn ignores_regions(&self) -> Option<String> {
        let method = self.manifest.method_name();
        let by_region = matches!(method, Method::Faprompt | Method::Memory);
        let ignored = !self.regions().is_empty() && !by_region && self.taught().is_none();
        ignored.then(|| {
            format!(
                "{method} has one score of the whole picture; regions are for faprompt, and for what was taught \
                 (`teach --regions` with `--fusion memory`)"
            )
        })
    }

    /// Cuts frames into these tiles from now on: each is encoded at the input's full size, and all together
    /// have one map and one verdict. Forgets regions, and what was taught.
    ///
    /// # Errors
    /// Why this method judges whole frames only.
    pub fn cut(&mut self, tiles: Tiling) -> Result<(), CutError> {
        if let Some(spec) = self.manifest.method.as_ref().filter(|_| !tiles.is_whole()) {
            let own = self.room.as_mut().and_then(|room| room.memory());
            if !spec.types.is_empty() {
                return Err(CutError::Types(spec.name));
            }
            if own.is_some_and(|memory| !memory.is_empty()) {
                return Err(CutError::GoodParts(spec.name));
            }
        }
        self.tiles = tiles;
        self.regions = Arc::default();
        self.last = Inspection::of(&self.manifest, tiles);
        let patches = self.manifest.image.grid().pow(2);
        let everywhere = Looked::everywhere(tiles.count() * patches);
        self.looked = per_tile(&everywhere, tiles, patches);
        if let Some(good) = &mut self.good {
            (good.taught, good.memory) = (None, None);
        }
        Ok(())
    }

    /// What frames are cut into.
    pub fn tiles(&self) -> Tiling {
        self.tiles
    }

    /// What was taught.
    pub fn taught(&self) -> Option<&Taught> {
        self.good.as_ref()?.memory.as_ref()
    }

    /// The file that it was read from.
    pub fn taught_bytes(&self) -> Option<&Arc<[u8]>> {
        self.good.as_ref()?.taught.as_ref()
    }

    /// The last frame's descriptors [places, dim], as teaching takes them; none without
    /// [`Options::memory`](super::Options::memory).
    pub fn descriptors(&self) -> Option<&[f32]> {
        self.good.as_ref().map(|g| &g.descriptors[..])
    }

    /// The places of a frame; none without [`Options::memory`](super::Options::memory).
    pub fn layout(&self) -> Option<Layout> {
        let of_a_tile = self.good.as_ref()?.descriptor.layout();
        Some(Layout {
            tiles: self.tiles,
            ..of_a_tile
        })
    }

    /// What a memory is bound to: which encoder, and what it is multiplied in.
    pub fn bound_to(&self) -> Option<(&str, &'static str)> {
        let encoder = &self.good.as_ref()?.encoder;
        Some((encoder, self.arithmetic()))
    }
}
