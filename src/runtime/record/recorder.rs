//! The thread that writes results, alarms and pictures to disk.

use super::entries::{Event, EventLine, Known, PartLine, Seen, ViewLine};
use super::folder::Folder;
use super::losses::{Kind, Losses};
use super::overlay::{KEPT, Overlay, SHOWN, jpeg};
use super::pictures::{About, Age};
use super::{PICTURES, Record, Records};
use crate::control::host::PartResult;
use crate::control::session::outcome_words;
use crate::line::{Lane, Micros, Outcome, PartId, VIEWS, View};
use crate::report::{say, warn};
use crate::runtime::archive::Keep;
use crate::runtime::shared::{Shared, lock};
use crate::runtime::system::utc;
use crate::runtime::threads::Sign;
use std::collections::BTreeMap;
use std::io::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

/// Longest time between two signs of life of this thread while there is nothing to write.
const BEAT: Duration = Duration::from_millis(250);
/// Parts that are remembered at most: more than the belt holds.
const REMEMBERED: usize = 2048;

/// A file or folder that could not be opened, and why.
pub type Failed = (PathBuf, Error);

/// State of the recorder's thread.
pub struct Recorder {
    records: Records,
    /// An outcome that waits for the judgements that were sent before it.
    behind: Option<Record>,
    shared: Arc<Shared>,
    sign: Sign,
    /// Whether a line per part goes to standard output.
    say: bool,
    folder: Folder,
    losses: Losses,
    known: BTreeMap<PartId, Known>,
}

impl Recorder {
    /// Opens the folder of results. With `keep`, the results of earlier runs are kept: new lines come behind theirs,
    /// their pictures stay until they are the oldest. Without `keep` they would pass for this run's, and are removed.
    /// With `say`, a line per part goes to standard output. While the folder cannot be written, records are
    /// counted as lost.
    ///
    /// # Errors
    /// The folder, if another program has it.
    pub fn create(
        (out, keep, say): (&Path, bool, bool),
        records: Records,
        (shared, sign): (Arc<Shared>, Sign),
    ) -> Result<Recorder, Failed> {
        let mut recorder = Recorder {
            records,
            behind: None,
            shared,
            sign,
            say,
            folder: Folder::new(out, keep)?,
            losses: Losses::default(),
            known: BTreeMap::new(),
        };
        recorder.look();
        Ok(recorder)
    }

    /// Publishes whether the folder can be written; tries to open it again if it is time.
    fn look(&mut self) {
        let closed = self.folder.files().is_err();
        self.shared.unwritten.store(closed, Ordering::Relaxed);
    }

