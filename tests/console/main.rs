//! The console in a terminal, at a station at the other end of a cable.

#[path = "../control/line.rs"]
#[allow(dead_code)]
mod line;
mod terminal;
#[path = "../wire/mod.rs"]
mod wire;

use faprompt_edge::control::port::{PortSettings, serve};
use faprompt_edge::control::{Control, Memory, Parameter, Store};
use line::Line;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use terminal::Terminal;
use wire::Wire;

/// A station that speaks the command set at the other end of a cable.
struct Station {
    folder: tempfile::TempDir,
    wire: Wire,
    control: Arc<Mutex<Control<Line>>>,
    stop: Arc<AtomicBool>,
}

impl Station {
    fn new() -> Station {
        let folder = tempfile::tempdir().expect("a folder");
        let wire = Wire::new(folder.path());
        let (store, restored) =
            Store::open(&folder.path().join("memory"), &Memory::default()).expect("a store");
        let line = Line::new(
            &restored.stored.memory.values(),
            restored.statistics,
            restored.alarms,
        );
        let control = Arc::new(Mutex::new(Control::new(line, store, restored)));
        let settings = PortSettings::ascii(&wire.station, 115_200);
        let stop = Arc::<AtomicBool>::default();
        let (served, stopped) = (Arc::clone(&control), Arc::clone(&stop));
        std::thread::spawn(move || {
            serve(settings, &served, &|| !stopped.load(Ordering::Relaxed));
        });
        Station {
            folder,
            wire,
            control,
            stop,
        }
    }

    fn part(&self, score: f32) {
        self.control.lock().expect("control").host().part(score);
    }

    /// Whether the threshold is this one by now.
    fn settled(&self, threshold: &str) -> bool {
        let control = self.control.lock().expect("control");
        let entry = Parameter::Threshold.entry();
        entry
            .show(control.memory().get(entry.parameter))
            .to_string()
            == threshold
    }

    /// The console at this station, with its history in the station's folder.
    fn console(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_faprompt-edge"));
        command.args(["console", "--port"]).arg(&self.wire.client);
        command
            .env("XDG_STATE_HOME", self.folder.path())
            .env("TERM", "xterm");
        command
    }
}

