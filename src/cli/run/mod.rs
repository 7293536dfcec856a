//! `run`: the station. Arguments, board, stored parameters and bundle become what the runtime is made of.

mod network;
#[cfg(feature = "plant")]
mod plant;
mod ports;
mod source;
mod summary;
mod watchdog;

use super::{CliError, Cores, Network};
use clap::Args;
#[cfg(feature = "web")]
use faprompt_edge::board::HostName;
use faprompt_edge::board::spec::{Gpio, SerialPort};
use faprompt_edge::board::{self, Board};
use faprompt_edge::capture::FaultPlan;
use faprompt_edge::control::store::shelf::Shelf;
use faprompt_edge::control::table::{CAMERAS, Parameter, STEPS};
use faprompt_edge::control::types::TypeRules;
use faprompt_edge::control::values::{Values, quoted};
use faprompt_edge::control::{Memory, Store, Value};
use faprompt_edge::exit::ExitCode;
use faprompt_edge::line::{Outputs, Trigger, View};
use faprompt_edge::release::ReleaseError;
use faprompt_edge::report::say;
use faprompt_edge::runtime::actuator::RealTime;
use faprompt_edge::runtime::archive::Archive;
use faprompt_edge::runtime::handle::{NEED_A_TRIGGER, adjustments, log_level};
use faprompt_edge::runtime::limits::FrameLimits;
use faprompt_edge::runtime::loadout::Choice;
use faprompt_edge::runtime::wired::{Lack, Wired};
use faprompt_edge::runtime::{self, Config, Report, Sign};
use network::Networks;
#[cfg(feature = "plant")]
use plant::Senders;
use ports::{Places, Ports};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use summary::{Before, Summary};
use watchdog::Watchdogs;

