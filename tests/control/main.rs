//! The command set, black box: over pseudo-terminals, with a real station on a simulated line behind it.

mod bench;
mod line;
mod oracle;

use bench::{Bench, Cable};
use faprompt_edge::control::session::Output;
use faprompt_edge::control::{Effect, Session};
use faprompt_edge::line::{DefectType, Lane, Sorting};
use oracle::{is_answer, lines_in};
use proptest::prelude::*;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

/// `*` stands for anything.
fn fits(pattern: &str, line: &str) -> bool {
    let (first, rest) = pattern
        .split_once('*')
        .map_or((pattern, None), |(a, b)| (a, Some(b)));
    let Some(line) = line.strip_prefix(first) else {
        return false;
    };
    match rest {
        None => line.is_empty(),
        Some(rest) => {
            (0..=line.len()).any(|from| line.is_char_boundary(from) && fits(rest, &line[from..]))
        }
    }
}

/// `\xNN` is a byte.
fn bytes(text: &str) -> Vec<u8> {
    let mut parts = text.split("\\x");
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (code, rest) = part.split_at(2);
        bytes.push(u8::from_str_radix(code, 16).expect("two hexadecimal digits"));
        bytes.extend(rest.as_bytes());
    }
    bytes
}

/// Plays a transcript: `> sent with CR`, `>- sent without`, `< expected`, `! what happens`, `# comment`.
fn play(path: &Path) {
    let mut bench = Bench::new();
    let mut cable = bench.port("ttyTest");
    let text = std::fs::read_to_string(path).unwrap();
    for (number, line) in text.lines().enumerate() {
        let place = format!("{}:{}", path.display(), number + 1);
        match line.split_once(' ').unwrap_or((line, "")) {
            (">", sent) => cable.send(&[&bytes(sent)[..], b"\r"].concat()),
            (">-", sent) => cable.send(&bytes(sent)),
            ("<", expected) => {
                let mut came = cable.line();
                // What a lesson came to is shown once it is stored: TEACH repeats how far it is.
                while came.starts_with("OK,TEACH,preparing") && !expected.contains("preparing") {
                    let more = came
                        .split_once(",lines=")
                        .map_or(0, |(_, n)| n.parse().unwrap());
                    (0..more).for_each(|_| drop(cable.line()));
                    std::thread::sleep(Duration::from_millis(2));
                    came = cable.ask("TEACH");
                }
                assert!(
                    fits(expected, &came),
                    "{place}: expected {expected}\n  came {came}"
                );
            }
            ("!", what) => happen(what, &mut bench, &place),
            ("" | "#", _) => (),
            _ => panic!("{place}: not a transcript's line"),
        }
    }
    let last = cable.ask("#9999 IDN");
    assert!(
        last.starts_with("#9999 OK,IDN,"),
        "{}: at the end came {last}",
        path.display()
    );
}

fn happen(what: &str, bench: &mut Bench, place: &str) {
    let words: Vec<&str> = what.split(' ').collect();
    match words[..] {
        ["parts", ref scores @ ..] => {
            for score in scores {
                bench.line(|l| l.part(score.parse().expect("a score")));
            }
        }
        ["sorted", score, number, lane] => {
            let sorting = Sorting {
                defect: match number {
                    "unknown" => DefectType::Unknown,
                    number => DefectType::Number(number.parse().expect("a number")),
                },
                threshold: None,
                lane: Lane::new(lane.parse().expect("a lane")).ok(),
            };
            let score = score.parse().expect("a score");
            bench.line(|l| l.sorted(score, sorting));
        }
        ["bin", state] => bench.line(|l| l.bin_full(state == "full")),
        ["refuse"] => bench.line(|l| l.refuse = true),
        ["power_cut"] => bench.power_cut("ttyTest"),
        ["restart"] => bench.restart("ttyTest"),
        ["rebooted"] => assert_eq!(bench.line(|l| l.reboots), 1, "{place}"),
        _ => panic!("{place}: unknown happening"),
    }
}

#[test]
fn transcripts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    paths.sort();
    assert!(paths.len() >= 8);
    std::thread::scope(|scope| {
        for path in &paths {
            scope.spawn(|| play(path));
        }
    });
}

