//! `faprompt-train fleet`.

use crate::flash::{Release, say_steps};
use clap::{Args, Subcommand};
use faprompt_edge::control::memory::RecipeNumber;
use faprompt_edge::exit::ExitCode;
use faprompt_edge::report::{say, shown, warn};
use faprompt_edge::train::TrainError;
use faprompt_edge::train::flash::{Flashed, Ssh};
use faprompt_edge::train::fleet::{
    Client, ClientError, FleetError, Order, Outcome, Station, StationError, Status, back_up,
    in_order, lesson, read, status,
};
use faprompt_edge::train::progress::{Interrupt, Lines};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

/// A station answers a question about its state within this time, in seconds.
const SOON: u64 = 10;
/// And anything else: it gives up after 60 s itself.
const LATE: u64 = 75;

/// Arguments of `fleet`.
#[derive(Args)]
pub struct Fleet {
    /// The stations, TOML: docs/integrator.md says its keys
    stations: PathBuf,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// How every station is: mode, network, alarms, recipe, parts, certificate
    Status(Look),
    /// Put program, bundle and board onto every node, one first
    Flash(Flash),
    /// Write every station's backup into a folder
    Backup(Backup),
    /// Copy what one station was taught with a recipe to others, one of them first
    TeachCopy(TeachCopy),
}

/// What every command has.
#[derive(Args)]
struct Common {
    /// Stations at a time
    #[arg(long, value_name = "N", default_value = "8")]
    at_once: NonZeroUsize,
    /// Results as JSON
    #[arg(long)]
    json: bool,
    /// Seconds for each answer [default: 10 for status, else 75]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: Option<u64>,
}

#[derive(Args)]
struct Look {
    /// Only these stations, by name, with commas between them
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    only: Vec<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Args)]
struct Backup {
    /// Folder for a file NAME.backup.toml per station. They hold the passwords' hashes: keep them as you keep keys
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    look: Look,
}

#[derive(Args)]
struct Flash {
    /// The station that goes first, alone [default: the first one]
    #[arg(long, value_name = "NAME")]
    canary: Option<String>,
    #[command(flatten)]
    release: Release,
    #[command(flatten)]
    look: Look,
}

#[derive(Args)]
struct TeachCopy {
    /// The station that was taught
    #[arg(long, value_name = "NAME")]
    from: String,
    /// Those that get it, with commas between them
    #[arg(long, value_name = "NAMES", value_delimiter = ',', required = true)]
    to: Vec<String>,
    /// The recipe, 1 to 32, on all of them [default: the one in use on the first station]
    #[arg(long, value_name = "N")]
    recipe: Option<u32>,
    /// The station of --to that goes first, alone [default: the first one]
    #[arg(long, value_name = "NAME")]
    canary: Option<String>,
    #[command(flatten)]
    common: Common,
}

/// The stations that are called so; without names all of them.
fn chosen<'a>(all: &'a [Station], names: &[String]) -> Result<Vec<&'a Station>, TrainError> {
    let known = || {
        let names: Vec<&str> = all.iter().map(|s| s.name.as_str()).collect();
        names.join(", ")
    };
    if let Some(unknown) = names.iter().find(|n| all.iter().all(|s| s.name != **n)) {
        let known = known();
        let text = format!("no station is called `{unknown}`; there are {known}");
        return Err(TrainError::Options(text));
    }
    let wanted = |s: &&Station| names.is_empty() || names.contains(&s.name);
    Ok(all.iter().filter(wanted).collect())
}

/// The place of the station that goes first.
fn canary(stations: &[&Station], name: Option<&str>) -> Result<Option<usize>, TrainError> {
    let Some(name) = name else {
        return Ok(Some(0));
    };
    let place = stations.iter().position(|s| s.name == name);
    match place {
        Some(place) => Ok(Some(place)),
        None => Err(TrainError::Options(format!(
            "--canary {name}: it is none of the stations that this is for"
        ))),
    }
}

impl Common {
    fn patience(&self, default: u64) -> Duration {
        Duration::from_secs(self.timeout.unwrap_or(default))
    }

    /// Looks at every station, whatever becomes of the others.
    fn every(&self) -> Order {
        Order {
            at_once: self.at_once,
            canary: None,
            stop: false,
        }
    }

