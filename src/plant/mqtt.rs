//! Sends the waiting messages to a broker, by MQTT 5 with QoS 1.
//!
//! A message leaves the outbox when the broker has acknowledged it. After a broken connection, messages that were
//! not acknowledged are sent again, with `"repeated": true`; the session at the broker is a new one each time. The
//! last will says that the station is offline. Nothing else waits for this thread: a broker that hangs stops it
//! alone.
//!
//! With Sparkplug the same messages go out as metrics, with QoS 0, as its specification wants it: a message leaves the
//! outbox when it is written to the connection. With a primary host nothing is sent while that is offline.

use super::machine::machine;
use super::outbox::{Outbox, OutboxError, Waiting};
use super::primary_host::PrimaryHost;
use super::settings::{Mqtt, SettingsError, secret};
use super::sparkplug::{Kind, Node, wants_birth};
use super::{LOOK, tls};
use rumqttc::{
    AsyncClient, Event, EventLoop, LastWill, MqttOptions, Packet, PubAckReason, Publish,
    PublishNoticeError, PublishOptions, QoS, TlsConfiguration, Transport,
};
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

/// Most messages that are sent without being acknowledged.
const WINDOW: usize = 64;

/// Seconds between two signs of life to the broker, which takes the station for offline after one and a half of
/// these times.
const KEEP_ALIVE: u16 = 10;

/// Longest time until a connection is made or messages are acknowledged; after that the broker counts as hanging.
const PATIENCE: Duration = Duration::from_secs(15);

/// Waiting before the next try: doubled from the first to the last.
const AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Longest time that closing the connection may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// Largest packet that is accepted from the broker, bytes; nothing is subscribed to but Sparkplug's commands and its
/// primary host's state.
const PACKET: u32 = 16 * 1024;

/// The state that the broker retains once the station is offline.
fn away() -> String {
    // 0 is the number of no message.
    json!({ "online": false, "seq": 0 }).to_string()
}

/// Options of the connection to the broker.
pub type Options = MqttOptions;

/// By what the broker knows the station: the client id of the settings, or one made of the station's name and machine.
fn client_id(settings: &Mqtt, name: &str, machine: &str) -> String {
    let made = || format!("faprompt-edge-{name}{machine}");
    settings.client_id.clone().unwrap_or_else(made)
}

/// Makes the options from the settings. The client id comes with each connection.
///
/// # Errors
/// [`SettingsError`]: a file with a secret or a certificate cannot be used.
pub fn options(settings: &Mqtt) -> Result<Options, SettingsError> {
    let broker = &settings.broker;
    let mut options = MqttOptions::new("", (broker.host.clone(), broker.port));
    options
        .set_keep_alive(KEEP_ALIVE)
        .set_clean_start(true)
        .set_connect_timeout(PATIENCE)
        .set_max_packet_size(Some(PACKET))
        .set_outgoing_inflight_upper_limit(WINDOW as u16 + 1);
    if let Some(topic) = &settings.topic {
        let topic = format!("{topic}/state");
        options.set_last_will(LastWill::new(topic, away(), QoS::AtLeastOnce, true, None));
    }
    if let Some(user) = &settings.user {
        match &settings.password_file {
            Some(path) => options.set_credentials(user.clone(), secret(path)?),
            None => options.set_username(user.clone()),
        };
    }
    if broker.tls {
        let config = TlsConfiguration::Rustls(tls::client(settings)?);
        options.set_transport(Transport::tls_with_config(config));
    }
    Ok(options)
}

/// So many connections one after the other that were this short are another client's doing: a broker ends the older one of
/// two with one name.
const SHORTS: u32 = 3;
const SHORT: Duration = Duration::from_secs(10);

/// Why a connection was ended in order.
enum Ended {
    /// The station ends.
    Station,
    /// The primary host went offline.
    Host,
    /// The station has another name, and so another client id.
    Renamed,
}

