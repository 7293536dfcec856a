//! Whether a new program runs on this machine: it is asked, before anything refers to it.

use super::ReleaseError;
use super::manifest::{Member, Release};
use crate::bundle::Keys;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The time that a new program has to answer a question at installation.
const ANSWER: Duration = Duration::from_secs(60);

/// Asks the new program whether it runs here, and whether it knows its board and its bundle.
pub(super) fn answers(folder: &Path, release: &Release, keys: &Keys) -> Result<(), ReleaseError> {
    let version = ask(folder, &["--version"])?;
    if version.split_whitespace().last() != Some(release.version.as_str()) {
        let what = format!(
            "its program says `{}`, not {}",
            version.trim(),
            release.version
        );
        return Err(ReleaseError::Unfit(what));
    }
    match release.files.contains_key(&Member::Board) {
        true => ask(folder, &["board", "check", Member::Board.name()])?,
        false => ask(folder, &["board", "show", &release.board])?,
    };
    let mut verify = vec!["bundle", "verify", Member::Bundle.name()];
    let keys: Vec<String> = keys.files().map(|k| k.display().to_string()).collect();
    keys.iter().for_each(|key| verify.extend(["--key", key]));
    ask(folder, &verify).map(|_| ())
}

/// The output of the new program, which must end well and soon.
fn ask(folder: &Path, arguments: &[&str]) -> Result<String, ReleaseError> {
    let unfit = |what: String| ReleaseError::Unfit(format!("`{}`: {what}", arguments.join(" ")));
    let start = || {
        Command::new(folder.join(Member::Program.name()))
            .args(arguments)
            .current_dir(folder)
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
    };
    // A child that another thread starts just now holds the file open for writing until it runs.
    let mut started = start();
    for _ in 0..50 {
        match &started {
            Err(e) if e.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                std::thread::sleep(Duration::from_millis(20));
                started = start();
            }
            _ => break,
        }
    }
    let mut child = started.map_err(|e| unfit(format!("its program does not start here: {e}")))?;
    let since = Instant::now();
    // What it prints is a page; the pipe holds 16 of them.
    let status = loop {
        match child.try_wait().map_err(|e| unfit(e.to_string()))? {
            Some(status) => break status,
            None if since.elapsed() > ANSWER => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(unfit(format!("no answer in {} s", ANSWER.as_secs())));
            }
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    let output = child.wait_with_output().map_err(|e| unfit(e.to_string()))?;
    match status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(unfit(format!(
            "{status}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        ))),
    }
}
