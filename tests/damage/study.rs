//! What damage of real photos is found, and what a photo that is damaged unseen looks like: `make damage
//! PHOTOS=folder...` prints a table. The folders' photos are the user's own; none comes with the project.

use super::Random;
use faprompt_edge::capture::jpeg::{Checker, Jpeg};
use faprompt_edge::capture::survey;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const EOI: [u8; 2] = [0xff, 0xd9];

/// What happens to a photo.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Quarter,
    Half,
    Zeros,
    CutOut,
    Flipped,
    LostInterval,
    SwappedIntervals,
    SwappedScans,
    OtherHeader,
}

const WAYS: [(Way, &str); 9] = [
    (Way::Quarter, "a quarter of the scan, end marker"),
    (Way::Half, "half of the scan, end marker"),
    (Way::Zeros, "512 zero bytes in the scan"),
    (Way::CutOut, "1024 bytes cut out of the scan"),
    (Way::Flipped, "one byte of the scan is another"),
    (Way::LostInterval, "a restart interval is lost"),
    (Way::SwappedIntervals, "two restart intervals swapped"),
    (Way::SwappedScans, "two scans swapped (progressive)"),
    (Way::OtherHeader, "the header of the photo before"),
];

/// A photo: as it is, with restart markers, progressive. The last two by `jpegtran`, which changes no coefficient.
struct Photo {
    plain: Vec<u8>,
    restart: Vec<u8>,
    progressive: Vec<u8>,
}

fn jpegtran(file: &Path, options: &[&str]) -> Vec<u8> {
    let output = Command::new("jpegtran")
        .args(options)
        .arg(file)
        .stderr(Stdio::inherit())
        .output()
        .expect("jpegtran: install libjpeg-turbo-progs");
    assert!(output.status.success(), "jpegtran: {}", file.display());
    output.stdout
}

/// Where the segments with these markers begin, from the first scan's codes on; and where those codes begin.
fn markers(data: &[u8], wanted: impl Fn(u8) -> bool) -> (usize, Vec<usize>) {
    let mut at = 2;
    let start = loop {
        while data[at + 1] == 0xff {
            at += 1;
        }
        let (marker, length) = (data[at + 1], [data[at + 2], data[at + 3]]);
        at += 2 + usize::from(u16::from_be_bytes(length));
        if marker == 0xda {
            break at;
        }
    };
    let found = (start..data.len() - 1).filter(|i| data[*i] == 0xff && wanted(data[i + 1]));
    (start, found.collect())
}

/// The photo damaged; `None` where it is too small for that, or nothing changes.
fn damaged(way: Way, photo: &Photo, before: &Photo, random: &mut Random) -> Option<Vec<u8>> {
    let data = match way {
        Way::LostInterval | Way::SwappedIntervals => &photo.restart,
        Way::SwappedScans => &photo.progressive,
        _ => &photo.plain,
    };
    let (start, _) = markers(data, |_| false);
    let codes = data.len() - 2 - start;
    let mut new = data.clone();
    match way {
        Way::Quarter | Way::Half => {
            let part = if way == Way::Quarter { 4 } else { 2 };
            new.truncate(start + codes / part);
            new.extend(EOI);
        }
        Way::Zeros => {
            let at = start + random.below(codes.checked_sub(512)?);
            new[at..at + 512].fill(0);
        }
        Way::CutOut => {
            let at = start + random.below(codes.checked_sub(1024)?);
            new.drain(at..at + 1024);
        }
        Way::Flipped => {
            let at = start + random.below(codes);
            new[at] ^= 1 + random.below(255) as u8;
        }
        Way::LostInterval | Way::SwappedIntervals => {
            let (_, all) = markers(data, |m| (0xd0..0xd8).contains(&m));
            if all.len() < 12 {
                return None;
            }
            let i = random.below(all.len() - 10);
            let interval = |i: usize| &data[all[i]..all[i + 1]];
            if way == Way::LostInterval {
                new.drain(all[i]..all[i + 1]);
            } else {
                // The nearest that has the same number: nothing but its codes says where it belongs.
                new = [
                    &data[..all[i]],
                    interval(i + 8),
                    &data[all[i + 1]..all[i + 8]],
                    interval(i),
                    &data[all[i + 9]..],
                ]
                .concat();
            }
        }
        Way::SwappedScans => {
            // A scan goes with the tables in front of it.
            let (_, tables) = markers(data, |m| m == 0xc4);
            let i = random.below(tables.len().checked_sub(2)?);
            new = [
                &data[..tables[i]],
                &data[tables[i + 1]..tables[i + 2]],
                &data[tables[i]..tables[i + 1]],
                &data[tables[i + 2]..],
            ]
            .concat();
        }
        Way::OtherHeader => {
            let (other, _) = markers(&before.plain, |_| false);
            new = [&before.plain[..other], &data[start..]].concat();
        }
    }
    (new != *data).then_some(new)
}

