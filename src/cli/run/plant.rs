//! What goes to the plant: the file that says so, read before the station starts, and its threads.

use super::super::CliError;
use faprompt_edge::control::Control;
use faprompt_edge::plant::collector::{self, Receiver};
use faprompt_edge::plant::settings::{Mqtt, Webhook};
use faprompt_edge::plant::{Outbox, Plant, mqtt, webhook};
use faprompt_edge::runtime::handle::Handle;
use faprompt_edge::runtime::shared::Shared;
use faprompt_edge::runtime::system::low_priority;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Everything that the file asks for, ready to be started.
pub struct Senders {
    mqtt: Option<(Mqtt, mqtt::Options)>,
    webhook: Option<(Webhook, webhook::Client)>,
}

/// Starts a thread with this name.
pub type Start<'a> = dyn FnMut(&str, Box<dyn FnOnce() + Send>) -> Result<(), CliError> + 'a;

impl Senders {
    /// Reads the file, and those that it names.
    pub fn read(path: &Path, station: &str) -> Result<Self, CliError> {
        let plant = Plant::read(path)?;
        let mqtt = plant.mqtt.map(|settings| {
            let options = mqtt::options(&settings, station)?;
            Ok::<_, CliError>((settings, options))
        });
        let webhook = plant.webhook.map(|settings| {
            let client = webhook::Client::new(&settings, station)?;
            Ok::<_, CliError>((settings, client))
        });
        Ok(Senders {
            mqtt: mqtt.transpose()?,
            webhook: webhook.transpose()?,
        })
    }

    /// Starts a thread for each, and one that looks at the station for all of them. Messages wait in the folder. Without
    /// a place for them nothing is sent; the station goes on.
    pub fn start(
        self,
        folder: &Path,
        control: &Arc<Mutex<Control<Handle>>>,
        shared: &Arc<Shared>,
        start: &mut Start<'_>,
    ) -> Result<(), CliError> {
        let open = |name: &str, limit| match Outbox::open(&folder.join(name), limit) {
            Ok(outbox) => Some(Arc::new(outbox)),
            Err(e) => {
                log::error!("{e}: nothing is sent");
                None
            }
        };
        let mut receivers = vec![];
        if let Some((settings, options)) = self.mqtt
            && let Some(outbox) = open("mqtt.db", settings.queue)
        {
            let again = Arc::default();
            receivers.push(Receiver {
                outbox: Arc::clone(&outbox),
                results: settings.results,
                counters: Some(Duration::from_secs(settings.counters_s.into())),
                again: Arc::clone(&again),
            });
            let shared = Arc::clone(shared);
            let body = move || mqtt::run(&settings, &options, &outbox, &again, &shared.stop);
            start("mqtt", gently("mqtt", body))?;
        }
        if let Some((settings, client)) = self.webhook
            && let Some(outbox) = open("webhook.db", settings.queue)
        {
            receivers.push(Receiver {
                outbox: Arc::clone(&outbox),
                results: settings.results,
                counters: None,
                again: Arc::default(),
            });
            let shared = Arc::clone(shared);
            let body = move || client.run(&outbox, &shared.stop);
            start("webhook", gently("webhook", body))?;
        }
        let (control, shared) = (Arc::clone(control), Arc::clone(shared));
        let body = move || collector::run(&control, &receivers, &|| !shared.stopping());
        start("plant", gently("plant", body))
    }
}

/// Gives way to all other threads.
fn gently(name: &'static str, body: impl FnOnce() + Send + 'static) -> Box<dyn FnOnce() + Send> {
    Box::new(move || {
        if let Err(e) = low_priority() {
            log::warn!("the {name} thread keeps its priority: {e}");
        }
        body();
    })
}
