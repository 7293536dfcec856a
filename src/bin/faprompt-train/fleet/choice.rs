//! Which stations a command is for, and whether they have what it needs.

use faprompt_edge::train::TrainError;
use faprompt_edge::train::fleet::{ClientError, FleetError, Station};

/// The stations that are called so; without names all of them.
pub(super) fn chosen<'a>(
    all: &'a [Station],
    names: &[String],
) -> Result<Vec<&'a Station>, TrainError> {
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
pub(super) fn canary(
    stations: &[&Station],
    name: Option<&str>,
) -> Result<Option<usize>, TrainError> {
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

/// A station that lacks what a command needs, before anything is begun.
pub(super) fn lacks(station: &Station, what: &str) -> TrainError {
    let name = station.name.clone();
    let source = Box::new(ClientError::Key(what.into()).into());
    FleetError::Station { name, source }.into()
}

/// Every password is there, before anything is begun.
pub(super) fn passwords(stations: &[&Station]) -> Result<(), TrainError> {
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
