//! The memory on small made-up parts.

use super::file::TaughtError;
use super::kind::{Memory, group_score, image_score};
use super::part::{Learned, Rows};
use super::region::{Group, Looked, Regions};
use super::*;
use crate::ops::testing::numbers;
use crate::tiling::Tiling;

/// Two tiles, one above the other.
const LAYOUT: Layout = Layout {
    grid: 5,
    tiles: Tiling::TWO,
    dim: 24,
};
const KINDS: [Kind; 5] = [
    Kind::Position,
    Kind::Anywhere,
    Kind::Pca,
    Kind::Gaussian,
    Kind::Combined,
];
const ZERO: ZeroShot = ZeroShot {
    score: 0.4,
    highest: 0.6,
};

/// A good part: the same at each place, but for a little noise of its own.
fn good(seed: u64) -> Vec<f32> {
    let n = LAYOUT.places() * LAYOUT.dim;
    let noise = numbers(n, seed + 100);
    let base = numbers(n, 1);
    base.iter().zip(noise).map(|(b, n)| b + 0.05 * n).collect()
}

/// The same with a defect at some places of the second tile.
fn bad(seed: u64, places: std::ops::Range<usize>) -> Vec<f32> {
    let mut part = good(seed);
    let strange = numbers(LAYOUT.dim, 999);
    for place in places {
        let at = (LAYOUT.tile() + place) * LAYOUT.dim;
        for (v, s) in part[at..].iter_mut().zip(&strange) {
            *v = 1.5 * s;
        }
    }
    part
}

fn settings(kind: Option<Kind>) -> Settings {
    Settings {
        kind,
        fusion: Fusion::default(),
        false_rejects: 0.01,
        regions: Regions::default(),
        views: Views::default(),
    }
}

fn lesson(kind: Option<Kind>, parts: u64) -> Lesson {
    let mut lesson = Lesson::new(LAYOUT, settings(kind)).unwrap();
    for i in 0..parts {
        // FAPrompt's scores differ a little from part to part.
        let zero_shot = ZeroShot {
            score: 0.4 + 0.01 * (i % 5) as f32,
            ..ZERO
        };
        lesson.part(&format!("{i}"), &good(i), zero_shot).unwrap();
    }
    lesson
}

#[test]
fn neighbours_stay_within_their_tile() {
    let of = |place, radius| LAYOUT.neighbours(place, radius).collect::<Vec<_>>();
    assert_eq!(of(0, 0), [0]);
    assert_eq!(of(0, 1), [0, 1, 5, 6]);
    assert_eq!(of(24, 1), [18, 19, 23, 24]);
    assert_eq!(of(25, 1), [25, 26, 30, 31]);
    assert_eq!(of(12, 2).len(), 25);
}

#[test]
fn every_kind_finds_the_defect_where_it_is() {
    let parts: Vec<Rows> = (0..8)
        .map(|i| Rows::of(&good(i), LAYOUT.dim).unwrap())
        .collect();
    let parts = Learned::new(&parts, &[]);
    for kind in KINDS {
        let mut memory = Memory::learn(kind, LAYOUT, &parts, None).unwrap();
        let (mut clean, mut map) = (vec![], vec![]);
        memory.judge(&good(50), &mut clean).unwrap();
        memory.judge(&bad(50, 12..13), &mut map).unwrap();
        let highest = (0..map.len()).max_by(|a, b| map[*a].total_cmp(&map[*b]));
        assert_eq!(highest, Some(LAYOUT.tile() + 12), "{kind:?}");
        for (place, (a, b)) in clean.iter().zip(&map).enumerate() {
            assert_eq!(a == b, place != LAYOUT.tile() + 12, "{kind:?} at {place}");
        }
        let (looked, mut work) = (Looked::everywhere(LAYOUT.places()), vec![]);
        let mut score = |map: &[f32]| image_score(map, &looked, 1, &mut work);
        assert!(score(&map) > score(&clean), "{kind:?}");
        for wrong in [
            &good(1)[1..],
            &[f32::NAN; 50 * 24],
            &[f32::INFINITY; 50 * 24],
        ] {
            assert!(memory.judge(wrong, &mut map).is_err(), "{kind:?}");
        }
    }
}

