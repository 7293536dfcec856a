//! From the text of a board's file to a [`Board`], or to the mistakes that are in it: those that contradict one another
//! all at once, a value that cannot be read alone.
//!
//! A file says only what differs from what it is based on (`base = "..."`, if not said `boards/base.toml`):
//! tables are merged, everything else replaces, and `"none"` takes away a table of the base. Shared with
//! `build.rs`: what a user's own file gets as errors at run time, a board of this repository gets from the
//! build. Must never let a description pass that contradicts itself.

use super::pins::{Bias, Direction};
use super::spec::{Board, Camera, Gpio};
use std::collections::BTreeMap;
use std::fmt;
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

/// What a board is based on that does not say so.
pub const BASE: &str = "base";

/// A mistake in a board's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The file.
    pub file: String,
    /// Where in it; `None`: what is missing has no line.
    pub line: Option<usize>,
    /// The key, as a path from the top; empty: the file as a whole.
    pub key: String,
    /// What is wrong with it.
    pub what: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        write!(f, ": {}", self.what)
    }
}

/// All mistakes that were found, at least one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.iter().map(Mistake::to_string).collect::<Vec<_>>().join("\n"))]
pub struct Mistakes(pub Vec<Mistake>);

/// Where each key was last said: file and line.
type Origins = BTreeMap<String, (String, usize)>;

/// A file's text as a table, with the line of every key.
struct Layer {
    file: String,
    table: Table,
    lines: BTreeMap<String, usize>,
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.into()
    } else {
        format!("{path}.{key}")
    }
}

fn line_of(text: &str, at: usize) -> usize {
    1 + text.bytes().take(at).filter(|b| *b == b'\n').count()
}

fn find_lines(text: &str, path: &str, table: &DeTable, lines: &mut BTreeMap<String, usize>) {
    for (key, value) in table.iter() {
        let path = join(path, key.get_ref());
        lines.insert(path.clone(), line_of(text, key.span().start));
        if let DeValue::Table(inner) = value.get_ref() {
            find_lines(text, &path, inner, lines);
        }
    }
}

impl Layer {
    fn parse(file: &str, text: &str) -> Result<Layer, Mistake> {
        let wrong = |e: &toml::de::Error| Mistake {
            file: file.into(),
            line: e.span().map(|span| line_of(text, span.start)),
            key: String::new(),
            // The parser says where it is, and not which.
            what: match (e.message(), e.span().and_then(|span| text.get(span))) {
                (message @ "duplicate key", Some(key)) => {
                    format!("{message} `{key}`: it is there already, leave one of them out")
                }
                (message, _) => message.into(),
            },
        };
        let spanned = DeTable::parse(text).map_err(|e| wrong(&e))?;
        let mut lines = BTreeMap::new();
        find_lines(text, "", spanned.get_ref(), &mut lines);
        Ok(Layer {
            file: file.into(),
            table: toml::from_str(text).map_err(|e| wrong(&e))?,
            lines,
        })
    }

    fn mistake(&self, key: &str, what: String) -> Mistake {
        Mistake {
            file: self.file.clone(),
            line: self.lines.get(key).copied(),
            key: key.into(),
            what,
        }
    }

