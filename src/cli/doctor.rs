//! `doctor`: what this machine has, what is wrong with it, and what to do about each problem.
//!
//! Opens devices only to ask what they are: drives no pin, takes no picture.

use super::{CliError, Network, cores};
use clap::Args;
use faprompt_edge::board::pins::{LineId, Wire};
use faprompt_edge::board::spec::Gpio;
use faprompt_edge::board::{self, Board};
use faprompt_edge::capture::{DeviceReport, NodeReport, PIPE, PipeSource, list_devices};
use faprompt_edge::exit::ExitCode;
use faprompt_edge::report::say;
use faprompt_edge::runtime::loadout::self_test;
use rustix::process::{Resource, getrlimit};
use std::fmt::Display;
use std::path::Path;
use std::time::Instant;

#[derive(Args)]
pub struct Doctor {
    #[command(flatten)]
    network: Network,
    /// The board that this is meant to be: its pins, ports and devices are looked for
    #[arg(long, default_value = "sim")]
    board: String,
}

/// Prints findings, and counts the problems among them.
#[derive(Default)]
struct Findings(u32);

impl Findings {
    fn note(&self, what: impl Display) {
        say(format_args!("  {what}"));
    }

    fn problem(&mut self, what: impl Display) {
        self.0 += 1;
        say(format_args!("  PROBLEM: {what}"));
    }
}

/// The features of the CPU that kernels need, and whether it has them.
fn features() -> Vec<(&'static str, bool)> {
    #[cfg(target_arch = "x86_64")]
    let features = vec![
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512vnni", is_x86_feature_detected!("avx512vnni")),
    ];
    #[cfg(target_arch = "aarch64")]
    let features = vec![
        ("neon", std::arch::is_aarch64_feature_detected!("neon")),
        ("fp16", std::arch::is_aarch64_feature_detected!("fp16")),
        (
            "dotprod",
            std::arch::is_aarch64_feature_detected!("dotprod"),
        ),
        ("i8mm", std::arch::is_aarch64_feature_detected!("i8mm")),
    ];
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let features = vec![];
    features
}

impl Doctor {
    pub fn run(&self) -> Result<ExitCode, CliError> {
        let board = Board::resolve(&self.board)?;
        let mut findings = Findings::default();
        cpu(&findings);
        limits(&mut findings, &board);
        cameras(&mut findings, &board);
        gpio(&mut findings, &board);
        serial(&mut findings, &board);
        if let Some(watchdog) = &board.watchdog {
            say(format_args!("watchdog"));
            present(
                &mut findings,
                &watchdog.device,
                "a hang will not restart this board",
            );
        }
        self.bundle(&mut findings);
        match findings.0 {
            0 => say("no problems"),
            n => say(format_args!("{n} problems")),
        }
        Ok(match findings.0 {
            0 => ExitCode::Good,
            _ => ExitCode::Problems,
        })
    }

    fn bundle(&self, findings: &mut Findings) {
        say("bundle");
        let mut look = || -> Result<(), CliError> {
            let path = self.network.path();
            let started = Instant::now();
            let bundle = self.network.open()?;
            let mut inspector = self.network.inspector(&bundle, cores())?;
            let loaded = started.elapsed().as_millis();
            let started = Instant::now();
            let score = self_test(&mut inspector).map_err(|e| CliError::Internal(e.to_string()))?;
            let known = match inspector.known_score() {
                Some(expected) => format!("score {score:.4}, in the bundle {expected:.4}"),
                None => format!("score {score:.4}; the bundle does not say which it should be"),
            };
            findings.note(format_args!(
                "{}: loaded in {loaded} ms; the known frame: {known}; judged in {} ms with {} threads; threshold {}",
                path.display(),
                started.elapsed().as_millis(),
                cores(),
                inspector.manifest().scores.threshold
            ));
            if inspector.runtime() != self.network.runtime {
                findings.problem("--runtime cuda: the CPU judges, for the reason above");
            }
            Ok(())
        };
        if let Err(e) = look() {
            findings.problem(e);
        }
    }
}