#[test]
fn a_held_out_part_is_judged_by_the_others() {
    let parts: Vec<Rows> = (0..6)
        .map(|i| Rows::of(&good(i), LAYOUT.dim).unwrap())
        .collect();
    let all = Learned::new(&parts, &[]);
    for kind in [Kind::Position, Kind::Anywhere, Kind::Gaussian] {
        let mut memory = Memory::learn(kind, LAYOUT, &all, None).unwrap();
        let held_out = memory.held_out(&all).unwrap().unwrap();
        for (i, got) in held_out.iter().enumerate() {
            let others = all.without(|part| part == i);
            let mut want = vec![];
            Memory::learn(kind, LAYOUT, &others, None)
                .unwrap()
                .judge(&parts[i].numbers(LAYOUT.dim), &mut want)
                .unwrap();
            for (got, want) in got.iter().zip(&want) {
                assert!(
                    (got - want).abs() <= 0.05 * want + 1e-3,
                    "{kind:?}: {got} for {want}"
                );
            }
        }
    }
    let one = all.without(|part| part > 0);
    let alone = Memory::learn(Kind::Position, LAYOUT, &one, None);
    assert_eq!(alone.unwrap().held_out(&one).unwrap(), None);
}

#[test]
fn scores_are_of_what_is_looked_at() {
    let mut work = vec![];
    let mut map = vec![1.0; 40];
    map[3] = 9.0;
    let mut group = Group {
        offset: 0.0,
        patches: vec![true; 40],
    };
    assert_eq!(group_score(&map, &group, 1, &mut work), 5.0);
    group.patches[3] = false;
    assert_eq!(group_score(&map, &group, 1, &mut work), 1.0);
    let single = |counts| Group {
        offset: 0.0,
        patches: vec![counts],
    };
    assert_eq!(group_score(&[2.0], &single(true), 1, &mut work), 2.0);
    assert_eq!(group_score(&[2.0], &single(false), 1, &mut work), 0.0);
}

#[test]
fn regions_count_each_by_its_threshold() {
    let layout = Layout {
        tiles: Tiling::WHOLE,
        ..LAYOUT
    };
    let text = "[[region]]\nname = \"left\"\nrectangle = [0, 0, 0.4, 1]\noffset = 0.3\n\
                [[region]]\nname = \"right\"\nrectangle = [0.6, 0, 1, 1]";
    let regions = Regions::parse(text).unwrap();
    let looked = regions.on(5, Tiling::WHOLE).unwrap();
    let n = layout.places() * layout.dim;
    let settings = Settings {
        regions,
        ..settings(Some(Kind::Position))
    };
    let mut lesson = Lesson::new(layout, settings).unwrap();
    for i in 0..10 {
        lesson.part(&i.to_string(), &good(i)[..n], ZERO).unwrap();
    }
    let mut taught = lesson.finish("encoder", "f32").unwrap();
    let with_defect = |column: usize| {
        let mut part = good(60)[..n].to_vec();
        let at = (10 + column) * layout.dim;
        part[at..at + layout.dim].copy_from_slice(&numbers(layout.dim, 999));
        part
    };
    let mut map = vec![];
    let mut score = |part: &[f32]| {
        let zero_map = vec![0.5; layout.places()];
        let outcome = taught.judge(part, &[0.4, 0.4], &zero_map, &mut map);
        (outcome.unwrap().score, map.clone())
    };
    let clean = score(&good(60)[..n]).0;
    let (middle, map) = score(&with_defect(2));
    assert_eq!(
        (middle, map[12]),
        (clean, 0.0),
        "nobody looks in the middle"
    );
    let (left, right) = (score(&with_defect(0)).0, score(&with_defect(4)).0);
    assert!(
        right > LIMIT && left < right && left > clean,
        "{clean} {left} {right}"
    );
    assert_eq!(looked.groups().len(), 2);
}

