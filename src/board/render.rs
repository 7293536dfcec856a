//! Boards for people: tables, and the start of a user's own file.

use super::pins::{Bias, Direction, Drive, HeaderPin, Level};
use super::spec::{Board, SerialPort, Stated};
use super::{BoardError, check};
use std::fmt::{Display, Write};

/// Columns as wide as their widest cell, but the last one's.
fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    for row in rows {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            let _ = write!(line, "{cell:width$}  ");
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

fn yes(yes: bool) -> String {
    if yes { "yes" } else { "no" }.into()
}

/// The GPIO chips that its pins are on.
fn chips(board: &Board) -> String {
    let mut chips: Vec<&str> = board
        .header
        .pins
        .values()
        .map(|p| p.chip.as_str())
        .collect();
    chips.sort_unstable();
    chips.dedup();
    chips.join(", ")
}

fn ports(board: &Board) -> [(&'static str, Option<&SerialPort>); 2] {
    let serial = &board.serial;
    [
        ("control", serial.control.as_ref()),
        ("modbus", serial.modbus.as_ref()),
    ]
}

/// All boards that are built in, a line each.
///
/// # Errors
/// [`BoardError::Invalid`], which the build has ruled out.
pub fn list() -> Result<String, BoardError> {
    let mut rows = vec![["board", "CPU", "pins", "wired", "what it is"].map(String::from)];
    for name in Board::names() {
        let board = Board::named(name)?;
        rows.push([
            board.name.clone(),
            format!("{} x {}", board.cpu.cores, board.cpu.model),
            board.header.pins.len().to_string(),
            board.wired().len().to_string(),
            board.description.clone(),
        ]);
    }
    Ok(table(&rows))
}

/// The README's table of boards, Markdown.
///
/// # Errors
/// [`BoardError::Invalid`], which the build has ruled out.
pub fn readme_table() -> Result<String, BoardError> {
    let mut out = String::from(
        "| board | what it is | GPIO | pins | serial (control, Modbus) | watchdog | CPU | CUDA | tried |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for name in Board::names() {
        let board = Board::named(name)?;
        let serial: Vec<&str> = ports(&board)
            .into_iter()
            .filter_map(|(_, port)| Some(port?.device.as_str()))
            .collect();
        let serial = if serial.is_empty() {
            "none".into()
        } else {
            serial.join(", ")
        };
        let watchdog = board.watchdog.as_ref().map_or("none".into(), |w| {
            format!("{}, {} s", w.device, w.timeout_s)
        });
        let _ = writeln!(
            out,
            "| `{}` | {} | {} | {} | {serial} | {watchdog} | {} x {} | {} | {} |",
            board.name,
            board.description,
            chips(&board),
            board.header.pins.len(),
            board.cpu.cores,
            board.cpu.model,
            yes(board.cpu.cuda),
            board.tried
        );
    }
    Ok(out)
}

fn level(level: Level) -> &'static str {
    match level {
        Level::High => "high",
        Level::Low => "low",
    }
}

fn bias(bias: Bias) -> &'static str {
    match bias {
        Bias::AsIs => "as-is",
        Bias::PullUp => "pull-up",
        Bias::PullDown => "pull-down",
        Bias::None => "none",
    }
}

fn drive(drive: Drive) -> &'static str {
    match drive {
        Drive::PushPull => "push-pull",
        Drive::OpenDrain => "open-drain",
        Drive::OpenSource => "open-source",
    }
}

