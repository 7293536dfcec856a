//! Power cuts at every step of every write, by a model of a disk that keeps only what was flushed.

use super::*;
use crate::control::table::Parameter;
use crate::control::values::Value;
use crate::line::Alarm;
use std::collections::BTreeMap;

/// A step that reached the disk's queue.
#[derive(Clone, Debug)]
enum Step {
    Write(String, Vec<u8>),
    Sync(String),
    Rename(String, String),
    Remove(String),
    SyncFolder,
}

/// A folder in memory that records what was done to it.
#[derive(Clone, Debug, Default)]
struct Recorder {
    files: BTreeMap<String, Vec<u8>>,
    steps: Vec<Step>,
}

impl Files for Recorder {
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.files.get(name).cloned())
    }

    fn write(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.files.insert(name.into(), bytes.into());
        self.steps.push(Step::Write(name.into(), bytes.into()));
        Ok(())
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        self.steps.push(Step::Sync(name.into()));
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let bytes = self.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        self.files.insert(to.into(), bytes);
        self.steps.push(Step::Rename(from.into(), to.into()));
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        if self.files.remove(name).is_some() {
            self.steps.push(Step::Remove(name.into()));
        }
        Ok(())
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.files.keys().cloned().collect())
    }

    fn sync_folder(&mut self) -> io::Result<()> {
        self.steps.push(Step::SyncFolder);
        Ok(())
    }
}

/// A change of the folder's names: a file appears, or is called otherwise.
#[derive(Clone)]
enum Naming {
    Create(String, usize),
    Rename(String, String),
    Remove(String),
}

impl Naming {
    fn carry_out(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Naming::Create(name, file) => _ = names.insert(name.clone(), *file),
            Naming::Rename(from, to) => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
            Naming::Remove(name) => _ = names.remove(name),
        }
    }
}

/// What can be found on the disk if the power fails after these steps. Names reach it in order, each one
/// until the folder is flushed at the latest; bytes that were not flushed are there, or cut off, or not
/// there, or are still the old ones.
fn after_power_cut(steps: &[Step]) -> Vec<Recorder> {
    let (mut names, mut safe_names) = (BTreeMap::new(), BTreeMap::new());
    let mut namings: Vec<Naming> = Vec::new();
    let mut bytes: Vec<Vec<Vec<u8>>> = Vec::new();
    for step in steps {
        match step {
            Step::Write(name, new) => {
                let file = *names.entry(name.clone()).or_insert_with(|| {
                    bytes.push(vec![Vec::new()]);
                    namings.push(Naming::Create(name.clone(), bytes.len() - 1));
                    bytes.len() - 1
                });
                let half = new[..new.len() / 2].to_vec();
                bytes[file].extend([Vec::new(), half, new.clone()]);
            }
            Step::Sync(name) => {
                let file: &mut Vec<_> = &mut bytes[names[name]];
                *file = vec![file.last().unwrap().clone()];
            }
            Step::Rename(from, to) => {
                let naming = Naming::Rename(from.clone(), to.clone());
                naming.carry_out(&mut names);
                namings.push(naming);
            }
            Step::Remove(name) => {
                let naming = Naming::Remove(name.clone());
                naming.carry_out(&mut names);
                namings.push(naming);
            }
            Step::SyncFolder => {
                safe_names = names.clone();
                namings.clear();
            }
        }
    }
    let mut found = Vec::new();
    for kept in 0..=namings.len() {
        let mut names = safe_names.clone();
        namings[..kept].iter().for_each(|n| n.carry_out(&mut names));
        let most = names.values().map(|f| bytes[*f].len()).max().unwrap_or(1);
        for which in 0..most {
            let of = |file: usize| bytes[file][which.min(bytes[file].len() - 1)].clone();
            let files = names.iter().map(|(n, f)| (n.clone(), of(*f))).collect();
            found.push(Recorder {
                files,
                steps: Vec::new(),
            });
        }
    }
    found
}

/// What a step of the history leaves confirmed.
#[derive(Clone, Debug, PartialEq)]
struct Confirmed {
    stored: Stored,
    parts: u64,
    alarms: AlarmSet,
}

