//! Messages that wait to be sent: a bounded queue on disk, whole after a power cut.
//!
//! SQLite keeps the file. A message has its number (`seq`) before it can be sent, and no other message of its topic ever
//! gets that number again: whoever gets a number twice got the message twice.

use crate::web::links::Link;
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Why an outbox cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}", path = .path.display())]
pub struct OutboxError {
    path: PathBuf,
    source: rusqlite::Error,
}

/// Application id and version of the SQLite file.
const APPLICATION: i32 = 0x6661_7072;
const VERSION: i32 = 1;

/// A message for the outbox.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// The last part of its topic: `result`.
    pub topic: &'static str,
    /// Whether only the newest message of this topic matters: it replaces one that still waits, and a broker
    /// retains it.
    pub latest: bool,
    /// The message as JSON. The outbox adds `seq`.
    pub body: serde_json::Map<String, serde_json::Value>,
}

/// A message that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its place in the queue; places grow and are never used twice.
    pub id: i64,
    /// See [`Message::topic`].
    pub topic: String,
    /// See [`Message::latest`].
    pub latest: bool,
    /// The message as JSON text, with `seq`.
    pub body: String,
}

struct Queue {
    connection: Connection,
    waiting: u64,
    dropped: u64,
    /// Messages that could not be stored, and are not in the file as dropped yet.
    unstored: u64,
    /// The last place that was used.
    newest: i64,
}

/// The queue of one receiver; see the module.
pub struct Outbox {
    path: PathBuf,
    limit: u64,
    found: i64,
    queue: Mutex<Queue>,
    link: Arc<Link>,
}

impl Outbox {
    /// Opens the file, or makes it. One that is damaged is put aside (`.damaged`) and a new one begun.
    ///
    /// # Errors
    /// [`OutboxError`]: the file can be neither read nor made.
    pub fn open(path: &Path, limit: u64) -> Result<Self, OutboxError> {
        let queue = match open(path) {
            Err(e) if is_damaged(&e) => {
                let aside = path.with_extension("damaged");
                log::error!(
                    "{}: {e}: put aside as {}; what waited in it is not sent",
                    path.display(),
                    aside.display()
                );
                // A file that cannot be renamed cannot be opened below either, and that is reported.
                let _ = std::fs::rename(path, aside);
                for other in ["db-wal", "db-shm"] {
                    let _ = std::fs::remove_file(path.with_extension(other));
                }
                open(path)
            }
            result => result,
        };
        let queue = queue.map_err(|source| OutboxError {
            path: path.to_path_buf(),
            source,
        })?;
        let link = Arc::<Link>::default();
        queue.show(&link);
        Ok(Outbox {
            path: path.to_path_buf(),
            limit,
            found: queue.newest,
            queue: Mutex::new(queue),
            link,
        })
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // A panic in another thread leaves no half transaction.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wrong(&self, source: rusqlite::Error) -> OutboxError {
        OutboxError {
            path: self.path.clone(),
            source,
        }
    }

    /// Stores messages, all or none; they survive a power cut once it returns. If there are too many then, the
    /// oldest are dropped. `lost` further messages, which never came here, are counted as dropped; so are messages that
    /// cannot be stored, in the file as soon as it can be written.
    ///
    /// # Errors
    /// [`OutboxError`]: the disk is full or fails.
    pub fn put(&self, messages: &[Message], lost: u64) -> Result<(), OutboxError> {
        let mut queue = self.queue();
        let lost = queue.unstored + lost;
        let result = queue.put(messages, lost, self.limit);
        queue.unstored = match result {
            Ok(()) => 0,
            // One of which only the newest matters comes again.
            Err(_) => lost + messages.iter().filter(|m| !m.latest).count() as u64,
        };
        queue.show(&self.link);
        result.map_err(|e| self.wrong(e))
    }

    /// The oldest `count` messages behind the place `after`, in order.
    ///
    /// # Errors
    /// [`OutboxError`]: the file cannot be read.
    pub fn next(&self, after: i64, count: usize) -> Result<Vec<Waiting>, OutboxError> {
        self.queue().next(after, count).map_err(|e| self.wrong(e))
    }

    /// Removes messages that have reached their receiver.
    ///
    /// # Errors
    /// [`OutboxError`]: the file cannot be written.
    pub fn done(&self, ids: &[i64]) -> Result<(), OutboxError> {
        let mut queue = self.queue();
        let result = queue.done(ids);
        queue.show(&self.link);
        result.map_err(|e| self.wrong(e))
    }

    /// The next number of a kind, from 1 on: over restarts and power cuts none is given twice.
    ///
    /// # Errors
    /// It cannot be stored.
    pub fn number(&self, kind: &str) -> Result<u64, OutboxError> {
        self.queue().number(kind).map_err(|e| self.wrong(e))
    }

    /// The last place that was in the file when it was opened, 0 if it was empty: messages up to it may have been
    /// sent by an earlier run.
    pub fn found(&self) -> i64 {
        self.found
    }

    /// The number of messages that wait, and of those dropped since the file was made. Waits for no disk.
    pub fn counts(&self) -> (u64, u64) {
        self.link.counts()
    }

