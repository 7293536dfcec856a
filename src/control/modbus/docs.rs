//! The tables of `MODBUS.md`, made of the parameter table and the map.

use super::super::refusal::CODES;
use super::super::table::{Kind, TABLE};
use super::super::values::Value;
use super::map::{COILS, DISCRETES, INPUTS, OWN};
use std::fmt::Write;

/// `9`, or `10..11` of more than one.
fn span(first: u16, count: u16) -> String {
    match count {
        1 => first.to_string(),
        _ => format!("{first}..{}", first + count - 1),
    }
}

/// Every coil.
pub fn coils() -> String {
    let mut text = String::from("| coil | name | level | |\n|---|---|---|---|\n");
    for coil in COILS {
        let (name, access, help) = coil.text();
        let _ = writeln!(
            text,
            "| {} | `{name}` | {} | {help} |",
            coil as u16,
            access.name()
        );
    }
    text
}

/// Every discrete input.
pub fn discretes() -> String {
    let mut text = String::from("| input | name | |\n|---|---|---|\n");
    for (place, (name, _, help)) in DISCRETES.iter().enumerate() {
        let _ = writeln!(text, "| {place} | `{name}` | {help} |");
    }
    text
}

/// Every input register.
pub fn inputs() -> String {
    let mut text = String::from("| register | name | unit | |\n|---|---|---|---|\n");
    for input in INPUTS {
        let registers = span(input.register, input.words);
        let (name, unit, help) = (input.name, input.unit, input.help);
        let _ = writeln!(text, "| {registers} | `{name}` | {unit} | {help} |");
    }
    text
}

/// Every holding register.
pub fn holding() -> String {
    let mut text = String::from(
        "| register | name | values | unit | default | level | takes effect | |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for e in TABLE {
        let Some(register) = e.register else { continue };
        let (values, unit) = match e.kind {
            // A register holds steps.
            Kind::Decimal { low, high } => (format!("{low}..{high}"), "0.0001"),
            Kind::Choice(words) => {
                let numbered = words.iter().enumerate();
                let words: Vec<_> = numbered.map(|(i, w)| format!("{i} {w}")).collect();
                (words.join(", "), e.unit)
            }
            _ => (e.range().to_string(), e.unit),
        };
        let preset = match e.default_value() {
            Value::Number(number) => number,
            Value::Text(_) => 0,
        };
        let count = register.count();
        let _ = writeln!(
            text,
            "| {} | `{}` | {values} | {unit} | {preset} | {} | {} | {} |",
            span(register.address(), count),
            e.name,
            e.access.name(),
            e.effect.name(),
            e.help
        );
    }
    for own in OWN {
        let (name, range, preset, access, help) = own.text();
        let register = own as u16;
        let access = access.name();
        let _ = writeln!(
            text,
            "| {register} | `{name}` | {range} | | {preset} | {access} | at once | {help} |"
        );
    }
    text
}

/// Which exception stands for which code.
pub fn exceptions() -> String {
    let mut text = String::from("| code | exception | |\n|---|---|---|\n");
    for code in CODES.iter().filter(|c| c.number() >= 200) {
        let exception = super::exception(*code).to_modbus_error();
        let exception = exception.map_or(4, |e| e.byte());
        let _ = writeln!(
            text,
            "| {} | {exception} | {} |",
            code.number(),
            code.text()
        );
    }
    text
}