/// Every wired signal: its key, its pin, and how it is wired, as its file says it.
fn wiring(board: &Board) -> Vec<(String, u16, String)> {
    let mut rows = Vec::new();
    let said_bias = |b: Bias| match b {
        Bias::AsIs => String::new(),
        b => format!(", bias = \"{}\"", bias(b)),
    };
    for (key, pin) in board.outputs.each() {
        let Some(pin) = pin else { continue };
        let mut how = format!("active = \"{}\"", level(pin.active));
        if pin.drive != Drive::default() {
            let _ = write!(how, ", drive = \"{}\"", drive(pin.drive));
        }
        how += &said_bias(pin.bias);
        rows.push((format!("outputs.{key}"), pin.pin, how));
    }
    for (key, pin) in board.inputs.contacts() {
        let Some(pin) = pin else { continue };
        let mut how = format!("active = \"{}\"{}", level(pin.active), said_bias(pin.bias));
        if pin.debounce_us > 0 {
            let _ = write!(how, ", debounce_us = {}", pin.debounce_us);
        }
        rows.push((format!("inputs.{key}"), pin.pin, how));
    }
    for (key, pin) in board.inputs.encoder() {
        let Some(pin) = pin else { continue };
        let how = said_bias(pin.bias).trim_start_matches(", ").to_owned();
        rows.push((format!("inputs.{key}"), pin.pin, how));
    }
    rows
}

fn pin_row(number: u16, pin: &HeaderPin, wired: &[(String, u16, String)]) -> [String; 6] {
    let signal = wired.iter().find(|(_, n, _)| *n == number);
    let only = match pin.only {
        Some(Direction::Input) => "input only",
        Some(Direction::Output) => "output only",
        None => "",
    };
    [
        number.to_string(),
        pin.name.clone(),
        pin.chip.clone(),
        pin.line.to_string(),
        signal.map_or(String::new(), |(key, _, _)| key.clone()),
        signal.map_or(only.to_owned(), |(_, _, how)| how.clone()),
    ]
}

/// All that is known of a board, with where it is from.
pub fn show(board: &Board) -> String {
    let mut out = String::new();
    let mut row = |key: &str, value: &dyn Display| {
        let _ = writeln!(out, "{key:16}{value}");
    };
    row("board", &board.name);
    row("description", &board.description);
    row("tried", &board.tried);
    let cpu = &board.cpu;
    row(
        "CPU",
        &format_args!(
            "{} x {} ({}), CUDA {}",
            cpu.cores,
            cpu.model,
            cpu.features.join(" "),
            yes(cpu.cuda)
        ),
    );
    row("", &format_args!("source: {}", cpu.source));
    for (key, port) in ports(board) {
        match port {
            None => row(key, &"no serial port"),
            Some(port) => {
                row(key, &format_args!("{}, {} baud", port.device, port.baud));
                row("", &format_args!("source: {}", port.source));
            }
        }
    }
    let network = &board.network;
    for (key, address) in [("page", network.web), ("modbus TCP", network.modbus_tcp)] {
        if let Some(address) = address {
            row(key, &address);
        }
    }
    if let Some(file) = &network.plant {
        row("plant", file);
    }
    for place in 0..board.cameras() {
        let camera = board.camera(place);
        let format = camera.format.as_deref().unwrap_or("any format");
        let fps = camera
            .fps
            .map_or("any rate".into(), |r| format!("{r} frames per second"));
        row(
            Board::CAMERAS[place],
            &format_args!(
                "{}, {format} {} x {}, {fps}",
                camera.device, camera.width, camera.height
            ),
        );
        row("", &format_args!("source: {}", camera.source));
        if let Some(csi) = &camera.csi {
            row("", &format_args!("at the CSI connector: {}", csi.device));
            row("", &format_args!("source: {}", csi.source));
        }
    }
    match &board.watchdog {
        None => row("watchdog", &"none"),
        Some(watchdog) => {
            row(
                "watchdog",
                &format_args!("{}, {} s", watchdog.device, watchdog.timeout_s),
            );
            row("", &format_args!("source: {}", watchdog.source));
        }
    }
    let realtime = &board.realtime;
    let core = realtime.output_core;
    let core = core.map_or("any core".into(), |c| format!("core {c}"));
    row(
        "output thread",
        &format_args!("{core}, SCHED_FIFO {}", realtime.priority),
    );
    row(
        "reject",
        &format_args!(
            "after {} ms, for {} ms",
            board.reject.delay_ms, board.reject.pulse_ms
        ),
    );
    out.push_str("\nPins while no station drives them\n");
    let unattended = &board.unattended;
    for (when, stated) in [
        ("at boot", &unattended.boot),
        ("program ended", &unattended.program_end),
        ("watchdog reset", &unattended.watchdog_reset),
    ] {
        let Stated { what, source } = stated;
        let _ = writeln!(out, "{when:16}{what}\n{:16}source: {source}", "");
    }

    let wired = wiring(board);
    let header = &board.header;
    let _ = writeln!(out, "\n{}\nsource: {}", header.name, header.source);
    let mut rows = vec![["pin", "name", "chip", "line", "wired to", ""].map(String::from)];
    rows.extend(header.pins.iter().map(|(n, pin)| pin_row(*n, pin, &wired)));
    out.push_str(&table(&rows));
    for (number, pin) in &header.pins {
        if let Some(source) = &pin.source {
            let _ = writeln!(out, "pin {number}: source: {source}");
        }
    }
    out
}

