//! `fleet status` as a table.

use faprompt_edge::report::{say, shown};
use faprompt_edge::train::fleet::{Outcome, Station, StationError, Status};

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

pub(super) fn table(all: &[(&Station, Outcome<Status, StationError>)]) {
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
