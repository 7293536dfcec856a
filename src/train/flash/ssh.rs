//! A node, by the system's own `ssh`: its configuration, keys and agents apply. One connection serves
//! every command, so that a password is asked for once.

use super::FlashError;
use std::io;
use std::process::{ChildStdin, Command, Output, Stdio};
use tempfile::TempDir;

/// What `ssh` itself answers if there is no connection; anything else is the command's answer.
const NO_CONNECTION: i32 = 255;

/// A node that is reached by ssh.
#[derive(Debug)]
pub struct Ssh {
    host: String,
    options: Vec<String>,
    /// For the socket of the shared connection.
    folder: TempDir,
}

impl Ssh {
    /// `host` and `options` as `ssh` takes them, such as `line@10.0.0.7` and `-p 2222`.
    ///
    /// # Errors
    /// [`FlashError::Local`]: no temporary folder.
    pub fn new(host: &str, options: &[String]) -> Result<Ssh, FlashError> {
        let folder = tempfile::Builder::new().prefix("flash").tempdir();
        Ok(Ssh {
            host: host.into(),
            options: options.to_vec(),
            folder: folder.map_err(|e| FlashError::Local(format!("temporary folder: {e}")))?,
        })
    }

    /// The node, as the user calls it.
    pub fn host(&self) -> &str {
        &self.host
    }

    fn ssh(&self) -> Command {
        let mut command = Command::new("ssh");
        let socket = format!("ControlPath={}", self.folder.path().join("s").display());
        let kept = [
            "ControlMaster=auto",
            &socket,
            "ControlPersist=30",
            "ConnectTimeout=10",
            // A node that loses its power is noticed after 15 s.
            "ServerAliveInterval=5",
            "ServerAliveCountMax=3",
        ];
        // ssh takes the first value of an option: the user's come first.
        command.args(&self.options);
        for option in kept {
            command.args(["-o", option]);
        }
        command
    }

    fn command(&self, remote: &str) -> Command {
        let mut command = self.ssh();
        command.arg(&self.host).arg("--").arg(remote);
        command
    }

    /// Forgets the shared connection: it may lead to a node that has lost its power.
    pub fn reconnect(&self) {
        let mut command = self.ssh();
        command
            .args(["-O", "exit", &self.host])
            .stdin(Stdio::null());
        // There may be none.
        let _ = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        let _ = std::fs::remove_file(self.folder.path().join("s"));
    }

    /// What a command prints.
    ///
    /// # Errors
    /// [`FlashError::NoConnection`]; [`FlashError::Node`] if it fails there.
    pub fn output(&self, remote: &str) -> Result<String, FlashError> {
        let mut command = self.command(remote);
        let output = command.stdin(Stdio::null()).output().map_err(no_ssh)?;
        self.judged(remote, &output)
    }

    /// Runs a command and writes to its standard input.
    ///
    /// # Errors
    /// As [`Ssh::output`]; what the node says counts more than that it took no more bytes.
    pub fn feed(
        &self,
        remote: &str,
        write: impl FnOnce(&mut ChildStdin) -> Result<(), FlashError>,
    ) -> Result<String, FlashError> {
        let mut child = self
            .command(remote)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(no_ssh)?;
        let mut stdin = child.stdin.take();
        let written = stdin.as_mut().map_or(Ok(()), write);
        drop(stdin);
        let output = child.wait_with_output().map_err(no_ssh)?;
        let said = self.judged(remote, &output)?;
        written.map(|()| said)
    }

    fn judged(&self, remote: &str, output: &Output) -> Result<String, FlashError> {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_string();
        match output.status.code() {
            Some(0) => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            Some(NO_CONNECTION) | None => Err(FlashError::NoConnection {
                host: self.host.clone(),
                said,
            }),
            Some(code) => Err(FlashError::Node {
                host: self.host.clone(),
                command: remote.into(),
                code,
                said,
            }),
        }
    }
}

impl Drop for Ssh {
    fn drop(&mut self) {
        self.reconnect();
    }
}

fn no_ssh(e: io::Error) -> FlashError {
    FlashError::Local(format!("ssh: {e}: is openssh-client installed?"))
}