fn cpu(findings: &Findings) {
    say("processor");
    let has = features();
    let list = |wanted: bool| {
        let names: Vec<_> = has
            .iter()
            .filter(|(_, has)| *has == wanted)
            .map(|(n, _)| *n)
            .collect();
        match names.is_empty() {
            true => "none".into(),
            false => names.join(" "),
        }
    };
    findings.note(format_args!(
        "{}, {} cores; has {}; lacks {}",
        std::env::consts::ARCH,
        cores(),
        list(true),
        list(false)
    ));
}

fn limits(findings: &mut Findings, board: &Board) {
    say("output thread");
    let priority = u64::from(board.realtime.priority);
    if board.gpio == Gpio::Simulated {
        return findings.note("simulated pins need no real-time priority and no locked memory");
    }
    match getrlimit(Resource::Rtprio).current {
        Some(limit) if limit < priority && !rustix::process::geteuid().is_root() => {
            findings.problem(format_args!(
                "real-time priority is limited to {limit}, the board wants {priority}: LimitRTPRIO in the unit, or rtprio in /etc/security/limits.conf"
            ));
        }
        _ => findings.note(format_args!("real-time priority {priority} is allowed")),
    }
    match getrlimit(Resource::Memlock).current {
        Some(bytes) if bytes < 1 << 30 && !rustix::process::geteuid().is_root() => {
            findings.problem(format_args!(
                "only {} kB of memory may be locked: LimitMEMLOCK=infinity in the unit, or memlock in /etc/security/limits.conf",
                bytes / 1024
            ));
        }
        _ => findings.note("memory may be locked"),
    }
}

/// Reports whether a device file exists and may be opened.
fn present(findings: &mut Findings, device: &str, otherwise: &str) {
    let path = Path::new(device);
    // Opening a watchdog would start it, opening a port may reset what is connected: only ask.
    match rustix::fs::access(
        path,
        rustix::fs::Access::READ_OK | rustix::fs::Access::WRITE_OK,
    ) {
        Ok(()) => findings.note(format_args!("{device}: there, may be used")),
        Err(rustix::io::Errno::NOENT) => {
            findings.problem(format_args!("{device}: not there; {otherwise}"));
        }
        Err(e) => findings.problem(format_args!(
            "{device}: {e}; the user needs the group that owns it"
        )),
    }
}

fn cameras(findings: &mut Findings, board: &Board) {
    say("cameras");
    let nodes = list_devices();
    for node in &nodes {
        let path = node.path.display();
        let device = match &node.device {
            Ok(device) => device,
            Err(e) => {
                findings.problem(e);
                continue;
            }
        };
        let planes = match device.multi_planar {
            true => ", multi-planar",
            false => "",
        };
        findings.note(format_args!(
            "{path}: {} ({}, {}{planes})",
            device.card, device.driver, device.bus
        ));
        for link in &node.links {
            findings.note(format_args!("  also {}", link.display()));
        }
        if let Some((what, advice)) = device.obstacle {
            findings.note(format_args!(
                "  no camera for this program: {what}; {advice}"
            ));
        }
        for format in &device.formats {
            let known = if format.supported { "" } else { " (not read)" };
            findings.note(format_args!(
                "  {}{known} {}: {}",
                format.fourcc,
                format.description,
                format.sizes.join(" ")
            ));
        }
        for control in &device.controls {
            findings.note(format_args!("  {control}"));
        }
    }
    if board.gpio == Gpio::Simulated {
        if nodes.is_empty() {
            findings.note("none; this board needs none");
        }
        return;
    }
    for (place, key) in (0..board.cameras()).zip(Board::CAMERAS) {
        let device = &board.camera(place).device;
        if device.starts_with(PIPE) {
            command(findings, key, device);
        } else if !Path::new(device).exists() {
            findings.problem(format_args!(
                "{device}: the board's {key} is not there: is it plugged in, is its driver loaded?"
            ));
        } else {
            own(findings, key, device, &nodes);
        }
    }
}