#[test]
fn one_session_changes_at_a_time_and_a_lost_one_leaves_nothing() {
    let mut bench = Bench::new();
    let (mut one, mut other) = (bench.port("one"), bench.port("other"));
    assert_eq!(one.ask("SET threshold 0.3"), "OK,SET,threshold,0.3000");
    assert_eq!(other.ask("GET threshold"), "OK,GET,threshold,0.5000");
    for refused in ["SET pulse_width_ms 9", "COMMIT", "RECIPE 2"] {
        let answer = other.ask(refused);
        assert!(answer.contains(",501,"), "{answer}");
    }
    assert_eq!(other.ask("REVERT"), "OK,REVERT");
    assert_eq!(one.ask("COMMIT"), "OK,COMMIT,1,next part");
    assert_eq!(other.ask("GET threshold"), "OK,GET,threshold,0.3000");
    assert_eq!(bench.line(|l| l.effects.clone()), [Effect::NextPart]);

    // The adapter is pulled out with a change pending and half a line sent, and plugged in again.
    assert_eq!(one.ask("SET threshold 0.9"), "OK,SET,threshold,0.9000");
    one.send(b"COMM");
    drop(one);
    let mut one = Cable::plug(&bench.socket("one"));
    assert_eq!(one.ask("COMMIT"), "OK,COMMIT,0");
    assert_eq!(other.ask("SET threshold 0.4"), "OK,SET,threshold,0.4000");
    assert_eq!(other.ask("COMMIT"), "OK,COMMIT,1,next part");
    assert_eq!(one.ask("GET threshold"), "OK,GET,threshold,0.4000");
}

/// A pause ends by itself, at its time and not before.
#[test]
fn a_pause_ends_by_its_time() {
    use faprompt_edge::control::{Mode, Who};
    let folder = tempfile::tempdir().unwrap();
    let mut control = bench::control(folder.path());
    let who = Who {
        session: control.open(),
        port: "test",
        access: faprompt_edge::control::Access::Operator,
    };
    let now = Instant::now();
    let minutes = |n: u64| now + std::time::Duration::from_secs(60 * n);
    control.begin_pause(&who, 2, "cleaning", now).unwrap();
    assert_eq!(control.snapshot().mode, Mode::Disarmed);
    assert_eq!(control.pause().unwrap().left(minutes(1)), 60);
    control.tick(minutes(1));
    assert_eq!(control.snapshot().mode, Mode::Disarmed);
    control.tick(minutes(2));
    assert_eq!(control.snapshot().mode, Mode::Running);
    assert!(control.pause().is_none());
    let last = control.log().next_back().unwrap();
    assert!(
        last.ends_with(",station,pause,cleaning,ended by its time"),
        "{last}"
    );
    let viewer = Who {
        access: faprompt_edge::control::Access::View,
        ..who
    };
    let refused = control.begin_pause(&viewer, 2, "", now).unwrap_err();
    assert_eq!(refused.code.number(), 400);
}

#[test]
fn passwords_are_tried_once_a_second_and_logging_out_reverts() {
    let mut bench = Bench::new();
    let mut cable = bench.port("port");
    for (parameter, password) in [
        ("operator_password", "op 1 belt"),
        ("engineer_password", "en 1 belt"),
    ] {
        let set = format!("SET {parameter} \"{password}\"");
        while cable.ask(&set).contains(",502,") {}
    }
    assert_eq!(cable.ask("COMMIT"), "OK,COMMIT,2,at once");
    assert!(cable.ask("IDN").ends_with(",view,view without password"));
    assert!(cable.ask("SET threshold 0.1").contains(",400,"));
    let mut login = |line: &str| loop {
        let answer = cable.ask(line);
        if !answer.contains(",502,") {
            return answer;
        }
    };
    assert!(login("LOGIN operator \"en 1 belt\"").contains(",402,"));
    assert_eq!(login("LOGIN operator \"op 1 belt\""), "OK,LOGIN,operator");
    assert!(login("SET wiring energise_for_good").contains(",401,"));
    assert_eq!(login("LOGIN ENGINEER \"en 1 belt\""), "OK,LOGIN,engineer");
    assert_eq!(login("SET threshold 0.1"), "OK,SET,threshold,0.1000");
    assert_eq!(login("LOGOUT"), "OK,LOGOUT,view");
    assert_eq!(login("GET threshold"), "OK,GET,threshold,0.5000");
    assert_eq!(login("COMMIT"), "OK,COMMIT,0");
}

