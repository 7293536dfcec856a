//! Commands as cameras, with real child processes: what they write arrives as it was, and whatever they do wrong,
//! no frame is passed off as whole that is not, and the next life of the command is taken up.

use faprompt_edge::capture::format::{Converter, Development, Layout, PixelFormat};
use faprompt_edge::capture::{
    Camera, CameraSettings, CaptureError, Exposure, PatternCamera, PipeCamera, PipeSource,
};
use image::codecs::jpeg::JpegEncoder;
use image::{Rgb, RgbImage};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const SIZE: (u32, u32) = (64, 48);
const PATIENCE: Duration = Duration::from_secs(20);

/// A picture like no other.
fn picture(number: u8, (width, height): (u32, u32)) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        Rgb([(4 * x) as u8, (5 * y) as u8, 40 * number])
    })
}

fn ppm(number: u8, size: (u32, u32)) -> Vec<u8> {
    let head = format!("P6\n{} {}\n255\n", size.0, size.1);
    [head.as_bytes(), picture(number, size).as_raw()].concat()
}

fn jpeg(number: u8, size: (u32, u32)) -> Vec<u8> {
    let mut bytes = vec![];
    let encoder = JpegEncoder::new_with_quality(&mut bytes, 95);
    picture(number, size).write_with_encoder(encoder).unwrap();
    bytes
}

fn settings() -> CameraSettings {
    toml::from_str("device = 'pipe:'\nwidth = 64\nheight = 48\n").unwrap()
}

fn open(source: &str) -> Result<PipeCamera, CaptureError> {
    let source: PipeSource = source.parse().unwrap();
    PipeCamera::open(source, settings(), false)
}

/// A shell's script as a source, run in this folder; `kind` is empty, or format and size of raw frames.
fn script(folder: &Path, kind: &str, script: &str) -> String {
    let text = format!("cd '{}' || exit 9\n{script}\n", folder.display());
    let file = folder.join("script.sh");
    fs::write(&file, text).unwrap();
    format!("pipe:{kind}sh '{}'", file.display())
}

fn next(camera: &mut PipeCamera, image: &mut RgbImage) -> Result<Exposure, CaptureError> {
    camera.capture(image, PATIENCE)
}

/// What the camera says when it fails at last, and how many frames were whole until then.
fn failure(camera: &mut PipeCamera) -> (String, usize) {
    let (mut image, mut whole) = (RgbImage::default(), 0);
    for _ in 0..10_000 {
        match next(camera, &mut image) {
            Ok(exposure) => whole += usize::from(exposure.whole),
            Err(e) => {
                assert!(e.needs_reopening(), "{e}");
                return (e.to_string(), whole);
            }
        }
    }
    panic!("it goes on");
}