/// The start of a user's own file: everything of the base that is often changed, as comments.
///
/// # Errors
/// [`BoardError::Unknown`] for the base; [`BoardError::Invalid`] for a name that is no word of letters,
/// digits, `-` and `_`.
pub fn start_file(name: &str, base: &str) -> Result<String, BoardError> {
    let board = Board::named(base)?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if name.is_empty() || !name.bytes().all(plain) || Board::names().any(|n| n == name) {
        return Err(BoardError::Invalid(check::Mistakes(vec![check::Mistake {
            file: format!("{name}.toml"),
            line: None,
            key: "name".into(),
            what: "must be letters, digits, - and _, and no built-in board's name".into(),
        }])));
    }
    let mut out = format!(
        "# A board of your own, based on {base}: say only what differs.\n\
         # Check it:  faprompt-edge board check {name}.toml\n\
         # Use it:    faprompt-edge run --board {name}.toml\n\
         name = \"{name}\"\n\
         base = \"{base}\"\n\
         description = \"{}\"\n\
         tried = \"not yet\"\n\n\
         # Below is what the base says. Take the # away and change what differs; \"none\" takes a\n\
         # signal or a section away, for example: strobe = \"none\"\n",
        board.description
    );
    let wired = wiring(&board);
    for section in ["outputs", "inputs"] {
        let _ = writeln!(out, "\n[{section}]");
        for (key, pin, how) in &wired {
            if let Some(key) = key.strip_prefix(section).and_then(|k| k.strip_prefix('.')) {
                let how = if how.is_empty() {
                    String::new()
                } else {
                    format!(", {how}")
                };
                let _ = writeln!(out, "# {key} = {{ pin = {pin}{how} }}");
            }
        }
    }
    let _ = writeln!(
        out,
        "\n[reject]\n# delay_ms = {}\n# pulse_ms = {}",
        board.reject.delay_ms, board.reject.pulse_ms
    );
    for (key, port) in ports(&board) {
        if let Some(port) = port {
            let _ = writeln!(
                out,
                "\n[serial.{key}]\n# device = \"{}\"\n# baud = {}",
                port.device, port.baud
            );
        }
    }
    let camera = &board.camera;
    let _ = writeln!(
        out,
        "\n[camera]\n# device = \"{}\"\n# width = {}\n# height = {}",
        camera.device, camera.width, camera.height
    );
    if let Some(format) = &camera.format {
        let _ = writeln!(out, "# format = \"{format}\"");
    }
    if let Some(fps) = camera.fps {
        let _ = writeln!(out, "# fps = {fps}");
    }
    if let Some(csi) = &camera.csi {
        let _ = writeln!(
            out,
            "# Instead, for a camera at the CSI connector:\n## device = \"{}\"\n## width = {}\n## height = {}",
            csi.device, csi.width, csi.height
        );
    }
    let _ = writeln!(out, "\n# The pins of {}:", board.header.name);
    for (number, pin) in &board.header.pins {
        let _ = writeln!(out, "#   {number:3}  {}", pin.name);
    }
    Ok(out)
}