/// Somebody whose password became known is out once there is another one.
#[test]
fn whoever_changes_a_password_stays_logged_in_and_all_others_are_out() {
    let mut bench = Bench::new();
    let (mut known, mut owner) = (bench.port("known"), bench.port("owner"));
    fn paced(cable: &mut Cable, line: &str) -> String {
        loop {
            let answer = cable.ask(line);
            if !answer.contains(",502,") {
                return answer;
            }
        }
    }
    for set in [
        "SET operator_password \"op 1 belt\"",
        "SET engineer_password \"en 1 belt\"",
        "COMMIT",
    ] {
        assert!(paced(&mut owner, set).starts_with("OK,"));
    }
    for cable in [&mut known, &mut owner] {
        assert_eq!(
            paced(cable, "LOGIN engineer \"en 1 belt\""),
            "OK,LOGIN,engineer"
        );
    }
    assert_eq!(known.ask("SET threshold 0.9"), "OK,SET,threshold,0.9000");
    assert_eq!(known.ask("REVERT").split(',').next(), Some("OK"));
    assert!(paced(&mut owner, "SET engineer_password \"en 2 belt\"").starts_with("OK,"));
    // Not before it is in force.
    assert!(known.ask("IDN").contains(",engineer,"));
    assert_eq!(owner.ask("COMMIT"), "OK,COMMIT,1,at once");
    assert!(owner.ask("IDN").contains(",engineer,"));
    assert!(known.ask("IDN").contains(",view,"));
    assert!(known.ask("SET threshold 0.9").contains(",400,"));
    // Nothing that it may still ask for brings it back.
    assert_eq!(known.ask("COMMIT"), "OK,COMMIT,0");
    assert!(known.ask("IDN").contains(",view,"));
    assert!(paced(&mut known, "LOGIN engineer \"en 1 belt\"").contains(",402,"));
    assert_eq!(
        paced(&mut known, "LOGIN engineer \"en 2 belt\""),
        "OK,LOGIN,engineer"
    );
    // The operator's password is another one's.
    assert!(paced(&mut owner, "SET operator_password \"op 2 belt\"").starts_with("OK,"));
    assert_eq!(owner.ask("COMMIT"), "OK,COMMIT,1,at once");
    assert!(known.ask("IDN").contains(",engineer,"));
}

#[test]
fn changes_that_would_wear_the_flash_out_have_to_wait() {
    let mut bench = Bench::new();
    let mut cable = bench.port("port");
    let answers: Vec<String> = (0..40)
        .map(|i| {
            cable.ask(&format!("SET threshold 0.{:04}", i + 1));
            cable.ask("COMMIT")
        })
        .collect();
    assert!(
        answers[..30].iter().all(|a| a == "OK,COMMIT,1,next part"),
        "{answers:?}"
    );
    assert!(
        answers.iter().any(|a| a.starts_with("ER,COMMIT,503,")),
        "{answers:?}"
    );
    // What changes nothing is not written.
    cable.ask("REVERT");
    let kept = cable.ask("GET threshold").replace("OK,GET,threshold,", "");
    cable.ask(&format!("SET threshold {kept}"));
    assert_eq!(cable.ask("COMMIT"), "OK,COMMIT,0");
}

#[test]
fn noise_and_a_client_that_does_not_read_leave_the_port_in_service() {
    let mut bench = Bench::new();
    let mut cable = bench.port("port");
    let mut random = 1u32;
    let noise: Vec<u8> = (0..20_000)
        .map(|_| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 24) as u8
        })
        .collect();
    cable.send(&noise);
    // More than the terminal holds of answers that nobody fetches.
    (0..30).for_each(|_| cable.send(b"LIST\r"));
    cable.send(b"\x1b#77 IDN\r");
    while !cable.line().starts_with("#77 OK,IDN,") {}
    assert!(cable.ask("IDN").starts_with("OK,IDN,"));
}