/// Commits, recipe changes and counter writes, with what was confirmed after how many steps; `save`
/// writes the settings.
fn history(
    save: impl Fn(&mut StoredIn<Recorder>, &Stored) -> io::Result<()>,
) -> (Vec<Step>, Vec<(usize, Confirmed)>) {
    let (mut keep, restored) = StoredIn::open(Recorder::default(), &Memory::default());
    let mut now = Confirmed {
        stored: restored.stored,
        parts: 0,
        alarms: AlarmSet::NONE,
    };
    let mut confirmed = vec![(0, now.clone())];
    let mut statistics = restored.statistics;
    for round in 0..8u32 {
        let mut stored = now.stored.clone();
        if round % 3 == 2 {
            stored.memory.select(RecipeNumber::new(round).unwrap());
        } else {
            let value = Value::Number(1000 + round);
            stored
                .memory
                .set(Parameter::Threshold, value.clone())
                .unwrap();
            stored.memory.set(Parameter::RejectDelayMs, value).unwrap();
        }
        stored.note(&format!("round {round}"));
        save(&mut keep, &stored).unwrap();
        now.stored = stored;
        confirmed.push((keep.files.steps.len(), now.clone()));
        statistics.next_part.0 += 30_000;
        statistics.outcomes.good += 30_000;
        let alarms = AlarmSet::of(if round % 2 == 0 {
            &[Alarm::BinFull]
        } else {
            &[]
        });
        keep.save_counters(&statistics, alarms).unwrap();
        (now.parts, now.alarms) = (statistics.next_part.0, alarms);
        confirmed.push((keep.files.steps.len(), now.clone()));
    }
    (keep.files.steps, confirmed)
}

/// Crash points that were tried, and what was wrong.
fn violations(steps: &[Step], confirmed: &[(usize, Confirmed)]) -> (usize, Vec<String>) {
    let (mut tried, mut wrong) = (0, Vec::new());
    for cut in 0..=steps.len() {
        let old = confirmed.iter().rposition(|(at, _)| *at <= cut).unwrap();
        let (_, old_state) = &confirmed[old];
        let new_state = confirmed.get(old + 1).map_or(old_state, |(_, state)| state);
        for files in after_power_cut(&steps[..cut]) {
            tried += 1;
            let (_, found) = StoredIn::open(files, &Memory::default());
            let either = [old_state, new_state]
                .iter()
                .any(|s| s.stored == found.stored);
            let counters = [old_state.alarms, new_state.alarms].contains(&found.alarms);
            let next = found.statistics.next_part.0;
            if !found.problems.is_empty() {
                wrong.push(format!("cut {cut}: {:?}", found.problems));
            } else if !either || !counters {
                wrong.push(format!("cut {cut}: neither old nor new"));
            } else if next < new_state.parts {
                wrong.push(format!(
                    "cut {cut}: part {next} of {} again",
                    new_state.parts
                ));
            }
        }
    }
    (tried, wrong)
}

#[test]
fn a_power_cut_at_any_step_leaves_old_or_new() {
    let (steps, confirmed) = history(StoredIn::save);
    let (tried, wrong) = violations(&steps, &confirmed);
    assert_eq!(wrong, Vec::<String>::new());
    assert!(tried >= 150, "{tried} crash points");
}

#[test]
fn what_a_further_camera_compares_with_is_kept() {
    let (mut keep, restored) = StoredIn::open(Recorder::default(), &Memory::default());
    let mut stored = restored.stored;
    let [name, nobodys] = [b"its", b"old"].map(|b| shelf::put(&mut keep.files, b).unwrap());
    let text = Value::Text(name.clone());
    stored.memory.set(Parameter::Camera3Taught, text).unwrap();
    keep.sweep(&stored).unwrap();
    assert!(shelf::get(&keep.files, &name).unwrap().is_some());
    assert_eq!(shelf::get(&keep.files, &nobodys).unwrap(), None);
}

/// What was taught, by recipe: as the settings name it, and as it is found.
fn goods(stored: &Stored, files: &Recorder) -> Vec<Option<Vec<u8>>> {
    let names = stored.memory.texts(Parameter::Taught);
    names.map(|n| shelf::get(files, n).ok().flatten()).collect()
}

/// After how many steps, the settings, what was taught, and the lessons that wait.
type Accepted = (usize, Stored, Vec<Option<Vec<u8>>>, Vec<Waiting>);

