//! For the power-cut rig: writes the store over and over, or says what is in it.
//!
//! `commits FOLDER COUNT` does COUNT rounds of a commit, a change of recipe and a write of the counters; each
//! prints `old N` before and `done N` after, so that what was confirmed is known from outside. `commits FOLDER`
//! prints what it finds: `found N`, where the threshold, reject delay, recipe and counters all stand for the
//! same round N or, of a write that was under way, the one after it; or `wrong: ...` and exits with 1.

use faprompt_edge::control::{Memory, Parameter, RecipeNumber, Restored, Store, Value};
use faprompt_edge::line::{AlarmSet, Statistics};
use std::error::Error;
use std::io::Write;
use std::path::Path;

/// Rounds that can be told apart: the threshold counts them in its steps.
const ROUNDS: u32 = 10_000;

fn say(line: &str) {
    println!("{line}");
    let _ = std::io::stdout().flush();
}

fn write(path: &Path, count: u32) -> Result<(), Box<dyn Error>> {
    let (mut store, Restored { mut stored, .. }) = Store::open(path, &Memory::default())?;
    for round in 1..=count.min(ROUNDS) {
        say(&format!("old {}", round - 1));
        let recipe = RecipeNumber::new(round % 32 + 1).ok_or("a recipe's number")?;
        stored.memory.select(recipe);
        stored
            .memory
            .set(Parameter::Threshold, Value::Number(round))?;
        stored
            .memory
            .set(Parameter::RejectDelayMs, Value::Number(round))?;
        stored.note(&format!("round {round}"));
        store.save(&stored)?;
        let mut statistics = Statistics::default();
        statistics.outcomes.good = u64::from(round);
        store.save_counters(&statistics, AlarmSet::NONE)?;
        say(&format!("done {round}"));
    }
    Ok(())
}

fn check(path: &Path) -> Result<String, Box<dyn Error>> {
    let (_, found) = Store::open(path, &Memory::default())?;
    let memory = &found.stored.memory;
    let delay = memory.number(Parameter::RejectDelayMs);
    let round = if found.stored.log.is_empty() {
        0
    } else {
        delay
    };
    let of_round = [
        memory.number(Parameter::Threshold),
        u32::from(memory.active().get()),
    ];
    let wanted = [round, round % 32 + 1];
    let last = found.stored.log.back().cloned().unwrap_or_default();
    let counted = found.statistics.outcomes.good;
    let whole = round == 0 || (of_round == wanted && last == format!("round {round}"));
    let near = counted == u64::from(round) || counted + 1 == u64::from(round);
    if found.problems.is_empty() && whole && near {
        return Ok(format!("found {round}"));
    }
    Err(format!("{of_round:?} {last} {counted} {:?}", found.problems).into())
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.as_slice() {
        [folder, count] => write(Path::new(folder), count.parse()?),
        [folder] => match check(Path::new(folder)) {
            Ok(found) => {
                say(&found);
                Ok(())
            }
            Err(wrong) => {
                say(&format!("wrong: {wrong}"));
                std::process::exit(1)
            }
        },
        _ => Err("commits FOLDER [COUNT]".into()),
    }
}
