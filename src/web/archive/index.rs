//! What lies in the archive, so that it can be asked for: a table in SQLite beside the pictures.
//!
//! The files are the truth: the table is brought in step with them before each question, and one that is damaged, of
//! another version or gone is made anew from them. So nothing here must survive a power cut, and the recorder knows
//! nothing of it.

use crate::control::cause_name;
use crate::line::Cause;
use crate::runtime::record::pictures::{About, is_day, part_of};
use crate::runtime::system::written;
use rusqlite::{Connection, Error, Row, params};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Its file in the archive's folder.
const FILE: &str = "index.sqlite";
/// Of what its table is made: another one is made anew.
const VERSION: i32 = 1;
/// A folder that changed so lately is read again: two changes may have the same time.
const SETTLED: Duration = Duration::from_secs(2);
/// Parts that are listed at once, at most.
pub const LISTED: u32 = 200;
/// The cause of a reject that its score is.
const BY_SCORE: &str = "score";
/// Parts that are listed if nothing else is said.
const USUAL: u32 = 48;

const TABLE: &str = "CREATE TABLE parts (day TEXT, stem TEXT, part INTEGER, name TEXT, utc TEXT, reject INTEGER, cause TEXT,
    type TEXT, score REAL, threshold REAL, recipe TEXT, network TEXT, good INTEGER, note TEXT, camera INTEGER, PRIMARY KEY (day, stem)) WITHOUT ROWID;
    CREATE INDEX by_time ON parts (utc)";

/// What is asked for. What is left out does not matter.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Query {
    /// Not before this time, RFC 3339.
    #[serde(deserialize_with = "moment")]
    from: Option<String>,
    /// Before this time.
    #[serde(deserialize_with = "moment")]
    to: Option<String>,
    /// Of this recipe, by its name.
    recipe: Option<String>,
    /// `score`, or a cause by its name.
    #[serde(deserialize_with = "known_cause")]
    cause: Option<String>,
    /// Type of the defect.
    r#type: Option<String>,
    /// As it was judged.
    outcome: Option<Judged>,
    /// What somebody said of it.
    mark: Option<Mark>,
    /// A score of this at least.
    low: Option<f64>,
    /// A score of this at most.
    high: Option<f64>,
    /// This part.
    part: Option<i64>,
    /// How many, at most [`LISTED`].
    limit: Option<u32>,
}

/// How a part was judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Judged {
    Good,
    Reject,
}

/// What somebody said of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mark {
    Good,
    Bad,
    /// One of both.
    Any,
    /// Nothing.
    None,
}

/// A time of any zone, as the table has it: texts are compared there.
fn moment<'de, D: Deserializer<'de>>(d: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(d)?;
    let moment: jiff::Timestamp = text.parse().map_err(|e| {
        D::Error::custom(format!(
            "`{text}` is no time as in 2026-11-23T08:00:00Z: {e}"
        ))
    })?;
    Ok(Some(written(moment)))
}

fn known_cause<'de, D: Deserializer<'de>>(d: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(d)?;
    let names = || Cause::ALL.into_iter().map(cause_name);
    match text == BY_SCORE || names().any(|name| name == text) {
        true => Ok(Some(text)),
        false => {
            let all: Vec<_> = std::iter::once(BY_SCORE).chain(names()).collect();
            let what = format!("there is no cause `{text}`; there are {}", all.join(", "));
            Err(D::Error::custom(what))
        }
    }
}

impl Query {
    /// The same, of so many parts at most.
    pub fn at_most(self, most: u32) -> Query {
        let limit = Some(self.limit.unwrap_or(USUAL).min(most));
        Query { limit, ..self }
    }

    /// The same, of all parts but for a limit.
    pub fn all_of(self, most: u32) -> Query {
        let limit = Some(self.limit.unwrap_or(most).min(most));
        Query { limit, ..self }
    }
}

/// A part in the archive.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Item {
    /// Its folder.
    pub day: String,
    /// Its files' name without their ends.
    pub stem: String,
    /// What is known of it.
    #[serde(flatten)]
    pub about: About,
}

/// See the module.
pub struct Index {
    folder: PathBuf,
    table: Connection,
    /// When each day's folder had changed as it was read last.
    read: BTreeMap<String, SystemTime>,
}

