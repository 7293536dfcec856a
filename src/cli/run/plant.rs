//! What goes to the plant: the file that says so, read before the station starts, and its threads.

use super::super::CliError;
use faprompt_edge::control::Control;
use faprompt_edge::plant::collector::{self, Receiver};
use faprompt_edge::plant::settings::{Mqtt, Webhook};
use faprompt_edge::plant::{Outbox, Plant, mqtt, station_name, webhook};
use faprompt_edge::runtime::handle::Handle;
use faprompt_edge::runtime::shared::Shared;
use faprompt_edge::runtime::system::low_priority;
use faprompt_edge::web::links::{Link, Links};
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
    pub fn read(path: &Path) -> Result<Self, CliError> {
        let plant = Plant::read(path)?;
        let mqtt = plant.mqtt.map(|settings| {
            let options = mqtt::options(&settings)?;
            Ok::<_, CliError>((settings, options))
        });
        let webhook = plant.webhook.map(|settings| {
            let client = webhook::Client::new(&settings)?;
            Ok::<_, CliError>((settings, client))
        });
        Ok(Senders {
            mqtt: mqtt.transpose()?,
            webhook: webhook.transpose()?,
        })
    }

    /// Starts a thread for each, and one that looks at the station for all of them. Messages wait in the folder. Without
    /// a place for them nothing is sent; the station goes on. Gives the receivers, for whoever wants to know whether
    /// they are reached.
    pub fn start(
        self,
        folder: &Path,
        control: &Arc<Mutex<Control<Handle>>>,
        shared: &Arc<Shared>,
        start: &mut Start<'_>,
    ) -> Result<Links, CliError> {
        let open = |name: &str, limit| match Outbox::open(&folder.join(name), limit) {
            Ok(outbox) => Some(Arc::new(outbox)),
            Err(e) => {
                log::error!("{e}: nothing is sent");
                None
            }
        };
        let name = || {
            let control = Arc::clone(control);
            move || station_name(&control)
        };
        // One that is wanted and has no outbox.
        let down = || {
            let link = Link::default();
            link.set_up(false);
            Arc::new(link)
        };
        let mut links = Links {
            mqtt: self.mqtt.is_some().then(down),
            webhook: self.webhook.is_some().then(down),
        };
        let mut receivers = vec![];
        if let Some((settings, options)) = self.mqtt
            && let Some(outbox) = open("mqtt.db", settings.queue)
        {
            links.mqtt = Some(Arc::clone(outbox.link()));
            let again = Arc::default();
            receivers.push(Receiver {
                outbox: Arc::clone(&outbox),
                results: settings.results,
                counters: Some(Duration::from_secs(settings.counters_s.into())),
                again: Arc::clone(&again),
            });
            let (shared, name) = (Arc::clone(shared), name());
            let body = move || mqtt::run(&settings, &options, &outbox, &again, &shared.stop, &name);
            start("mqtt", gently("mqtt", body))?;
        }
        if let Some((settings, client)) = self.webhook
            && let Some(outbox) = open("webhook.db", settings.queue)
        {
            links.webhook = Some(Arc::clone(outbox.link()));
            receivers.push(Receiver {
                outbox: Arc::clone(&outbox),
                results: settings.results,
                counters: None,
                again: Arc::default(),
            });
            let (shared, name) = (Arc::clone(shared), name());
            let body = move || client.run(&outbox, &shared.stop, &name);
            start("webhook", gently("webhook", body))?;
        }
        let (control, shared) = (Arc::clone(control), Arc::clone(shared));
        let body = move || collector::run(&control, &receivers, &|| !shared.stopping());
        start("plant", gently("plant", body))?;
        Ok(links)
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
