//! `slot`: the releases on this node. The service and `faprompt-train flash` call it; a person looks, or
//! goes back.

use super::{CliError, keys};
use clap::{Args, Subcommand};
use faprompt_edge::exit::ExitCode;
use faprompt_edge::release::slots::{Holds, Slot, Slots, Status};
use faprompt_edge::report::{say, warn};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// After a host has been silent for this many seconds its connection counts as cut.
const SILENCE_S: i64 = 60;

#[derive(Args)]
pub struct SlotArguments {
    #[command(subcommand)]
    command: SlotCommand,
    /// Where the system's root folder is: a card that is mounted there
    #[arg(long, global = true, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// minisign public key, several times for several [default: those in /etc/faprompt-edge/keys]
    #[arg(long, global = true)]
    key: Vec<PathBuf>,
}

#[derive(Subcommand)]
enum SlotCommand {
    /// What the slots hold, what runs, how the last trial ended
    Status {
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Receive a release from standard input into the idle slot; it is on trial at the next start
    Install,
    /// Put the release that ran before on trial at the next start
    Back,
    /// For the service, before it starts: choose a slot
    Choose,
    /// For the service, when it is ready: keep what was on trial
    Confirm,
}

impl SlotArguments {
    pub fn run(&self) -> Result<ExitCode, CliError> {
        // Nothing in the slots is secret, whatever the service's umask: everybody may ask for the status.
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        if !self.root.is_dir() {
            let what = format!("--root {}: no such folder", self.root.display());
            return Err(CliError::Usage(what));
        }
        let slots = Slots::under(&self.root);
        match &self.command {
            SlotCommand::Status { json } => {
                let status = slots.status();
                status.problems.iter().for_each(warn);
                let text = match json {
                    true => serde_json::to_string(&status)
                        .map_err(|e| CliError::Internal(e.to_string()))?,
                    false => show(&status),
                };
                super::print(
                    text + "
",
                )?;
            }
            SlotCommand::Install => {
                let here = self.root == Path::new("/");
                let (slot, release) = slots.install(Patient(io::stdin()), &self.keys()?, here)?;
                say(format_args!(
                    "release {release} is in slot {slot}, on trial at the next start"
                ));
            }
            SlotCommand::Back => {
                let (slot, release) = slots.back(&self.keys()?)?;
                say(format_args!(
                    "release {release} of slot {slot} is on trial at the next start: \
                     systemctl restart faprompt-edge"
                ));
            }
            SlotCommand::Choose => {
                let choice = slots.choose(&self.keys()?)?;
                choice.problems.iter().for_each(warn);
                let trial = if choice.trial { ", on trial" } else { "" };
                match choice.slot {
                    Some(slot) => say(format_args!("slot {slot}{trial}")),
                    None => say("as the package installed it"),
                }
            }
            SlotCommand::Confirm => {
                if let Some(slot) = slots.confirm()? {
                    say(format_args!("slot {slot} is kept"));
                }
            }
        }
        Ok(ExitCode::Good)
    }

    fn keys(&self) -> Result<faprompt_edge::bundle::Keys, CliError> {
        Ok(keys(&self.key)?)
    }
}

fn show(status: &Status) -> String {
    let holds = |slot: Slot| {
        let mut line = format!("slot {slot}     ");
        match status.of(slot) {
            None => line += "empty",
            Some(Holds {
                release,
                version,
                board,
                bundle,
                confirmed,
            }) => {
                line += &format!(
                    "release {release}: version {version}, board {board}, bundle \"{bundle}\""
                );
                if !confirmed {
                    line += ", was never ready";
                }
            }
        }
        line
    };
    let mut lines = vec![
        match status.active {
            Some(slot) => format!("active     slot {slot}"),
            None => "active     as the package installed it".into(),
        },
        holds(Slot::A),
        holds(Slot::B),
    ];
    if let Some(trial) = &status.trial {
        let when = if trial.started {
            "now"
        } else {
            "at the next start"
        };
        lines.push(format!(
            "on trial   slot {}, release {}, {when}",
            trial.slot, trial.release
        ));
    }
    if let Some(judges) = &status.judges {
        let whose = match (judges.network.as_str(), judges.from_recipe) {
            ("none", _) => "nothing: the line stays stopped".into(),
            ("last_good", _) => format!(
                "{}, the last good one: the stored one cannot be used",
                judges.bundle
            ),
            (_, true) => format!("{}: a recipe names it, not the flashed one", judges.bundle),
            (_, false) => judges.bundle.clone(),
        };
        lines.push(format!("judges     {whose} (since {})", judges.since));
        lines.extend(judges.warning.iter().map(|w| format!("           {w}")));
    }
    match &status.last {
        Some(last) if last.kept => lines.push(format!("last trial release {}: kept", last.release)),
        Some(last) => lines.push(format!(
            "last trial release {}: not kept: {}",
            last.release, last.why
        )),
        None => (),
    }
    lines.join("\n")
}

/// Standard input that ends when the host has been silent for too long.
struct Patient(io::Stdin);

impl Read for Patient {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let limit = Timespec {
            tv_sec: SILENCE_S,
            tv_nsec: 0,
        };
        let mut ready = [PollFd::new(&self.0, PollFlags::IN)];
        match poll(&mut ready, Some(&limit))? {
            // Unbuffered: what is buffered would not be seen by `poll`.
            1.. => Ok(rustix::io::read(&self.0, buffer)?),
            0 => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("nothing came for {SILENCE_S} s"),
            )),
        }
    }
}
