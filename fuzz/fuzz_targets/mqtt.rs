//! What a broker sends: packets of MQTT 5, and in what they publish commands of Sparkplug B.
//!
//! The first byte says which: bytes of a connection, or the payload of a command.
#![no_main]

use bytes::BytesMut;
use faprompt_edge::plant::primary_host::PrimaryHost;
use faprompt_edge::plant::sparkplug::wants_birth;
use libfuzzer_sys::fuzz_target;
use rumqttc::{MqttStateBuilder, Packet};

/// As the station's connection has it.
const PACKET: u32 = 16 * 1024;
const WINDOW: u16 = 65;

fn command(payload: &[u8]) {
    if wants_birth(payload) {
        let name = b"Node Control/Rebirth";
        assert!(payload.windows(name.len()).any(|w| w == name));
    }
    let mut host = PrimaryHost::new("scada");
    host.take(payload);
    assert!(!(host.is_online() && host.has_left()));
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&what, bytes)) = bytes.split_first() else {
        return;
    };
    if what % 2 == 0 {
        return command(bytes);
    }
    let (mut stream, mut state) = (BytesMut::from(bytes), MqttStateBuilder::new(WINDOW).build());
    while let Ok(packet) = Packet::read(&mut stream, Some(PACKET)) {
        if let Packet::Publish(publish) = &packet {
            command(&publish.payload);
        }
        if state.handle_incoming_packet(packet).is_err() {
            return;
        }
    }
});