/// Reports whether the node that a board names as its camera can be one.
fn own(findings: &mut Findings, key: &str, device: &str, nodes: &[NodeReport]) {
    let Ok(path) = Path::new(device).canonicalize() else {
        return;
    };
    let node = nodes.iter().find(|node| node.path == path);
    match node.and_then(|node| node.device.as_ref().ok()) {
        Some(DeviceReport {
            obstacle: Some((what, advice)),
            ..
        }) => findings.problem(format_args!(
            "{device}: the board's {key}: {what}; {advice}"
        )),
        Some(_) => findings.note(format_args!("{device}: the board's {key}")),
        // What is wrong with it was said above.
        None => (),
    }
}

/// Looks for the program of a camera that is a command, without running it.
fn command(findings: &mut Findings, key: &str, text: &str) {
    let source = match text.parse::<PipeSource>() {
        Ok(source) => source,
        Err(e) => {
            findings.problem(format_args!("{key}.device: {e}"));
            return;
        }
    };
    let program = Path::new(source.program());
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<_> = match program.components().count() {
        1 => std::env::split_paths(&path)
            .map(|p| p.join(program))
            .collect(),
        _ => vec![program.to_path_buf()],
    };
    places.retain(|p| rustix::fs::access(p, rustix::fs::Access::EXEC_OK).is_ok() && !p.is_dir());
    match places.first() {
        Some(place) => findings.note(format_args!(
            "the board's {key} is a command: {} (not started here; `run` starts it)",
            place.display()
        )),
        None => findings.problem(format_args!(
            "the board's {key} is a command, and there is no program {}: install it, or name another one \
             ({key}.device)",
            program.display()
        )),
    }
    let words = source
        .raw()
        .map(|(format, width, height)| format!("raw {format}, {width} x {height}"));
    findings.note(format_args!(
        "  its frames: {}; time stamps: their arrival",
        words.unwrap_or_else(|| "Y4M, MJPEG or PPM".into())
    ));
}

fn gpio(findings: &mut Findings, board: &Board) {
    say("pins");
    if board.gpio == Gpio::Simulated {
        findings.note("simulated");
        return;
    }
    let chips = board::list_gpio();
    for chip in &chips {
        let path = chip.path.display();
        match &chip.opened {
            Ok(info) => {
                let held = info.lines.iter().filter(|l| l.consumer.is_some()).count();
                findings.note(format_args!(
                    "{path} ({}): {} lines, {held} held",
                    info.label,
                    info.lines.len()
                ));
            }
            Err(e) => findings.problem(format_args!("{path}: {e}")),
        }
    }
    for Wire { key, pin, .. } in board.wired() {
        // A checked board wires no pin that its header lacks.
        let Some(place) = board.header.pins.get(&pin) else {
            continue;
        };
        let info = chips.iter().find_map(|c| match &c.opened {
            Ok(info) if info.label == place.chip || c.path == Path::new(&place.chip) => Some(info),
            _ => None,
        });
        let line = info.and_then(|info| match &place.line {
            LineId::Offset(offset) => info.lines.get(*offset as usize),
            LineId::Name(name) => info.lines.iter().find(|l| l.name == *name),
        });
        let what = format!("{key}, pin {pin}, {} line {}", place.chip, place.line);
        match line.map(|l| &l.consumer) {
            None => findings.problem(format_args!("{what}: not there; is this the right board?")),
            Some(Some(holder)) => findings.problem(format_args!(
                "{what}: held by {holder} (`kernel`: the pin has another function): free it, or wire the signal \
                 to another pin"
            )),
            Some(None) => findings.note(format_args!("{what}: free")),
        }
    }
}

fn serial(findings: &mut Findings, board: &Board) {
    say("serial ports");
    match serialport::available_ports() {
        Ok(ports) => ports.iter().for_each(|p| findings.note(&p.port_name)),
        Err(e) => findings.problem(format_args!("they cannot be listed: {e}")),
    }
    let wanted = [&board.serial.control, &board.serial.modbus];
    for port in wanted.into_iter().flatten() {
        present(
            findings,
            &port.device,
            "the board's port: is its driver loaded?",
        );
    }
}