#[test]
fn taught_parts_judge_and_come_back_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("product.taught");
    for kind in KINDS {
        let mut taught = lesson(Some(kind), 12).finish("encoder", "f32").unwrap();
        let promise = taught.about().promise().unwrap();
        assert_eq!((promise.parts, promise.rank), (12, 12));
        taught.save(&path).unwrap();
        let mut back = Taught::open(&path).unwrap();
        assert_eq!(back.about(), taught.about());
        let zero_map = vec![0.5; LAYOUT.places()];
        let mut maps = [vec![], vec![]];
        let mut before = 0.0;
        for part in [good(70), bad(70, 11..14)] {
            let one = taught
                .judge(&part, &[0.42], &zero_map, &mut maps[0])
                .unwrap();
            let two = back.judge(&part, &[0.42], &zero_map, &mut maps[1]).unwrap();
            assert_eq!(one, two, "{kind:?}");
            assert_eq!(maps[0], maps[1]);
            assert!(one.score > before, "{kind:?}: {one:?} after {before}");
            before = one.score;
            assert!(maps[0].iter().all(|v| (0.0..=1.0).contains(v)));
        }
        assert!(before > LIMIT, "{kind:?}: {before}");
    }
}

#[test]
fn a_damaged_file_is_reported_and_no_byte_of_it_is_used() {
    let taught = lesson(Some(Kind::Anywhere), 6)
        .finish("encoder", "f32")
        .unwrap();
    let bytes = taught.bytes().unwrap();
    let refused = |bytes: &[u8]| match Taught::from_bytes(bytes) {
        Err(e @ (TaughtError::Damaged(_) | TaughtError::Version(_))) => e.exit_code(),
        Err(e) => panic!("{e}"),
        Ok(_) => panic!("a damaged file was used"),
    };
    for at in (0..bytes.len()).step_by(97) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        assert_eq!(refused(&damaged), crate::exit::ExitCode::TaughtUnreadable);
        refused(&bytes[..at]);
    }
    refused(b"");
    let newer = String::from_utf8_lossy(&bytes)
        .find("format_version")
        .map(|i| {
            let mut newer = bytes.clone();
            let digit = i + newer[i..].iter().position(|b| *b == b'1').unwrap();
            newer[digit] = b'2';
            newer
        });
    assert!(matches!(
        Taught::from_bytes(&newer.unwrap()),
        Err(TaughtError::Version(2))
    ));
}

#[test]
fn the_odd_part_is_shown_and_can_be_taken_out() {
    let mut lesson = lesson(Some(Kind::Position), 15);
    lesson.part("odd", &bad(15, 10..13), ZERO).unwrap();
    let taught = lesson.finish("encoder", "f32").unwrap();
    let judged = taught.about().judged();
    assert!(judged[0].name == "odd" && judged[0].is_odd(), "{judged:?}");
    assert!(!judged[1].is_odd(), "{judged:?}");
    let limit = taught.about().scale.limit;

    let mut again = Lesson::resume(&taught, settings(Some(Kind::Position))).unwrap();
    assert!(again.forget("odd") && !again.forget("odd"));
    again.part("new", &good(77), ZERO).unwrap();
    assert_eq!(again.len(), 16);
    let again = again.finish("encoder", "f32").unwrap();
    assert!(again.about().judged().iter().all(|j| !j.is_odd()));
    assert!(again.about().scale.limit < limit);
}

#[test]
fn parts_that_the_memory_has_no_room_for_calibrate() {
    let most = most_learned(LAYOUT);
    let n = most + 20;
    let taught = lesson(Some(Kind::Position), n as u64)
        .finish("encoder", "f32")
        .unwrap();
    assert_eq!(taught.parts().len(), most);
    assert_eq!(taught.about().told.len(), n);
    assert_eq!(taught.about().promise().unwrap().parts, n);
    let scores = taught.about().scores();
    assert_eq!(scores.len(), n);
    assert!(scores.iter().all(|s| *s <= LIMIT + 1e-6));
}

