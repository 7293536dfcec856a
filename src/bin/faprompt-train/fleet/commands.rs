//! What each command does.

use super::choice::{canary, chosen, lacks, passwords};
use super::round::{Way, go, one_line};
use super::table::table;
use super::{Backup, Flash, LATE, Look, SOON, TeachCopy};
use crate::flash::say_steps;
use faprompt_edge::control::memory::RecipeNumber;
use faprompt_edge::exit::ExitCode;
use faprompt_edge::report::say;
use faprompt_edge::train::TrainError;
use faprompt_edge::train::flash::{Flashed, Ssh};
use faprompt_edge::train::fleet::{
    BackedUp, Client, FleetError, Station, StationError, back_up, lesson, status,
};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

impl Look {
    pub(super) fn run(&self, stations: &[Station]) -> Result<ExitCode, TrainError> {
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
    pub(super) fn run(&self, stations: &[Station]) -> Result<ExitCode, TrainError> {
        let common = &self.look.common;
        let stations = chosen(stations, &self.look.only)?;
        passwords(&stations)?;
        std::fs::create_dir_all(&self.out).map_err(|source| TrainError::Output {
            path: self.out.clone(),
            source,
        })?;
        let patience = common.patience(LATE);
        let incomplete = AtomicBool::new(false);
        let work = |way: &Way<'_>| {
            way.say("fetching");
            let done = back_up(&Client::new(way.station, patience)?, &self.out)?;
            incomplete.fetch_or(!done.left_out.is_empty(), Ordering::Relaxed);
            Ok(done)
        };
        let done = |done: &BackedUp| {
            let without = match done.left_out.is_empty() {
                true => String::new(),
                false => format!(
                    "; NOT in it, as outside the station's folder: {}",
                    done.left_out.join(", ")
                ),
            };
            let kilobytes = done.bytes as f64 / 1e3;
            format!("{} ({kilobytes:.1} kB){without}", done.path.display())
        };
        let code = go(
            &stations,
            (common.every(), common.json),
            work,
            |all| one_line(all, done),
            |done| json!({ "file": done.path, "bytes": done.bytes, "left_out": done.left_out }),
        )?;
        Ok(match code {
            ExitCode::Good if incomplete.into_inner() => ExitCode::SomeInputsFailed,
            code => code,
        })
    }
}

impl TeachCopy {
    pub(super) fn run(&self, stations: &[Station]) -> Result<ExitCode, TrainError> {
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
    pub(super) fn run(&self, stations: &[Station]) -> Result<ExitCode, TrainError> {
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