impl Drop for Station {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

const TAB: &str = "\t";
const UP: &str = "\x1b[A";
const END_OF_INPUT: &str = "\x04";

#[test]
fn a_prompt_with_completion_hints_and_history() {
    let station = Station::new();
    let mut terminal = Terminal::start(station.console());
    terminal.wait("OK,IDN,faprompt-edge");
    terminal.keys(&format!("set thr{TAB}"));
    terminal.wait("set threshold   0.0000..1.0000");
    terminal.keys("0.4321\r");
    terminal.wait("OK,SET,threshold,0.4321");
    terminal.keys("COMMIT\r");
    terminal.wait("OK,COMMIT,1,next part");
    terminal.keys("GET nothing\r");
    terminal.wait("ER,GET,200");
    terminal.keys("alarms\rLOGIN engineer secret\r");
    terminal.wait("OK,LOGIN,engineer");
    // A line of RESULT comes above what is being typed.
    terminal.keys("RESULT ON\r");
    terminal.wait("OK,RESULT,on");
    terminal.keys("GET thr");
    station.part(0.25);
    terminal.wait("RESULT,0,good,-,0.250000,12.5");
    terminal.keys("eshold\r");
    // With the prompt the terminal is raw again: the end of input is a key for the program.
    terminal.wait("OK,GET,threshold,0.4321\nfaprompt>");
    terminal.keys(END_OF_INPUT);
    terminal.ended();
    // The next console knows the lines, but for the password.
    let mut terminal = Terminal::start(station.console());
    terminal.wait("OK,IDN");
    terminal.keys(&format!("{UP}{UP}{UP}"));
    terminal.wait("> alarms");
    terminal.keys("\rQUIT\r");
    terminal.ended();
}

/// A line on which the station hears itself, behind these bytes.
fn hears_itself(stray: &[u8]) {
    let station = Station::new();
    station.wire.echo(stray);
    let port = serialport::new(station.wire.client.to_string_lossy(), 115_200);
    let port = port.timeout(Duration::from_millis(20));
    let mut port = port.open().expect("a port");
    // Everything that comes until nothing has for so long.
    let mut say = |line: &str, quiet: u64| {
        port.write_all(format!("{line}\r").as_bytes())
            .expect("written");
        let (mut heard, mut last) = (Vec::new(), Instant::now());
        while heard.is_empty() || last.elapsed() < Duration::from_millis(quiet) {
            let mut bytes = [0; 4096];
            let count = port.read(&mut bytes).unwrap_or(0);
            heard.extend(&bytes[..count]);
            if count > 0 {
                last = Instant::now();
            }
            assert!(heard.len() < 100_000, "{stray:?}: it talks to itself");
        }
        let text = String::from_utf8(heard).expect("ASCII");
        let is_answer = |l: &&str| l.starts_with("OK,") || l.starts_with("ER,");
        (text.lines().filter(is_answer).count(), text)
    };
    // Behind other words an answer is not known for one: it may be refused, and that is all.
    let words = stray == b"noise ";
    for line in ["GO", "GET nothing", "SET threshold 0.3", "REVERT"] {
        let (answers, said) = say(line, 300);
        assert!(answers == 1 || words && answers == 2, "{line:?}: {said}");
    }
    if !words {
        assert_eq!(say("LIST", 300).0, 1);
        assert_eq!(say("HELP", 300).0, 1);
        let (_, log) = say("LOG", 300);
        assert_eq!(log.matches(",station,echo,station,").count(), 1, "{log}");
    }
    // Longer than a half line is waited for.
    let (answers, status) = say("STATUS", 1500);
    assert!(answers <= 2 && status.contains(",ignored="), "{status}");
    assert!(!status.contains(",ignored=0"), "{status}");
}

#[test]
fn a_station_does_not_talk_to_itself() {
    std::thread::scope(|scope| {
        for stray in [&b""[..], b"\0", b"\xf0\xff", b"noise "] {
            scope.spawn(move || hears_itself(stray));
        }
    });
}

#[test]
fn the_live_view_comes_and_goes() {
    let station = Station::new();
    let mut terminal = Terminal::start(station.console());
    terminal.wait("OK,IDN");
    terminal.keys("live\r");
    terminal.wait("q leave");
    terminal.wait("threshold 0.5000");
    for score in [0.2, 0.3, 0.8] {
        station.part(score);
    }
    terminal.wait("last 3 parts, up to part 2");
    terminal.wait("part 2  reject  -  score 0.8000");
    terminal.wait("parts 3  good 2  rejects by score 1");
    assert!(terminal.is_alternate() && terminal.is_raw());
    terminal.keys(" ");
    terminal.wait("held");
    terminal.keys("q");
    terminal.wait("faprompt>");
    assert!(!terminal.is_alternate());
    terminal.keys("result\r");
    terminal.wait("OK,RESULT,off");
    terminal.keys("quit\r");
    terminal.ended();
}

/// As in an editor's shell, or on a line printer.
#[test]
fn a_terminal_without_a_cursor_to_move_gets_lines() {
    let station = Station::new();
    let mut console = station.console();
    console.env("TERM", "dumb");
    let mut terminal = Terminal::start(console);
    terminal.wait("OK,IDN");
    terminal.keys("GET wiring\r");
    terminal.wait("OK,GET,wiring,energise_for_good");
    terminal.keys("LIVE\r");
    terminal.wait("LIVE needs a terminal");
    terminal.keys("RESULT ON\r");
    terminal.wait("OK,RESULT,on");
    station.part(0.25);
    terminal.wait("RESULT,0,good,-,0.250000,12.5");
    // A person has seen what was refused.
    terminal.keys("GO\r");
    terminal.wait("ER,?,100");
    terminal.keys("QUIT\r");
    terminal.ended();
}

#[test]
fn a_signal_gives_the_terminal_back() {
    let station = Station::new();
    for (keys, shown) in [("", "faprompt>"), ("LIVE\r", "q leave")] {
        let mut terminal = Terminal::start(station.console());
        terminal.wait("OK,IDN");
        terminal.keys(keys);
        terminal.wait(shown);
        terminal.kill();
        terminal.ended();
    }
}

#[test]
fn a_lost_adapter_is_said_and_comes_back() {
    let station = Station::new();
    let mut terminal = Terminal::start(station.console());
    terminal.wait("OK,IDN");
    station.wire.unplug();
    terminal.wait("adapter gone");
    terminal.keys("IDN\r");
    terminal.wait("the adapter is gone; waiting for it");
    station.wire.plug();
    terminal.wait("adapter back");
    terminal.keys("GET pulse_width_ms\r");
    terminal.wait("OK,GET,pulse_width_ms,40\nfaprompt>");
    terminal.keys(END_OF_INPUT);
    terminal.ended();
}

#[test]
fn lines_from_a_pipe_are_answered_and_a_port_that_is_not_there_is_named() {
    let station = Station::new();
    let script = station.folder.path().join("script");
    std::fs::write(&script, "GET wiring\n#77 COUNTERS\n\nGO\n").expect("written");
    let mut console = station.console();
    console.stdin(std::fs::File::open(&script).expect("a file"));
    let output = console.output().expect("a console");
    let text = String::from_utf8(output.stdout).expect("text");
    assert_eq!(output.status.code(), Some(44), "GO was refused: {text}");
    let lines: Vec<_> = text.lines().skip(2).collect();
    assert_eq!(lines[0], "OK,GET,wiring,energise_for_good");
    assert!(
        lines[1].starts_with("OK,COUNTERS,lines=")
            && lines.last() == Some(&"ER,?,100,unknown command; HELP lists them")
    );
    std::fs::write(&script, "GET wiring\nCOUNTERS\n").expect("written");
    console.stdin(std::fs::File::open(&script).expect("a file"));
    let output = console.output().expect("a console");
    assert_eq!(output.status.code(), Some(0), "nothing was refused");
    let folder = tempfile::tempdir().expect("a folder");
    let silent = Wire::new(folder.path());
    for (port, what) in [
        (std::path::Path::new("/dev/ttyNOT"), "/dev/ttyNOT"),
        (&script, "no serial port"),
        (&silent.client, "no answer"),
    ] {
        let mut console = Command::new(env!("CARGO_BIN_EXE_faprompt-edge"));
        console.args(["console", "--port"]).arg(port);
        let output = console.stdin(Stdio::null()).output().expect("a console");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(41), "{said}");
        assert!(said.contains(what), "{said}");
    }
}

