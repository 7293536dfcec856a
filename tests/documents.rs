//! Documents keep step with the program: their tables (parameters, commands, codes, registers, boards) are made from
//! it, their commands are understood by it, and what they point at is there.

use faprompt_edge::board;
use faprompt_edge::control::docs;
use faprompt_edge::control::modbus::docs as modbus;
use std::path::Path;
use std::process::Command;

/// Every page for users.
const PAGES: [&str; 13] = [
    "README.md",
    "CONTRIBUTING.md",
    "docs/line-engineer.md",
    "docs/integrator.md",
    "docs/ml-engineer.md",
    "docs/developer.md",
    "docs/measured.md",
    "models/README.md",
    "boards/deploy/README.md",
    "src/control/README.md",
    "src/control/MODBUS.md",
    "tests/node/README.md",
    "tests/fresh/README.md",
];

fn read(page: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{page}: {e}"))
}

/// Lines of a page's code blocks in this language; a line that ends with a backslash goes on in the next.
fn code(page: &str, language: &str) -> Vec<String> {
    let (text, mut lines, mut inside) = (read(page), Vec::new(), false);
    let text = text.replace("\\\n", " ");
    for line in text.lines() {
        match line.strip_prefix("```") {
            Some(word) => inside = !inside && word == language,
            None if inside => lines.push(line.to_string()),
            None => {}
        }
    }
    lines
}

/// With `UPDATE_DOCUMENTS` set, writes the tables instead of comparing them.
fn in_step(document: &str, tables: &[(&str, String)]) {
    let path = format!("{}/{document}", env!("CARGO_MANIFEST_DIR"));
    let mut text = std::fs::read_to_string(&path).unwrap();
    for (name, table) in tables {
        let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- end {name} -->"));
        let from = text.find(&begin).expect("a mark") + begin.len();
        let to = text.find(&end).expect("a mark");
        if std::env::var_os("UPDATE_DOCUMENTS").is_some() {
            text.replace_range(from..to, table);
            std::fs::write(&path, &text).unwrap();
        } else {
            let same = text[from..to] == **table;
            assert!(
                same,
                "{document}, {name}: run this test with UPDATE_DOCUMENTS=1"
            );
        }
    }
}

#[test]
fn parameters_commands_and_codes() {
    let tables = [
        ("parameters", docs::parameters()),
        ("commands", docs::commands()),
        ("codes", docs::codes()),
        ("alarms", docs::alarms()),
    ];
    in_step("src/control/README.md", &tables);
}

#[test]
fn registers() {
    let tables = [
        ("coils", modbus::coils()),
        ("discretes", modbus::discretes()),
        ("inputs", modbus::inputs()),
        ("holding", modbus::holding()),
        ("exceptions", modbus::exceptions()),
    ];
    in_step("src/control/MODBUS.md", &tables);
}

#[test]
fn boards_and_outcomes() {
    let tables = [
        ("boards", board::readme_table().unwrap()),
        ("outcomes", docs::outcomes()),
    ];
    in_step("docs/integrator.md", &tables);
}

/// A run's summary has a counter for each outcome, by the names that the page gives them.
#[test]
fn a_summary_counts_every_outcome() {
    let folder = tempfile::tempdir().unwrap();
    let mut run = Command::new(env!("CARGO_BIN_EXE_faprompt-edge"));
    run.args([
        "run", "--board", "sim", "--source", "pattern", "--frames", "1", "--quiet", "--out",
    ]);
    let out = run.arg(folder.path()).output().unwrap();
    let summary = std::fs::read_to_string(folder.path().join("summary.json"));
    let summary = summary.unwrap_or_else(|e| panic!("{e}: {out:?}"));
    let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
    let table = docs::outcomes();
    let counters = table.lines().skip(2).map(|row| {
        let counter = row.split('|').nth(5).unwrap().trim().trim_matches('`');
        match counter {
            "rejects_challenge" => "rejects_missed_test_piece",
            other => other,
        }
    });
    let mut counted = 0;
    for counter in counters {
        counted += summary[counter]
            .as_u64()
            .unwrap_or_else(|| panic!("{counter}: {summary}"));
    }
    assert_eq!(counted, 1, "the one part: {summary}");
}