#[derive(Args)]
pub struct Run {
    #[command(flatten)]
    network: Network,
    /// Which board: a name (`board list`) or a file
    #[arg(long, default_value = "sim")]
    board: String,
    /// Where frames come from: `pattern` (a generator of parts, some defective), a folder of photos, a
    /// V4L2 device or `pipe:COMMAND`; up to four times: so many cameras on one trigger [default: the board's]
    #[arg(long)]
    source: Vec<PathBuf>,
    /// Faults of the camera, to see what the station does about them, as in `drop@5,damaged@7`; the second time,
    /// the second camera's; empty: none
    #[arg(long, value_name = "PLAN")]
    faults: Vec<FaultPlan>,
    /// End after so many exposures [default: a folder's photos, or 24 generated parts; else never]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    frames: Option<u64>,
    /// Exposures per second of a folder or the generator [default: one when the last is judged]
    #[arg(long, value_parser = rate)]
    rate: Option<f64>,
    /// Folder for verdicts, events, the summary and overlays of the rejects; a run that ends by itself removes
    /// what an earlier one left there
    #[arg(long, value_name = "DIR", default_value = "out")]
    out: PathBuf,
    /// Parameters, as in `--set reject_delay_ms=800` (see `HELP` on the serial port, or src/control/README.md);
    /// with a memory they are stored at the next COMMIT
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = setting)]
    settings: Vec<(Parameter, Value)>,
    /// Scores above it are rejects: short for --set threshold= [default: the bundle's]
    #[arg(long, value_parser = super::threshold)]
    threshold: Option<f32>,
    /// From the exposure to the reject station: short for --set reject_delay_ms= [default: the board's]
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    delay_ms: Option<u32>,
    /// A file of parameters (TOML, as `backup` writes it)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder that parameters, recipes, counters and latched alarms survive in [default: none, or beside
    /// the results if there is a serial port]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Serial port for the command set [default: the board's]
    #[arg(long, value_name = "PORT")]
    serial: Option<PathBuf>,
    /// Serial port for Modbus RTU [default: the board's]
    #[arg(long, value_name = "PORT")]
    modbus: Option<PathBuf>,
    /// Serve Modbus TCP at this address, as in `--modbus-tcp 192.168.10.7:502`: the same registers, with the level of
    /// parameter modbus_access for everybody who reaches it [default: the board's]
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    modbus_tcp: Option<SocketAddr>,

    /// Serve the station's page at this address, as in `--web 127.0.0.1:8080`; at `0.0.0.0:8080` every computer of
    /// the network may look on [default: the board's]
    #[cfg(feature = "web")]
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    web: Option<SocketAddr>,
    /// Serve the page with HTTPS, by certificate.pem and key.pem in this folder (PEM); if neither is there, they are made
    /// [default: the board's; without FOLDER: tls in the folder of the memory]
    #[cfg(feature = "web")]
    #[arg(long, value_name = "FOLDER")]
    web_tls: Option<Option<PathBuf>>,
    /// Take passwords of other computers without HTTPS too: whoever listens on the network can read them
    #[cfg(feature = "web")]
    #[arg(long, conflicts_with = "web_tls")]
    web_plain: bool,
    /// A name by which browsers may ask for the page, as in `--web-host line1.plant`, several times for several; its
    /// addresses, `localhost` and the node's own name need none [default: the board's]
    #[cfg(feature = "web")]
    #[arg(long = "web-host", value_name = "NAME")]
    web_hosts: Vec<HostName>,
    /// Send results, alarms, counters and state where this file says: to an MQTT broker, to a webhook
    /// [default: the board's]
    #[cfg(feature = "plant")]
    #[arg(long, value_name = "FILE")]
    plant: Option<PathBuf>,
    #[command(flatten)]
    cores: Cores,
    /// Of a folder's photos with 16 bits per sample, how many low bits are used (8 to 16)
    #[arg(long, value_name = "BITS", value_parser = clap::value_parser!(u32).range(8..=16))]
    sample_bits: Option<u32>,
    /// Seed of the generator
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// No line per part
    #[arg(long)]
    quiet: bool,
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.001..=10_000.0).contains(&rate) => Ok(rate),
        _ => Err("a number from 0.001 to 10000".into()),
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| match text.parse::<IpAddr>() {
        Ok(ip) => format!("a port is missing, as in {}", SocketAddr::new(ip, 8080)),
        Err(_) => "an address of this machine and a port, as in 127.0.0.1:8080".into(),
    })
}

/// A parameter and its value.
fn setting(text: &str) -> Result<(Parameter, Value), String> {
    let (name, value) = text.split_once('=').ok_or("NAME=VALUE")?;
    let parameter =
        Parameter::named(name).ok_or_else(|| format!("there is no parameter `{name}`"))?;
    let value = parameter.entry().parse(value).map_err(|e| e.to_string())?;
    Ok((parameter, value))
}

impl Run {
    /// The parameters of a station that was never set: the table's, the board's, the bundle's threshold.
    fn factory(
        &self,
        board: &Board,
        cameras: usize,
        threshold: Option<f32>,
    ) -> Result<Memory, CliError> {
        let mut memory = Memory::default();
        let mut set = |parameter: Parameter, value| {
            memory
                .set_everywhere(parameter, &value)
                .map_err(|e| CliError::Usage(e.to_string()))
        };
        if let Some(threshold) = threshold {
            for camera in CAMERAS {
                set(camera.threshold, steps(threshold))?;
            }
        }
        if cameras > 1 {
            // Which frames show the same part, a trigger says.
            let source = Parameter::TriggerSource.entry();
            let from = match board.inputs.trigger {
                Some(_) if board.gpio != Gpio::Simulated => "edge",
                _ => "interval",
            };
            let from = source.parse(from);
            set(
                Parameter::TriggerSource,
                from.map_err(|e| CliError::Usage(e.to_string()))?,
            )?;
        }
        set(
            Parameter::RejectDelayMs,
            Value::Number(board.reject.delay_ms),
        )?;
        set(
            Parameter::PulseWidthMs,
            Value::Number(board.reject.pulse_ms),
        )?;
        if let Some(trigger) = &board.inputs.trigger {
            set(Parameter::DebounceUs, Value::Number(trigger.debounce_us))?;
        }
        if let Some(port) = &board.serial.control {
            let baud = Parameter::SerialBaud.entry().parse(&port.baud.to_string());
            set(
                Parameter::SerialBaud,
                baud.map_err(|e| CliError::Usage(e.to_string()))?,
            )?;
        }
        if board.gpio == Gpio::Simulated {
            // A belt that nobody watches is not stopped by three rejects in a row.
            set(Parameter::AlarmConsecutive, Value::Number(0))?;
        }
        Ok(memory)
    }

