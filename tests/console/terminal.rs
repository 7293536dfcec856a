//! A terminal of 24 by 80 with a program in it.

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Termios, Winsize, tcgetattr, tcsetwinsize};
use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// A test that waits longer has failed.
const PATIENCE: Duration = Duration::from_secs(30);

pub struct Terminal {
    master: File,
    /// The program's side; open, so that it can be looked at.
    slave: File,
    before: Termios,
    screen: vt100::Parser,
    child: Child,
}

impl Terminal {
    pub fn start(mut command: Command) -> Terminal {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a pty");
        grantpt(&master).expect("a pty");
        unlockpt(&master).expect("a pty");
        rustix::io::ioctl_fionbio(&master, true).expect("a pty");
        let name = ptsname(&master, Vec::new()).expect("a pty");
        let name = name.to_str().expect("a name");
        let slave = File::options()
            .read(true)
            .write(true)
            .open(name)
            .expect("a pty");
        let size = Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&slave, size).expect("a size");
        let end = || slave.try_clone().expect("a pty");
        command.stdin(end()).stdout(end()).stderr(end());
        Terminal {
            master: File::from(master),
            before: tcgetattr(&slave).expect("a terminal"),
            slave,
            screen: vt100::Parser::new(24, 80, 0),
            child: command.spawn().expect("a console"),
        }
    }

    pub fn keys(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).expect("typed");
    }

    fn read(&mut self) {
        let mut bytes = [0; 4096];
        match self.master.read(&mut bytes) {
            Ok(count) => self.screen.process(&bytes[..count]),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }

    /// Until the screen shows this.
    pub fn wait(&mut self, text: &str) {
        let until = Instant::now() + PATIENCE;
        while !self.screen.screen().contents().contains(text) {
            let shown = self.screen.screen().contents();
            assert!(
                Instant::now() < until,
                "no `{text}` on the screen:\n{shown}"
            );
            self.read();
        }
    }

    pub fn is_alternate(&self) -> bool {
        self.screen.screen().alternate_screen()
    }

    pub fn is_raw(&self) -> bool {
        let now = tcgetattr(&self.slave).expect("a terminal");
        !now.local_modes.contains(LocalModes::ICANON)
    }

    pub fn kill(&mut self) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).expect("a process");
    }

    /// The program ends, in peace, and leaves the terminal as it was.
    pub fn ended(&mut self) {
        let until = Instant::now() + PATIENCE;
        let status = loop {
            self.read();
            if let Some(status) = self.child.try_wait().expect("a child") {
                break status;
            }
            let shown = self.screen.screen().contents();
            assert!(Instant::now() < until, "it does not end:\n{shown}");
        };
        self.read();
        assert_eq!(status.code(), Some(0));
        let now = tcgetattr(&self.slave).expect("a terminal");
        assert_eq!(now.local_modes, self.before.local_modes);
        assert_eq!(now.input_modes, self.before.input_modes);
        assert_eq!(now.output_modes, self.before.output_modes);
        let screen = self.screen.screen();
        assert!(!screen.alternate_screen() && !screen.hide_cursor() && !screen.bracketed_paste());
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