/// With `--help` behind it, a command line is read up to there: unknown words, options and values are refused.
#[test]
fn commands_are_understood() {
    let makefile = read("Makefile");
    let mut tried = 0;
    for page in PAGES {
        for line in code(page, "sh") {
            let line = line.trim_end_matches('&').to_string();
            let words = shlex::split(&line).unwrap_or_else(|| panic!("{page}: {line}"));
            let program = match words.first().map(String::as_str) {
                Some("faprompt-edge") => env!("CARGO_BIN_EXE_faprompt-edge"),
                Some("faprompt-train") => env!("CARGO_BIN_EXE_faprompt-train"),
                Some("make") => {
                    let target = format!("\n{}:", words[1]);
                    assert!(makefile.contains(&target), "{page}: {line}: no such target");
                    tried += 1;
                    continue;
                }
                _ => continue,
            };
            let out = Command::new(program)
                .args(&words[1..])
                .arg("--help")
                .output()
                .unwrap();
            let error = String::from_utf8_lossy(&out.stderr);
            assert!(out.status.success(), "{page}: {line}: {error}");
            tried += 1;
        }
    }
    assert!(tried > 40, "{tried} commands");
}

#[test]
fn parameters_that_are_set_exist() {
    let (parameters, mut tried) = (docs::parameters(), 0);
    for page in PAGES {
        for line in code(page, "text") {
            let Some(rest) = line.trim_start_matches("> ").strip_prefix("SET ") else {
                continue;
            };
            let name = rest.split(' ').next().unwrap();
            let row = format!("| `{name}` |");
            assert!(parameters.contains(&row), "{page}: {line}");
            tried += 1;
        }
    }
    assert!(tried >= 4, "{tried} lines");
}

#[test]
fn links_lead_somewhere() {
    let mut tried = 0;
    for page in PAGES {
        let text = read(page);
        let folder = Path::new(page).parent().unwrap();
        for link in text.split("](").skip(1) {
            let link = link.split(')').next().unwrap();
            if link.contains("://") {
                continue;
            }
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() {
                page.to_string()
            } else {
                folder.join(file).to_string_lossy().into_owned()
            };
            let there = Path::new(env!("CARGO_MANIFEST_DIR")).join(&target);
            assert!(there.exists(), "{page}: {link}");
            if !anchor.is_empty() {
                let heading = |line: &str| {
                    let words = line.trim_start_matches('#').trim().to_lowercase();
                    let kept = words.replace(' ', "-");
                    kept.replace(|c: char| !c.is_alphanumeric() && c != '-' && c != '_', "")
                };
                let target = read(&target);
                let mut headings = target.lines().filter(|l| l.starts_with('#')).map(heading);
                assert!(
                    headings.any(|h| h == anchor),
                    "{page}: {link}: no such heading"
                );
            }
            tried += 1;
        }
    }
    assert!(tried > 30, "{tried} links");
}

/// Files and folders that a page names in its prose, between backticks.
#[test]
fn places_that_are_named_exist() {
    let mut tried = 0;
    for page in PAGES {
        assert!(
            !read(page).contains("@@"),
            "{page}: a place that was to be filled"
        );
        for word in read(page).split('`').skip(1).step_by(2) {
            let place = ["src/", "tests/", "boards/", "docs/", "models/", "benches/"]
                .iter()
                .any(|p| word.starts_with(p));
            if !place || word.contains(|c: char| " *<{$|".contains(c)) || word.contains("NAME") {
                continue;
            }
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(word);
            assert!(path.exists(), "{page}: {word}");
            tried += 1;
        }
    }
    assert!(tried > 30, "{tried} places");
}