/// A change that takes its time keeps nobody from the control: others are answered, and its own session is
/// when it is in force.
#[test]
fn a_commit_is_answered_when_it_is_in_force_and_others_meanwhile() {
    let mut bench = Bench::new();
    let (mut one, mut other) = (bench.port("one"), bench.port("other"));
    let wait = |slow: &line::Slow| {
        let until = Instant::now() + std::time::Duration::from_secs(20);
        loop {
            if let Some(held) = slow.lock().unwrap().take() {
                return held;
            }
            assert!(Instant::now() < until);
            std::thread::yield_now();
        }
    };
    for refused in [false, true] {
        let slow = line::Slow::default();
        bench.line(|l| l.slow = Some(slow.clone()));
        let before = one.ask("GET threshold");
        assert_eq!(one.ask("SET threshold 0.3"), "OK,SET,threshold,0.3000");
        one.send(b"#1 COMMIT\r#2 GET threshold\r");
        let (done, wanted) = wait(&slow);
        assert!(other.ask("STATUS").starts_with("OK,STATUS,"));
        assert_eq!(other.ask("GET threshold"), before, "it is not in force");
        for busy in ["SET pulse_width_ms 9", "RECIPE 2", "TEACH 5"] {
            let answer = other.ask(busy);
            assert!(
                answer.contains(",500,") || answer.contains(",501,"),
                "{answer}"
            );
        }
        assert_eq!(bench.line(|l| l.effects.len()), 0);
        let result = match refused {
            true => Err(faprompt_edge::control::Refused::Hardware("the bundle")),
            false => Ok(wanted),
        };
        done.send(result).unwrap();
        if refused {
            assert!(one.line().starts_with("#1 ER,COMMIT,600,"));
            assert_eq!(one.line(), "#2 OK,GET,threshold,0.3000", "it stays pending");
            assert_eq!(one.ask("REVERT"), "OK,REVERT");
        } else {
            assert_eq!(one.line(), "#1 OK,COMMIT,1,next part");
            assert_eq!(one.line(), "#2 OK,GET,threshold,0.3000");
            assert_eq!(
                bench.line(|l| std::mem::take(&mut l.effects)),
                [Effect::NextPart]
            );
            one.ask("SET threshold 0.5");
            one.ask("COMMIT");
            bench.line(|l| l.effects.clear());
        }
    }
    // One that is given up with its session leaves nothing.
    let slow = line::Slow::default();
    bench.line(|l| l.slow = Some(slow.clone()));
    one.ask("SET threshold 0.9");
    one.send(b"COMMIT\r");
    let (done, wanted) = wait(&slow);
    drop(one);
    while !other.ask("SET threshold 0.4").starts_with("OK,") {}
    assert!(done.send(Ok(wanted)).is_err(), "nobody waits for it");
    assert_eq!(other.ask("COMMIT"), "OK,COMMIT,1,next part");
    assert_eq!(other.ask("GET threshold"), "OK,GET,threshold,0.4000");
}