#[test]
fn frames_of_every_kind_arrive_as_they_were_written() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let pictures: Vec<_> = (1..=3).map(|n| picture(n, SIZE)).collect();
    let reference = |layout: Layout, bytes: &[u8]| {
        let mut image = RgbImage::default();
        let mut converter = Converter::new(layout, None, &Development::default()).unwrap();
        converter.convert(bytes, &mut image).unwrap();
        image
    };
    // Planes for Y4M and NV12: what they show is the converter's business.
    let luma = |n: u8| {
        picture(n, SIZE)
            .pixels()
            .map(|p| p[0] / 2 + 50)
            .collect::<Vec<u8>>()
    };
    let quarter = (SIZE.0 * SIZE.1 / 4) as usize;
    let planar = |n: u8| [luma(n), vec![100 + n; quarter], vec![150 - n; quarter]].concat();
    let nv12 = |n: u8| {
        let chroma = [100 + n, 150 - n].repeat(quarter);
        [luma(n), chroma].concat()
    };
    let layout = |format: &str| Layout::packed(format.parse().unwrap(), SIZE.0, SIZE.1);
    let y4m = |n: u8| [b"FRAME\n".as_slice(), &planar(n)].concat();
    let header = b"YUV4MPEG2 W64 H48 F30:1 Ip C420jpeg XYSCSS=420JPEG\n".as_slice();
    let each = |bytes: &dyn Fn(u8) -> Vec<u8>| (1..=3).map(bytes).collect::<Vec<_>>();
    let same = |format: &'static str, bytes: &[Vec<u8>]| {
        bytes
            .iter()
            .map(|b| reference(layout(format), b))
            .collect::<Vec<_>>()
    };
    let jpegs = each(&|n| jpeg(n, SIZE));
    let mut multipart = vec![];
    for jpeg in &jpegs {
        multipart.push(
            [
                b"--frame\r\nContent-Type: image/jpeg\r\n\r\n".as_slice(),
                jpeg,
                b"\r\n",
            ]
            .concat(),
        );
    }
    let grey = |n: u8| [b"P5 64 48 255\n".as_slice(), &luma(n)].concat();
    for (name, kind, head, frames, expected) in [
        (
            "ppm",
            "",
            &[][..],
            each(&|n| ppm(n, SIZE)),
            pictures.clone(),
        ),
        ("pgm", "", &[], each(&grey), same("GREY", &each(&luma))),
        ("mjpeg", "", &[], jpegs.clone(), same("MJPG", &jpegs)),
        ("multipart", "", &[], multipart, same("MJPG", &jpegs)),
        ("y4m", "", header, each(&y4m), same("YU12", &each(&planar))),
        (
            "rgb",
            "RGB3:64x48:",
            &[],
            each(&|n| picture(n, SIZE).into_raw()),
            pictures,
        ),
        (
            "nv12",
            "NV12:64x48:",
            &[],
            each(&nv12),
            same("NV12", &each(&nv12)),
        ),
    ] {
        fs::write(root.join("head"), head).unwrap();
        for (n, frame) in frames.iter().enumerate() {
            fs::write(root.join(n.to_string()), frame).unwrap();
        }
        let source = script(
            root,
            kind,
            "cat head 0; sleep 0.1; cat 1; sleep 0.1; cat 2; exec sleep 100",
        );
        let mut camera = open(&source).unwrap_or_else(|e| panic!("{name}: {e}"));
        let (mut image, mut last) = (RgbImage::default(), 0);
        for (n, expected) in expected.iter().enumerate() {
            let exposure = next(&mut camera, &mut image).unwrap();
            assert!(
                exposure.whole && exposure.missed == 0,
                "{name} {exposure:?}"
            );
            assert_eq!(exposure.sequence, n as u64);
            // Written 100 ms apart.
            assert!(n == 0 || exposure.at_us - last > 90_000, "{name}");
            last = exposure.at_us;
            assert!(image == *expected, "{name}: frame {n}");
        }
        let quiet = camera.capture(&mut image, Duration::from_millis(30));
        assert!(matches!(quiet, Err(CaptureError::Timeout(_))), "{quiet:?}");
    }
}

#[test]
fn a_command_that_cannot_go_on_says_why_and_is_started_again() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fs::write(root.join("a"), ppm(1, SIZE)).unwrap();
    fs::write(root.join("b"), ppm(2, (32, 48))).unwrap();
    fs::write(root.join("ja"), jpeg(1, SIZE)).unwrap();
    fs::write(root.join("jb"), jpeg(2, (32, 48))).unwrap();
    let y4m = b"YUV4MPEG2 W64 H48 F30:1 Cmono\n".as_slice();
    fs::write(root.join("y"), [y4m, b"FRAME\n", &[9; 64 * 48]].concat()).unwrap();
    fs::write(
        root.join("z"),
        [b"FRAME\n".as_slice(), &[9; 64 * 40]].concat(),
    )
    .unwrap();
    for (what, commands, whole, words) in [
        ("ends", "cat a", 1, "ended (exit status: 0)"),
        ("fails", "cat a; exit 7", 1, "ended (exit status: 7)"),
        ("crashes", "cat a; kill -SEGV $$", 1, "signal: 11"),
        (
            "closes its output",
            "cat a; exec sleep 100 > log",
            1,
            "its output ended; it is ended",
        ),
        (
            "half a frame",
            "cat a; head -c 5000 a",
            1,
            "in the middle of a frame",
        ),
        (
            "half a frame of JPEG",
            "cat ja; head -c 700 ja",
            1,
            "in the middle of a frame",
        ),
        (
            "another size",
            "cat a; cat b; sleep 100",
            1,
            "changed from RGB3 with 64 x 48",
        ),
        (
            "another size of JPEG",
            "cat ja; cat jb; sleep 100",
            1,
            "to MJPG with 32 x 48",
        ),
        (
            "nonsense",
            "cat a; sleep 0.1; echo hello; sleep 100",
            1,
            "PNM",
        ),
        // The frame with a hole shows where it ends, and the one before is whole.
        (
            "a hole",
            "cat y; sleep 0.1; cat z z; sleep 100",
            2,
            "Y4M: a header",
        ),
    ] {
        let again = "if [ -e again ]; then while :; do cat a; sleep 0.05; done; fi; touch again";
        let jpegs = commands.contains("ja");
        let again = if jpegs {
            again.replace("cat a", "cat ja")
        } else {
            again.into()
        };
        let again = match commands.contains("cat y") {
            true => again.replace("do cat a;", "do cat a; exit;"),
            false => again,
        };
        let _ = fs::remove_file(root.join("again"));
        let mut camera = open(&script(root, "", &format!("{again}; {commands}"))).unwrap();
        let (error, got) = failure(&mut camera);
        assert!(error.contains(words), "{what}: {error}");
        assert!(got <= whole, "{what}: {got}");
        camera.reopen().unwrap_or_else(|e| panic!("{what}: {e}"));
        let exposure = next(&mut camera, &mut RgbImage::default()).unwrap();
        assert!(exposure.whole && exposure.sequence >= 1, "{what}");
    }
    for (commands, words) in [
        ("echo hello; sleep 100", "hello"),
        ("printf 'YUV4MPEG2 W9 H9 C420p10\\n'; sleep 100", "8 bits"),
        ("printf 'YUV4MPEG2 W9 H9 It\\n'; sleep 100", "interlaced"),
        ("printf 'P6 3 3 65535\\n'; sleep 100", "8 bits"),
        ("exit 4", "exit status: 4"),
    ] {
        let error = open(&script(root, "", commands)).err().unwrap().to_string();
        assert!(error.contains(words), "{commands}: {error}");
    }
    let error = open("pipe:no-such-program-anywhere").err().unwrap();
    assert!(error.to_string().contains("cannot be started"), "{error}");
    assert!(error.needs_reopening());
}

