//! Controls by the names that v4l2-ctl prints: written, read back, checked.

use super::sys::{self, Query};
use crate::capture::CaptureError;
use std::collections::BTreeMap;
use std::path::Path;
use v4l::Device;
use v4l::control::{Control, Value};

// V4L2_CTRL_TYPE_*
const INTEGER: u32 = 1;
const BOOLEAN: u32 = 2;
const MENU: u32 = 3;
const BUTTON: u32 = 4;
const INTEGER64: u32 = 5;
const BITMASK: u32 = 8;
const INTEGER_MENU: u32 = 9;

// V4L2_CTRL_FLAG_*
const DISABLED: u32 = 0x0001;
const READ_ONLY: u32 = 0x0004;
const INACTIVE: u32 = 0x0010;
const WRITE_ONLY: u32 = 0x0040;
const VOLATILE: u32 = 0x0080;
/// Writing it changes the frames' size or layout, so it is written before the format.
const MODIFY_LAYOUT: u32 = 0x0400;

/// A control as a person sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlReport {
    /// Its name as v4l2-ctl prints it; the key in the settings.
    pub name: String,
    /// `int`, `bool`, `menu`, `intmenu`, `bitmask`, `button`.
    pub kind: &'static str,
    /// The smallest value.
    pub minimum: i64,
    /// The largest value.
    pub maximum: i64,
    /// The step between values.
    pub step: u64,
    /// The value it starts with.
    pub default: i64,
    /// The value now; `None` for a button, or if it cannot be read.
    pub value: Option<i64>,
    /// What a menu's numbers mean.
    pub items: Vec<(i64, String)>,
    /// Why it cannot be set now: `read-only` or `inactive`; empty if it can.
    pub note: &'static str,
}

/// The control's name as v4l2-ctl derives it: letters and digits, the rest one underscore.
fn option_name(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric());
    let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    words.join("_").to_ascii_lowercase()
}

/// The controls that have one number and are there for use.
fn usable(device: &Device) -> impl Iterator<Item = (String, Query)> {
    sys::controls(device).into_iter().filter_map(|query| {
        kind(&query)?;
        let there = query.flags & DISABLED == 0 && query.elements <= 1;
        there.then(|| (option_name(&query.name), query))
    })
}

fn kind(query: &Query) -> Option<&'static str> {
    Some(match query.kind {
        INTEGER | INTEGER64 => "int",
        BOOLEAN => "bool",
        MENU => "menu",
        BUTTON => "button",
        BITMASK => "bitmask",
        INTEGER_MENU => "intmenu",
        _ => return None,
    })
}

fn items(device: &Device, query: &Query) -> Vec<(i64, String)> {
    if query.kind != MENU && query.kind != INTEGER_MENU {
        return vec![];
    }
    // The kernel's menus end at 64 items (v4l2-ctrls); a driver's nonsense must not keep us here.
    let last = query.maximum.min(query.minimum.saturating_add(255));
    (query.minimum..=last)
        .filter_map(|index| {
            let number = u32::try_from(index).ok()?;
            let item = sys::menu_item(device, query.id, number, query.kind == INTEGER_MENU)?;
            Some((index, item))
        })
        .collect()
}

/// All controls of a device that have one number.
pub(super) fn report(device: &Device) -> Vec<ControlReport> {
    usable(device)
        .map(|(name, query)| ControlReport {
            name,
            kind: kind(&query).unwrap_or_default(),
            minimum: query.minimum,
            maximum: query.maximum,
            step: query.step,
            default: query.default,
            value: match query.kind {
                BUTTON => None,
                _ => sys::value(device, &query).ok(),
            },
            items: items(device, &query),
            note: match query.flags {
                flags if flags & READ_ONLY != 0 => "read-only",
                flags if flags & INACTIVE != 0 => "inactive",
                _ => "",
            },
        })
        .collect()
}

/// The value of a control, if the device has it and lets it be read.
pub(super) fn value(device: &Device, name: &str) -> Option<i64> {
    let (_, query) = usable(device).find(|(known, _)| known == name)?;
    sys::value(device, &query).ok()
}

/// The controls of the settings, found on the device and checked against their ranges.
pub(super) struct Wanted<'a> {
    device: &'a Device,
    path: &'a Path,
    /// Booleans and menus first: they switch automatics off, which the others need.
    controls: Vec<(String, Query, i64)>,
}

impl<'a> Wanted<'a> {
    /// # Errors
    /// [`CaptureError::Control`]: missing or out of range.
    pub(super) fn find(
        device: &'a Device,
        path: &'a Path,
        wanted: &BTreeMap<String, i64>,
    ) -> Result<Self, CaptureError> {
        if wanted.is_empty() {
            return Ok(Wanted {
                device,
                path,
                controls: vec![],
            });
        }
        let there: Vec<_> = usable(device).collect();
        let mut controls = vec![];
        for (name, &value) in wanted {
            let wrong = |reason| wrong(path, name, value, reason);
            let Some((_, query)) = there.iter().find(|(known, _)| known == name) else {
                let names: Vec<_> = there.iter().map(|(name, _)| name.as_str()).collect();
                return Err(wrong(format!(
                    "the device has no such control; it has {}",
                    names.join(", ")
                )));
            };
            if let Some(reason) = misfit(query, value, || items(device, query)) {
                return Err(wrong(reason));
            }
            controls.push((name.clone(), query.clone(), value));
        }
        controls.sort_by_key(|(_, query, _)| !matches!(query.kind, BOOLEAN | MENU));
        Ok(Wanted {
            device,
            path,
            controls,
        })
    }

