//! Networks of bundles, tested: what a start and a COMMIT make ready.

use super::super::{CliError, Network as Arguments, inspector, open};
use super::watchdog;
use faprompt_edge::bundle::Bundle;
use faprompt_edge::control::NetworkLabel;
use faprompt_edge::control::store::shelf::Shelf;
use faprompt_edge::inspector::Options;
use faprompt_edge::runtime::StartError;
use faprompt_edge::runtime::loadout::{CameraError, Choice, Network, label};
use std::path::PathBuf;

/// Makes networks as the command line says.
pub struct Networks {
    keys: Vec<PathBuf>,
    options: Options,
    /// The bundle that the station is started with.
    default: PathBuf,
    /// It, opened and verified: what is used first is what was looked at.
    opened: Option<Bundle>,
}

impl Networks {
    pub fn new(arguments: &Arguments, threads: usize) -> Self {
        Networks {
            keys: arguments.key.clone(),
            // Whatever judges can be taught while it does.
            options: Options {
                memory: true,
                ..arguments.options(threads)
            },
            default: arguments.path(),
            opened: None,
        }
    }

    fn path(&self, bundle: &str) -> PathBuf {
        match bundle {
            "" => self.default.clone(),
            path => path.into(),
        }
    }

    /// The threshold that the bundle of the command line comes with.
    pub fn default_threshold(&mut self) -> Result<f32, CliError> {
        let bundle = open(&self.path(""), &self.keys)?;
        let threshold = bundle.manifest().scores.threshold;
        self.opened = Some(bundle);
        Ok(threshold)
    }

    /// A network that passed its self-test. It looks everywhere and compares with nothing.
    pub fn load(&mut self, choice: &Choice) -> Result<Network, CliError> {
        let bundle = choice.bundle.as_str();
        let path = self.path(bundle);
        let opened = match (bundle, self.opened.take()) {
            ("", Some(opened)) => opened,
            _ => open(&path, &self.keys)?,
        };
        watchdog::first_frames(opened.manifest(), choice.tiles.count());
        let mut inspector = inspector(&opened, self.options)?;
        let refused = |e| CliError::Usage(format!("tile_rows, tile_columns: {e}"));
        inspector.cut(choice.tiles).map_err(refused)?;
        let label = NetworkLabel {
            from_recipe: !bundle.is_empty(),
            ..label(&opened, &inspector, &path)
        };
        // What was read of it is in the network now.
        drop(opened);
        Ok(Network::tested(inspector, label).map_err(StartError::Network)?)
    }

    /// The same with the regions, and comparing parts with what was taught, if the parameters name something.
    pub fn taught(
        &mut self,
        choice: &Choice,
        cameras: usize,
        shelf: &Shelf,
    ) -> Result<Network, CliError> {
        let refused = |e| match e {
            CameraError::Regions { path, reason } => CliError::Config { path, reason },
            CameraError::Taught(e) => e.into(),
            CameraError::Failed(e) => CliError::Internal(format!("{e:#}")),
        };
        let mut network = self.load(choice)?;
        network.look(choice).map_err(refused)?;
        if !choice.taught.is_empty() {
            network.learn(&choice.taught, shelf)?;
        }
        let further = network.for_cameras(cameras, choice, shelf);
        further.map_err(refused)?;
        Ok(network)
    }
}