/// Why a connection broke.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("{0}")]
    Connection(Box<rumqttc::ConnectionError>),
    #[error("the broker does not answer")]
    Hangs,
    #[error(
        "the broker takes no message yet, the first to topic `{0}` ({1}): look at its access list"
    )]
    Refused(String, String),
    #[error("a message did not reach the broker: {0}")]
    Unsent(rumqttc::PublishNoticeError),
    #[error("{0}")]
    Client(#[from] rumqttc::ClientError),
    #[error("{0}")]
    Outbox(#[from] OutboxError),
}

/// Sends until `stop` is set. `again` is set when the broker wants state and counters anew. `name` gives the station's
/// name; a connection whose client id was made of another one is ended, and the next one made.
pub fn run(
    settings: &Mqtt,
    options: &Options,
    outbox: &Outbox,
    again: &Arc<AtomicBool>,
    stop: &AtomicBool,
    name: &dyn Fn() -> String,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(e) => return log::error!("nothing is sent to the broker: {e}"),
    };
    let broker = format!("{}:{}", settings.broker.host, settings.broker.port);
    // What was in the outbox at the start may have been sent before.
    let mut sent = outbox.found();
    let host = settings
        .sparkplug
        .as_ref()
        .and_then(|s| s.primary_host.as_deref());
    let signals = Signals {
        host: host.map(|name| RefCell::new(PrimaryHost::new(name))),
        ..Signals::default()
    };
    let machine = machine(Path::new("/"));
    runtime.block_on(async {
        let (mut wait, mut known, mut short) = (AGAIN.0, true, 0);
        while !stop.load(Ordering::Relaxed) {
            let (mut worked, begun) = (false, Instant::now());
            let called = name();
            let mut options = options.clone();
            options.set_client_id(client_id(settings, &called, &machine));
            // An id of the settings' own says nothing of the name.
            let renamed = || settings.client_id.is_none() && name() != called;
            let ended = connection(
                settings, &options, outbox, again, stop, &renamed, &signals, &mut sent, &mut worked,
            )
            .await;
            outbox.link().set_up(false);
            if worked || begun.elapsed() > AGAIN.1 {
                (wait, known) = (AGAIN.0, true);
            }
            if signals.met.replace(false) {
                short = if begun.elapsed() < SHORT { short + 1 } else { 0 };
                if short == SHORTS {
                    log::warn!(
                        "broker {broker}: has ended {SHORTS} connections within seconds: does another client call itself \
                         `{}`? Each needs a `client_id` of its own",
                        options.client_id()
                    );
                }
            }
            match ended {
                Ok(Ended::Station) => return,
                Ok(Ended::Renamed) => log::info!(
                    "broker {broker}: the station has another name: disconnected, to come back under it"
                ),
                Ok(Ended::Host) => log::warn!(
                    "broker {broker}: primary host {} is offline: disconnected; messages wait until it is online",
                    host.unwrap_or_default()
                ),
                Err(broken) => {
                    // Logged as a warning once each time that the broker goes away.
                    let level = match std::mem::replace(&mut known, false) {
                        true => log::Level::Warn,
                        false => log::Level::Debug,
                    };
                    let (waiting, dropped) = outbox.counts();
                    log::log!(
                        level,
                        "broker {broker}: {broken}; tried again; {waiting} messages wait, {dropped} were dropped so far"
                    );
                }
            }
            let mut left = wait;
            while !left.is_zero() && !stop.load(Ordering::Relaxed) {
                sleep(left.min(LOOK)).await;
                left = left.saturating_sub(LOOK);
            }
            wait = (wait * 2).min(AGAIN.1);
        }
    });
}

/// How messages go to the broker.
enum Form {
    /// As JSON, each to its topic below this one.
    Json(String),
    /// As metrics of an edge node.
    Sparkplug(Box<Node>),
}

/// A message for the broker: topic, bytes, how it is sent.
type Packed = (String, Vec<u8>, PublishOptions);

