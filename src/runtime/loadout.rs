//! The loadout: everything of a running station that a change of parameters can replace, as one value.
//!
//! ```text
//! prepare (slow, may fail, no lock) -> store (old or new) -> swap (a lane per thread, cannot fail)
//! ```
//!
//! A start is the same: what is stored is prepared and put in. What was refused is never stored, and what
//! is swapped in was judged by its self-test, from the very bytes that were verified.
//!
//! What else a part is judged by (good parts that were taught) belongs to [`Network`]: it is prepared
//! with it, tested with it, and handed to every judge in the same moment.

use super::archive::Archive;
use super::camera::Adjusted;
use super::limits::FrameLimits;
use super::message::LineLoadout;
use super::recent::Recent;
use crate::bundle::Bundle;
use crate::capture::known_frame;
use crate::control::host::{GoodParts, NetworkLabel};
use crate::control::table::Parameter;
use crate::control::types::TypeRules;
use crate::control::values::Values;
use crate::hex::hex;
use crate::inspector::{InspectError, Inspector, KNOWN_TOLERANCE};
use crate::memory::file::TaughtError;
use crate::memory::region::Regions;
use crate::memory::{Taught, TaughtLight};
use crate::ops::tract::TractError;
use crate::tiling::Tiling;
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A frame may take so many times as long as the self-test's before its network is taken for hanging.
const PATIENCE: u32 = 20;

/// What is swapped in.
pub struct Loadout {
    /// One network per judge; `None`: those that judge go on.
    pub networks: Option<Vec<Network>>,
    /// The line's part; its generation is given when it is swapped in.
    pub line: LineLoadout,
    /// Exposure time and gain that the camera has taken already; dropped, it gets back what it had.
    pub adjusted: Option<Adjusted>,
    /// Which pictures are kept.
    pub archive: Archive,
    /// The recipe's name.
    pub recipe: String,
    /// What a frame must show.
    pub frames: FrameLimits,
    /// What types of defects decide.
    pub types: TypeRules,
    /// How much is logged.
    pub log: log::LevelFilter,
    /// What the parameters say of the network.
    pub choice: Choice,
}

/// What the parameters say of the network: another choice is another network.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Choice {
    /// The bundle's path; empty for the one that the station was started with.
    pub bundle: String,
    /// What frames are cut into.
    pub tiles: Tiling,
    /// Path of a file of regions; empty without any.
    pub regions: String,
    /// What was taught; empty: nothing.
    pub taught: String,
    /// Whether FAPrompt judges alone if that cannot be used.
    pub alone: bool,
}

impl Choice {
    /// What the parameters say.
    pub fn of(values: &Values) -> Choice {
        let number = |parameter| values.number(parameter);
        let taught = values.text(Parameter::Taught);
        let (rows, columns) = (Parameter::TileRows, Parameter::TileColumns);
        let overlap = number(Parameter::TileOverlap);
        Choice {
            bundle: values.text(Parameter::Bundle).into(),
            // The table's ranges are those of tiles; a test holds them together.
            tiles: Tiling::new(number(rows), number(columns), overlap).unwrap_or_default(),
            regions: values.text(Parameter::Regions).into(),
            taught: taught.into(),
            alone: !taught.is_empty() && values.text(Parameter::TaughtUnusable) == "zero_shot",
        }
    }

    /// Whether they differ by nothing but what was taught.
    pub fn sees_as(&self, other: &Choice) -> bool {
        let seen = |c: &Choice| (c.bundle.clone(), c.tiles, c.regions.clone());
        seen(self) == seen(other)
    }
}

/// A network that judges, and what goes with it.
pub struct Network {
    /// It.
    pub inspector: Inspector,
    /// Its name.
    pub label: Arc<NetworkLabel>,
    /// The known frame's score here.
    pub known: f32,
    /// A frame may take so long before its judge is taken for hanging.
    pub patience: Duration,
    /// The last parts that networks with this encoder judged; `None` of one that cannot be taught.
    pub recent: Option<Arc<Recent>>,
}

/// Why a network may not judge parts.
#[derive(Debug, thiserror::Error)]
pub enum SelfTestError {
    /// The known frame cannot be judged.
    #[error("the known frame cannot be judged: {0}")]
    Inspect(#[from] InspectError),
    /// It has another score than it should.
    #[error(
        "the known frame has score {found:.4} instead of {expected:.4}: this machine computes this bundle \
         wrongly; try --arithmetic f32, and report it"
    )]
    Score {
        /// The score here.
        found: f32,
        /// The score in the bundle.
        expected: f32,
    },
}

/// The known frame's score here.
///
/// # Errors
/// [`SelfTestError`].
pub fn self_test(inspector: &mut Inspector) -> Result<f32, SelfTestError> {
    let found = inspector.known_frame_score()?;
    match inspector.known_score() {
        Some(expected) if (found - expected).abs() > KNOWN_TOLERANCE => {
            Err(SelfTestError::Score { found, expected })
        }
        _ => Ok(found),
    }
}