    /// Where others see these numbers, and whether the receiver is reached.
    pub fn link(&self) -> &Arc<Link> {
        &self.link
    }
}

fn is_damaged(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    matches!(
        error.sqlite_error_code(),
        Some(DatabaseCorrupt | NotADatabase)
    ) || matches!(error, rusqlite::Error::InvalidQuery)
}

fn open(path: &Path) -> rusqlite::Result<Queue> {
    let connection = Connection::open(path)?;
    // One sync for each `put`, none of them half done after a power cut.
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    // Pages of 4 KiB: the log is written back when it has 4 MiB.
    connection.pragma_update(None, "wal_autocheckpoint", 1000)?;
    let mark = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let (application, version) = (mark("application_id")?, mark("user_version")?);
    if (application, version) == (0, 0) {
        connection.execute_batch(&format!(
            "BEGIN;
             CREATE TABLE IF NOT EXISTS messages (id INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL,
                 latest INTEGER NOT NULL, body TEXT NOT NULL);
             CREATE TABLE IF NOT EXISTS topics (topic TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;
             CREATE TABLE IF NOT EXISTS dropped (one INTEGER PRIMARY KEY CHECK (one = 1), count INTEGER NOT NULL);
             INSERT OR IGNORE INTO dropped VALUES (1, 0);
             PRAGMA application_id = {APPLICATION};
             PRAGMA user_version = {VERSION};
             COMMIT;"
        ))?;
    } else if (application, version) != (APPLICATION, VERSION) {
        // The file is another program's, or of a later version.
        return Err(rusqlite::Error::InvalidQuery);
    }
    let count = |sql| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
    let newest = count("SELECT COALESCE(MAX(id), 0) FROM messages")?;
    let waiting = count("SELECT COUNT(*) FROM messages")?;
    let dropped = count("SELECT count FROM dropped")?;
    Ok(Queue {
        waiting: waiting.unsigned_abs(),
        dropped: dropped.unsigned_abs(),
        unstored: 0,
        newest,
        connection,
    })
}

impl Queue {
    fn show(&self, link: &Link) {
        link.set_counts(self.waiting, self.dropped + self.unstored);
    }

    fn put(&mut self, messages: &[Message], lost: u64, limit: u64) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        let mut numbers = BTreeMap::<&str, i64>::new();
        let mut waiting = self.waiting;
        {
            let mut number = transaction.prepare("SELECT seq FROM topics WHERE topic = ?1")?;
            let mut replaced = transaction.prepare("DELETE FROM messages WHERE topic = ?1")?;
            let mut insert = transaction
                .prepare("INSERT INTO messages (topic, latest, body) VALUES (?1, ?2, ?3)")?;
            for message in messages {
                let before = match numbers.get(message.topic) {
                    Some(seq) => *seq,
                    None => number
                        .query_row([message.topic], |row| row.get(0))
                        .optional()?
                        .unwrap_or(0),
                };
                numbers.insert(message.topic, before + 1);
                if message.latest {
                    waiting -= replaced.execute([message.topic])? as u64;
                }
                let mut body = message.body.clone();
                body.insert("seq".into(), (before + 1).into());
                let body = serde_json::Value::Object(body).to_string();
                insert.execute(params![message.topic, message.latest, body])?;
                waiting += 1;
            }
            let mut keep = transaction
                .prepare("INSERT OR REPLACE INTO topics (topic, seq) VALUES (?1, ?2)")?;
            for (topic, seq) in &numbers {
                keep.execute(params![topic, seq])?;
            }
        }
        let mut dropped = self.dropped + lost;
        if waiting > limit {
            // A message that a broker retains is never dropped: there is one of each topic.
            let gone = transaction.execute(
                "DELETE FROM messages WHERE id IN (SELECT id FROM messages WHERE latest = 0 ORDER BY id LIMIT ?1)",
                [(waiting - limit) as i64],
            )? as u64;
            waiting -= gone;
            dropped += gone;
        }
        if dropped != self.dropped {
            transaction.execute("UPDATE dropped SET count = ?1", [dropped as i64])?;
        }
        transaction.commit()?;
        (self.waiting, self.dropped) = (waiting, dropped);
        Ok(())
    }

    fn number(&mut self, kind: &str) -> rusqlite::Result<u64> {
        let next = "INSERT INTO topics (topic, seq) VALUES (?1, 1) ON CONFLICT (topic) DO UPDATE SET seq = seq + 1 RETURNING seq";
        let number: i64 = self.connection.query_row(next, [kind], |row| row.get(0))?;
        Ok(number.unsigned_abs())
    }

    fn next(&mut self, after: i64, count: usize) -> rusqlite::Result<Vec<Waiting>> {
        let mut statement = self.connection.prepare(
            "SELECT id, topic, latest, body FROM messages WHERE id > ?1 ORDER BY id LIMIT ?2",
        )?;
        let rows = statement.query_map(params![after, count as i64], |row| {
            Ok(Waiting {
                id: row.get(0)?,
                topic: row.get(1)?,
                latest: row.get(2)?,
                body: row.get(3)?,
            })
        })?;
        rows.collect()
    }

    fn done(&mut self, ids: &[i64]) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        let mut gone = 0;
        {
            let mut delete = transaction.prepare("DELETE FROM messages WHERE id = ?1")?;
            for id in ids {
                gone += delete.execute([id])? as u64;
            }
        }
        transaction.commit()?;
        self.waiting -= gone;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn message(topic: &'static str, latest: bool, part: u64) -> Message {
        let Value::Object(body) = json!({ "part": part }) else {
            unreachable!()
        };
        Message {
            topic,
            latest,
            body,
        }
    }

    fn listed(outbox: &Outbox) -> Vec<(String, u64, u64)> {
        let waiting = outbox.next(0, 1000).unwrap();
        let listed = waiting.iter().map(|w| {
            let body: Value = serde_json::from_str(&w.body).unwrap();
            let number = |key: &str| body[key].as_u64().unwrap();
            (w.topic.clone(), number("seq"), number("part"))
        });
        listed.collect()
    }

    #[test]
    fn what_waits_survives_and_no_number_is_given_twice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mqtt.db");
        let outbox = Outbox::open(&path, 100).unwrap();
        outbox
            .put(
                &[
                    message("result", false, 7),
                    message("alarm", false, 1),
                    message("result", false, 8),
                ],
                0,
            )
            .unwrap();
        let first = outbox.next(0, 1).unwrap();
        outbox.done(&[first[0].id]).unwrap();
        drop(outbox);
        let outbox = Outbox::open(&path, 100).unwrap();
        assert_eq!(outbox.counts(), (2, 0));
        let all: Vec<i64> = outbox.next(0, 9).unwrap().iter().map(|w| w.id).collect();
        outbox.done(&all).unwrap();
        outbox.done(&all).unwrap();
        assert_eq!(outbox.counts(), (0, 0));
        drop(outbox);
        // All of them are gone: the numbers go on.
        let outbox = Outbox::open(&path, 100).unwrap();
        outbox.put(&[message("result", false, 9)], 0).unwrap();
        assert_eq!(listed(&outbox), [("result".into(), 3, 9)]);
        assert!(outbox.next(0, 9).unwrap()[0].id > all[1]);
    }

    #[test]
    fn the_newest_state_takes_the_place_of_one_that_waits() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = Outbox::open(&folder.path().join("mqtt.db"), 100).unwrap();
        outbox
            .put(&[message("state", true, 1), message("result", false, 2)], 0)
            .unwrap();
        outbox.put(&[message("state", true, 3)], 0).unwrap();
        assert_eq!(
            listed(&outbox),
            [("result".into(), 1, 2), ("state".into(), 2, 3)]
        );
        assert_eq!(outbox.counts(), (2, 0));
    }

    #[test]
    fn the_oldest_are_dropped_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mqtt.db");
        let outbox = Outbox::open(&path, 100).unwrap();
        outbox.put(&[message("state", true, 0)], 0).unwrap();
        for part in 1..=130 {
            outbox
                .put(&[message("result", false, part)], u64::from(part == 50))
                .unwrap();
        }
        assert_eq!(outbox.counts(), (100, 32));
        let listed = listed(&outbox);
        assert_eq!(listed[0], ("state".into(), 1, 0));
        assert_eq!(listed[1], ("result".into(), 32, 32));
        assert_eq!(listed[99], ("result".into(), 130, 130));
        drop(outbox);
        assert_eq!(Outbox::open(&path, 100).unwrap().counts(), (100, 32));
    }

    #[test]
    fn what_cannot_be_stored_is_counted_at_once_and_stays_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mqtt.db");
        let outbox = Outbox::open(&path, 100).unwrap();
        let other = Connection::open(&path).unwrap();
        let rename = |from: &str, to: &str| {
            let change = format!("ALTER TABLE {from} RENAME TO {to}");
            other.execute_batch(&change).unwrap();
        };
        rename("topics", "elsewhere");
        let three = [
            message("result", false, 1),
            message("alarm", false, 2),
            message("state", true, 3),
        ];
        outbox.put(&three, 5).unwrap_err();
        assert_eq!(outbox.counts(), (0, 7));
        outbox.put(&three[..1], 0).unwrap_err();
        assert_eq!(outbox.link().counts(), (0, 8));
        rename("elsewhere", "topics");
        outbox.put(&three[2..], 0).unwrap();
        assert_eq!(outbox.counts(), (1, 8));
        drop(outbox);
        assert_eq!(Outbox::open(&path, 100).unwrap().counts(), (1, 8));
    }

    #[test]
    fn a_damaged_file_is_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mqtt.db");
        std::fs::write(
            &path,
            "not a database, but as long as the head of one: ".repeat(40),
        )
        .unwrap();
        let outbox = Outbox::open(&path, 100).unwrap();
        outbox.put(&[message("result", false, 1)], 0).unwrap();
        assert_eq!(outbox.counts(), (1, 0));
        assert!(folder.path().join("mqtt.damaged").exists());
    }
}