/// What comes in: commands, halves of commands, bytes.
fn input() -> impl Strategy<Value = Vec<u8>> {
    let verbs = faprompt_edge::control::command::VERBS
        .iter()
        .map(|v| v.name.to_string());
    let mut words: Vec<String> = verbs.collect();
    words.extend(
        faprompt_edge::control::table::TABLE
            .iter()
            .map(|e| e.name.to_string()),
    );
    words.extend(
        [
            "on", "off", "5", "0.3", "accept", "clear", "reset", "#7", "\"", "x",
        ]
        .map(String::from),
    );
    let word = prop::sample::select(words).prop_map(String::into_bytes);
    let bytes = prop::collection::vec(any::<u8>(), 0..6);
    let end = prop::sample::select(vec![
        &b"\r"[..],
        b"\r\n",
        b" ",
        b",",
        b"\n",
        b"\x1b",
        b"\x08",
    ]);
    let piece = prop_oneof![4 => word, 1 => bytes];
    prop::collection::vec((piece, end.prop_map(<[u8]>::to_vec)), 0..60).prop_map(|pieces| {
        pieces
            .into_iter()
            .flat_map(|(a, b)| [a, b].concat())
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever comes in, each line has exactly one answer, and no answer comes of its own.
    #[test]
    fn every_line_has_one_answer(all in prop::collection::vec(input(), 1..4)) {
        let folder = tempfile::tempdir().unwrap();
        let mut control = bench::control(folder.path());
        let now = Instant::now();
        let mut session = Session::new(&mut control, "x", now);
        let mut out = Box::new(Output::new());
        for bytes in all {
            let mut answers = 0;
            for byte in &bytes {
                if let Some(line) = session.push(*byte, now) {
                    session.answer(&line, now, &mut control, &mut out);
                    answers += 1;
                    let kinds: Vec<bool> = out.lines().map(is_answer).collect();
                    prop_assert_eq!(kinds.iter().filter(|k| **k).count(), 1, "{:?} {}", line, out);
                    prop_assert!(kinds[0] && out.ends_with("\r\n") && out.is_ascii());
                    out.clear();
                }
            }
            prop_assert_eq!(answers, lines_in(&bytes));
            prop_assert!(session.push(0x1b, now).is_none());
        }
    }
}

/// Two stations on one line: each hears all that the other says.
#[test]
fn two_stations_do_not_talk_to_each_other() {
    let folders = [0, 1].map(|_| tempfile::tempdir().unwrap());
    let mut controls = folders.each_ref().map(|f| bench::control(f.path()));
    let now = Instant::now();
    let mut sessions = controls.each_mut().map(|c| Session::new(c, "x", now));
    let mut lines: Vec<String> = faprompt_edge::control::command::VERBS
        .iter()
        .map(|v| v.name.to_string())
        .collect();
    lines.extend(
        [
            "GO",
            "SET a b c d",
            "\"",
            "#x IDN",
            "RESULT ON",
            "TEACH 5",
            "LOG 200",
        ]
        .map(String::from),
    );
    for line in lines {
        let (mut said, mut hears) = (format!("{line}\r"), 0);
        let mut out = Box::new(Output::new());
        for step in 0.. {
            assert!(step < 3, "{line}: they talk: {said}");
            let (session, control) = (&mut sessions[hears], &mut controls[hears]);
            if step == 0 {
                // A part passes meanwhile.
                control.host().part(0.25);
            }
            for byte in said.bytes() {
                if let Some(line) = session.push(byte, now) {
                    session.answer(&line, now, control, &mut out);
                }
            }
            control.tick(now);
            session.idle(now, control, &mut out);
            said = std::mem::take(&mut *out).to_string();
            if said.is_empty() {
                break;
            }
            hears = 1 - hears;
        }
    }
}

#[test]
fn bytes_that_come_in_allocate_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut control = bench::control(folder.path());
    let now = Instant::now();
    let mut session = Session::new(&mut control, "x", now);
    let mut lines = 0;
    let counted = allocation_counter::measure(|| {
        for i in 0..1_000_000u32 {
            let byte = (i.wrapping_mul(2_654_435_761) >> 24) as u8;
            lines += u32::from(session.push(byte, now).is_some());
        }
    });
    assert!(lines > 1000);
    assert_eq!(counted.count_total, 0);
}

/// A disk that takes its time, here a pipe that nobody reads from, in place of the file that is written: COMMIT
/// waits for it, and nobody else does.
#[test]
fn a_disk_that_hangs_keeps_nobody_from_the_control() {
    let mut bench = Bench::new();
    let (mut one, mut other) = (bench.port("one"), bench.port("other"));
    one.ask("SET threshold 0.2");
    assert_eq!(one.ask("COMMIT"), "OK,COMMIT,1,next part");
    let pipe = bench.socket("memory").join("memory.new");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();

    one.ask("SET threshold 0.3");
    one.send(b"COMMIT\r");
    // It is refused for as long as the COMMIT is under way.
    while !other.ask("TEACH 5").contains(",500,") {
        other.ask("TEACH reject");
    }
    bench.line(|l| l.part(0.25));
    for (asked, answered) in [
        ("STATUS", "OK,STATUS,"),
        ("GET threshold", "OK,GET,threshold,0.2000"),
        ("COUNTERS", "OK,COUNTERS,"),
        ("LOG 200", "OK,LOG,"),
        ("ACK", "OK,ACK,"),
        ("SET pulse_width_ms 9", "ER,SET,50"),
    ] {
        let mut answer = other.ask(asked);
        assert!(answer.starts_with(answered), "{asked}: {answer}");
        while let Some((_, lines)) = answer.rsplit_once("lines=") {
            (0..lines.parse().unwrap()).for_each(|_| _ = other.line());
            answer.clear();
        }
    }
    assert_eq!(bench.line(|l| l.effects.len()), 1, "it is not in force");
    // Somebody reads: it can be written now, and not be flushed, for it is a pipe.
    let mut disk = std::fs::File::options();
    let mut disk = disk.read(true).write(true).open(&pipe).unwrap();
    rustix::io::ioctl_fionbio(&disk, true).unwrap();
    let (mut written, mut bytes) = (Vec::new(), [0; 65_536]);
    loop {
        let answered = one.received.contains(&b'\n');
        let count = disk.read(&mut bytes).unwrap_or(0);
        written.extend(&bytes[..count]);
        if answered && count == 0 {
            break;
        }
        one.receive();
    }
    let written = String::from_utf8(written).unwrap();
    assert!(written.contains("threshold = 0.3"));
    let answer = one.line();
    assert!(answer.starts_with("ER,COMMIT,601,"), "{answer}");
    assert_eq!(
        one.ask("GET threshold"),
        "OK,GET,threshold,0.3000",
        "it stays pending"
    );
    std::fs::remove_file(&pipe).unwrap();
    assert_eq!(one.ask("COMMIT"), "OK,COMMIT,1,next part");
    assert!(one.ask("STATUS").contains(",memory=ok,"));
    bench.power_cut("one");
    assert_eq!(one.ask("GET threshold"), "OK,GET,threshold,0.3000");
}