impl Form {
    /// The message as it is sent; `None`: there is nothing new in it.
    fn pack(&mut self, message: &Waiting, repeated: bool) -> Option<Packed> {
        match self {
            Form::Json(topic) => Some((
                format!("{topic}/{}", message.topic),
                body(message, repeated).into(),
                PublishOptions::at_least_once().retain(message.latest),
            )),
            Form::Sparkplug(node) => {
                let body: Value = serde_json::from_str(&message.body).ok()?;
                let waited = node.waited(&message.topic, &body);
                let bytes = node.data(&message.topic, &body, waited)?;
                let topic = node.topic(Kind::Data);
                Some((topic, bytes, PublishOptions::at_most_once()))
            }
        }
    }

    /// What an orderly end says in place of the last will.
    fn farewell(&self) -> Packed {
        let options = PublishOptions::at_least_once();
        match self {
            Form::Json(topic) => (format!("{topic}/state"), away().into(), options.retained()),
            Form::Sparkplug(node) => (node.topic(Kind::Death), node.death(), options),
        }
    }

    /// Subscribes to what the station has to hear before the first message.
    async fn subscribe(&self, client: &AsyncClient, signals: &Signals) -> Result<(), Broken> {
        let Form::Sparkplug(node) = self else {
            return Ok(());
        };
        let command = node.topic(Kind::Command);
        client.subscribe(command, QoS::AtLeastOnce).await?;
        if let Some(topic) = signals.host.as_ref().map(|h| h.borrow().topic()) {
            client.subscribe(topic, QoS::AtLeastOnce).await?;
        }
        Ok(())
    }

    /// All metrics, at the beginning and whenever a host wants them.
    async fn birth(&mut self, client: &AsyncClient) -> Result<(), Broken> {
        if let Form::Sparkplug(node) = self {
            let (topic, bytes) = (node.topic(Kind::Birth), node.birth());
            let options = PublishOptions::at_most_once();
            client.publish(topic, bytes, options).await?;
        }
        Ok(())
    }
}

/// What the broker's packets say to whoever publishes. Both are futures of one thread.
#[derive(Default)]
struct Signals {
    connected: Notify,
    /// A host wants all metrics again.
    birth: AtomicBool,
    /// The primary host, if the station waits for one.
    host: Option<RefCell<PrimaryHost>>,
    /// Whether the broker has taken a connection since this was last asked.
    met: Cell<bool>,
    /// Topics that the broker has refused messages to.
    refused: RefCell<BTreeSet<String>>,
}

impl Signals {
    /// Takes what somebody has published: nothing is subscribed to but Sparkplug's commands and the primary host's state.
    fn take(&self, publish: &Publish) {
        match &self.host {
            Some(host) if publish.topic == host.borrow().topic() => {
                host.borrow_mut().take(&publish.payload);
            }
            _ if wants_birth(&publish.payload) => self.birth.store(true, Ordering::Relaxed),
            _ => (),
        }
    }

    /// Waits until the primary host is online, if there is one; `false`: the station ends.
    async fn host_is_online(&self, broker: &str, stop: &AtomicBool) -> bool {
        let Some(host) = &self.host else {
            return true;
        };
        if !host.borrow().is_online() {
            let name = host.borrow().name().to_string();
            log::info!("broker {broker}: messages wait until primary host {name} is online");
        }
        while !host.borrow().is_online() {
            if stop.load(Ordering::Relaxed) {
                return false;
            }
            sleep(LOOK).await;
        }
        host.borrow_mut().begin();
        true
    }

    /// Counts messages as dropped that the broker will never take, though it takes others: nothing else waits for them.
    fn drop_refused(
        &self,
        outbox: &Outbox,
        broker: &str,
        refused: &[(i64, String, PubAckReason)],
    ) -> Result<(), OutboxError> {
        for (_, topic, reason) in refused {
            if self.refused.borrow_mut().insert(topic.clone()) {
                log::warn!(
                    "broker {broker}: takes no message to topic `{topic}` ({reason:?}): look at its access list; such \
                     messages are dropped and counted"
                );
            }
        }
        let ids: Vec<i64> = refused.iter().map(|(id, ..)| *id).collect();
        outbox.done(&ids)?;
        outbox.put(&[], ids.len() as u64)
    }

