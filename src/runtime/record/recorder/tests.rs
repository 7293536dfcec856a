use super::*;
use crate::capture::known_frame;
use crate::control::host::Lost;
use crate::inspector::Inspection;
use crate::line::{AlarmSet, Statistics};
use crate::runtime::record::{Judgement, Picture, RecordSender};

struct Bench {
    folder: tempfile::TempDir,
    shared: Arc<Shared>,
    outcomes: RecordSender,
    judge: RecordSender,
    recorder: Recorder,
}

impl Bench {
    fn new() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let settings = crate::control::Values::default().settings().unwrap();
        let shared = Arc::new(Shared::new(
            &settings,
            Statistics::default(),
            AlarmSet::NONE,
        ));
        let (outcomes, mut judges, records) = Records::new(1);
        let recorder = Recorder::create(
            (folder.path(), false, false),
            records,
            (shared.clone(), Sign::default()),
        )
        .unwrap();
        let judge = judges.remove(0);
        Bench {
            folder,
            shared,
            outcomes,
            judge,
            recorder,
        }
    }

    /// What a network sends of a part that it rejects; whether a picture was among it.
    fn judged(&mut self, part: u64) -> bool {
        let part = PartId(part);
        let picture = self.judge.takes_a_picture(&self.shared);
        let judgement = Judgement {
            score: Some(0.7),
            name: format!("{}.png", part.0),
            defective: None,
            error: None,
            network: None,
            threshold: 0.5,
            picture,
            shows: false,
            sample: false,
        };
        let view = View::FIRST;
        let judged = Record::Judged {
            part,
            view,
            judgement,
        };
        self.judge.send(&self.shared, judged);
        if picture {
            let picture = Box::new(Picture {
                frame: known_frame(),
                inspection: Some(Inspection::blank(4, 32)),
            });
            let record = Record::Picture {
                part,
                view,
                picture,
            };
            self.judge.send(&self.shared, record);
        }
        picture
    }

    fn outcome(&mut self, part: u64, outcome: Outcome) {
        self.outcomes
            .send(&self.shared, Record::unjudged(part, outcome));
    }

    fn write(&mut self) {
        while let Some(record) = self.recorder.try_next() {
            self.recorder.take(record);
        }
    }

    fn pictures(&self) -> usize {
        let all = walkdir::WalkDir::new(self.folder.path().join("archive"));
        let about = |e: &walkdir::DirEntry| e.path().extension().is_some_and(|e| e == "json");
        all.into_iter().map(Result::unwrap).filter(about).count()
    }
}

#[test]
fn pictures_of_late_parts_are_kept_and_take_no_room_for_ever() {
    let late = Outcome::RejectBecause(crate::line::Cause::Late);
    let mut bench = Bench::new();
    for part in 0..30 {
        bench.outcome(part, late);
        bench.write();
        assert!(bench.judged(part), "room for part {part}");
        bench.write();
    }
    assert_eq!(bench.pictures(), 30);
    assert!(bench.recorder.known.is_empty());
    assert_eq!(bench.shared.pictures_lost.load(Ordering::Relaxed), 0);
    // And one that is in time, after them.
    assert!(bench.judged(30));
    bench.outcome(30, Outcome::Reject);
    bench.write();
    assert_eq!(bench.pictures(), 31);
}

#[test]
fn a_picture_that_finds_no_room_is_counted() {
    let mut bench = Bench::new();
    let taken = (0..30).filter(|part| bench.judged(*part)).count();
    assert_eq!(taken, PICTURES);
    let lost = |bench: &Bench| bench.shared.pictures_lost.load(Ordering::Relaxed);
    assert_eq!(lost(&bench), 6);
    (0..30).for_each(|part| bench.outcome(part, Outcome::Reject));
    bench.write();
    assert_eq!(bench.pictures(), PICTURES);
    assert!(bench.judged(30), "there is room again");
    assert_eq!((lost(&bench), bench.recorder.known.len()), (6, 0));
}

#[test]
fn what_cannot_be_written_is_counted_at_once_and_each_kind_for_itself() {
    let mut bench = Bench::new();
    let [verdicts, archive] = ["verdicts.jsonl", "archive"].map(|f| bench.folder.path().join(f));
    let mut part = 0;
    let mut rejects = |bench: &mut Bench, count| {
        for _ in 0..count {
            assert!(bench.judged(part));
            bench.outcome(part, Outcome::Reject);
            bench.write();
            part += 1;
        }
        let Lost { lines, pictures } = bench.shared.snapshot().lost;
        (lines, pictures)
    };
    assert_eq!(rejects(&mut bench, 1), (0, 0));
    // Whoever runs the tests may write everywhere, but no file in place of a folder.
    std::fs::remove_dir_all(&archive).unwrap();
    std::fs::write(&archive, "").unwrap();
    assert_eq!(rejects(&mut bench, 2), (0, 2));
    std::fs::remove_file(&verdicts).unwrap();
    std::fs::create_dir(&verdicts).unwrap();
    assert_eq!(rejects(&mut bench, 3), (3, 5));
    std::fs::remove_file(&archive).unwrap();
    std::fs::remove_dir(&verdicts).unwrap();
    assert_eq!(rejects(&mut bench, 4), (3, 5));
    let lines = std::fs::read_to_string(&verdicts).unwrap();
    assert_eq!((lines.lines().count(), bench.pictures()), (4, 4));
    let unwritten = bench.shared.pictures_unwritten.load(Ordering::Relaxed);
    assert_eq!(unwritten, 5);
}

#[test]
fn a_judgement_is_there_before_its_outcome_over_whichever_lane_it_came() {
    let mut bench = Bench::new();
    for part in 0..100 {
        bench.judged(part);
        bench.outcome(part, Outcome::Good);
    }
    bench.write();
    let lines = std::fs::read_to_string(bench.folder.path().join("verdicts.jsonl")).unwrap();
    let named = lines.lines().filter(|l| l.contains(".png"));
    assert_eq!((named.count(), lines.lines().count()), (100, 100));
    let first: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    let utc: jiff::Timestamp = first["utc"].as_str().unwrap().parse().unwrap();
    let now = jiff::Timestamp::now();
    assert!(utc < now && first["at_us"] == 1);
}