#[test]
#[ignore = "needs pyserial: make serial-check"]
fn the_integrators_script_works() {
    let station = Station::new();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/src/control/example.py");
    let python = std::env::var_os("FAPROMPT_PYTHON").unwrap_or("python3".into());
    let run = |threshold: &str, parts: &str| {
        let mut command = Command::new(&python);
        command
            .arg(script)
            .arg(&station.wire.client)
            .args([threshold, parts]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("python")
    };
    let child = run("0.3", "2");
    while !station.settled("0.3000") {
        std::thread::sleep(Duration::from_millis(10));
    }
    // Whoever listens gets them; a part before RESULT ON is nobody's.
    let mut parts = 0;
    let output = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| child.wait_with_output().expect("an end"));
        while !waiting.is_finished() {
            station.part(if parts % 2 == 0 { 0.25 } else { 0.35 });
            parts += 1;
            std::thread::sleep(Duration::from_millis(100));
        }
        waiting.join().expect("an end")
    });
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    for line in [
        "threshold: 0.3000",
        ": good (-), score 0.250000, 12.5 ms",
        ": reject (-), score 0.350000, 12.5 ms",
    ] {
        assert!(text.contains(line), "{text}");
    }
    let refused = run("1.5", "1").wait_with_output().expect("an end");
    assert!(
        !refused.status.success()
            && String::from_utf8_lossy(&refused.stderr).contains("ER,SET,202")
    );
}