/// Teaching, accepting, adding a part, copying to another recipe, forgetting, saying that a part was good or bad,
/// cancelling: a lesson waits with each change of it; accepting writes the parts, then the settings that name them,
/// then takes away what nobody names, and the lesson. With what settings, parts and lessons were after how many
/// steps.
fn taught_history(
    put: impl Fn(&mut Recorder, &[u8]) -> io::Result<String>,
) -> (Vec<Step>, Vec<Accepted>) {
    let (mut keep, restored) = StoredIn::open(Recorder::default(), &Memory::default());
    let mut stored = restored.stored;
    let mut confirmed = vec![(0, stored.clone(), vec![], vec![])];
    let first = RecipeNumber::FIRST;
    let set = |stored: &mut Stored, recipe: u32, name: &str| {
        let memory = &mut stored.memory;
        memory.select(RecipeNumber::new(recipe).unwrap());
        let name = Value::Text(name.into());
        memory.set(Parameter::Taught, name).unwrap();
        memory
            .set(Parameter::Threshold, Value::Number(5000 + recipe))
            .unwrap();
    };
    for round in 0..9u32 {
        let bytes = vec![round as u8; 40 + round as usize];
        let mut waits = |keep: &mut StoredIn<Recorder>, opinion: Option<&[u8]>| {
            lesson::put(&mut keep.files, first, opinion).unwrap();
            let parts = goods(&stored, &keep.files);
            let lessons = opinion.map(|bytes| (first, bytes.into()));
            let lessons = lessons.into_iter().collect();
            confirmed.push((keep.files.steps.len(), stored.clone(), parts, lessons));
        };
        // Done, corrected, cancelled, and done again.
        if !matches!(round, 3 | 4) {
            waits(&mut keep, Some(&bytes[1..]));
            waits(&mut keep, Some(&bytes[2..]));
            waits(&mut keep, None);
            waits(&mut keep, Some(&bytes));
        }
        match round {
            // Another recipe gets the same, then the first one forgets it.
            3 => {
                let name = stored.memory.text(Parameter::Taught).to_string();
                set(&mut stored, 2, &name);
            }
            4 => set(&mut stored, 1, ""),
            _ => {
                let name = put(&mut keep.files, &bytes).unwrap();
                set(&mut stored, 1, &name);
            }
        }
        keep.save(&stored).unwrap();
        let found = goods(&stored, &keep.files);
        confirmed.push((keep.files.steps.len(), stored.clone(), found, vec![]));
        keep.sweep(&stored).unwrap();
        lesson::put(&mut keep.files, first, None).unwrap();
    }
    (keep.files.steps, confirmed)
}

/// Crash points that were tried, and what was wrong.
fn taught_violations(
    put: impl Fn(&mut Recorder, &[u8]) -> io::Result<String>,
) -> (usize, Vec<String>) {
    let (steps, confirmed) = taught_history(put);
    let (mut tried, mut wrong) = (0, Vec::new());
    for cut in 0..=steps.len() {
        let old = confirmed.iter().rposition(|(at, ..)| *at <= cut).unwrap();
        let either = &confirmed[old..confirmed.len().min(old + 2)];
        for files in after_power_cut(&steps[..cut]) {
            tried += 1;
            let (keep, found) = StoredIn::open(files, &Memory::default());
            let parts = goods(&found.stored, &keep.files);
            if !found.problems.is_empty() {
                wrong.push(format!("cut {cut}: {:?}", found.problems));
            } else if !either
                .iter()
                .any(|(_, s, p, l)| (s, p, l) == (&found.stored, &parts, &found.lessons))
            {
                wrong.push(format!("cut {cut}: neither old nor new"));
            }
            // Nothing is left of what nobody names.
            let left = keep.files.files.keys().filter(|n| n.starts_with("taught-"));
            let named: Vec<&str> = found.stored.memory.texts(Parameter::Taught).collect();
            wrong.extend(
                left.filter(|n| !named.contains(&n.as_str()))
                    .map(|n| format!("cut {cut}: {n} is left")),
            );
        }
    }
    (tried, wrong)
}

#[test]
fn a_power_cut_at_any_step_of_accepting_leaves_the_old_or_the_new_good_parts() {
    let (tried, wrong) = taught_violations(shelf::put);
    assert_eq!(wrong, Vec::<String>::new());
    println!("{tried} crash points");
    assert!(tried >= 150, "{tried} crash points");
    // The model finds out who does not flush.
    let careless = |files: &mut Recorder, bytes: &[u8]| {
        let name = shelf::name_of(bytes);
        files.write(&name, bytes)?;
        Ok(name)
    };
    assert!(!taught_violations(careless).1.is_empty());
}