    /// Takes out what the file is based on; `None`: it is the base of all.
    fn take_base(&mut self, base_of_all: bool) -> Result<Option<String>, Mistake> {
        match self.table.remove("base") {
            None if base_of_all => Ok(None),
            None => Ok(Some(BASE.into())),
            Some(Value::String(base)) => Ok(Some(base)),
            Some(other) => Err(self.mistake(
                "base",
                format!("is {}, must be a board's name", kind(&other)),
            )),
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Table(_) => "a table",
        Value::Array(_) => "a list",
        _ => "a value",
    }
}

/// Puts a layer over what it is based on.
fn merge(
    below: &mut Table,
    above: &Table,
    path: &str,
    layer: &Layer,
    origins: &mut Origins,
) -> Result<(), Mistake> {
    for (key, value) in above {
        let path = join(path, key);
        let from = |origins: &Origins| {
            origins
                .get(&path)
                .map_or("the base", |(file, _)| file)
                .to_owned()
        };
        match (below.get_mut(key), value) {
            (Some(Value::Table(inner)), Value::Table(value)) => {
                merge(inner, value, &path, layer, origins)?;
                if let Some(line) = layer.lines.get(&path) {
                    origins.insert(path, (layer.file.clone(), *line));
                }
                continue;
            }
            (Some(Value::Table(_)), Value::String(none)) if none == "none" => {
                below.remove(key);
                let inside = format!("{path}.");
                origins.retain(|k, _| *k != path && !k.starts_with(&inside));
                continue;
            }
            (Some(other), _)
                if matches!(other, Value::Table(_)) != matches!(value, Value::Table(_)) =>
            {
                let what = format!(
                    "is {} here and {} in {}",
                    kind(value),
                    kind(other),
                    from(origins)
                );
                return Err(layer.mistake(&path, what));
            }
            _ => (),
        }
        below.insert(key.clone(), value.clone());
        let inside = format!("{path}.");
        for (key, line) in &layer.lines {
            if *key == path || key.starts_with(&inside) {
                origins.insert(key.clone(), (layer.file.clone(), *line));
            }
        }
    }
    Ok(())
}

/// The file at `file` with the text `text`, put on what it is based on. `named` gives the text of a board
/// by its name and knows at least [`BASE`]; its files are called `boards/NAME.toml`.
///
/// # Errors
/// Every mistake that can be found without mending the others first.
pub fn resolve<'a>(
    file: &str,
    text: &str,
    named: &dyn Fn(&str) -> Option<&'a str>,
) -> Result<Board, Mistakes> {
    let one = |mistake| Mistakes(vec![mistake]);
    let mut layers = vec![Layer::parse(file, text).map_err(one)?];
    let mut bases: Vec<String> = Vec::new();
    let mut top = layers.len() - 1;
    while let Some(base) = layers[top]
        .take_base(bases.last().is_some_and(|b| b == BASE))
        .map_err(one)?
    {
        if bases.contains(&base) {
            return Err(one(
                layers[top].mistake("base", format!("`{base}` is based on itself"))
            ));
        }
        let text = named(&base).ok_or_else(|| {
            one(layers[top].mistake(
                "base",
                format!("there is no board `{base}` (`board list` says which there are)"),
            ))
        })?;
        layers.push(Layer::parse(&format!("boards/{base}.toml"), text).map_err(one)?);
        bases.push(base);
        top += 1;
    }

    let (mut table, mut origins) = (Table::new(), Origins::new());
    for layer in layers.iter().rev() {
        merge(&mut table, &layer.table, "", layer, &mut origins).map_err(one)?;
    }
    inherit(&mut table);
    let at = |key: &str, what: String| locate(file, &origins, key, what);
    let board: Board = serde_path_to_error::deserialize(table).map_err(|e| {
        let path = e.path().to_string();
        let path = if path == "." { "" } else { &path };
        one(at(path, e.inner().message().to_owned()))
    })?;
    let mut mistakes = contradictions(&board, &at);
    if origins.get("name").is_none_or(|(from, _)| from != file) {
        mistakes.push(Mistake {
            file: file.into(),
            line: None,
            key: "name".into(),
            what: "is missing: a board has a name of its own".into(),
        });
    }
    if mistakes.is_empty() {
        Ok(board)
    } else {
        Err(Mistakes(mistakes))
    }
}

/// What a further camera does not say is as the first one has it: of the format, not of what is looked at.
fn inherit(table: &mut Table) {
    const INHERITED: [&str; 6] = ["format", "width", "height", "fps", "buffers", "source"];
    let Some(Value::Table(first)) = table.get("camera").cloned() else {
        return;
    };
    for key in &Board::CAMERAS[1..] {
        if let Some(Value::Table(camera)) = table.get_mut(*key) {
            for (key, value) in first
                .iter()
                .filter(|(k, _)| INHERITED.contains(&k.as_str()))
            {
                camera.entry(key.clone()).or_insert_with(|| value.clone());
            }
        }
    }
}

/// A mistake at a key of the merged table: in the file that said it, or that said what it is in.
fn locate(file: &str, origins: &Origins, key: &str, what: String) -> Mistake {
    let mut path = key;
    loop {
        if let Some((file, line)) = origins.get(path) {
            return Mistake {
                file: file.clone(),
                line: Some(*line),
                key: key.into(),
                what,
            };
        }
        match path.rfind(['.', '[']) {
            Some(end) => path = &path[..end],
            None => {
                return Mistake {
                    file: file.into(),
                    line: None,
                    key: key.into(),
                    what,
                };
            }
        }
    }
}