/// Parts turned or lit otherwise are as good as the others; a part's own views do not vouch for it.
#[test]
fn views_are_learned_with_their_part() {
    let views = Views {
        rotations: 2,
        brightness: 10,
    };
    for kind in KINDS {
        let settings = Settings {
            views,
            ..settings(Some(kind))
        };
        let mut lesson = Lesson::new(LAYOUT, settings.clone()).unwrap();
        let mut plain = self::lesson(Some(kind), 0);
        for i in 0..10 {
            assert_eq!(lesson.wants_views(), views);
            lesson.part(&i.to_string(), &good(i), ZERO).unwrap();
            plain.part(&i.to_string(), &good(i), ZERO).unwrap();
            // As a part with what counts as a defect otherwise would look.
            for view in 0..3 {
                lesson.view(&bad(40 + 3 * i + view, 10..13)).unwrap();
            }
        }
        let mut taught = lesson.finish("encoder", "f32").unwrap();
        assert_eq!(taught.about().told.len(), 10);
        assert_eq!(taught.about().views, [4; 10]);
        assert_eq!(taught.parts().len(), 40);
        let mut plain = plain.finish("encoder", "f32").unwrap();
        let mut map = vec![];
        let zero_map = vec![0.5; LAYOUT.places()];
        let mut memory = |taught: &mut Taught| {
            let judged = taught.judge(&bad(90, 10..13), &[0.4], &zero_map, &mut map);
            judged.unwrap().memory
        };
        let (with, without) = (memory(&mut taught), memory(&mut plain));
        assert!(with < 0.7 * without, "{kind:?}: {with} and {without}");
        // From a file, and gone on with by parts without views.
        let mut back = Taught::from_bytes(&taught.bytes().unwrap()).unwrap();
        assert_eq!(memory(&mut back), with, "{kind:?}");
        let mut more = Lesson::resume(&back, self::settings(Some(kind))).unwrap();
        assert!(more.forget("3"));
        more.part("new", &good(91), ZERO).unwrap();
        let more = more.finish("encoder", "f32").unwrap();
        let want: Vec<usize> = [vec![4; 9], vec![1]].concat();
        assert_eq!(
            (more.about().views.clone(), more.about().told.len()),
            (want, 10)
        );
    }
    // No view of the odd part makes it less odd.
    let settings = Settings {
        views,
        ..settings(Some(Kind::Position))
    };
    let mut lesson = Lesson::new(LAYOUT, settings).unwrap();
    for i in 0..12 {
        let part = if i == 7 { bad(7, 10..13) } else { good(i) };
        lesson.part(&i.to_string(), &part, ZERO).unwrap();
        (0..3).for_each(|_| lesson.view(&part).unwrap());
    }
    let taught = lesson.finish("encoder", "f32").unwrap();
    let judged = taught.about().judged();
    assert!(judged[0].name == "7" && judged[0].is_odd(), "{judged:?}");
}

#[test]
fn few_parts_can_be_taught_and_one_promises_nothing() {
    for n in [1, 2, 3] {
        for kind in KINDS {
            let mut taught = lesson(Some(kind), n).finish("encoder", "f32").unwrap();
            // Two parts leave each other no variance.
            let fewest = if kind == Kind::Gaussian { 3 } else { 2 };
            assert_eq!(taught.about().promise().is_none(), n < fewest);
            let (mut map, zero_map) = (vec![], vec![0.5; LAYOUT.places()]);
            let mut score = |part: &[f32]| {
                let outcome = taught.judge(part, &[0.4], &zero_map, &mut map);
                outcome.unwrap().score
            };
            let (clean, defect) = (score(&good(30)), score(&bad(30, 3..9)));
            assert!(clean < defect, "{n} {kind:?}: {clean} and {defect}");
        }
    }
    assert!(lesson(None, 0).finish("encoder", "f32").is_err());
}