    /// Changes stations: one first, none any more after a failure.
    fn careful(&self, canary: Option<usize>) -> Order {
        Order {
            at_once: self.at_once,
            canary,
            stop: true,
        }
    }
}

/// A station that goes its way: what it says, and what it came to.
struct Way<'a> {
    station: &'a Station,
    lines: &'a Lines,
    place: usize,
}

impl Way<'_> {
    fn say(&self, what: &str) {
        self.lines.say(self.place, what);
    }
}

/// Goes through the stations and reports what became of each: `row` makes its lines of what it came to, `object` JSON.
/// The exit code is that of the first one in the file that failed.
fn go<T: Send>(
    stations: &[&Station],
    (order, json): (Order, bool),
    work: impl Fn(&Way<'_>) -> Result<T, StationError> + Sync,
    report: impl FnOnce(&[(&Station, Outcome<T, StationError>)]),
    object: impl Fn(&T) -> Value,
) -> Result<ExitCode, TrainError> {
    let stop = Interrupt::catch()?;
    let lines = Lines::new(stations.iter().map(|s| s.name.as_str()));
    let outcomes = in_order(
        stations.len(),
        order,
        || stop.came(),
        |place| {
            let way = Way {
                station: stations[place],
                lines: &lines,
                place,
            };
            let result = work(&way);
            match &result {
                Ok(_) => lines.end(place, "done"),
                Err(_) => lines.end(place, "FAILED"),
            }
            result
        },
    );
    lines.clear();
    let all: Vec<_> = stations.iter().copied().zip(outcomes).collect();
    match json {
        true => {
            let objects = all.iter().map(|(station, outcome)| {
                let mut value = match outcome {
                    Outcome::Done(done) => object(done),
                    Outcome::Failed(e) => {
                        json!({ "error": e.to_string(), "exit_code": e.exit_code() as u8 })
                    }
                    Outcome::NotBegun => json!({}),
                };
                value["station"] = json!(station.name);
                value["result"] = json!(word(outcome));
                value
            });
            let objects: Vec<Value> = objects.collect();
            say(serde_json::to_string_pretty(&objects).unwrap_or_default());
        }
        false => report(&all),
    }
    let failed = all.iter().find_map(|(_, outcome)| match outcome {
        Outcome::Failed(e) => Some(e.exit_code()),
        _ => None,
    });
    let left: Vec<&str> = all.iter().filter_map(not_begun).collect();
    if !left.is_empty() {
        let why = if stop.came() { "stopped" } else { "one failed" };
        warn(format_args!("not begun, as {why}: {}", left.join(", ")));
    }
    Ok(match failed {
        Some(code) => code,
        None if !left.is_empty() => ExitCode::Interrupted,
        None => ExitCode::Good,
    })
}

fn not_begun<'a, T, E>((station, outcome): &(&'a Station, Outcome<T, E>)) -> Option<&'a str> {
    matches!(outcome, Outcome::NotBegun).then_some(&station.name)
}

fn word<T, E>(outcome: &Outcome<T, E>) -> &'static str {
    match outcome {
        Outcome::Done(_) => "done",
        Outcome::Failed(_) => "failed",
        Outcome::NotBegun => "not_begun",
    }
}

/// A line per station: its name, and what became of it.
fn one_line<T>(all: &[(&Station, Outcome<T, StationError>)], done: impl Fn(&T) -> String) {
    let width = all.iter().map(|(s, _)| s.name.len()).max().unwrap_or(0);
    for (station, outcome) in all {
        let text = match outcome {
            Outcome::Done(it) => done(it),
            Outcome::Failed(e) => format!("FAILED: {e}"),
            Outcome::NotBegun => "not begun".into(),
        };
        say(format_args!("{:width$}  {text}", station.name));
    }
}

const HEAD: [&str; 9] = [
    "station",
    "mode",
    "network",
    "recipe",
    "threshold",
    "parts",
    "rejects",
    "version",
    "certificate",
];

