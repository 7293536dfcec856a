//! Every board is right, and every kind of mistake is found, by the code that the build runs too.

use super::*;
use crate::line::outputs::SIGNALS;
use crate::line::{self, Outputs, Signal, Wiring};
use std::time::Duration;

/// A board as short as it can be.
const SMALL: &str = r#"
name = "small"
description = "a test's"
tried = "here"
[header]
name = "H1"
source = "here"
bias = false
[header.pins]
1 = { name = "A", chip = "c", line = 4 }
2 = { name = "B", chip = "c", line = "PA.05" }
3 = { name = "C", chip = "c", line = 6, only = "input" }
4 = { name = "D", chip = "c", line = 7, only = "output" }
5 = { name = "E", chip = "c", line = 8 }
[outputs]
good = { pin = 1, active = "high" }
[inputs]
trigger = { pin = 3, active = "low" }
[serial.control]
device = "/dev/ttyS0"
baud = 9600
source = "here"
[cpu]
model = "m"
arch = "aarch64"
cores = 4
features = []
cuda = false
source = "here"
[unattended]
boot = { what = "a", source = "here" }
program_end = { what = "b", source = "here" }
watchdog_reset = { what = "c", source = "here" }
"#;

fn check(text: &str) -> Result<Board, String> {
    check::resolve("own/small.toml", text, &text_of).map_err(|e| e.to_string())
}

/// The message for `text`; it has one.
fn mistake(text: &str) -> String {
    match check(text) {
        Ok(_) => panic!("nothing found in:\n{text}"),
        Err(message) => message,
    }
}

#[test]
fn every_built_in_board_is_valid_and_called_by_its_name() {
    let names: Vec<_> = Board::names().collect();
    assert_eq!(
        names,
        [
            "generic-x86",
            "jetson-agx-orin",
            "jetson-orin-nano",
            "jetson-orin-nx",
            "jetson-xavier-nx",
            "qemu-virt",
            "raspberry-pi-5",
            "raspberry-pi-cm4",
            "sim"
        ]
    );
    for name in names {
        assert_eq!(Board::named(name).unwrap().name, name);
    }
    let error = Board::resolve("toaster").unwrap_err().to_string();
    assert!(
        error.contains("toaster") && error.contains("sim"),
        "{error}"
    );
    let error = Board::resolve("no/toaster.toml").unwrap_err().to_string();
    assert!(error.contains("no/toaster.toml"), "{error}");
}

#[test]
fn a_file_says_only_what_differs() {
    let nano = Board::named("jetson-orin-nano").unwrap();
    let nx = Board::named("jetson-orin-nx").unwrap();
    assert_eq!(nx.header, nano.header);
    assert_eq!(nx.outputs, nano.outputs);
    assert_ne!(nx.cpu.source, nano.cpu.source);
    let own = "name = 'own'\nbase = 'jetson-orin-nano'\n[outputs]\nstrobe = 'none'\ngood.pin = 37\n\
               [reject]\ndelay_ms = 7\n";
    let own = check(own).unwrap();
    assert_eq!(own.outputs.strobe, None);
    let good = own.outputs.good.unwrap();
    assert_eq!((good.pin, good.active), (37, pins::Level::High));
    assert_eq!((own.reject.delay_ms, own.reject.pulse_ms), (7, 40));
    assert_eq!(own.outputs.reject, nano.outputs.reject);
}