    /// Writes those that change the frames' layout, or all others.
    ///
    /// # Errors
    /// [`CaptureError::Control`]: the driver refuses one.
    pub(super) fn write(&self, layout: bool) -> Result<(), CaptureError> {
        for (name, query, value) in &self.controls {
            if (query.flags & MODIFY_LAYOUT != 0) != layout {
                continue;
            }
            let control = Control {
                id: query.id,
                value: match query.kind {
                    BUTTON => Value::None,
                    _ => Value::Integer(*value),
                },
            };
            self.device.set_control(control).map_err(|e| {
                let advice = if query.flags & INACTIVE != 0 {
                    "; it is inactive: set the automatic control that governs it to manual"
                } else {
                    ""
                };
                wrong(
                    self.path,
                    name,
                    *value,
                    format!("the driver refuses it: {e}{advice}"),
                )
            })?;
        }
        Ok(())
    }

    /// Reads all back. Those that the device moves by itself are not compared.
    ///
    /// # Errors
    /// [`CaptureError::Control`]: one has another value.
    pub(super) fn verify(&self) -> Result<(), CaptureError> {
        for (name, query, wanted) in &self.controls {
            if query.kind == BUTTON || query.flags & (WRITE_ONLY | VOLATILE) != 0 {
                continue;
            }
            let reason = match sys::value(self.device, query) {
                Ok(value) if value == *wanted => continue,
                Ok(value) => format!("reads back as {value}"),
                Err(e) => format!("cannot be read back: {e}"),
            };
            return Err(wrong(self.path, name, *wanted, reason));
        }
        Ok(())
    }
}

fn wrong(path: &Path, name: &str, value: i64, reason: String) -> CaptureError {
    CaptureError::Control {
        device: path.to_path_buf(),
        control: name.to_string(),
        wanted: value.to_string(),
        reason,
    }
}

/// Why a control does not take a value.
fn misfit(query: &Query, value: i64, items: impl Fn() -> Vec<(i64, String)>) -> Option<String> {
    let Query {
        minimum,
        maximum,
        step,
        ..
    } = *query;
    if query.flags & READ_ONLY != 0 {
        return Some("it is read-only".into());
    }
    match query.kind {
        BUTTON => None,
        BITMASK => (value & !maximum != 0).then(|| format!("it has the bits {maximum:#x}")),
        _ if !(minimum..=maximum).contains(&value) => {
            Some(format!("it goes from {minimum} to {maximum}"))
        }
        MENU | INTEGER_MENU => {
            let items = items();
            let listed = || items.iter().map(|(n, item)| format!("{n} ({item})"));
            (!items.iter().any(|(number, _)| *number == value))
                .then(|| format!("it takes {}", listed().collect::<Vec<_>>().join(", ")))
        }
        _ => (step > 1 && value.abs_diff(minimum) % step != 0)
            .then(|| format!("it goes from {minimum} in steps of {step}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_v4l2_ctl() {
        for (name, option) in [
            ("Exposure Time, Absolute", "exposure_time_absolute"),
            ("White Balance, Automatic", "white_balance_automatic"),
            ("HDMI 000-0 Is Connected To", "hdmi_000_0_is_connected_to"),
            ("  Gain (dB) ", "gain_db"),
        ] {
            assert_eq!(option_name(name), option);
        }
    }

    #[test]
    fn values_are_checked_against_kind_and_range() {
        let query = |kind, flags| Query {
            id: 1,
            kind,
            name: String::new(),
            minimum: 2,
            maximum: 20,
            step: 3,
            default: 2,
            flags,
            elements: 1,
        };
        let menu = || vec![(2, "Manual".to_string()), (4, "Auto".to_string())];
        let check = |kind, flags, value| misfit(&query(kind, flags), value, menu);
        assert_eq!(check(INTEGER, 0, 20), None);
        assert!(check(INTEGER, 0, 21).unwrap().contains("2 to 20"));
        assert!(check(INTEGER, 0, 4).unwrap().contains("steps of 3"));
        assert!(check(INTEGER, READ_ONLY, 20).unwrap().contains("read-only"));
        assert_eq!(check(MENU, 0, 4), None);
        assert!(check(MENU, 0, 3).unwrap().contains("4 (Auto)"));
        assert_eq!(check(BITMASK, 0, 0x14), None);
        assert!(check(BITMASK, 0, 0x15).unwrap().contains("0x14"));
        assert_eq!(check(BUTTON, 0, 1), None);
        assert!(check(INTEGER64, 0, i64::MIN).is_some());
    }
}
