//! Values of a board's file that a single key can get wrong: each reader refuses what is impossible and
//! says what would not be.

use serde::Deserialize;
use serde::de::{Deserializer, Error, Unexpected};
use std::collections::BTreeMap;
use std::str::FromStr;

/// Rates that every UART driver knows.
const BAUDS: [u32; 11] = [
    1_200, 2_400, 4_800, 9_600, 19_200, 38_400, 57_600, 115_200, 230_400, 460_800, 921_600,
];

pub(super) fn within<'de, D: Deserializer<'de>, const LOW: u32, const HIGH: u32>(
    d: D,
) -> Result<u32, D::Error> {
    let value = i64::deserialize(d)?;
    u32::try_from(value)
        .ok()
        .filter(|v| (LOW..=HIGH).contains(v))
        .ok_or_else(|| D::Error::custom(format!("{value} is not in {LOW}..{HIGH}")))
}

pub(super) fn filled<'de, D: Deserializer<'de>>(d: D) -> Result<String, D::Error> {
    let text = String::deserialize(d)?;
    if text.trim().is_empty() {
        return Err(D::Error::custom("says nothing"));
    }
    Ok(text)
}

pub(super) fn device<'de, D: Deserializer<'de>>(d: D) -> Result<String, D::Error> {
    let text = String::deserialize(d)?;
    if text.len() > "/dev/".len() && text.starts_with("/dev/") {
        return Ok(text);
    }
    Err(D::Error::invalid_value(
        Unexpected::Str(&text),
        &"a device file under /dev/",
    ))
}

pub(super) fn file<'de, D: Deserializer<'de>>(d: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(d)?;
    if text.len() > 1 && text.starts_with('/') {
        return Ok(Some(text));
    }
    Err(D::Error::invalid_value(
        Unexpected::Str(&text),
        &"a file with its whole path, such as \"/etc/faprompt-edge/plant.toml\"",
    ))
}

/// What the board's camera is: a device file, or a command (`capture` knows what it may look like).
pub(super) fn camera<'de, D: Deserializer<'de>>(d: D) -> Result<String, D::Error> {
    let text = String::deserialize(d)?;
    if ["/dev/", "pipe:"]
        .iter()
        .any(|p| text.len() > p.len() && text.starts_with(p))
    {
        return Ok(text);
    }
    Err(D::Error::invalid_value(
        Unexpected::Str(&text),
        &"a device file under /dev/, or pipe:COMMAND",
    ))
}

pub(super) fn fourcc<'de, D: Deserializer<'de>>(d: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(d)?;
    if text.len() == 4 && text.bytes().all(|b| b == b' ' || b.is_ascii_alphanumeric()) {
        return Ok(Some(text));
    }
    Err(D::Error::invalid_value(
        Unexpected::Str(&text),
        &"a four-character code such as \"YUYV\" or \"Y10 \"",
    ))
}

pub(super) fn rate<'de, D: Deserializer<'de>>(d: D) -> Result<Option<f64>, D::Error> {
    let value = f64::deserialize(d)?;
    if (0.01..=10_000.0).contains(&value) {
        return Ok(Some(value));
    }
    Err(D::Error::custom(format!("{value} is not in 0.01..10000")))
}

pub(super) fn quarters<'de, D: Deserializer<'de>>(d: D) -> Result<u32, D::Error> {
    match u32::deserialize(d)? {
        turn @ (0 | 90 | 180 | 270) => Ok(turn),
        other => Err(D::Error::custom(format!(
            "{other} is none of 0, 90, 180, 270"
        ))),
    }
}

pub(super) fn baud<'de, D: Deserializer<'de>>(d: D) -> Result<u32, D::Error> {
    let value = i64::deserialize(d)?;
    BAUDS
        .into_iter()
        .find(|b| i64::from(*b) == value)
        .ok_or_else(|| D::Error::custom(format!("{value} is none of {BAUDS:?}")))
}

pub(super) fn gains<'de, D: Deserializer<'de>>(d: D) -> Result<Option<[f32; 3]>, D::Error> {
    let gains = <[f32; 3]>::deserialize(d)?;
    if gains.iter().all(|g| (0.05..=20.0).contains(g)) {
        return Ok(Some(gains));
    }
    Err(D::Error::custom(format!(
        "{gains:?}: every factor must be in 0.05..20"
    )))
}

/// Keys of a TOML table are strings; those of pins are numbers.
pub(super) fn numbered<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    d: D,
) -> Result<BTreeMap<u16, T>, D::Error> {
    BTreeMap::<String, T>::deserialize(d)?
        .into_iter()
        .map(|(key, pin)| match key.parse::<u16>() {
            // "07" and "+7" would be a second name for a pin.
            Ok(number) if number.to_string() == key => Ok((number, pin)),
            _ => Err(D::Error::custom(format!("`{key}` is no pin number"))),
        })
        .collect()
}

/// A computer's name in a network, in small letters, as in `line1.plant`: letters, digits, `-`, `_` and dots, at most 253
/// characters; no scheme, no port.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct HostName(String);

impl AsRef<str> for HostName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let label = |label: &str| {
            let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            (1..=63).contains(&label.len()) && label.bytes().all(fits)
        };
        if text.len() <= 253 && text.split('.').all(label) {
            return Ok(HostName(text.to_ascii_lowercase()));
        }
        Err(format!(
            "`{text}` is no host name such as line1.plant (without scheme and port)"
        ))
    }
}

impl TryFrom<String> for HostName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}