/// Its name: `path` is what was read.
pub fn label(bundle: &Bundle, inspector: &Inspector, path: &Path) -> NetworkLabel {
    let manifest = inspector.manifest();
    let mut digest = Sha256::new();
    for (part, of) in bundle.digests() {
        digest.update(part);
        digest.update(of);
    }
    NetworkLabel {
        bundle: path.display().to_string(),
        from_recipe: false,
        name: manifest.name.clone(),
        digest: hex(&digest.finalize()),
        warning: manifest.warning(),
        arithmetic: inspector.arithmetic(),
        smoothing_sigma: manifest.scores.smoothing_sigma,
        types: manifest
            .method
            .as_ref()
            .map_or_else(Vec::new, |m| m.types.clone()),
        taught: None,
    }
}

impl Network {
    /// The light of the good parts that it was taught, if any.
    pub fn light(&self) -> Option<TaughtLight> {
        self.inspector.taught()?.about().light()
    }

    /// Has it judge the known frame, and then the same frame as it judges parts, twice: the first frame is slower
    /// than all others, because memory is touched for the first time.
    ///
    /// # Errors
    /// [`SelfTestError`].
    pub fn tested(mut inspector: Inspector, label: NetworkLabel) -> Result<Network, SelfTestError> {
        let known = self_test(&mut inspector)?;
        inspector.inspect(&known_frame())?;
        let second = Instant::now();
        inspector.inspect(&known_frame())?;
        let patience = second.elapsed() * PATIENCE;
        let recent = inspector.layout().map(|l| Arc::new(Recent::new(l)));
        Ok(Network {
            inspector,
            label: Arc::new(label),
            known,
            patience,
            recent,
        })
    }

    /// Compares parts with these good ones from now on, the bytes of a file that the parameters call `name`.
    ///
    /// # Errors
    /// [`TaughtError`]: what was taught cannot be used by this network, which stays as it was.
    pub fn teach(&mut self, name: &str, bytes: Arc<[u8]>) -> Result<(), TaughtError> {
        let regions = self.inspector.regions().clone();
        self.inspector.teach(Some(bytes))?;
        let about = self.inspector.taught().map(Taught::about);
        let same = about.is_none_or(|about| about.regions == regions);
        let taught = about.map(|about| GoodParts {
            name: name.into(),
            parts: about.told.len(),
            kind: about.kind.name(),
            bound_per_mille: about.promise().map(|p| p.per_mille()),
        });
        if !same {
            self.forget(&regions)?;
            let what = "taught while other regions were looked at".to_string();
            return Err(TaughtError::Another(what));
        }
        Arc::make_mut(&mut self.label).taught = taught;
        Ok(())
    }

    /// Compares parts with none from now on, and looks at these regions.
    fn forget(&mut self, regions: &Regions) -> Result<(), TaughtError> {
        self.inspector.teach(None)?;
        let looked = self.inspector.look(regions);
        looked.map_err(|e| TaughtError::Failed(TractError::msg(e.to_string())))
    }

    /// Another one with the same weights that compares with no good parts, to be taught and to take this one's
    /// place, or to look at pictures beside it.
    ///
    /// # Errors
    /// tract's own; none is known.
    pub fn beside(&self) -> Result<Network, TractError> {
        Ok(Network {
            inspector: self.inspector.beside()?,
            label: self.label.clone(),
            known: self.known,
            patience: self.patience,
            recent: self.recent.clone(),
        })
    }

    /// The same network without good parts, tested again.
    ///
    /// # Errors
    /// [`SelfTestError`].
    pub fn forgetful(mut self) -> Result<Network, SelfTestError> {
        let regions = self.inspector.regions().clone();
        self.forget(&regions)
            .map_err(|e| InspectError::Inference(TractError::msg(e.to_string())))?;
        let label = NetworkLabel {
            taught: None,
            ..NetworkLabel::clone(&self.label)
        };
        let network = Network::tested(self.inspector, label)?;
        Ok(Network {
            recent: self.recent,
            ..network
        })
    }

    /// This one and as many others beside it as make `count`: they share their weights.
    ///
    /// # Errors
    /// tract's own; none is known.
    pub fn side_by_side(self, count: usize) -> Result<Vec<Network>, TractError> {
        let (label, known, recent) = (self.label, self.known, self.recent);
        // Side by side each is slower.
        let patience = self.patience * count as u32;
        let inspectors = self.inspector.side_by_side(count)?.into_iter();
        let network = |inspector| Network {
            inspector,
            label: label.clone(),
            known,
            patience,
            recent: recent.clone(),
        };
        Ok(inspectors.map(network).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::table::Kind;
    use crate::tiling::{MOST, OVERLAP, WIDEST};

    #[test]
    fn every_value_of_the_table_is_a_tiling() {
        let range = |p: Parameter| match p.entry().kind {
            Kind::Number { low, high, .. } => (low, high),
            other => panic!("{other:?}"),
        };
        let most = u32::from(MOST);
        assert_eq!(range(Parameter::TileRows), (1, most));
        assert_eq!(range(Parameter::TileColumns), (1, most));
        assert_eq!(range(Parameter::TileOverlap), (0, WIDEST.into()));
        let mut values = Values::default();
        assert_eq!(Choice::of(&values), Choice::default());
        let three = crate::control::Value::Number(3);
        values.set(Parameter::TileColumns, three).unwrap();
        let tiles = Choice::of(&values).tiles;
        assert_eq!(tiles, Tiling::new(1, 3, OVERLAP.into()).unwrap());
    }
}