    fn host_has_left(&self) -> bool {
        self.host.as_ref().is_some_and(|h| h.borrow().has_left())
    }
}

/// Serves one connection until it breaks, the station ends or is renamed, or the primary host goes offline.
#[allow(clippy::too_many_arguments)]
async fn connection(
    settings: &Mqtt,
    options: &Options,
    outbox: &Outbox,
    again: &AtomicBool,
    stop: &AtomicBool,
    renamed: &dyn Fn() -> bool,
    signals: &Signals,
    sent: &mut i64,
    worked: &mut bool,
) -> Result<Ended, Broken> {
    let mut options = options.clone();
    let mut form = match &settings.sparkplug {
        Some(names) => {
            // From 0 to 255, and from 0 again: fits.
            let number = (outbox.number("bdSeq")?.wrapping_sub(1) % 256) as u8;
            let node = Node::new(names, number);
            let (topic, death) = (node.topic(Kind::Death), node.death());
            options.set_last_will(LastWill::new(topic, death, QoS::AtLeastOnce, false, None));
            Form::Sparkplug(Box::new(node))
        }
        None => Form::Json(settings.topic.clone().unwrap_or_default()),
    };
    let (client, mut events) = AsyncClient::builder(options).capacity(WINDOW).build();
    if let Some(host) = &signals.host {
        host.borrow_mut().reset();
    }
    let publish = async {
        signals.connected.notified().await;
        let broker = &settings.broker.host;
        outbox.link().set_up(true);
        log::info!("broker {broker}: connected");
        form.subscribe(&client, signals).await?;
        if !signals.host_is_online(broker, stop).await {
            client.disconnect().await?;
            return Ok(Ended::Station);
        }
        signals.birth.store(false, Ordering::Relaxed);
        form.birth(&client).await?;
        // The broker has retained the will in place of the state.
        again.store(true, Ordering::Relaxed);
        // Messages that were refused before any was taken: whether the broker takes others, those behind them show.
        let (mut after, mut refused) = (0, vec![]);
        while !stop.load(Ordering::Relaxed) && !signals.host_has_left() && !renamed() {
            if signals.birth.swap(false, Ordering::Relaxed) {
                form.birth(&client).await?;
            }
            let messages = outbox.next(after, WINDOW)?;
            let Some(last) = messages.last() else {
                if let Some((_, topic, reason)) = refused.first() {
                    return Err(Broken::Refused(String::clone(topic), format!("{reason:?}")));
                }
                sleep(LOOK).await;
                continue;
            };
            after = last.id;
            let (sorted, result) = batch(&mut form, &client, &messages, sent).await;
            outbox.done(&sorted.done)?;
            *worked |= !sorted.done.is_empty();
            result?;
            refused.extend(sorted.refused);
            if *worked {
                after = 0;
                let refused = std::mem::take(&mut refused);
                if !refused.is_empty() {
                    signals.drop_refused(outbox, broker, &refused)?;
                }
            }
        }
        let (topic, bytes, options) = form.farewell();
        let notice = client.publish_tracked(topic, bytes, options).await?;
        let _ = timeout(FAREWELL, notice.wait_async()).await;
        client.disconnect().await?;
        Ok(match () {
            () if stop.load(Ordering::Relaxed) => Ended::Station,
            () if signals.host_has_left() => Ended::Host,
            () => Ended::Renamed,
        })
    };
    let end = async {
        while !stop.load(Ordering::Relaxed) {
            sleep(LOOK).await;
        }
        sleep(2 * FAREWELL).await;
    };
    tokio::select! {
        broken = poll(&mut events, signals) => match broken {
            Broken::Connection(_) if stop.load(Ordering::Relaxed) => Ok(Ended::Station),
            broken => Err(broken),
        },
        result = publish => {
            if result.is_ok() {
                // DISCONNECT still has to go out.
                let _ = timeout(FAREWELL, poll(&mut events, signals)).await;
            }
            result
        }
        () = end => Ok(Ended::Station),
    }
}