/// Each row: a line of [`SMALL`], what stands there instead, and the place and words of the message.
const MISTAKES: &[(&str, &str, &str, &str)] = &[
    // Unknown keys, at every depth.
    (
        "tried = \"here\"",
        "tried = 'x'\ncolour = 1",
        ":5: colour: ",
        "unknown field",
    ),
    (
        "good = { pin = 1,",
        "goood = { pin = 1,",
        ":16: outputs.goood: ",
        "unknown field",
    ),
    (
        "active = \"high\" }",
        "active = 'high', actve = 1 }",
        ":16: outputs.good.actve: ",
        "unknown field",
    ),
    (
        "active = \"low\" }",
        "active = 'low', debounce = 1 }",
        ":18: inputs.trigger.debounce: ",
        "unknown field",
    ),
    // Mandatory sections and keys.
    ("[cpu]", "[cpuu]", ":23: cpuu: ", "unknown field"),
    (
        "[cpu]\nmodel = \"m\"\narch = \"aarch64\"\ncores = 4\nfeatures = []\ncuda = false\nsource = \"here\"\n",
        "",
        ": ",
        "missing field `cpu`",
    ),
    (
        "[serial.control]",
        "[camera.serial.control]",
        ":19: camera.serial: ",
        "unknown field",
    ),
    ("model = \"m\"", "", ":23: cpu: ", "missing field `model`"),
    (
        "boot = { what = \"a\", source = \"here\" }",
        "",
        ":30: unattended: ",
        "missing field `boot`",
    ),
    ("name = \"small\"", "", ": ", "missing field `name`"),
    (
        "source = \"here\"\n[cpu]",
        "source = ' '\n[cpu]",
        ":22: serial.control.source: ",
        "says nothing",
    ),
    (
        "[cpu]",
        "[network]\nweb_hosts = ['line1.plant', 'line1:8080']\n[cpu]",
        ":24: network.web_hosts[1]: ",
        "`line1:8080` is no host name",
    ),
    // Pins.
    (
        "pin = 1, active",
        "pin = 3, active",
        ":16: outputs.good.pin: ",
        "can only be an input",
    ),
    (
        "pin = 3, active",
        "pin = 4, active",
        ":18: inputs.trigger.pin: ",
        "can only be an output",
    ),
    (
        "pin = 3, active",
        "pin = 1, active",
        ":18: inputs.trigger.pin: ",
        "pin 1 is used by outputs.good",
    ),
    (
        "pin = 1, active",
        "pin = 9, active",
        ":16: outputs.good.pin: ",
        "H1 has no pin 9",
    ),
    (
        "pin = 1, active",
        "pin = -1, active",
        ":16: outputs.good.pin: ",
        "-1",
    ),
    (
        "active = \"high\"",
        "active = 'hihg'",
        ":16: outputs.good.active: ",
        "hihg",
    ),
    (
        ", active = \"low\"",
        "",
        ":18: inputs.trigger: ",
        "missing field `active`",
    ),
    (
        ", line = 4",
        "",
        ":10: header.pins.1: ",
        "missing field `line`",
    ),
    (
        ", line = 4",
        ", line = []",
        ":10: header.pins.1.line: ",
        "a line's number",
    ),
    (
        "line = 6",
        "line = 4",
        ":12: header.pins.3.line: ",
        "c 4 is pin 1",
    ),
    (
        "5 = {",
        "05 = {",
        ":9: header.pins: ",
        "`05` is no pin number",
    ),
    (
        "5 = {",
        "x = {",
        ":9: header.pins: ",
        "`x` is no pin number",
    ),
    (
        "active = \"low\"",
        "active = 'low', bias = 'pull-up'",
        ":18: inputs.trigger.bias: ",
        "resistor",
    ),
    (
        "active = \"high\"",
        "active = 'high', drive = 'open'",
        ":16: outputs.good.drive: ",
        "open",
    ),
    (
        "good = { pin",
        "busy = { pin",
        ":15: outputs: ",
        "neither `good` nor `reject`",
    ),
    (
        "trigger = { pin = 3, active = \"low\" }",
        "encoder_a = { pin = 3 }",
        ":18: inputs.encoder_a: ",
        "encoder_b",
    ),
    // Values.
    (
        "active = \"low\"",
        "active = 'low', debounce_us = 1000001",
        ":18: inputs.trigger.debounce_us: ",
        "0..1000000",
    ),
    ("9600", "9601", ":21: serial.control.baud: ", "9601"),
    ("9600", "-9600", ":21: serial.control.baud: ", "-9600"),
    (
        "/dev/ttyS0",
        "ttyS0",
        ":20: serial.control.device: ",
        "ttyS0",
    ),
    ("cores = 4", "cores = 0", ":26: cpu.cores: ", "1..256"),
    ("\"aarch64\"", "\"arm\"", ":25: cpu.arch: ", "arm"),
    ("cuda = false", "cuda = 'no'", ":28: cpu.cuda: ", "boolean"),
    // Two keys together, and the base's keys.
    (
        "[cpu]",
        "[serial.modbus]\ndevice = '/dev/ttyS0'\nbaud = 9600\nsource = 'x'\n[cpu]",
        ":24: serial.modbus.device: ",
        "control",
    ),
    (
        "[cpu]",
        "[realtime]\noutput_core = 4\n[cpu]",
        ":24: realtime.output_core: ",
        "cpu.cores = 4",
    ),
    (
        "[cpu]",
        "[realtime]\npriority = 99\n[cpu]",
        ":24: realtime.priority: ",
        "1..98",
    ),
    (
        "[cpu]",
        "[reject]\ndelay_ms = 10001\n[cpu]",
        ":24: reject.delay_ms: ",
        "0..10000",
    ),
    (
        "[cpu]",
        "[reject]\npulse_ms = 0\n[cpu]",
        ":24: reject.pulse_ms: ",
        "1..10000",
    ),
    (
        "[cpu]",
        "[reject]\npulse_ms = 1.5\n[cpu]",
        ":24: reject.pulse_ms: ",
        "1.5",
    ),
    (
        "[cpu]",
        "[watchdog]\ndevice = '/dev/watchdog'\ntimeout_s = 61\nsource = 'x'\n[cpu]",
        ":25: watchdog.timeout_s: ",
        "1..60",
    ),
    (
        "[cpu]",
        "[camera]\nformat = 'YUY'\n[cpu]",
        ":24: camera.format: ",
        "YUY",
    ),
    (
        "[cpu]",
        "[camera]\nrotate = 45\n[cpu]",
        ":24: camera.rotate: ",
        "45",
    ),
    (
        "[cpu]",
        "[camera]\nroi = { x = 600, y = 0, width = 64, height = 64 }\n[cpu]",
        ":24: camera.roi: ",
        "640 x 480",
    ),
    (
        "[cpu]",
        "[camera]\nwhite_balance = [1.0, 0.0, 1.0]\n[cpu]",
        ":24: camera.white_balance: ",
        "0.05..20",
    ),
    (
        "[cpu]",
        "[camera]\nblack_level = 65536\n[cpu]",
        ":24: camera.black_level: ",
        "expected u16",
    ),
    (
        "[cpu]",
        "[camera2]\ndevice = '/dev/video2'\nroi = { x = 0, y = 440, width = 64, height = 64 }\n[cpu]",
        ":25: camera2.roi: ",
        "640 x 480",
    ),
    (
        "[cpu]",
        "[camera2]\ndevice = '/dev/video0'\n[cpu]",
        ":24: camera2.device: ",
        "/dev/video0 is camera's already",
    ),
    (
        "[cpu]",
        "[camera3]\ndevice = '/dev/video2'\n[cpu]",
        ":23: camera3: ",
        "needs camera2 too",
    ),
    (
        "[cpu]",
        "[camera2]\nwidth = 640\n[cpu]",
        ":23: camera2: ",
        "device",
    ),
    // Merging.
    (
        "[cpu]",
        "[gpio]\nx = 1\n[cpu]",
        ":23: gpio: ",
        "is a table here and a value in boards/base.toml",
    ),
    (
        "tried = \"here\"",
        "tried = 'x'\nreject = 4",
        ":5: reject: ",
        "is a value here and a table in boards/base.toml",
    ),
    (
        "tried = \"here\"",
        "tried = 'x'\nbase = 'toaster'",
        ":5: base: ",
        "no board `toaster`",
    ),
    (
        "tried = \"here\"",
        "tried = 'x'\nbase = 4",
        ":5: base: ",
        "board's name",
    ),
    (
        "tried = \"here\"",
        "tried = 'x'\nwatchdog = 'none'",
        ":5: watchdog: ",
        "none",
    ),
    // TOML itself.
    ("cores = 4", "cores = ", ":26: ", "literal string"),
    (
        "cores = 4",
        "cores = 4\ncores = 5",
        ":27: ",
        "duplicate key `cores`: it is there already, leave one of them out",
    ),
    (
        "cores = 4",
        "cores = 4\n[cpu]",
        ":27: ",
        "duplicate key `cpu`: it is there already, leave one of them out",
    ),
];