/// Raw frames have no mark at which they begin: one that lacks bytes would turn all that follow into pictures made
/// of two.
#[test]
fn raw_frames_that_lack_bytes_are_never_whole() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a"), picture(1, SIZE).as_raw()).unwrap();
    let commands = "while :; do head -c 5000 a; sleep 0.05; done";
    let mut camera = open(&script(folder.path(), "RGB3:64x48:", commands)).unwrap();
    let (error, whole) = failure(&mut camera);
    assert!(error.contains("bytes are missing or too many"), "{error}");
    assert_eq!(whole, 0);
    // One that lacks bytes among others: whole ones before it, none after it.
    let commands = "cat a; sleep 0.5; cat a; sleep 0.5; head -c 900 a; sleep 0.5; \
                    while :; do cat a; sleep 0.5; done";
    let mut camera = open(&script(folder.path(), "RGB3:64x48:", commands)).unwrap();
    let (error, whole) = failure(&mut camera);
    assert!(error.contains("in pieces"), "{error}");
    assert_eq!(whole, 2);
}

#[test]
fn damaged_jpegs_are_not_whole_and_those_after_them_are() {
    let folder = tempfile::tempdir().unwrap();
    let whole = jpeg(1, SIZE);
    fs::write(folder.path().join("a"), &whole).unwrap();
    fs::write(folder.path().join("cut"), &whole[..whole.len() - 100]).unwrap();
    let commands = "cat a; sleep 0.05; cat cut; sleep 0.05; cat a; sleep 100";
    let mut camera = open(&script(folder.path(), "", commands)).unwrap();
    let mut image = RgbImage::default();
    let mut take = || next(&mut camera, &mut image).unwrap().whole;
    assert_eq!([take(), take(), take()], [true, false, true]);
}

#[test]
fn a_command_that_floods_is_never_waited_for_and_what_is_too_much_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    for n in 0..8 {
        fs::write(folder.path().join(n.to_string()), ppm(n, SIZE)).unwrap();
    }
    let commands = "while :; do cat 0 1 2 3 4 5 6 7; done";
    let mut camera = open(&script(folder.path(), "", commands)).unwrap();
    let (mut image, mut missed, mut sequence) = (RgbImage::default(), 0, None);
    // What came before the camera counted as open is no exposure.
    let mut first = None;
    for _ in 0..20 {
        let exposure = next(&mut camera, &mut image).unwrap();
        // Nothing is mixed up, whatever was left out.
        let shown = (0..8).find(|n| image == picture(*n, SIZE)).unwrap();
        let first = *first.get_or_insert(u64::from(shown));
        assert_eq!(u64::from(shown), (first + exposure.sequence) % 8);
        let expected = sequence.map_or(0, |last| last + 1) + exposure.missed;
        assert_eq!(exposure.sequence, expected);
        sequence = Some(exposure.sequence);
        missed += exposure.missed;
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(missed > 20, "{missed}");
}

/// Whether a process runs, by its number in a file.
fn runs(file: &Path) -> bool {
    let number = fs::read_to_string(file).unwrap();
    // A zombie that nobody waits for is no process that runs.
    let status = fs::read_to_string(format!("/proc/{}/stat", number.trim()));
    status.is_ok_and(|s| !s.contains(") Z "))
}

fn gone(file: &Path) -> bool {
    let start = Instant::now();
    while runs(file) && start.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(10));
    }
    !runs(file)
}