/// A table that can be used: the file's, or a new one in its place, or, where nothing can be written, one in memory.
fn table(folder: &Path) -> rusqlite::Result<Connection> {
    let path = folder.join(FILE);
    let open = || {
        let table = Connection::open(&path)?;
        // Its loss costs a look at the files: it need not reach the disk.
        table.pragma_update(None, "synchronous", "OFF")?;
        table.pragma_update(None, "journal_mode", "MEMORY")?;
        let version: i32 = table.pragma_query_value(None, "user_version", |row| row.get(0))?;
        let sound: String = table.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        match (version, sound.as_str()) {
            (VERSION, "ok") => Ok(table),
            _ => Err(Error::InvalidQuery),
        }
    };
    let new = |table: Connection| {
        table.execute_batch(TABLE)?;
        table.pragma_update(None, "user_version", VERSION)?;
        Ok(table)
    };
    if let Ok(table) = open() {
        return Ok(table);
    }
    // There may be none.
    let _ = std::fs::remove_file(&path);
    match Connection::open(&path).and_then(new) {
        Ok(table) => Ok(table),
        Err(e) => {
            log::warn!(
                "{}: {e}: the archive's index is kept in memory",
                path.display()
            );
            Connection::open_in_memory().and_then(new)
        }
    }
}

impl Index {
    /// Of an archive's folder, which need not be there yet.
    ///
    /// # Errors
    /// SQLite's; none is known.
    pub fn open(folder: &Path) -> rusqlite::Result<Index> {
        Ok(Index {
            folder: folder.to_path_buf(),
            table: table(folder)?,
            read: BTreeMap::new(),
        })
    }