/// What two keys get wrong together.
fn contradictions(board: &Board, at: &dyn Fn(&str, String) -> Mistake) -> Vec<Mistake> {
    let mut mistakes = Vec::new();
    let mut wrong = |key: &str, what: String| mistakes.push(at(key, what));

    let mut lines: BTreeMap<(String, String), u16> = BTreeMap::new();
    for (number, pin) in &board.header.pins {
        let line = (pin.chip.clone(), pin.line.to_string());
        if let Some(other) = lines.insert(line, *number) {
            wrong(
                &format!("header.pins.{number}.line"),
                format!("{} {} is pin {other} already", pin.chip, pin.line),
            );
        }
    }

    let mut used: BTreeMap<u16, String> = BTreeMap::new();
    for wire in board.wired() {
        let (key, number) = (format!("{}.pin", wire.key), wire.pin);
        match board.header.pins.get(&number) {
            None => wrong(&key, format!("{} has no pin {number}", board.header.name)),
            Some(pin) if pin.only.is_some_and(|only| only != wire.direction) => wrong(
                &key,
                match wire.direction {
                    Direction::Output => format!("pin {number} can only be an input"),
                    Direction::Input => format!("pin {number} can only be an output"),
                },
            ),
            Some(_) => (),
        }
        if wire.bias != Bias::AsIs && !board.header.bias {
            wrong(
                &format!("{}.bias", wire.key),
                "the driver of this header's chips sets none: use a resistor".into(),
            );
        }
        if let Some(other) = used.insert(number, wire.key) {
            wrong(&key, format!("pin {number} is used by {other} already"));
        }
    }

    if board.gpio == Gpio::KernelV1 {
        for wire in board.wired() {
            let more =
                "needs the kernel's second GPIO interface: gpio = \"kernel\", Linux 5.10 or later";
            match wire.direction {
                Direction::Input => wrong(&wire.key, format!("an input {more}")),
                Direction::Output if wire.bias != Bias::AsIs => {
                    wrong(&format!("{}.bias", wire.key), format!("a bias {more}"));
                }
                Direction::Output => (),
            }
        }
    }
    if board.outputs.good.is_none() && board.outputs.reject.is_none() {
        wrong(
            "outputs",
            "neither `good` nor `reject` is wired: nothing could be rejected".into(),
        );
    }
    match (&board.inputs.encoder_a, &board.inputs.encoder_b) {
        (Some(_), None) => wrong("inputs.encoder_a", "needs `encoder_b` too".into()),
        (None, Some(_)) => wrong("inputs.encoder_b", "needs `encoder_a` too".into()),
        _ => (),
    }
    if let (Some(control), Some(modbus)) = (&board.serial.control, &board.serial.modbus)
        && control.device == modbus.device
    {
        wrong(
            "serial.modbus.device",
            format!("{} is the control port already", modbus.device),
        );
    }
    if let Some(core) = board.realtime.output_core
        && core >= board.cpu.cores
    {
        wrong(
            "realtime.output_core",
            format!("{core} is not below cpu.cores = {}", board.cpu.cores),
        );
    }
    let cameras = [
        Some(&board.camera),
        board.camera2.as_ref(),
        board.camera3.as_ref(),
        board.camera4.as_ref(),
    ];
    for (place, camera) in cameras.into_iter().enumerate() {
        let (key, Some(camera)) = (Board::CAMERAS[place], camera) else {
            continue;
        };
        if let Some(roi) = camera.roi
            && (u64::from(roi.x) + u64::from(roi.width) > camera.width.into()
                || u64::from(roi.y) + u64::from(roi.height) > camera.height.into())
        {
            let (width, height) = (camera.width, camera.height);
            let what = format!("reaches beyond {width} x {height} pixels");
            wrong(&format!("{key}.roi"), what);
        }
        let before = &cameras[..place];
        if before.contains(&None) {
            let what = format!("needs {} too", Board::CAMERAS[place - 1]);
            wrong(key, what);
        }
        let device = |other: &&Camera| other.device == camera.device;
        if let Some(other) = before.iter().flatten().position(device) {
            let what = format!("{} is {}'s already", camera.device, Board::CAMERAS[other]);
            wrong(&format!("{key}.device"), what);
        }
    }
    mistakes
}
