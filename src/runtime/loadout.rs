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

use super::adjust::Adjusted;
use super::archive::Archive;
use super::deferred::DeferredDrop;
use super::limits::FrameLimits;
use super::message::LineLoadout;
use super::recent::Recent;
use super::shared::Shared;
use crate::bundle::Bundle;
use crate::capture::known_frame;
use crate::control::host::{GoodParts, NetworkLabel};
use crate::control::store::shelf::Shelf;
use crate::control::table::{CAMERAS, Parameter};
use crate::control::types::TypeRules;
use crate::control::values::Values;
use crate::durable;
use crate::hex::hex;
use crate::inspector::{InspectError, Inspector, KNOWN_TOLERANCE};
use crate::line::{Settings, VIEWS, View};
use crate::memory::file::TaughtError;
use crate::memory::region::Regions;
use crate::memory::{Taught, TaughtLight};
use crate::ops::tract::TractError;
use crate::tiling::Tiling;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A frame may take this many times as long as the self-test's frame before its network counts as hanging.
const PATIENCE: u32 = 20;

/// A loadout that is ready to be put into force.
pub struct Loadout {
    /// One network per judge; `None`: the present networks stay.
    pub networks: Option<Vec<DeferredDrop<Box<Network>>>>,
    /// Settings of the line; their generation is given when the loadout is put into force.
    pub line: LineLoadout,
    /// Exposure time and gain that cameras have accepted already; if this is dropped, they get back what they had.
    pub adjusted: Vec<Adjusted>,
    /// Settings of the archive.
    pub archive: Archive,
    /// The recipe's name.
    pub recipe: String,
    /// Limits that a frame must keep to be judged.
    pub frames: FrameLimits,
    /// What each type of defect decides.
    pub types: TypeRules,
    /// How much is logged.
    pub log: log::LevelFilter,
    /// The network that the parameters ask for.
    pub choice: Choice,
}

/// The network that the parameters ask for; two choices that differ need different networks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Choice {
    /// Path of the bundle; empty for the one that the station was started with.
    pub bundle: String,
    /// Rows, columns and overlap of the tiles that frames are cut into.
    pub tiles: Tiling,
    /// Path of the file of regions; empty without any.
    pub regions: String,
    /// Name or path of the file of taught parts; empty: nothing was taught.
    pub taught: String,
    /// Whether FAPrompt judges alone if the taught parts cannot be used.
    pub alone: bool,
    /// The choices of the second to the fourth camera.
    pub further: [CameraChoice; VIEWS - 1],
}

/// The part of a choice that each further camera has for itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CameraChoice {
    /// Path of the file of regions; empty without any.
    pub regions: String,
    /// Name or path of the file of taught parts; empty: nothing was taught.
    pub taught: String,
}

/// Looks at the regions of a file from now on, or everywhere without one.
fn look_at(inspector: &mut Inspector, file: &str) -> Result<(), CameraError> {
    let regions = match file {
        "" => Ok(Regions::default()),
        file => durable::read(file.as_ref())
            .map_err(|e| e.to_string())
            .and_then(|bytes| String::from_utf8(bytes).map_err(|e| e.to_string()))
            .and_then(|text| Regions::parse(&text).map_err(|e| e.to_string())),
    };
    let looked = regions.and_then(|regions| inspector.look(&regions).map_err(|e| e.to_string()));
    looked.map_err(|reason| CameraError::Regions {
        path: file.into(),
        reason,
    })
}

impl Choice {
    /// Reads the choice from the parameters.
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
            further: [1, 2, 3].map(|camera| CameraChoice {
                regions: values.text(CAMERAS[camera].regions).into(),
                taught: values.text(CAMERAS[camera].taught).into(),
            }),
            alone: CAMERAS.iter().any(|c| !values.text(c.taught).is_empty())
                && values.text(Parameter::TaughtUnusable) == "zero_shot",
        }
    }

    /// Whether the two choices are equal except for what was taught.
    pub fn sees_as(&self, other: &Choice) -> bool {
        let seen = |c: &Choice| (c.bundle.clone(), c.tiles, c.regions.clone());
        seen(self) == seen(other)
    }
}