    /// Brings the table in step with the files.
    fn update(&mut self) -> rusqlite::Result<()> {
        let entries = std::fs::read_dir(&self.folder)
            .into_iter()
            .flatten()
            .flatten();
        let days: BTreeMap<String, SystemTime> = entries
            .filter_map(|e| {
                let name = e.file_name().into_string().ok().filter(|n| is_day(n))?;
                Some((name, e.metadata().ok()?.modified().ok()?))
            })
            .collect();
        let known: Vec<String> = {
            let mut days = self.table.prepare("SELECT DISTINCT day FROM parts")?;
            days.query_map([], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?
        };
        for gone in known.iter().filter(|day| !days.contains_key(*day)) {
            self.table
                .execute("DELETE FROM parts WHERE day = ?1", [gone])?;
        }
        for (day, changed) in days {
            let settled = changed.elapsed().is_ok_and(|since| since > SETTLED);
            if settled && self.read.get(&day) == Some(&changed) {
                continue;
            }
            self.update_day(&day)?;
            self.read.insert(day, changed);
        }
        Ok(())
    }

    fn update_day(&mut self, day: &str) -> rusqlite::Result<()> {
        let folder = self.folder.join(day);
        let names = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        let names = names.filter_map(|e| e.file_name().into_string().ok());
        let there: BTreeSet<String> = names
            .filter(|name| name.ends_with(".json"))
            .filter_map(|name| Some(part_of(&name)?.1.to_string()))
            .collect();
        let known: BTreeSet<String> = {
            let mut stems = self
                .table
                .prepare("SELECT stem FROM parts WHERE day = ?1")?;
            stems
                .query_map([day], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?
        };
        let change = self.table.transaction()?;
        for gone in known.difference(&there) {
            change.execute(
                "DELETE FROM parts WHERE day = ?1 AND stem = ?2",
                [day, gone],
            )?;
        }
        for new in there.difference(&known) {
            // One that a power cut left half is not in the archive; it makes way in time.
            if let Some(about) = read(&folder, new) {
                put(&change, day, new, &about)?;
            }
        }
        change.commit()
    }

    /// The newest parts that are asked for, newest first. A table that turns out to be damaged is made anew.
    ///
    /// # Errors
    /// SQLite's.
    pub fn find(&mut self, query: &Query) -> rusqlite::Result<Vec<Item>> {
        match self.update().and_then(|()| self.ask(query)) {
            Ok(found) => Ok(found),
            Err(e) => {
                log::warn!(
                    "{}: {e}: the index is made anew",
                    self.folder.join(FILE).display()
                );
                // So that no file is open that is removed.
                self.table = Connection::open_in_memory()?;
                let _ = std::fs::remove_file(self.folder.join(FILE));
                *self = Index::open(&self.folder)?;
                self.update()?;
                self.ask(query)
            }
        }
    }

    fn ask(&self, q: &Query) -> rusqlite::Result<Vec<Item>> {
        let mut question = self.table.prepare(
            "SELECT day, stem, part, name, utc, reject, cause, type, score, threshold, recipe, network, good, note, camera FROM parts
             WHERE (?1 IS NULL OR utc >= ?1) AND (?2 IS NULL OR utc < ?2) AND (?3 IS NULL OR recipe = ?3)
               AND (?4 IS NULL OR (reject AND ifnull(cause, 'score') = ?4)) AND (?5 IS NULL OR type = ?5)
               AND (?6 IS NULL OR reject = ?6)
               AND (?7 IS NULL OR (good IS NOT NULL) = ?7) AND (?12 IS NULL OR good = ?12)
               AND (?8 IS NULL OR score >= ?8) AND (?9 IS NULL OR score <= ?9) AND (?10 IS NULL OR part = ?10)
             ORDER BY utc DESC, part DESC LIMIT ?11",
        )?;
        let limit = q.limit.unwrap_or(USUAL);
        let reject = q.outcome.map(|judged| judged == Judged::Reject);
        let marked = q.mark.map(|mark| mark != Mark::None);
        let good = match q.mark {
            Some(Mark::Good) => Some(true),
            Some(Mark::Bad) => Some(false),
            Some(Mark::Any | Mark::None) | None => None,
        };
        let values = params![
            q.from, q.to, q.recipe, q.cause, q.r#type, reject, marked, q.low, q.high, q.part,
            limit, good
        ];
        question.query_map(values, item)?.collect()
    }

    /// Every recipe, cause and type that there is, for whoever chooses among them.
    ///
    /// # Errors
    /// SQLite's.
    pub fn choices(&self) -> rusqlite::Result<BTreeMap<&'static str, Vec<String>>> {
        let mut choices = BTreeMap::new();
        for column in ["recipe", "cause", "type"] {
            let text = format!(
                "SELECT DISTINCT {column} FROM parts WHERE {column} IS NOT NULL ORDER BY 1 LIMIT 200"
            );
            let mut question = self.table.prepare(&text)?;
            let all = question
                .query_map([], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            choices.insert(column, all);
        }
        Ok(choices)
    }

    /// A part's line was changed.
    ///
    /// # Errors
    /// SQLite's.
    pub fn changed(&self, item: &Item) -> rusqlite::Result<()> {
        put(&self.table, &item.day, &item.stem, &item.about)
    }
}

/// What is known of a part by its file.
pub fn read(folder: &Path, stem: &str) -> Option<About> {
    let text = std::fs::read(folder.join(format!("{stem}.json"))).ok()?;
    serde_json::from_slice(&text).ok()
}

fn put(table: &Connection, day: &str, stem: &str, a: &About) -> rusqlite::Result<()> {
    let part = i64::try_from(a.part).unwrap_or(i64::MAX);
    table
        .prepare("INSERT OR REPLACE INTO parts VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)")?
        .execute(params![
            day, stem, part, a.name, a.utc, a.reject, a.cause, a.kind, a.score, a.threshold, a.recipe, a.network, a.good, a.note, a.camera
        ])?;
    Ok(())
}

fn item(row: &Row<'_>) -> rusqlite::Result<Item> {
    let part: i64 = row.get(2)?;
    Ok(Item {
        day: row.get(0)?,
        stem: row.get(1)?,
        about: About {
            part: part.unsigned_abs(),
            name: row.get(3)?,
            utc: row.get(4)?,
            reject: row.get(5)?,
            cause: row.get(6)?,
            kind: row.get(7)?,
            score: row.get(8)?,
            threshold: row.get(9)?,
            recipe: row.get(10)?,
            network: row.get(11)?,
            good: row.get(12)?,
            note: row.get(13)?,
            camera: row.get(14)?,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put_part(folder: &Path, day: &str, about: &About) {
        let folder = folder.join(day);
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join(format!("{:05}-x.json", about.part));
        std::fs::write(path, serde_json::to_vec(about).unwrap()).unwrap();
    }

    fn parts(found: &[Item]) -> Vec<u64> {
        found.iter().map(|i| i.about.part).collect()
    }

    fn some_parts(folder: &Path) {
        for part in 1..=6u64 {
            let about = About {
                part,
                name: "x.png".into(),
                utc: format!("2026-11-{:02}T10:00:00.000Z", 20 + part),
                reject: part > 2,
                cause: (part == 3).then(|| "late".into()),
                kind: (part == 4).then(|| "scratch".into()),
                score: Some(part as f32 / 10.0),
                threshold: 0.25,
                recipe: if part < 5 { "Cap M8" } else { "" }.into(),
                good: (part == 5).then_some(true),
                ..About::default()
            };
            put_part(folder, &about.utc[..10], &about);
        }
    }

    #[test]
    fn parts_are_found_by_everything_that_is_known_of_them() {
        let folder = tempfile::tempdir().unwrap();
        some_parts(folder.path());
        let mut index = Index::open(folder.path()).unwrap();
        let mut ask = |text: serde_json::Value| {
            let query = serde_json::from_value(text.clone()).unwrap();
            parts(&index.find(&query).unwrap())
        };
        for (query, right) in [
            (serde_json::json!({}), vec![6, 5, 4, 3, 2, 1]),
            (serde_json::json!({"limit": 2}), vec![6, 5]),
            (
                serde_json::json!({"from": "2026-11-22T10:00:00Z", "to": "2026-11-24T10:00:00Z"}),
                vec![3, 2],
            ),
            (
                serde_json::json!({"recipe": "Cap M8", "outcome": "reject"}),
                vec![4, 3],
            ),
            (serde_json::json!({"outcome": "good"}), vec![2, 1]),
            (serde_json::json!({"cause": "late"}), vec![3]),
            (serde_json::json!({"cause": "score"}), vec![6, 5, 4]),
            (
                serde_json::json!({"from": "2026-11-25T13:00:00+02:00"}),
                vec![6],
            ),
            (serde_json::json!({"type": "scratch"}), vec![4]),
            (serde_json::json!({"mark": "good"}), vec![5]),
            (serde_json::json!({"mark": "any"}), vec![5]),
            (serde_json::json!({"mark": "bad"}), vec![]),
            (
                serde_json::json!({"mark": "none", "low": 0.15, "high": 0.45}),
                vec![4, 3, 2],
            ),
            (serde_json::json!({"part": 1}), vec![1]),
            (serde_json::json!({"recipe": "' OR 1=1 --"}), vec![]),
        ] {
            assert_eq!(ask(query.clone()), right, "{query}");
        }
        for (wrong, word) in [
            (serde_json::json!({"colour": "red"}), "colour"),
            (
                serde_json::json!({"outcome": "Reject"}),
                "`good` or `reject`",
            ),
            (serde_json::json!({"mark": "ugly"}), "`any`"),
            (serde_json::json!({"cause": "rust"}), "queue_full"),
            (
                serde_json::json!({"from": "yesterday"}),
                "2026-11-23T08:00:00Z",
            ),
        ] {
            let error = serde_json::from_value::<Query>(wrong).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
        // What programs are told.
        let described: serde_json::Value = serde_json::from_str(crate::web::OPENAPI).unwrap();
        let asked = described["paths"]["/api/archive"]["get"]["parameters"].as_array();
        let cause = asked
            .unwrap()
            .iter()
            .find(|p| p["name"] == "cause")
            .unwrap();
        let names: Vec<_> = std::iter::once(BY_SCORE)
            .chain(Cause::ALL.map(cause_name))
            .collect();
        assert_eq!(cause["schema"]["enum"], serde_json::json!(names));
        let choices = index.choices().unwrap();
        assert_eq!(choices["type"], ["scratch"]);
        assert_eq!(choices["recipe"], ["", "Cap M8"]);
    }

    #[test]
    fn the_index_follows_the_files_and_is_made_anew_from_them() {
        let folder = tempfile::tempdir().unwrap();
        some_parts(folder.path());
        let all = Query::default();
        let mut index = Index::open(folder.path()).unwrap();
        assert_eq!(index.find(&all).unwrap().len(), 6);
        std::fs::remove_file(folder.path().join("2026-11-23/00003-x.json")).unwrap();
        std::fs::remove_dir_all(folder.path().join("2026-11-24")).unwrap();
        // A power cut: half a file.
        std::fs::write(
            folder.path().join("2026-11-22/00007-x.json"),
            "{\"part\": 7",
        )
        .unwrap();
        assert_eq!(parts(&index.find(&all).unwrap()), [6, 5, 2, 1]);
        drop(index);
        for damage in [
            &b"not a database, but long enough to be looked at as if it were one"[..],
            b"",
        ] {
            std::fs::write(folder.path().join(FILE), damage).unwrap();
            let mut index = Index::open(folder.path()).unwrap();
            assert_eq!(parts(&index.find(&all).unwrap()), [6, 5, 2, 1]);
        }
        // Damaged while it is open.
        let mut index = Index::open(folder.path()).unwrap();
        index.table.execute_batch("DROP TABLE parts").unwrap();
        assert_eq!(parts(&index.find(&all).unwrap()), [6, 5, 2, 1]);
        let nowhere = folder.path().join("not/there");
        assert!(
            Index::open(&nowhere)
                .unwrap()
                .find(&all)
                .unwrap()
                .is_empty()
        );
    }
}