/// The model itself: writers that leave out a flush, or write in place, are found out.
#[test]
fn careless_writers_are_found_out() {
    let encoded = |stored: &Stored| {
        let (mut keep, _) = StoredIn::open(Recorder::default(), &Memory::default());
        keep.save(stored).unwrap();
        keep.files.files["memory"].clone()
    };
    let in_place = history(|keep, stored| {
        keep.files.write("memory", &encoded(stored))?;
        keep.files.sync("memory")
    });
    let without_fsync = history(|keep, stored| {
        keep.files.write("memory.new", &encoded(stored))?;
        keep.files.rename("memory.new", "memory")?;
        keep.files.sync_folder()
    });
    let without_folder = history(|keep, stored| {
        keep.files.write("memory.new", &encoded(stored))?;
        keep.files.sync("memory.new")?;
        keep.files.rename("memory.new", "memory")
    });
    for (steps, confirmed) in [in_place, without_fsync, without_folder] {
        assert!(!violations(&steps, &confirmed).1.is_empty());
    }
}

#[test]
fn a_damaged_file_is_put_aside_and_the_fault_stays_until_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Store::open(folder.path(), &Memory::default()).unwrap();
    let (mut store, mut restored) = open();
    let value = Value::Number(1234);
    restored
        .stored
        .memory
        .set(Parameter::Threshold, value)
        .unwrap();
    store.save(&restored.stored).unwrap();
    assert!(
        Store::open(folder.path(), &Memory::default()).is_err(),
        "two at a time"
    );
    drop(store);

    let path = folder.path().join("memory");
    let good = std::fs::read(&path).unwrap();
    for (number, place) in [0, 16, 20, 60, good.len() / 2, good.len() - 2]
        .into_iter()
        .enumerate()
    {
        let mut bad = good.clone();
        bad[place] ^= 1;
        std::fs::write(&path, &bad).unwrap();
        let (_, found) = open();
        let aside = folder.path().join(format!("memory.damaged-{}", number + 1));
        assert_eq!(std::fs::read(aside).unwrap(), bad);
        assert_eq!(found.problems.len(), 1);
        assert!(found.stored.fault && found.stored.memory == Memory::default());
        assert!(found.stored.settings_lost);
        // After another power cut too.
        let (_, again) = open();
        assert!(again.stored.fault && again.stored.settings_lost && again.problems.is_empty());
        assert!(
            again.stored.log[0].starts_with("20")
                && again.stored.log[0].contains("Z,station,memory,,memory damaged"),
            "{:?}",
            again.stored.log
        );
    }
}

#[test]
fn part_numbers_go_on_without_a_gap_after_an_orderly_end_and_are_never_used_twice() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Store::open(folder.path(), &Memory::default()).unwrap();
    let (store, restored) = open();
    assert_eq!(restored.statistics, Statistics::default());
    let mut statistics = restored.statistics;
    statistics.next_part = PartId(500);
    statistics.latency.buckets[7] = 3;
    let alarms = AlarmSet::of(&[Alarm::Camera, Alarm::Overrun]);
    store.close(&statistics, alarms).unwrap();
    let (store, restored) = open();
    assert_eq!((restored.statistics, restored.alarms), (statistics, alarms));
    drop(store);
    // The power was cut; even the counters are lost.
    std::fs::remove_file(folder.path().join("counters")).unwrap();
    let (_, restored) = open();
    assert_eq!(restored.statistics.next_part, PartId(500 + RESERVED));
}

/// A disk without room: what is there can be read, nothing can be written.
struct Full(Recorder);

impl Files for Full {
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.0.read(name)
    }
    fn write(&mut self, _: &str, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::StorageFull.into())
    }
    fn sync(&mut self, _: &str) -> io::Result<()> {
        Ok(())
    }
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }
    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }
    fn names(&self) -> io::Result<Vec<String>> {
        self.0.names()
    }
    fn sync_folder(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_does_not_stop_the_station() {
    let (mut keep, mut restored) = StoredIn::open(Recorder::default(), &Memory::default());
    let memory = &mut restored.stored.memory;
    memory
        .set(Parameter::StationName, Value::Text("press 3".into()))
        .unwrap();
    keep.save(&restored.stored).unwrap();
    let next = restored.statistics.next_part;
    let (full, found) = StoredIn::open(Full(keep.files), &Memory::default());
    assert_eq!(found.stored.memory, restored.stored.memory);
    assert!(found.stored.fault && !found.stored.settings_lost && found.problems.len() == 1);
    assert!(found.statistics.next_part > next);
    // Nothing is reserved: the first counters that can be written reserve anew.
    assert_eq!(full.reserved, found.statistics.next_part.0);
}