fn cells(station: &Station, status: &Status) -> [String; 9] {
    let number = |n: Option<u64>| n.map_or("-".into(), |n| n.to_string());
    [
        station.name.clone(),
        shown(&status.mode).to_string(),
        shown(status.network.as_deref().unwrap_or("none")).to_string(),
        shown(&status.recipe).to_string(),
        status.threshold.map_or("-".into(), |t| format!("{t:.4}")),
        number(status.parts),
        number(status.rejects),
        shown(&status.version).to_string(),
        status.certificate.word().to_string(),
    ]
}

fn table(all: &[(&Station, Outcome<Status, StationError>)]) {
    let row = |(station, outcome): &(&Station, Outcome<Status, StationError>)| match outcome {
        Outcome::Done(status) => (cells(station, status).to_vec(), status.alarms.clone()),
        Outcome::Failed(e) => (vec![station.name.clone()], vec![format!("FAILED: {e}")]),
        Outcome::NotBegun => (vec![station.name.clone(), "not begun".into()], vec![]),
    };
    let mut rows = vec![(HEAD.map(String::from).to_vec(), vec![])];
    rows.extend(all.iter().map(row));
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|(cells, _)| cells.get(column));
        cells.map(|c| c.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    for (cells, below) in &rows {
        let line: Vec<String> = (cells.iter().zip(&widths))
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        say(line.join("  ").trim_end());
        for text in below {
            say(format_args!("  {}", shown(text)));
        }
    }
}

/// A station that lacks what a command needs, before anything is begun.
fn lacks(station: &Station, what: &str) -> TrainError {
    let name = station.name.clone();
    let source = Box::new(ClientError::Key(what.into()).into());
    FleetError::Station { name, source }.into()
}

/// Every password is there, before anything is begun.
fn passwords(stations: &[&Station]) -> Result<(), TrainError> {
    for station in stations {
        match station.password() {
            Ok(Some(_)) => (),
            Ok(None) => {
                let what =
                    "password_file: missing (or password_env): the engineer's password is needed";
                return Err(lacks(station, what));
            }
            Err(what) => return Err(lacks(station, &what)),
        }
    }
    Ok(())
}

impl Fleet {
    pub fn run(&self) -> Result<ExitCode, TrainError> {
        let stations = read(&self.stations).map_err(FleetError::from)?;
        match &self.what {
            What::Status(look) => look.run(&stations),
            What::Backup(backup) => backup.run(&stations),
            What::Flash(flash) => flash.run(&stations),
            What::TeachCopy(copy) => copy.run(&stations),
        }
    }
}

impl Look {
    fn run(&self, stations: &[Station]) -> Result<ExitCode, TrainError> {
        let stations = chosen(stations, &self.only)?;
        let patience = self.common.patience(SOON);
        let how = (self.common.every(), self.common.json);
        let work = |way: &Way<'_>| {
            way.say("asking");
            status(&Client::new(way.station, patience)?)
        };
        go(&stations, how, work, table, |status| json!(status))
    }
}

impl Backup {
    fn run(&self, stations: &[Station]) -> Result<ExitCode, TrainError> {
        let common = &self.look.common;
        let stations = chosen(stations, &self.look.only)?;
        passwords(&stations)?;
        std::fs::create_dir_all(&self.out).map_err(|source| TrainError::Output {
            path: self.out.clone(),
            source,
        })?;
        let patience = common.patience(LATE);
        let work = |way: &Way<'_>| {
            way.say("fetching");
            back_up(&Client::new(way.station, patience)?, &self.out)
        };
        let done = |(path, bytes): &(PathBuf, usize)| {
            format!("{} ({:.1} kB)", path.display(), *bytes as f64 / 1e3)
        };
        go(
            &stations,
            (common.every(), common.json),
            work,
            |all| one_line(all, done),
            |(path, bytes)| json!({ "file": path, "bytes": bytes }),
        )
    }
}