#[test]
fn a_command_has_nothing_of_ours_open_and_ends_with_all_that_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fs::write(root.join("a"), ppm(1, SIZE)).unwrap();
    // Open in every child, unless it is closed.
    let ours = fs::File::open(root.join("a")).unwrap();
    rustix::io::fcntl_setfd(&ours, rustix::io::FdFlags::empty()).unwrap();
    // A shell that ignores what it is asked, and a child of its own.
    let commands = "trap '' TERM; sleep 1000 & echo $! > child; echo $$ > shell; ls /proc/$$/fd > open; \
                    readlink /proc/$$/fd/0 > input; cat a; while :; do sleep 1; done";
    let source = script(root, "", commands);
    let camera = open(&source).unwrap();
    assert!(runs(&root.join("child")) && runs(&root.join("shell")));
    let read = |name: &str| fs::read_to_string(root.join(name)).unwrap();
    // 10 and above are where the shell has its script.
    let open_files: Vec<u32> = read("open").lines().map(|l| l.parse().unwrap()).collect();
    let open_files: Vec<_> = open_files.into_iter().filter(|n| *n < 10).collect();
    assert_eq!(open_files, [0, 1, 2]);
    assert_eq!(read("input").trim(), "/dev/null");
    let start = Instant::now();
    drop(camera);
    assert!(start.elapsed() < Duration::from_secs(2));
    assert!(gone(&root.join("child")) && gone(&root.join("shell")));
    // Whoever has it ends without a word.
    let thread = std::thread::spawn(move || std::mem::forget(open(&source).unwrap()));
    thread.join().unwrap();
    assert!(gone(&root.join("shell")));
}

/// The station: after each mishap good parts pass again within five seconds, and none that was not seen does.
#[test]
fn a_station_takes_up_a_command_that_failed_within_five_seconds() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let mut image = RgbImage::default();
    PatternCamera::new(9)
        .capture(&mut image, Duration::ZERO)
        .unwrap();
    let size = image.dimensions();
    let head = format!("P6 {} {} 255\n", size.0, size.1);
    fs::write(root.join("a"), [head.as_bytes(), image.as_raw()].concat()).unwrap();
    fs::write(root.join("b"), ppm(1, SIZE)).unwrap();
    for (what, commands) in [
        ("hangs", "exec sleep 1000"),
        ("exits", "exit 3"),
        (
            "half frames",
            "while :; do head -c 9000 a; sleep 0.05; done",
        ),
        ("another size", "cat b; exec sleep 1000"),
    ] {
        let _ = fs::remove_file(root.join("again"));
        let fine = "while :; do cat a; sleep 0.1; done";
        let commands = format!(
            "if [ -e again ]; then {fine}; fi; touch again; cat a; sleep 0.1; cat a; sleep 0.1; {commands}"
        );
        let out = root.join("out");
        let done = Command::new(env!("CARGO_BIN_EXE_faprompt-edge"))
            .args(["run", "--bundle", "built-in", "--source"])
            .arg(script(root, "", &commands))
            .args(["--frames", "8", "--threshold", "1", "--delay-ms", "3000"])
            .args([
                "--set",
                "frame_identical=0",
                "--set",
                "alarm_stop=0",
                "--out",
            ])
            .arg(&out)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        let verdicts = fs::read_to_string(out.join("verdicts.jsonl")).unwrap();
        let mut parts: Vec<Value> = verdicts
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        parts.sort_by_key(|part| part["triggered_us"].as_u64());
        // Every exposure is a part: between two of them nobody looked.
        let times: Vec<u64> = parts
            .iter()
            .map(|part| part["triggered_us"].as_u64().unwrap())
            .collect();
        let longest = times.windows(2).map(|pair| pair[1] - pair[0]).max();
        assert!(longest < Some(5_000_000), "{what}: {longest:?}");
        let last: Vec<_> = parts.iter().rev().take(4).map(|p| &p["outcome"]).collect();
        assert!(
            last.iter().all(|o| *o == "good"),
            "{what}: {verdicts}{said}"
        );
        assert!(said.contains("camera: "), "{what}: {said}");
        let summary = fs::read(out.join("summary.json")).unwrap();
        let summary: Value = serde_json::from_slice(&summary).unwrap();
        assert_eq!(
            summary["alarms"].as_u64().unwrap() & 1 << 7,
            1 << 7,
            "{what}"
        );
    }
}

#[test]
fn formats_of_several_memories_are_none_of_a_pipe() {
    assert!("pipe:YM12:64x48:cat".parse::<PipeSource>().is_err());
    let planar: PipeSource = "pipe:YU12:64x48:cat".parse().unwrap();
    let format = planar.raw().map(|(format, ..)| format.memories());
    assert_eq!(format, Some(1));
    assert_eq!("YU12".parse::<PixelFormat>().unwrap().memories(), 1);
}