/// A tested network that judges, and what belongs to it.
pub struct Network {
    /// The network itself, with the parts it was taught.
    pub inspector: Inspector,
    /// What reports say of it: file, name, digest, arithmetic, types.
    pub label: Arc<NetworkLabel>,
    /// The known frame's score on this machine, 0..=1.
    pub known: f32,
    /// A frame may take this long before the thread that judges it counts as hanging.
    pub patience: Duration,
    /// The last parts that networks with this encoder judged; `None` if the network cannot be taught.
    pub recent: Option<Arc<Recent>>,
    /// The networks of the second to the last camera, which share the weights.
    pub further: Vec<Network>,
}

/// Why a camera cannot have a network.
#[derive(Debug, thiserror::Error)]
pub enum CameraError {
    /// Its file of regions cannot be used, or would decide nothing.
    #[error("{path}: {reason}", path = path.display())]
    Regions {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Its taught parts cannot be used.
    #[error(transparent)]
    Taught(#[from] TaughtError),
    /// tract fails while the network is copied; no case is known.
    #[error("{0:#}")]
    Failed(TractError),
}

/// Why a network may not judge parts.
#[derive(Debug, thiserror::Error)]
pub enum SelfTestError {
    /// The known frame cannot be judged.
    #[error("the known frame cannot be judged: {0}")]
    Inspect(#[from] InspectError),
    /// Its score differs from the one in the bundle.
    #[error(
        "the known frame has score {found:.4} instead of {expected:.4}: this machine computes this bundle \
         wrongly; try --arithmetic f32, and report it"
    )]
    Score {
        /// The score on this machine.
        found: f32,
        /// The score in the bundle.
        expected: f32,
    },
}

/// The known frame's score here.
///
/// # Errors
/// [`SelfTestError`]: the known frame cannot be judged, or has another score than it must have.
pub fn self_test(inspector: &mut Inspector) -> Result<f32, SelfTestError> {
    let found = inspector.known_frame_score()?;
    match inspector.known_score() {
        Some(expected) if (found - expected).abs() > KNOWN_TOLERANCE => {
            Err(SelfTestError::Score { found, expected })
        }
        _ => Ok(found),
    }
}

/// Makes the network's label for reports; `path` is the file that was read.
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
        encoder: (inspector.bound_to()).map_or_else(String::new, |(encoder, _)| encoder.into()),
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
    /// The range of light of the good parts that the network was taught; `None`: nothing was.
    pub fn light(&self) -> Option<TaughtLight> {
        self.inspector.taught()?.about().light()
    }