    /// Writes records until no sender is left.
    pub fn run(mut self) {
        loop {
            self.sign.beat();
            self.look();
            match self.next() {
                Ok(record) => self.take(record),
                Err(RecvTimeoutError::Timeout) => (),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// The next record, if there is one. What a network sent about a part before its verdict comes before the
    /// part's outcome, whichever lanes they came over.
    fn try_next(&mut self) -> Option<Record> {
        if self.behind.is_none() {
            self.behind = self.records.mailbox.try_recv_first();
        }
        let before = self.records.mailbox.try_recv_others();
        before.or_else(|| self.behind.take())
    }

    fn next(&mut self) -> Result<Record, RecvTimeoutError> {
        loop {
            if let Some(record) = self.try_next() {
                return Ok(record);
            }
            match self.records.mailbox.recv_timeout(BEAT)? {
                judged @ (Record::Judged { .. } | Record::Picture { .. }) => return Ok(judged),
                other => self.behind = Some(other),
            }
        }
    }

    fn take(&mut self, record: Record) {
        match record {
            Record::Judged {
                part,
                view,
                judgement,
            } => {
                self.part(part).views[view.index()].judgement = Some(judgement);
                self.settle(part);
            }
            Record::Picture {
                part,
                view,
                picture,
            } => {
                self.part(part).views[view.index()].picture = Some(picture);
                self.settle(part);
            }
            Record::Outcome {
                result,
                triggered,
                due,
                at,
            } => self.outcome(result, triggered, due, at),
            Record::Alarm { alarm, at } => {
                warn(format_args!("alarm {}: {alarm:?}", alarm as u8));
                let event = Event::Alarm {
                    number: alarm as u8,
                    alarm: format!("{alarm:?}"),
                };
                self.event(event, at);
            }
            Record::Reset { alarms, at } => {
                let alarms = alarms.bits();
                self.event(Event::Reset { alarms }, at);
            }
            Record::Challenge { report, at } => {
                say(format_args!(
                    "challenge: {} of {} test pieces detected, {} missed, {} not judged",
                    report.detected, report.pieces, report.missed, report.not_judged
                ));
                let event = Event::Challenge {
                    pieces: report.pieces,
                    detected: report.detected,
                    missed: report.missed,
                    not_judged: report.not_judged,
                };
                self.event(event, at);
            }
        }
    }

    fn event(&mut self, event: Event, at: Micros) {
        let line = EventLine {
            event,
            at_us: at.0,
            utc: utc(at),
        };
        let (shared, losses) = (&self.shared, &mut self.losses);
        let news = match self.folder.files() {
            Ok(files) => {
                let written = files.events.write(&line);
                losses.note(shared, Kind::Events, files.events.path(), written)
            }
            Err((path, e)) => losses.note(shared, Kind::Events, path, Err(e)),
        };
        news.into_iter().for_each(warn);
    }

    /// The entry of a part, made if there is none; the oldest is dropped if there are too many.
    fn part(&mut self, part: PartId) -> &mut Known {
        if self.known.len() >= REMEMBERED
            && !self.known.contains_key(&part)
            && let Some((_, known)) = self.known.pop_first()
        {
            for _ in known.views.iter().filter(|seen| seen.picture.is_some()) {
                self.picture_is_done();
                self.shared.pictures_lost.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.known.entry(part).or_default()
    }

    fn outcome(&mut self, result: PartResult, triggered: Micros, due: u64, at: Micros) {
        self.shared.tell(result);
        let known = self.known.get(&result.part);
        let by_score = matches!(result.outcome, Outcome::Good | Outcome::Reject);
        let teller = known.map_or(result.view, |k| k.teller(result.view, by_score));
        let judgement = known.and_then(|k| k.views[teller.index()].judgement.as_ref());
        let several = self.shared.cameras > 1;
        // Of a part that none could look at no camera is the one that decided it.
        let looked = |k: &Known| k.views.iter().any(|seen| seen.judgement.is_some());
        let decided = several && known.is_some_and(looked);
        let views = known.filter(|_| several).into_iter().flat_map(|known| {
            let seen = View::ALL.into_iter().zip(&known.views);
            seen.filter_map(|(view, seen)| Some(ViewLine::of(view, seen.judgement.as_ref()?)))
        });
        let (name, error) = judgement.map_or(("", None), |j| (j.name.as_str(), j.error.as_deref()));
        let warning = match judgement.and_then(|j| j.network.as_ref()) {
            Some(network) => network.warning,
            None => (self.shared.judging().network.as_ref()).and_then(|n| n.warning),
        };
        let network = judgement.and_then(|j| j.network.as_deref());
        let kind = result.type_name(network.map_or(&[], |n| &n.types));
        let line = PartLine {
            part: result.part.0,
            name,
            outcome: result.outcome.word(),
            score: result.score,
            zero_shot: result.opinions.map(|o| o.zero_shot),
            memory: result.opinions.map(|o| o.memory),
            latency_ms: result.latency_us.map(|us| us as f64 / 1000.0),
            triggered_us: triggered.0,
            due,
            at_us: at.0,
            utc: utc(at),
            error,
            warning,
            kind,
            type_share: result.share,
            lane: result.lane.map(Lane::get),
            camera: decided.then(|| teller.number()),
            views: views.collect(),
        };
        let (shared, losses) = (&self.shared, &mut self.losses);
        let news = match self.folder.files() {
            Ok(files) => {
                let written = files.verdicts.write(&line);
                losses.note(shared, Kind::Results, files.verdicts.path(), written)
            }
            Err((path, e)) => losses.note(shared, Kind::Results, path, Err(e)),
        };
        news.into_iter().for_each(warn);
        if self.say {
            let number = |v: Option<String>| v.unwrap_or_else(|| "-".into());
            // Most errors begin with the name of what failed, which is the part's name here.
            let shown = match error {
                Some(error) if error.starts_with(name) => "",
                _ => name,
            };
            let mut sorted = kind.map_or_else(String::new, |kind| format!(" {kind}"));
            if let Some(lane) = line.lane {
                sorted += &format!(" (lane {lane})");
            }
            say(format_args!(
                "part {:4}  {:24} {:>6} {:>9} ms  {shown} {}{sorted}",
                line.part,
                line.outcome,
                number(line.score.map(|s| format!("{s:.4}"))),
                number(line.latency_ms.map(|ms| format!("{ms:.1}"))),
                error.unwrap_or_default()
            ));
        }
        let judgements = known.into_iter().flat_map(|k| &k.views);
        let mut judgements = judgements.filter_map(|seen| seen.judgement.as_ref());
        if judgements.any(|j| j.defective == Some(true)) {
            let mut truth = lock(&self.shared.truth);
            truth.defective += 1;
            truth.rejected += u64::from(result.outcome.is_reject());
        }
        self.part(result.part).outcome = Some((result, at));
        self.settle(result.part);
    }

    /// Draws the pictures of a part once it has its outcome, and forgets it when nothing more is to come.
    fn settle(&mut self, part: PartId) {
        let Some(known) = self.known.get_mut(&part) else {
            return;
        };
        let Some((result, at)) = known.outcome else {
            return;
        };
        let awaited = |seen: &Seen| match &seen.judgement {
            Some(judgement) => judgement.picture && seen.picture.is_none(),
            None => true,
        };
        let cameras = &known.views[..self.shared.cameras.min(VIEWS)];
        let done = !cameras.iter().any(awaited);
        let several = cameras.len() > 1;
        let views = known.views.each_mut().map(|seen| {
            let picture = seen.judgement.is_some().then(|| seen.picture.take());
            picture.flatten()
        });
        for (view, picture) in View::ALL.into_iter().zip(views) {
            let Some(picture) = picture else {
                continue;
            };
            self.picture_is_done();
            let judgement = self.known.get_mut(&part);
            let judgement = judgement.and_then(|k| k.views[view.index()].judgement.take());
            let Some(mut judgement) = judgement else {
                continue;
            };
            let overlay = Overlay {
                result,
                view: several.then_some(view),
                judgement: judgement.clone(),
                picture: *picture,
                at,
            };
            let live = Arc::clone(&self.shared.live);
            let live = &live[view.index()];
            if self.keeps(result.outcome, judgement.sample) {
                match overlay.jpeg(KEPT) {
                    Ok(jpeg) => {
                        self.keep(&overlay, &jpeg);
                        if judgement.shows {
                            live.show(part, jpeg);
                        }
                    }
                    Err(e) => {
                        self.shared.pictures_lost.fetch_add(1, Ordering::Relaxed);
                        log::warn!("part {}: its picture cannot be drawn: {e}", part.0);
                    }
                }
            } else if judgement.shows {
                // For the page alone: its own thread draws it, if somebody still looks.
                live.offer(part, Box::new(move || overlay.jpeg(SHOWN)));
            }
            // Until those of the other views have come, too.
            judgement.picture = false;
            if let Some(known) = self.known.get_mut(&part) {
                known.views[view.index()].judgement = Some(judgement);
            }
        }
        if done {
            self.known.remove(&part);
        }
    }

    /// Whether a picture that the network asked to keep is kept: the archive's settings may have changed since.
    fn keeps(&self, outcome: Outcome, sample: bool) -> bool {
        match self.shared.archive().keep {
            Keep::Nothing => false,
            Keep::Rejects => outcome.is_reject() || sample,
            Keep::All => true,
        }
    }

    fn picture_is_done(&self) {
        let waiting = self.records.pictures.fetch_sub(1, Ordering::Relaxed);
        debug_assert!((1..=PICTURES).contains(&waiting), "{waiting}");
    }

    /// Puts a part into the archive: its frame, and the overlay as a JPEG file.
    fn keep(&mut self, overlay: &Overlay, drawn: &[u8]) {
        let Overlay {
            result,
            view,
            judgement,
            picture,
            at,
        } = overlay;
        let archive = self.shared.archive();
        let (_, cause) = outcome_words(result.outcome);
        let network = judgement.network.as_deref();
        let kind = result.type_name(network.map_or(&[], |n| &n.types));
        let about = About {
            part: result.part.0,
            name: judgement.name.clone(),
            camera: view.map(View::number),
            utc: utc(*at),
            reject: result.outcome.is_reject(),
            cause: cause.map(String::from),
            kind: kind.map(String::from),
            score: view.map_or(result.score, |_| judgement.score),
            threshold: judgement.threshold,
            recipe: self.shared.recipe().to_string(),
            network: network.map_or_else(String::new, |n| n.name.clone()),
            good: None,
            note: String::new(),
        };
        let (shared, losses) = (&self.shared, &mut self.losses);
        let news = match self.folder.files() {
            Ok(files) => {
                let pictures = &mut files.pictures;
                let written = pictures.stem(&about).and_then(|stem| {
                    let frame = jpeg(&picture.frame, KEPT);
                    let frame = frame.map_err(|e| (stem.clone(), Error::other(e)))?;
                    pictures.write(stem, (&frame, drawn), &about)
                });
                let age = archive.days.and_then(|days| Age::new(&about.utc, days));
                pictures.make_room(u64::from(archive.limit_mb) * 1_000_000, age.as_ref());
                match written {
                    Ok(()) => {
                        let done = Ok::<_, Error>(());
                        losses.note(shared, Kind::Pictures, pictures.folder(), done)
                    }
                    Err((path, e)) => losses.note(shared, Kind::Pictures, &path, Err(e)),
                }
            }
            Err((path, e)) => losses.note(shared, Kind::Pictures, path, Err(e)),
        };
        news.into_iter().for_each(warn);
    }
}

#[cfg(test)]
mod tests;