#[test]
fn both_distances_count_alike_and_no_part_says_what_is_usual_of_itself() {
    let parts: Vec<Rows> = (0..6)
        .map(|i| Rows::of(&good(i), LAYOUT.dim).unwrap())
        .collect();
    let all = Learned::new(&parts, &[]);
    let held_out = |kind, learned: &Learned| {
        let mut memory = Memory::learn(kind, LAYOUT, learned, None).unwrap();
        memory.held_out(learned).unwrap().unwrap()
    };
    let (near, residual) = (held_out(Kind::Position, &all), held_out(Kind::Pca, &all));
    let mean = |values: Vec<f32>| values.iter().sum::<f32>() / values.len() as f32;
    // What is usual for the parts that `counts` names: of the nearest patch, of the residual at a place.
    let usual = |place: usize, counts: &dyn Fn(usize) -> bool| {
        let of = |maps: &[Vec<f32>]| -> Vec<Vec<f32>> {
            let kept = maps.iter().enumerate().filter(|(i, _)| counts(*i));
            kept.map(|(_, map)| map.clone()).collect()
        };
        let (near, residual) = (of(&near), of(&residual));
        let here = mean(residual.iter().map(|map| map[place]).collect());
        (mean(near.concat()), 0.5 * (here + mean(residual.concat())))
    };
    let got = held_out(Kind::Combined, &all);
    for (i, map) in got.iter().enumerate() {
        for (place, got) in map.iter().enumerate() {
            let (n, r) = usual(place, &|other| other != i);
            let want = 0.5 * (near[i][place] / n + residual[i][place] / r);
            assert!((got - want).abs() < 1e-3, "{i} {place}: {got} for {want}");
        }
    }
    // A new part is judged by what is usual of all of them.
    let (new, mut maps) = (good(60), [vec![], vec![], vec![]]);
    for (kind, map) in [Kind::Position, Kind::Pca, Kind::Combined]
        .into_iter()
        .zip(&mut maps)
    {
        let mut memory = Memory::learn(kind, LAYOUT, &all, None).unwrap();
        memory.judge(&new, map).unwrap();
    }
    for (place, got) in maps[2].iter().enumerate() {
        let (n, r) = usual(place, &|_| true);
        let want = 0.5 * (maps[0][place] / n + maps[1][place] / r);
        assert!((got - want).abs() < 1e-3, "{place}: {got} for {want}");
    }
}

#[test]
fn the_default_is_combined_as_soon_as_a_part_can_be_held_out() {
    let of = |kind, parts| {
        let taught = lesson(kind, parts).finish("encoder", "f32").unwrap();
        taught.about().kind
    };
    assert_eq!((of(None, 1), of(None, 2)), (Kind::Position, Kind::Combined));
    assert_eq!(of(Some(Kind::Combined), 1), Kind::Position);
    assert_eq!(of(Some(Kind::Anywhere), 12), Kind::Anywhere);
}

/// Brightness and sharpness of part number `i`.
fn light(i: u64) -> Light {
    Light {
        brightness: 100.0 + i as f32,
        sharpness: 0.5 - i as f32 / 64.0,
    }
}

#[test]
fn the_light_of_the_taught_parts_is_kept_with_them() {
    let range = |taught: &Taught| {
        let TaughtLight {
            brightness: b,
            sharpness: s,
        } = taught.about().light()?;
        Some([b.least, b.most, s.least, s.most])
    };
    let mut lesson = Lesson::new(LAYOUT, settings(Some(Kind::Position))).unwrap();
    lesson.lit(light(50));
    for i in 0..8 {
        lesson.part(&format!("{i}"), &good(i), ZERO).unwrap();
        lesson.lit(light(i));
    }
    let taught = lesson.finish("e", "f32").unwrap();
    assert_eq!(range(&taught), Some([100.0, 107.0, 0.390625, 0.5]));
    let back = Taught::from_bytes(&taught.bytes().unwrap()).unwrap();
    assert_eq!(range(&back), range(&taught));
    // More is taught, and the darkest part is taken out.
    let mut more = Lesson::resume(&back, settings(Some(Kind::Position))).unwrap();
    more.part("8", &good(8), ZERO).unwrap();
    more.lit(light(8));
    assert!(more.forget("0"));
    let more = more.finish("e", "f32").unwrap();
    assert_eq!(range(&more), Some([101.0, 108.0, 0.375, 0.484375]));
    // Files of before have no light, and are read.
    let old = lesson_of_before().finish("e", "f32").unwrap();
    let text = serde_json::to_string(old.about()).unwrap();
    assert!(!text.contains("light"), "{text}");
    assert_eq!(
        range(&Taught::from_bytes(&old.bytes().unwrap()).unwrap()),
        None
    );
}