/// Exchanges packets until the connection breaks.
async fn poll(events: &mut EventLoop, signals: &Signals) -> Broken {
    loop {
        // Signs of life go both ways: silence for two of them is the end.
        match timeout(2 * Duration::from_secs(KEEP_ALIVE.into()), events.poll()).await {
            Ok(Ok(Event::Incoming(Packet::ConnAck(_)))) => {
                signals.met.set(true);
                signals.connected.notify_one();
            }
            Ok(Ok(Event::Incoming(Packet::Publish(p)))) => signals.take(&p),
            Ok(Ok(_)) => (),
            Ok(Err(e)) => return Broken::Connection(Box::new(e)),
            Err(_) => return Broken::Hangs,
        }
    }
}

/// What became of messages.
#[derive(Default)]
struct Sorted {
    /// Those that reached the broker, or that nobody needs.
    done: Vec<i64>,
    /// Those that the broker will never take, with their topics.
    refused: Vec<(i64, String, PubAckReason)>,
}

/// Whether a broker that gives this reason will not take the same message later.
fn is_final(reason: PubAckReason) -> bool {
    use PubAckReason::{NotAuthorized, PayloadFormatInvalid, TopicNameInvalid};
    matches!(
        reason,
        NotAuthorized | PayloadFormatInvalid | TopicNameInvalid
    )
}

/// Sends messages and waits for their acknowledgements; what is known of each counts in any case.
async fn batch(
    form: &mut Form,
    client: &AsyncClient,
    messages: &[Waiting],
    sent: &mut i64,
) -> (Sorted, Result<(), Broken>) {
    let mut notices = Vec::with_capacity(messages.len());
    let mut sorted = Sorted::default();
    let all = async {
        for message in messages {
            let Some((topic, bytes, options)) = form.pack(message, message.id <= *sent) else {
                sorted.done.push(message.id);
                continue;
            };
            let notice = client
                .publish_tracked(topic.clone(), bytes, options)
                .await?;
            *sent = (*sent).max(message.id);
            notices.push((message.id, topic, notice));
        }
        for (id, topic, notice) in notices {
            match notice.wait_completion_async().await {
                // "No matching subscribers" is a success.
                Ok(()) => sorted.done.push(id),
                Err(PublishNoticeError::V5PubAck(reason)) if is_final(reason) => {
                    sorted.refused.push((id, topic, reason));
                }
                Err(e) => return Err(Broken::Unsent(e)),
            }
        }
        Ok(())
    };
    let result = timeout(PATIENCE, all).await.unwrap_or(Err(Broken::Hangs));
    (sorted, result)
}

/// The message's text; with a mark if the broker may have got it before.
fn body(message: &Waiting, repeated: bool) -> String {
    if !repeated {
        return message.body.clone();
    }
    match serde_json::from_str(&message.body) {
        Ok(Value::Object(mut body)) => {
            body.insert("repeated".into(), true.into());
            Value::Object(body).to_string()
        }
        // Cannot happen: the outbox made the text.
        _ => message.body.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plant::Plant;

    #[test]
    fn the_client_id_is_the_settings_or_made_of_name_and_machine() {
        let settings = |more: &str| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("plant.toml");
            let text = format!("[mqtt]\nbroker = \"mqtt://h\"\ntopic = \"t\"\n{more}");
            std::fs::write(&path, text).unwrap();
            Plant::read(&path).unwrap().mqtt.unwrap()
        };
        let made = client_id(&settings(""), "press 3", "-0123abcd");
        assert_eq!(made, "faprompt-edge-press 3-0123abcd");
        let own = client_id(&settings("client_id = \"eye7\""), "press 3", "-0123abcd");
        assert_eq!(own, "eye7");
    }
}