    /// What the command line changes for this run.
    fn overrides(&self, memory: &mut Memory) -> Result<(), CliError> {
        let before = memory.clone();
        let is_set = |parameter| self.settings.iter().any(|(p, _)| *p == parameter);
        for (parameter, short, given) in [
            (
                Parameter::Threshold,
                "--threshold",
                self.threshold.is_some(),
            ),
            (
                Parameter::RejectDelayMs,
                "--delay-ms",
                self.delay_ms.is_some(),
            ),
        ] {
            if given && is_set(parameter) {
                let name = parameter.name();
                let what = format!("{short} is short for --set {name}=: give one of both");
                return Err(CliError::Usage(what));
            }
        }
        if let Some(path) = &self.config {
            let text = std::fs::read_to_string(path).map_err(|source| CliError::Config {
                path: path.clone(),
                reason: source.to_string(),
            })?;
            memory.read(&text).map_err(|e| CliError::Config {
                path: path.clone(),
                reason: e.to_string(),
            })?;
        }
        let mut set = |parameter, value| {
            memory
                .set(parameter, value)
                .map_err(|e| CliError::Usage(e.to_string()))
        };
        if let Some(threshold) = self.threshold {
            set(Parameter::Threshold, steps(threshold))?;
        }
        if let Some(delay) = self.delay_ms {
            set(Parameter::RejectDelayMs, Value::Number(delay))?;
            if delay < 5 {
                // The verdict cannot be due before the part is there.
                set(Parameter::RejectLeadMs, Value::Number(0))?;
            }
        }
        for (parameter, value) in &self.settings {
            set(*parameter, value.clone())?;
        }
        let given = |p| is_set(p) || p == Parameter::Threshold && self.threshold.is_some();
        memory
            .follow_taught(&before, given)
            .map_err(|e| CliError::Usage(e.to_string()))
    }

    /// The folder with the page's certificate, if it is served with HTTPS.
    #[cfg(feature = "web")]
    fn web_tls(&self, board: &Board, state: &Path) -> Option<PathBuf> {
        if self.web_plain {
            return None;
        }
        match &self.web_tls {
            Some(folder) => Some(folder.clone().unwrap_or_else(|| state.join("tls"))),
            None => board.network.web_tls.as_ref().map(PathBuf::from),
        }
    }

