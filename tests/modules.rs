//! In these houses no room uses one that uses it, straight or over others, and tract is named in few rooms: which arrows
//! there are is read from the sources, tests left out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const HOUSES: [&str; 3] = ["line", "ops", "runtime"];
/// Rooms of tests.
const TESTS: [&str; 3] = ["tests", "allocations", "endurance"];

/// The sources of every room of a house: a file, a folder, or both.
fn rooms(house: &Path) -> BTreeMap<String, Vec<PathBuf>> {
    let mut rooms = BTreeMap::<String, Vec<PathBuf>>::new();
    let mut folders = vec![house.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
            let in_house = path
                .strip_prefix(house)
                .unwrap()
                .components()
                .next()
                .unwrap();
            let room = Path::new(&in_house)
                .file_stem()
                .unwrap()
                .to_string_lossy()
                .into_owned();
            if TESTS.contains(&stem.as_str()) || room == "mod" {
                continue;
            }
            match path.is_dir() {
                true => folders.push(path),
                false => rooms.entry(room).or_default().push(path),
            }
        }
    }
    rooms
}

/// A source without comments and without the tests at its end.
fn code(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text
        .lines()
        .map(|l| l.split("//").next().unwrap_or_default());
    let text = lines.collect::<Vec<_>>().join("\n");
    let tests = text.match_indices("#[cfg(test)]\n").find(|(at, _)| {
        let line = text[*at..].lines().nth(1).unwrap_or_default();
        line.contains("mod ") && line.ends_with('{')
    });
    text[..tests.map_or(text.len(), |t| t.0)].to_string()
}

/// The first names behind `prefix::`, of a group's all.
fn behind(prefix: &str, code: &str) -> BTreeSet<String> {
    let name = |text: &str| -> String {
        let text = text.trim_start().chars();
        text.take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect()
    };
    let mut names = BTreeSet::new();
    for (at, _) in code.match_indices(prefix) {
        let before = code[..at].chars().next_back().unwrap_or(' ');
        if before.is_alphanumeric() || before == '_' || before == ':' {
            continue;
        }
        let rest = &code[at + prefix.len()..];
        let Some(group) = rest.strip_prefix('{') else {
            names.insert(name(rest));
            continue;
        };
        names.insert(name(group));
        let mut depth = 1;
        for (i, c) in group.char_indices() {
            depth += i32::from(c == '{') - i32::from(c == '}');
            if depth == 0 {
                break;
            }
            if c == ',' && depth == 1 {
                names.insert(name(&group[i + 1..]));
            }
        }
    }
    names
}

fn arrows(house: &Path) -> BTreeMap<String, BTreeSet<String>> {
    let rooms = rooms(house);
    let name = house.file_name().unwrap().to_string_lossy().into_owned();
    let from = |(room, files): (&String, &Vec<PathBuf>)| {
        let mut to = BTreeSet::new();
        for file in files {
            let place = file.strip_prefix(house).unwrap().with_extension("");
            let is_mod = place.ends_with("mod");
            let depth = place.components().count() - usize::from(is_mod);
            let code = code(file);
            to.extend(behind(&"super::".repeat(depth), &code));
            to.extend(behind(&format!("crate::{name}::"), &code));
        }
        to.retain(|other| rooms.contains_key(other) && other != room);
        (room.clone(), to)
    };
    rooms.iter().map(from).collect()
}

#[test]
fn no_room_uses_one_that_uses_it() {
    for house in HOUSES {
        let house = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("src")
            .join(house);
        let mut left = arrows(&house);
        let all: usize = left.values().map(BTreeSet::len).sum();
        assert!(all > 20, "{}: {all} arrows were found", house.display());
        // Rooms that use none that is left go, until none is left.
        while let Some(room) = left
            .iter()
            .find(|(_, to)| to.is_empty())
            .map(|(r, _)| r.clone())
        {
            left.remove(&room);
            left.values_mut().for_each(|to| _ = to.remove(&room));
        }
        assert!(
            left.is_empty(),
            "{}: a circle is in {left:#?}",
            house.display()
        );
    }
}

#[test]
fn arrows_are_found_however_they_are_written() {
    let code =
        "use super::{a::X, b::{self, Y}, c};\nuse super::d;\nlet x = super::super::e::f(super::g);";
    assert_eq!(
        behind("super::", code),
        ["a", "b", "c", "d", "g", "super"].map(String::from).into()
    );
    assert_eq!(
        behind("super::super::", code),
        ["e"].map(String::from).into()
    );
}

/// The rooms that build tract's graphs; every other one takes tract's names from `ops::tract`.
const GRAPHS: [&str; 8] = [
    "ops",
    "graph.rs",
    "graph",
    "gpu",
    "train/onnx.rs",
    "train/onnx",
    "train/network.rs",
    "train/network",
];

#[test]
fn tract_is_named_where_its_graphs_are_built() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut inside = 0;
    for file in walkdir::WalkDir::new(&src) {
        let path = file.unwrap().into_path();
        if path.extension().is_none_or(|e| e != "rs") {
            continue;
        }
        let place = path.strip_prefix(&src).unwrap();
        let builds = GRAPHS.iter().any(|room| place.starts_with(room));
        let code = code(&path);
        for name in ["tract_core", "tract_linalg", "tract_data"] {
            inside += usize::from(builds && code.contains(name));
            assert!(
                builds || !code.contains(name),
                "src/{} names {name}: take it from ops::tract",
                place.display()
            );
        }
    }
    assert!(inside > 10, "only {inside} files name tract");
}