fn pixels(picture: &Jpeg) -> Vec<u8> {
    let mut rgb = vec![0; 3 * picture.width as usize * picture.height as usize];
    picture
        .decode(&mut vec![], &mut rgb)
        .expect("a whole picture");
    rgb
}

/// What differs between a photo and what is taken for it.
#[derive(Default)]
struct Unseen {
    whole: usize,
    same: usize,
    /// Rows of 8 pixels that differ by more than 8 levels somewhere, of all of them, in percent.
    rows: Vec<usize>,
    /// The largest mean difference of such a picture, levels.
    worst: f64,
}

impl Unseen {
    fn count(&mut self, found: &Jpeg, photo: &Jpeg) {
        self.whole += 1;
        if (found.width, found.height) != (photo.width, photo.height) {
            self.rows.push(100);
            return;
        }
        let (new, old) = (pixels(found), pixels(photo));
        if new == old {
            self.same += 1;
            return;
        }
        let row = 3 * 8 * photo.width as usize;
        let differs = |(a, b): (&[u8], &[u8])| a.iter().zip(b).any(|(a, b)| a.abs_diff(*b) > 8);
        let bands = new.chunks(row).zip(old.chunks(row));
        let (all, other) = (bands.len(), bands.filter(|b| differs(*b)).count());
        self.rows.push(100 * other / all);
        let sum: u64 = new
            .iter()
            .zip(&old)
            .map(|(a, b)| u64::from(a.abs_diff(*b)))
            .sum();
        self.worst = self.worst.max(sum as f64 / new.len() as f64);
    }
}

/// The folders of PHOTOS.
pub fn photos(ending: &[&str]) -> Vec<PathBuf> {
    let folders =
        std::env::var("PHOTOS").expect("PHOTOS: folders of photos, with blanks between them");
    let mut files = vec![];
    for folder in folders.split_whitespace() {
        files.extend(survey(Path::new(folder)).expect("a folder of photos").files);
    }
    files.retain(|f| {
        f.extension()
            .is_some_and(|e| ending.iter().any(|x| e.eq_ignore_ascii_case(x)))
    });
    assert!(
        !files.is_empty(),
        "no photos of these kinds in {folders}: {ending:?}"
    );
    files
}

#[test]
#[ignore = "wants PHOTOS and jpegtran: make damage"]
fn damage_of_real_photos_is_found_in_eight_ways() {
    let mut checker = Checker::default();
    let (mut random, mut refused) = (Random(5), 0);
    let mut all = vec![];
    let files = photos(&["jpg", "jpeg"]);
    // Some hundred are enough; spread over the folders.
    let step = (files.len() / 261).max(1);
    for file in files.iter().step_by(step).take(261) {
        let photo = Photo {
            plain: std::fs::read(file).expect("a photo"),
            restart: jpegtran(file, &["-copy", "all", "-restart", "4B"]),
            progressive: jpegtran(file, &["-copy", "all", "-progressive"]),
        };
        for data in [&photo.plain, &photo.restart, &photo.progressive] {
            if let Err(e) = checker.check(data) {
                println!("undamaged, and refused: {}: {e}", file.display());
                refused += 1;
            }
        }
        all.push(photo);
    }
    println!(
        "{} photos, each in three forms: {refused} refused undamaged",
        all.len()
    );
    println!(
        "| damage | tried | taken for whole | same pixels | rows that differ, % (median, most) | worst mean difference |"
    );
    println!("|---|---|---|---|---|---|");
    let mut found = vec![];
    for (way, name) in WAYS {
        let (mut tried, mut unseen) = (0, Unseen::default());
        for (i, photo) in all.iter().enumerate() {
            let before = &all[(i + all.len() - 1) % all.len()];
            let Some(data) = damaged(way, photo, before, &mut random) else {
                continue;
            };
            tried += 1;
            if let Ok(picture) = checker.check(&data) {
                let plain = Checker::default().check(&photo.plain).expect("whole");
                unseen.count(&picture, &plain);
            }
        }
        let Unseen {
            whole,
            same,
            rows,
            worst,
        } = &mut unseen;
        rows.sort_unstable();
        let (median, most) = (rows.get(rows.len() / 2), rows.last());
        let (median, most) = (median.unwrap_or(&0), most.unwrap_or(&0));
        println!("| {name} | {tried} | {whole} | {same} | {median}, {most} | {worst:.1} |");
        found.push((way, tried, *whole));
    }
    assert_eq!(refused, 0, "undamaged photos were refused");
    for (way, tried, whole) in found {
        // A change of one byte, of order or of headers can make other codes that are as valid.
        let must = matches!(
            way,
            Way::Quarter | Way::Half | Way::Zeros | Way::CutOut | Way::LostInterval
        );
        assert!(
            !must || whole == 0,
            "{way:?}: {whole} of {tried} were taken for whole"
        );
    }
}
