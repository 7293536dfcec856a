//! What tells this machine from another one, without any privilege.
//!
//! The machine's id (machine-id(5)) alone does not: it is a file, and a cloned card has it too. So the hardware's own
//! number is mixed in: the serial number that the firmware hands over in the device tree (Jetson, Raspberry Pi), and
//! where there is none (PCs) the addresses of the network cards that are built in. Whatever may come and go, or may
//! have another address after the next start, does not count: adapters on USB, radio, addresses that somebody set.

use crate::hex::hex;
use sha2::{Digest, Sha256};
use std::fs::{read_dir, read_link, read_to_string};
use std::path::Path;

/// Where the serial number of the device tree may stand, below the root.
const SERIALS: [&str; 2] = [
    "proc/device-tree/serial-number",
    "sys/firmware/devicetree/base/serial-number",
];

/// `-` and eight digits by which a broker tells this machine from another one of the same name: it ends one of two clients
/// with one name. Not the machine's id itself, which machine-id(5) wants kept. Empty where nothing is known of the
/// machine. `root` is `/`.
pub(super) fn machine(root: &Path) -> String {
    let id = read_to_string(root.join("etc/machine-id")).unwrap_or_default();
    let hardware = serial(root).unwrap_or_else(|| addresses(root));
    let known = format!("{} {hardware}", id.trim());
    match known.trim() {
        "" => String::new(),
        known => {
            let digest = Sha256::digest(format!("faprompt-edge mqtt {known}"));
            format!("-{}", hex(&digest[..4]))
        }
    }
}

/// The serial number of the device tree; boards that were never given one have zeros.
fn serial(root: &Path) -> Option<String> {
    let read = |place| read_to_string(root.join(place)).ok();
    let serial = SERIALS.into_iter().find_map(read)?;
    // Texts of a device tree end with a zero byte.
    let serial = serial.trim_matches(|c: char| c == '\0' || c.is_whitespace());
    serial.contains(|c: char| c != '0').then(|| serial.into())
}

/// The addresses of the network cards that are built in, in order.
fn addresses(root: &Path) -> String {
    let cards = read_dir(root.join("sys/class/net"));
    let cards = cards.into_iter().flatten().flatten();
    let mut all: Vec<String> = cards.filter_map(|card| address(&card.path())).collect();
    all.sort_unstable();
    all.join(" ")
}

/// The address of a network card, if it is built in and the address its own (sysfs-class-net).
fn address(card: &Path) -> Option<String> {
    // Bridges, tunnels and the like have no device.
    let bus = read_link(card.join("device/subsystem")).ok()?;
    let is_usb = bus.file_name().is_some_and(|name| name == "usb");
    // A radio's address may be another one while it looks around.
    let is_radio = card.join("phy80211").exists() || card.join("wireless").exists();
    // 0: permanent.
    let kind = read_to_string(card.join("addr_assign_type")).ok()?;
    let own = !is_usb && !is_radio && kind.trim() == "0";
    let address = read_to_string(card.join("address")).ok()?;
    own.then(|| address.trim().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{create_dir_all, remove_dir_all, write};
    use std::os::unix::fs::symlink;

    /// A machine as its files show it.
    struct Made(tempfile::TempDir);

    impl Made {
        fn new(id: &str) -> Made {
            let made = Made(tempfile::tempdir().unwrap());
            made.file("etc/machine-id", &format!("{id}\n"));
            made
        }

        fn file(&self, place: &str, text: &str) {
            let path = self.0.path().join(place);
            create_dir_all(path.parent().unwrap()).unwrap();
            write(path, text).unwrap();
        }

        fn card(&self, name: &str, bus: &str, kind: u8, address: &str) {
            let card = format!("sys/class/net/{name}");
            self.file(&format!("{card}/address"), &format!("{address}\n"));
            self.file(&format!("{card}/addr_assign_type"), &format!("{kind}\n"));
            if !bus.is_empty() {
                let device = self.0.path().join(&card).join("device");
                create_dir_all(&device).unwrap();
                let bus = format!("../../../../bus/{bus}");
                symlink(bus, device.join("subsystem")).unwrap();
            }
        }

        fn digits(&self) -> String {
            machine(self.0.path())
        }
    }

    const ID: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn two_machines_with_one_card_have_two_names_by_the_serial_number() {
        let digits = |serial: &str| {
            let made = Made::new(ID);
            made.file("proc/device-tree/serial-number", serial);
            made.card("eth0", "platform", 0, "02:00:00:00:00:01");
            made.digits()
        };
        let one = digits("1421021012345\0");
        // SHA-256 of `faprompt-edge mqtt ID 1421021012345`, first 4 bytes.
        assert_eq!(one, "-50a1b29e");
        assert_eq!(digits("1421021012345\0"), one);
        assert_eq!(digits("1421021012346\0"), "-3e656301");
        // Where /proc has none.
        let made = Made::new(ID);
        let place = "sys/firmware/devicetree/base/serial-number";
        made.file(place, "1421021012345\0");
        assert_eq!(made.digits(), one);
        // Zeros are no number: then the network card counts.
        assert_eq!(digits("0000000000000000\0"), "-f471d2b4");
    }

    #[test]
    fn without_a_serial_number_the_cards_that_are_built_in_count_and_nothing_that_comes_and_goes() {
        let made = Made::new(ID);
        made.card("enp2s0", "pci", 0, "02:00:00:00:00:02");
        made.card("eno1", "pci", 0, "02:00:00:00:00:01");
        let digits = made.digits();
        assert_eq!(digits, "-4830c2ed");
        made.card("enx1", "usb", 0, "02:00:00:00:00:03");
        made.card("lo", "", 0, "00:00:00:00:00:00");
        made.card("docker0", "", 3, "02:00:00:00:00:04");
        made.card("eth9", "virtio", 1, "02:00:00:00:00:05");
        made.card("wlp3s0", "pci", 0, "02:00:00:00:00:06");
        made.file("sys/class/net/wlp3s0/phy80211/name", "phy0\n");
        // A file among the cards, as `bonding_masters` is.
        made.file("sys/class/net/bonding_masters", "");
        assert_eq!(made.digits(), digits);
        remove_dir_all(made.0.path().join("sys/class/net/eno1")).unwrap();
        assert_ne!(made.digits(), digits);
    }

    #[test]
    fn a_machine_of_which_nothing_is_known_has_no_digits() {
        assert_eq!(machine(tempfile::tempdir().unwrap().path()), "");
        // SHA-256 of `faprompt-edge mqtt ID`.
        assert_eq!(Made::new(ID).digits(), "-9bb4f49e");
    }
}