#[test]
fn every_mistake_is_found_and_named_with_file_line_and_key() {
    check(SMALL).unwrap();
    let mut wrong = Vec::new();
    for (line, instead, place, words) in MISTAKES {
        assert_eq!(SMALL.matches(line).count(), 1, "{line} is in no one place");
        let message = mistake(&SMALL.replace(line, instead));
        let expected = format!("own/small.toml{place}");
        let found = |m: &str| m.starts_with(&expected) && m.contains(words);
        if !message.lines().any(found) {
            wrong.push(format!(
                "expected `{expected}... {words}`, found `{message}`"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_mistake_of_the_base_is_named_in_the_base() {
    let bases = |name: &str| match name {
        "base" => text_of("base"),
        "mid" => Some("base = 'base'\nname = 'mid'\n[realtime]\npriority = 200\n"),
        "round" => Some("base = 'turn'\n"),
        "turn" => Some("base = 'round'\n"),
        _ => None,
    };
    let on = |base: &str| {
        let text = SMALL.replacen("name =", &format!("base = '{base}'\nname ="), 1);
        check::resolve("own.toml", &text, &bases)
            .unwrap_err()
            .to_string()
    };
    let message = on("mid");
    assert!(
        message.starts_with("boards/mid.toml:4: realtime.priority: 200"),
        "{message}"
    );
    let message = on("round");
    assert!(
        message.contains("base: `round` is based on itself"),
        "{message}"
    );
    // A name is never inherited: two boards would have it.
    let message = mistake("base = 'sim'\n");
    assert_eq!(
        message,
        "own/small.toml: name: is missing: a board has a name of its own"
    );
}

#[test]
fn all_contradictions_are_reported_at_once() {
    let text = SMALL
        .replace("pin = 1,", "pin = 9,")
        .replace("pin = 3,", "pin = 9,");
    assert_eq!(mistake(&text).lines().count(), 3);
}

#[test]
fn keys_of_outputs_are_in_the_order_of_the_signals() {
    let board = Board::named("sim").unwrap();
    let keys = board.outputs.each().map(|(key, _)| key.replace('_', ""));
    assert_eq!(keys, SIGNALS.map(|s| format!("{s:?}").to_lowercase()));
}

#[test]
fn simulated_outputs_start_safe_and_without_a_pulse() {
    let board = Board::named("sim").unwrap();
    let safe = Outputs::safe(Wiring::default());
    let mut pins = outputs(&board, &safe).unwrap();
    let state = |pins: &line::Pins<OutputLine>, signal| {
        let pin = pins.pin(signal).and_then(OutputLine::simulated).unwrap();
        (pin.is_high(), pin.pulses())
    };
    for signal in SIGNALS {
        assert_eq!(state(&pins, signal), (safe.get(signal), 0), "{signal:?}");
    }
    let mut on = safe;
    on.good = true;
    pins.drive(&on).unwrap();
    assert_eq!(state(&pins, Signal::Good), (true, 1));
    let mut inputs = inputs(&board).unwrap();
    assert!(inputs.is_empty());
    assert_eq!(inputs.next(Duration::ZERO).unwrap(), None);
}

#[test]
fn pins_can_go_to_the_output_thread() {
    fn movable<T: Send>() {}
    movable::<line::Pins<OutputLine>>();
    movable::<Inputs>();
}

#[test]
fn the_cameras_section_becomes_the_drivers_settings() {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Driver {
        device: PathBuf,
        format: Option<String>,
        width: u32,
        height: u32,
        fps: Option<f64>,
        buffers: u32,
        controls: std::collections::BTreeMap<String, i64>,
        roi: Option<spec::Roi>,
        rotate: u16,
        flip_horizontal: bool,
        flip_vertical: bool,
        black_level: Option<u16>,
        white_balance: Option<[f32; 3]>,
        sample_shift: u8,
        srgb_curve: bool,
    }
    let camera = "[camera]\nfps = 7\nrotate = 90\nwhite_balance = [1.5, 1, 0.7]\n\
                  controls.gain = 4\nroi = { x = 1, y = 2, width = 3, height = 4 }\n[cpu]";
    let board = check(&SMALL.replace("[cpu]", camera)).unwrap();
    let driver: Driver = board.camera_as(0).unwrap();
    assert_eq!((driver.fps, driver.rotate), (Some(7.0), 90));
    assert_eq!(driver.white_balance, Some([1.5, 1.0, 0.7]));
    assert_eq!(driver.controls["gain"], 4);
    assert_eq!(driver.roi, board.camera.roi);
    #[derive(Debug, serde::Deserialize)]
    struct Other {
        #[allow(dead_code)]
        width: bool,
    }
    let message = board.camera_as::<Other>(0).unwrap_err().to_string();
    assert!(message.starts_with("board small: camera: "), "{message}");
}

#[test]
fn a_second_camera_has_the_firsts_format_and_nothing_else_of_it() {
    let cameras = "[camera]\nfps = 7\nrotate = 90\nroi = { x = 1, y = 2, width = 3, height = 4 }\n\
                   [camera2]\ndevice = '/dev/video2'\nheight = 240\n[cpu]";
    let board = check(&SMALL.replace("[cpu]", cameras)).unwrap();
    assert_eq!(board.cameras(), 2);
    let second = board.camera(1);
    assert_eq!(second.device, "/dev/video2");
    assert_eq!(
        (second.width, second.height, second.fps),
        (640, 240, Some(7.0))
    );
    assert_eq!(
        (second.format.as_deref(), second.buffers),
        (Some("YUYV"), 4)
    );
    assert_eq!((second.rotate, second.roi), (0, None));
    assert!(Board::names().all(|name| Board::named(name).unwrap().cameras() == 1));
}

#[test]
fn a_chip_that_is_not_there_is_named_with_signal_and_pin() {
    let text = SMALL.replace(
        "chip = \"c\", line = 4",
        "chip = '/dev/gpiochip-none', line = 4",
    );
    let board = check(&text).unwrap();
    let safe = Outputs::safe(Wiring::default());
    let message = outputs(&board, &safe).unwrap_err().to_string();
    let place = "outputs.good: pin 1 (GPIO chip /dev/gpiochip-none, line 4): ";
    assert!(message.starts_with(place), "{message}");
}

#[test]
fn the_start_of_an_own_file_is_the_base_in_comments() {
    for base in Board::names() {
        let text = start_file("mine", base).unwrap();
        let expected = Board::named(base).unwrap();
        // As it is, and with every comment that is a key taken away.
        let keys: Vec<_> = text
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                // Not the sentence that explains it.
                Some(key) if key.contains(" = ") && !key.ends_with("\"none\"") => key,
                _ => line,
            })
            .collect();
        assert!(keys.len() > 20);
        for text in [text.clone(), keys.join("\n")] {
            let mut board = check(&text).unwrap();
            assert_eq!(board.name, "mine");
            board.name.clone_from(&expected.name);
            board.tried.clone_from(&expected.tried);
            assert_eq!(board, expected);
        }
    }
    assert!(start_file("mine", "toaster").is_err());
    for name in ["", "../mine", "sim", "a b"] {
        assert!(start_file(name, "sim").is_err(), "{name}");
    }
}

#[test]
fn tables_show_every_board_and_every_pin() {
    let (list, readme) = (list().unwrap(), readme_table().unwrap());
    for name in Board::names() {
        assert!(list.contains(name) && readme.contains(&format!("| `{name}` |")));
        let board = Board::named(name).unwrap();
        let shown = show(&board);
        for wire in board.wired() {
            assert!(shown.contains(&wire.key), "{name}: {}", wire.key);
        }
        for pin in board.header.pins.values() {
            assert!(shown.contains(&pin.line.to_string()));
        }
        for stated in [&board.unattended.boot, &board.unattended.program_end] {
            assert!(shown.contains(&stated.what) && shown.contains(&stated.source));
        }
    }
}