    pub fn run(&self) -> Result<ExitCode, CliError> {
        let board = Board::resolve(&self.board)?;
        let (cameras, limit) = self.cameras(&board)?;
        let device = |port: &Option<SerialPort>| port.as_ref().map(|p| PathBuf::from(&p.device));
        let serial = self.serial.clone().or(device(&board.serial.control));
        let modbus = self.modbus.clone().or(device(&board.serial.modbus));
        #[cfg(feature = "web")]
        let web = self.web.or(board.network.web);
        #[cfg(not(feature = "web"))]
        let web = None;
        let modbus_tcp = self.modbus_tcp.or(board.network.modbus_tcp);
        #[cfg(feature = "plant")]
        let plant = self
            .plant
            .clone()
            .or(board.network.plant.as_ref().map(PathBuf::from));
        #[cfg(not(feature = "plant"))]
        let plant = None::<PathBuf>;
        // With a port, a bundle that cannot be used is no reason to end: it can be put right from there.
        let has_ports = serial.is_some()
            || modbus.is_some()
            || modbus_tcp.is_some()
            || web.is_some()
            || plant.is_some();
        let mut networks = Networks::new(&self.network, self.cores.threads());
        let threshold = match networks.default_threshold() {
            Ok(threshold) => Some(threshold),
            Err(e) if has_ports => {
                log::error!("{e}");
                None
            }
            Err(e) => return Err(e),
        };
        let factory = self.factory(&board, cameras.len(), threshold)?;
        let state = ports::folder(self.state.as_deref(), has_ports, &self.out);
        let mut stored = match &state {
            Some(state) => Some(Store::open(state, &factory)?),
            None => None,
        };
        let mut volatile = factory;
        let memory = stored
            .as_mut()
            .map_or(&mut volatile, |(_, restored)| &mut restored.stored.memory);
        let before = memory.values();
        self.overrides(memory)?;
        let values = memory.values();
        let settings = memory
            .check()
            .and_then(|()| values.settings())
            .map_err(|e| CliError::Usage(e.to_string()))?;
        if cameras.len() > 1 && settings.trigger == Trigger::FreeRun {
            return Err(CliError::Usage(NEED_A_TRIGGER.into()));
        }
        #[cfg(feature = "plant")]
        let plant = match &plant {
            Some(file) => Some(Senders::read(file)?),
            None => None,
        };
        if let Some((_, restored)) = stored.as_mut() {
            // The first COMMIT stores them with the rest: the log must know where they come from.
            for p in values.changed(&before) {
                let show = |v: &Values| quoted(&p.entry().show(v.get(p)).to_string()).into_owned();
                let line = format!(
                    "command line,{},{},{}",
                    p.name(),
                    show(&before),
                    show(&values)
                );
                restored.stored.note(&line);
            }
        }
        let (statistics, latched, stopped) =
            stored.as_ref().map_or_else(Default::default, |(_, r)| {
                r.problems.iter().for_each(|p| log::error!("{p}"));
                (r.statistics, r.alarms, r.stored.settings_lost)
            });

        let counted = Before::of(&statistics);
        // With ports the line stands until somebody sets it otherwise; without them nobody could.
        let types = TypeRules::of(&values).map_err(|e| CliError::Usage(e.to_string()))?;
        let outputs = board.outputs.each().map(|(_, pin)| pin.is_some());
        let wired = Wired::of(&board.inputs, outputs);
        let lack = wired.lacks(&settings).map(Lack::why);
        if let Some(why) = lack.or_else(|| wired.lacks_lane(&types)) {
            if limit.is_some() || !has_ports {
                return Err(CliError::Usage(format!("board {}: {why}", board.name)));
            }
            log::error!("board {}: {why}", board.name);
        }

        log::set_max_level(log_level(&values));
        let choice = Choice::of(&values);
        let shelf = Shelf::new(state.as_deref().unwrap_or(&self.out));
        let network = match has_ports {
            // Control puts it in, with the ports open.
            true => None,
            false => Some(networks.taught(&choice, cameras.len(), &shelf)?),
        };
        let pins = board::outputs(&board, &Outputs::safe(settings.wiring))?;
        let inputs = board::inputs(&board)?;
        let config = Config {
            settings,
            statistics,
            latched,
            stopped,
            adjustments: adjustments(&values),
            archive: Archive::of(&values),
            recipe: values.text(Parameter::RecipeName).into(),
            frames: FrameLimits::of(&values),
            types,
            real_time: RealTime {
                // Without pins there is nothing to be on time for.
                priority: (board.gpio != Gpio::Simulated).then_some(board.realtime.priority),
                core: board.realtime.output_core,
            },
            out: self.out.clone(),
            // A station goes on where it stopped; a run that ends by itself and keeps no numbers is one of its own.
            keep: limit.is_none() || state.is_some(),
            lines: !self.quiet,
            limit,
            parallel: self.cores.parallel.into(),
            rate: self.rate,
            network,
        };
        let mut station = runtime::start(config, pins, inputs, cameras)?;
        let shared = station.shared();
        let stop = Arc::clone(&shared);
        ctrlc::set_handler(move || stop.stop.store(true, Ordering::Relaxed))
            .map_err(|e| CliError::Internal(e.to_string()))?;
        let load =
            Box::new(move |choice: &Choice| networks.load(choice).map_err(|e| e.to_string()));
        let handle = station.handle(load, (!has_ports).then_some(choice), shelf);
        let ports = match (stored, state, handle) {
            (Some(memory), Some(state), Some(handle)) => {
                let places = Places {
                    serial: serial.as_deref(),
                    modbus: modbus.as_deref(),
                    modbus_tcp,
                    web,
                    #[cfg(feature = "web")]
                    web_tls: self.web_tls(&board, &state),
                    #[cfg(feature = "web")]
                    web_plain: self.web_plain || board.network.web_plain,
                    #[cfg(feature = "web")]
                    web_hosts: match self.web_hosts.is_empty() {
                        true => &board.network.web_hosts,
                        false => &self.web_hosts,
                    },
                    state: &state,
                    out: &self.out,
                };
                Some(Ports::open(
                    handle,
                    memory,
                    &places,
                    #[cfg(feature = "plant")]
                    plant,
                    &mut station,
                )?)
            }
            _ => None,
        };
        let mut watchdog = Watchdogs::open(&board);
        let mut gave_up = false;
        let report = station.wait(|sign| match sign {
            Sign::Alive(shared) => {
                let judging = shared.judging();
                watchdog.feed(&shared.snapshot(), &judging);
                if watchdog.gives_up(&judging) {
                    gave_up = true;
                    shared.stop.store(true, Ordering::Relaxed);
                }
            }
            Sign::Safe { orderly } => watchdog.close(orderly),
        });
        if let Some(ports) = ports {
            ports.close(&report.ended.statistics);
        }
        if gave_up {
            end(&report, None)?;
            // Without a summary: the log's last lines, which `flash` repeats, are to be why.
            return Err(ReleaseError::CannotJudge.into());
        }
        let judging = shared.judging();
        let thresholds: Vec<f32> = View::first(shared.cameras)
            .map(|view| shared.threshold(view))
            .collect();
        let summary = Summary::new(&board.name, &judging, &thresholds, &report, &counted);
        say(&summary);
        say(format_args!(
            "pictures of parts     {}",
            self.out.join("archive").display()
        ));
        let written = summary.write(&self.out.join("summary.json"));
        let code = end(&report, limit.map(|_| &counted))?;
        match written {
            // A start may be what mends it.
            Err(e) if matches!(code, ExitCode::Restart) => log::error!("{e}"),
            written => written?,
        }
        Ok(code)
    }
}

/// A threshold as it is stored: in steps of 0.0001.
fn steps(threshold: f32) -> Value {
    Value::Number((threshold * STEPS as f32).round() as u32)
}

/// What the end of a station means for whoever started it; `judged`: it was started to judge so many parts.
fn end(report: &Report, judged: Option<&Before>) -> Result<ExitCode, CliError> {
    if let Some(thread) = report.failed {
        return Err(CliError::Internal(format!("the {thread} thread failed")));
    }
    let rejects = judged.map_or(0, |before| before.rejects(&report.ended.statistics));
    Ok(match () {
        () if report.restart => ExitCode::Restart,
        () if report.lost + report.pictures_unwritten > 0 => ExitCode::OutputFailed,
        () if rejects > 0 => ExitCode::Reject,
        () => ExitCode::Good,
    })
}