impl TeachCopy {
    fn run(&self, stations: &[Station]) -> Result<ExitCode, TrainError> {
        let from = chosen(stations, std::slice::from_ref(&self.from))?;
        let targets = chosen(stations, &self.to)?;
        if targets.iter().any(|s| s.name == self.from) {
            let text = format!("--to {}: it has what it was taught already", self.from);
            return Err(TrainError::Options(text));
        }
        // In the order of --to, which names the first one.
        let place = |s: &&Station| self.to.iter().position(|n| *n == s.name);
        let mut targets = targets;
        targets.sort_by_key(place);
        let recipe = self.recipe.map(|n| {
            let wrong = || TrainError::Options(format!("--recipe {n}: recipes are 1 to 32"));
            RecipeNumber::new(n).ok_or_else(wrong)
        });
        let recipe = recipe.transpose()?;
        let canary = canary(&targets, self.canary.as_deref())?;
        passwords(&from)?;
        passwords(&targets)?;
        let patience = self.common.patience(LATE);
        let read = Client::new(from[0], patience)
            .map_err(StationError::from)
            .and_then(|client| lesson(&client, recipe));
        let lesson = read.map_err(|source| FleetError::Station {
            name: self.from.clone(),
            source: Box::new(source),
        })?;
        let (parts, recipe) = (lesson.parts(), lesson.recipe());
        if !self.common.json {
            say(format_args!(
                "{}: recipe {recipe}, {parts} good parts",
                self.from
            ));
        }
        let work = |way: &Way<'_>| {
            way.say("copying");
            lesson.copy_to(&Client::new(way.station, patience)?)
        };
        let done = |judges: &bool| match judges {
            true => format!("recipe {recipe} compares parts with them now"),
            false => format!("recipe {recipe} has them; it is not in use there"),
        };
        go(
            &targets,
            (self.common.careful(canary), self.common.json),
            work,
            |all| one_line(all, done),
            |judges| json!({ "recipe": recipe.get(), "parts": parts, "in_use": judges }),
        )
    }
}

impl Flash {
    fn run(&self, stations: &[Station]) -> Result<ExitCode, TrainError> {
        let common = &self.look.common;
        let stations = chosen(stations, &self.look.only)?;
        let canary = canary(&stations, self.canary.as_deref())?;
        let key = self.release.key()?;
        let mut nodes = Vec::new();
        let mut releases = BTreeMap::new();
        for station in &stations {
            let ssh = station.ssh.as_deref();
            let ssh = ssh.ok_or_else(|| lacks(station, "ssh: missing: `ssh = \"user@host\"`"))?;
            let board = station.board.as_deref();
            let what = "board: missing: which board the node is (faprompt-edge board list)";
            let board = board.ok_or_else(|| lacks(station, what))?;
            if !releases.contains_key(board) {
                releases.insert(board, self.release.ready(board, key.as_ref())?);
            }
            nodes.push((ssh, board));
        }
        if self.release.dry_run {
            for (station, (ssh, board)) in stations.iter().zip(&nodes) {
                let (ready, plan) = &releases[board];
                let first = if stations
                    .get(canary.unwrap_or(0))
                    .is_some_and(|s| s.name == station.name)
                {
                    ", first and alone"
                } else {
                    ""
                };
                say(format_args!(
                    "{}{first}: release {} for {board}",
                    station.name,
                    ready.id()
                ));
                say_steps(plan, ready, ssh);
            }
            return Ok(ExitCode::Good);
        }
        let work = |way: &Way<'_>| {
            let (host, board) = nodes[way.place];
            let (ready, plan) = &releases[board];
            // Nobody could say which of many nodes asks for a password.
            let mut options = way.station.ssh_options.clone();
            options.extend(["-o".into(), "BatchMode=yes".into()]);
            let ssh = Ssh::new(host, &options)?;
            let bar = way.lines.bar(way.place);
            let flashed = plan.run(&ssh, ready, &bar, &|line| way.say(&line))?;
            Ok((flashed, ready.id()))
        };
        let after = |flashed: &Flashed| match flashed {
            Flashed::Runs(after) => Some(after.as_secs_f64()),
            Flashed::Ran => None,
        };
        go(
            &stations,
            (common.careful(canary), common.json),
            work,
            |all| {
                one_line(all, |(flashed, id)| match after(flashed) {
                    Some(after) => format!("release {id} runs, ready {after:.0} s after its start"),
                    None => format!("ran release {id} already"),
                });
            },
            |(flashed, id)| json!({ "release": id.to_string(), "ran": after(flashed).is_none(), "ready_after_s": after(flashed) }),
        )
    }
}