    /// Judges the known frame, and then the same frame twice as parts are judged: the first frame is slower than
    /// all others, because memory is touched for the first time.
    ///
    /// # Errors
    /// [`SelfTestError`]: the known frame cannot be judged, or has another score than it must have.
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
            further: Vec::new(),
        })
    }

    /// The network of a camera; `None` if the station has no such camera.
    pub fn of(&self, view: View) -> Option<&Network> {
        match view.index().checked_sub(1) {
            None => Some(self),
            Some(further) => self.further.get(further),
        }
    }

    /// As [`of`](Self::of), to be changed.
    pub fn of_mut(&mut self, view: View) -> Option<&mut Network> {
        match view.index().checked_sub(1) {
            None => Some(self),
            Some(further) => self.further.get_mut(further),
        }
    }

    /// Gives each further camera a network of its own that shares the weights, with the regions and taught parts
    /// that the parameters name. The first camera's is to have its regions and taught parts by now: they are looked at
    /// as well. Returns whether a camera judges without its taught parts, because they cannot be
    /// used and [`Choice::alone`] allows that.
    ///
    /// # Errors
    /// [`CameraError`]; the log says whose.
    pub fn for_cameras(
        &mut self,
        cameras: usize,
        choice: &Choice,
        shelf: &Shelf,
    ) -> Result<bool, CameraError> {
        self.further.clear();
        let mut left_out = false;
        for (i, own) in choice.further.iter().take(cameras.max(1) - 1).enumerate() {
            let mut network = self.beside().map_err(CameraError::Failed)?;
            network.inspector.teach(None)?;
            look_at(&mut network.inspector, &own.regions)?;
            // Only the first camera's network is taught while parts pass.
            network.recent = None;
            Arc::make_mut(&mut network.label).taught = None;
            if !own.taught.is_empty() {
                match network.learn(&own.taught, shelf) {
                    Ok(()) => (),
                    Err(e) if choice.alone => {
                        let camera = i + 2;
                        log::error!(
                            "camera {camera}: {e}; FAPrompt judges alone (taught_unusable)"
                        );
                        left_out = true;
                    }
                    Err(e) => {
                        log::error!("camera {}:", i + 2);
                        return Err(e.into());
                    }
                }
            }
            self.further.push(network);
        }
        let regions = choice.further.iter().map(|own| &own.regions);
        let cameras = std::iter::once(&choice.regions).chain(regions);
        let networks = std::iter::once(&*self).chain(&self.further);
        for (network, regions) in networks.zip(cameras) {
            if let Some(reason) = network.inspector.ignores_regions() {
                let path = PathBuf::from(regions);
                return Err(CameraError::Regions { path, reason });
            }
        }
        Ok(left_out)
    }

    /// Looks at the regions that the parameters name for the first camera, and compares with nothing.
    ///
    /// # Errors
    /// [`CameraError`]: the file of regions cannot be used.
    pub fn look(&mut self, choice: &Choice) -> Result<(), CameraError> {
        self.inspector.teach(None)?;
        look_at(&mut self.inspector, &choice.regions)
    }

    /// By how much the threshold is raised at most where a camera looks, 0..=1; 0 without regions.
    pub fn highest_offset(&self, view: View) -> f32 {
        let network = self.of(view);
        network.map_or(0.0, |n| n.inspector.regions().highest_offset())
    }

    /// Compares parts with what is on the shelf by this name, or in a file of this path.
    ///
    /// # Errors
    /// [`TaughtError`]: the file cannot be read, or was taught with another encoder.
    pub fn learn(&mut self, name: &str, shelf: &Shelf) -> Result<(), TaughtError> {
        let bytes = shelf.get(name).map_err(|source| TaughtError::File {
            path: shelf.path(name),
            done: "read",
            source,
        })?;
        self.teach(name, bytes.into())
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

    /// From now on each camera's frames are compared with what its network was taught.
    pub(super) fn compares(&self, shared: &Shared, settings: &Settings) {
        for view in View::ALL {
            let (frames, drift) = (&shared.frames[view.index()], &shared.drift[view.index()]);
            let Some(network) = self.of(view) else {
                continue;
            };
            frames.taught(network.light(), network.recent.clone());
            let threshold = settings.threshold_of(view).get();
            drift.taught(network.inspector.taught(), threshold);
        }
    }

    /// Another one with the same weights that compares with no good parts, to be taught and to take this one's
    /// place, or to look at pictures beside it.
    ///
    /// # Errors
    /// Ones of tract; no case is known.
    pub fn beside(&self) -> Result<Network, TractError> {
        Ok(Network {
            inspector: self.inspector.beside()?,
            label: self.label.clone(),
            known: self.known,
            patience: self.patience,
            recent: self.recent.clone(),
            further: Vec::new(),
        })
    }

    /// The same network without good parts, tested again.
    ///
    /// # Errors
    /// [`SelfTestError`]: the known frame cannot be judged, or has another score than it must have.
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
    /// Ones of tract; no case is known.
    pub fn side_by_side(self, count: usize) -> Result<Vec<Network>, TractError> {
        let (label, known, recent) = (self.label, self.known, self.recent);
        let further = self.further.into_iter();
        let further = further.map(|network| network.side_by_side(count));
        let mut further = further.collect::<Result<Vec<_>, _>>()?;
        // Side by side each is slower.
        let patience = self.patience * count as u32;
        let inspectors = self.inspector.side_by_side(count)?.into_iter();
        let mut network = |inspector| Network {
            inspector,
            label: label.clone(),
            known,
            patience,
            recent: recent.clone(),
            // As many of each camera's as there are.
            further: further.iter_mut().filter_map(Vec::pop).collect(),
        };
        Ok(inspectors.map(&mut network).collect())
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