/// Parts of which nobody said how bright they were.
fn lesson_of_before() -> Lesson {
    lesson(Some(Kind::Position), 6)
}

/// A line of parts like those that were taught: its watch, and the scores of parts to come.
fn line(seed: u64, taught_parts: u64, parts: u64, shift: f32) -> (Watch, Vec<f32>) {
    const SMALL: Layout = Layout {
        grid: 3,
        tiles: Tiling::WHOLE,
        dim: 8,
    };
    let n = SMALL.places() * SMALL.dim;
    let base = numbers(n, 1);
    let part = |i: u64, shift: f32| -> (Vec<f32>, ZeroShot) {
        // Seeds one after the other give numbers that depend on each other: they are mixed (SplitMix64).
        let mut mixed = (seed << 32 | i).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let own = numbers(n + 1, mixed ^ (mixed >> 31));
        let descriptors = base.iter().zip(&own).map(|(b, o)| b + (0.1 + shift) * o);
        let score = 0.4 + 0.05 * own[n];
        (descriptors.collect(), ZeroShot { score, ..ZERO })
    };
    let mut lesson = Lesson::new(SMALL, settings(Some(Kind::Position))).unwrap();
    // More than are learned: the last ones are held out.
    for i in 0..taught_parts {
        let (descriptors, zero_shot) = part(i, 0.0);
        lesson.part("", &descriptors, zero_shot).unwrap();
    }
    let mut taught = lesson.finish("e", "f32").unwrap();
    let watch = Watch::new(&taught, LIMIT, seed);
    let mut map = vec![];
    let judged = (0..parts).map(|i| {
        let (descriptors, zero_shot) = part(1000 + i, shift);
        let scores = [zero_shot.score];
        let outcome = taught.judge(&descriptors, &scores, &[0.4; 9], &mut map);
        let memory = outcome.unwrap().memory;
        taught.about().score(memory, zero_shot.score)
    });
    let scores = judged.collect();
    (watch, scores)
}

#[test]
fn a_taught_line_that_does_not_change_raises_no_alarm() {
    let mut alarms = 0;
    for seed in 0..200 {
        let taught_parts = [20, 84][(seed % 2) as usize];
        let (mut watch, scores) = line(seed, taught_parts, 500, 0.0);
        alarms += u32::from(scores.iter().any(|s| watch.part(*s) == Some(true)));
    }
    // At most 1 of 100 on average: 6 or more of 200 have a chance of 2 %.
    assert!(alarms <= 5, "{alarms} false alarms on 200 lines");
}

#[test]
fn a_taught_line_that_changes_raises_an_alarm() {
    let (mut watch, quiet) = line(1, 20, 200, 0.0);
    assert!(!quiet.iter().any(|s| watch.part(*s) == Some(true)));
    // Parts with a little more noise, most of which still pass.
    let (_, changed) = line(1, 20, 600, 0.02);
    let passed: Vec<bool> = changed.iter().filter_map(|s| watch.part(*s)).collect();
    let alarms = passed.iter().filter(|changed| **changed).count();
    let first = passed.iter().position(|changed| *changed);
    assert!(
        first.is_some_and(|n| n < 150) && alarms >= 1,
        "{first:?} of {}, {alarms}",
        passed.len()
    );
    // A reject counts for nothing here, nor does NaN.
    assert_eq!((watch.part(0.9), watch.part(f32::NAN)), (None, None));
    assert!(watch.is_for(LIMIT) && watch.is_for(0.8) && !watch.is_for(0.3));
}
