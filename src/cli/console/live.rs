//! The live view: the last parts' scores against the threshold, counters, mode and alarms.
//!
//! Must restore the terminal, whatever happens.

use super::link::{Answer, Link, News};
use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::crossterm::{cursor, execute};
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Chart, Dataset, GraphType, Paragraph};
use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

/// Parts that are kept: one bar for each in the widest of terminals.
const PARTS: usize = 500;

/// Columns of the chart besides its bars: border, labels, axis.
const MARGIN: u16 = 8;

/// How often the picture is drawn and keys are read.
const FRAME: Duration = Duration::from_millis(100);

/// The commands that the station is asked in turn, and the time between two of them. At 9,600 baud COUNTERS takes a
/// second of the line.
const QUESTIONS: [&str; 4] = ["STATUS", "ALARMS", "GET threshold", "COUNTERS"];
const EVERY: Duration = Duration::from_millis(300);

/// After this time without an answer the question is asked again.
const PATIENCE: Duration = Duration::from_secs(5);

const KEYS: &str = "q leave   space hold the picture";

/// Whether the live view has the terminal.
static SHOWN: AtomicBool = AtomicBool::new(false);

/// Restores the terminal if the live view has it.
pub fn give_back() {
    if SHOWN.swap(false, Ordering::Relaxed) {
        ratatui::restore();
        let _ = execute!(io::stdout(), cursor::Show);
    }
}

struct Screen;

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// A part, as its line of RESULT reports it.
#[derive(Clone, Debug, PartialEq)]
struct Part {
    number: u64,
    score: Option<f64>,
    reject: bool,
    /// Outcome, cause and latency, as text for people.
    text: String,
}

/// Parses `RESULT,part,outcome,cause,score,latency`, or the same as JSON.
fn part(line: &str) -> Option<Part> {
    let result = line.strip_prefix("RESULT,")?;
    if result.starts_with('{') {
        let json: serde_json::Value = serde_json::from_str(result).ok()?;
        let text = |key| json.get(key).and_then(|v| v.as_str());
        let number = |key| json.get(key).and_then(serde_json::Value::as_f64);
        let latency = number("latency_ms").map(|ms| ms.to_string());
        return Part::new(
            json.get("part")?.as_u64()?,
            text("outcome")?,
            text("cause").unwrap_or("-"),
            number("score"),
            latency.as_deref().unwrap_or("-"),
        );
    }
    let mut words = result.split(',');
    let mut word = || words.next();
    let (number, outcome, cause, score) = (word()?.parse().ok()?, word()?, word()?, word()?);
    Part::new(number, outcome, cause, score.parse().ok(), word()?)
}

impl Part {
    fn new(
        number: u64,
        outcome: &str,
        cause: &str,
        score: Option<f64>,
        latency: &str,
    ) -> Option<Part> {
        let shown = score.map_or("-".to_string(), |s| format!("{s:.4}"));
        let reject = match outcome {
            "good" => false,
            "reject" => true,
            _ => return None,
        };
        let text = format!("part {number}  {outcome}  {cause}  score {shown}  {latency} ms");
        let score = score.filter(|s| s.is_finite());
        Some(Part {
            number,
            score,
            reject,
            text,
        })
    }
}

/// State of the live view.
#[derive(Debug, Default)]
struct Picture {
    title: String,
    parts: VecDeque<Part>,
    threshold: Option<f64>,
    /// The pairs `key=value` of STATUS.
    status: Vec<(String, String)>,
    counters: Vec<(String, String)>,
    alarms: Vec<String>,
    /// Why nothing new comes; `None`: it does.
    lost: Option<String>,
    held: bool,
}

impl Picture {
    fn news(&mut self, news: News) {
        match news {
            News::Lost(why) => self.lost = Some(why),
            News::Back => self.lost = None,
            News::Line(_) if self.held => (),
            News::Line(line) => {
                if let Some(part) = part(&line) {
                    self.parts.push_back(part);
                    if self.parts.len() > PARTS {
                        self.parts.pop_front();
                    }
                }
            }
        }
    }

    fn answer(&mut self, answer: &Answer) {
        let Some((first, more)) = answer.split_first() else {
            return;
        };
        let mut words = first.split(',');
        let (ok, verb) = (words.next(), words.next());
        if ok != Some("OK") || self.held {
            return;
        }
        let pair = |line: &str| {
            let mut words = line.split(',').skip(1).map(str::to_string);
            words.next().zip(words.next())
        };
        match verb {
            Some("STATUS") => {
                let pairs = words.filter_map(|w| w.split_once('='));
                self.status = pairs.map(|(k, v)| (k.to_string(), v.to_string())).collect();
            }
            Some("GET") => self.threshold = words.nth(1).and_then(|t| t.parse().ok()),
            Some("COUNTERS") => self.counters = more.iter().filter_map(|l| pair(l)).collect(),
            Some("ALARMS") => {
                let pairs = more.iter().filter_map(|l| pair(l));
                self.alarms = pairs
                    .map(|(number, name)| format!("{number} {name}"))
                    .collect();
            }
            _ => (),
        }
    }

    fn status(&self, key: &str) -> &str {
        let found = self.status.iter().find(|(k, _)| k == key);
        found.map_or("-", |(_, value)| value)
    }

    fn counter(&self, name: &str) -> &str {
        let found = self.counters.iter().find(|(k, _)| k == name);
        found.map_or("-", |(_, value)| value)
    }

    fn draw(&self, frame: &mut Frame<'_>) {
        let [head, chart, last, counters, keys] = Layout::vertical([
            Constraint::Length(2),
            Constraint::Min(5),
            Constraint::Length(1),
            Constraint::Length(4),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        frame.render_widget(self.head(), head);
        self.draw_chart(frame, chart);
        let text = self.parts.back().map_or("no part yet", |p| &p.text);
        frame.render_widget(Paragraph::new(text), last);
        frame.render_widget(self.counted(), counters);
        frame.render_widget(Paragraph::new(KEYS).dim(), keys);
    }

    fn head(&self) -> Paragraph<'_> {
        let red = Style::new().fg(Color::White).bg(Color::Red);
        let mode = self.status("mode");
        let mut first = vec![Span::raw(self.title.as_str()), Span::raw("  ")];
        first.push(match mode {
            "running" => Span::styled(mode, Style::new().fg(Color::Green)),
            _ => Span::styled(mode, red),
        });
        first.push(Span::raw(format!("  recipe {}", self.status("recipe"))));
        if self.held {
            first.push(Span::styled(
                "  held",
                Style::new().add_modifier(Modifier::REVERSED),
            ));
        }
        let second = match (&self.lost, self.alarms.is_empty()) {
            (Some(why), _) => Line::styled(format!("adapter gone: {why}; waiting for it"), red),
            (None, false) => Line::styled(format!("alarms: {}", self.alarms.join(", ")), red),
            (None, true) => Line::raw("no alarms"),
        };
        Paragraph::new(vec![Line::from(first), second])
    }

    fn counted(&self) -> Paragraph<'_> {
        let of = |name| self.counter(name);
        // Only causes that have occurred.
        let reasons = self.counters.iter().filter(|(name, count)| {
            let reason = name.strip_prefix("rejects_");
            reason.is_some_and(|r| !matches!(r, "confirmed" | "unconfirmed")) && count != "0"
        });
        let reasons: Vec<_> = reasons
            .map(|(name, count)| format!("{} {count}", &name[8..]))
            .collect();
        Paragraph::new(vec![
            Line::raw(format!(
                "parts {}  good {}  rejects by score {}",
                of("parts"),
                of("good"),
                of("rejects")
            )),
            Line::raw(format!("rejects without a verdict: {}", reasons.join("  "))),
            Line::raw(format!(
                "latency ms: min {}  mean {}  p99 {}  max {}",
                of("latency_min_ms"),
                of("latency_mean_ms"),
                of("latency_p99_ms"),
                of("latency_max_ms")
            )),
            Line::raw(format!(
                "self-test {}  memory {}",
                self.status("self_test"),
                self.status("memory")
            )),
        ])
    }

    fn draw_chart(&self, frame: &mut Frame<'_>, area: Rect) {
        let columns = area.width.saturating_sub(MARGIN).max(2);
        let left_out = self.parts.len().saturating_sub(columns.into());
        let points = |reject| -> Vec<(f64, f64)> {
            let places = (0u32..).zip(self.parts.iter().skip(left_out));
            let these = places.filter(|(_, p)| p.reject == reject);
            these
                .filter_map(|(x, p)| Some((f64::from(x), p.score?)))
                .collect()
        };
        let (good, rejects) = (points(false), points(true));
        let end = f64::from(columns - 1);
        let line: Vec<_> = self
            .threshold
            .iter()
            .flat_map(|t| [(0.0, *t), (end, *t)])
            .collect();
        let highest = good.iter().chain(&rejects).chain(&line).map(|(_, y)| *y);
        let top = (highest.fold(0.0, f64::max) * 1.2).clamp(0.01, 1.0);
        let bars = |color| {
            let bars = Dataset::default().graph_type(GraphType::Bar);
            bars.marker(Marker::HalfBlock).style(Style::new().fg(color))
        };
        let datasets = vec![
            bars(Color::Green).data(&good),
            bars(Color::Red).data(&rejects),
            Dataset::default()
                .graph_type(GraphType::Line)
                .marker(Marker::Braille)
                .style(Style::new().fg(Color::Yellow))
                .data(&line),
        ];
        let labels = [0.0, top / 2.0, top].map(|y| format!("{y:.3}"));
        let mut title = match self.parts.back() {
            Some(last) => {
                let shown = self.parts.len() - left_out;
                format!(
                    " scores of the last {shown} parts, up to part {}",
                    last.number
                )
            }
            None => " scores".to_string(),
        };
        if let Some(threshold) = self.threshold {
            title += &format!("; threshold {threshold:.4}");
        }
        title += " ";
        let chart = Chart::new(datasets)
            .block(Block::bordered().title(title))
            .x_axis(Axis::default().bounds([0.0, end]))
            .y_axis(Axis::default().bounds([0.0, top]).labels(labels));
        frame.render_widget(chart, area);
    }
}

/// Shows the live view until the user leaves it.
///
/// # Errors
/// The terminal cannot be used.
pub fn show(title: String, link: &mut Link, news: &Receiver<News>) -> io::Result<()> {
    // RESULT is left as it was found.
    let was_on = link.ask("RESULT").is_ok_and(|a| a[0].ends_with(",on"));
    let _ = link.ask("RESULT ON");
    SHOWN.store(true, Ordering::Relaxed);
    let screen = Screen;
    let mut terminal = ratatui::try_init()?;
    let mut picture = Picture {
        title,
        ..Picture::default()
    };
    let mut questions = QUESTIONS.iter().cycle();
    let mut asked: Option<(u16, Instant)> = None;
    let mut next = Instant::now();
    let result = loop {
        for news in news.try_iter() {
            // A station that was restarted in between sends no results until it gets this command again.
            if news == News::Back {
                let _ = link.send("RESULT ON");
            }
            picture.news(news);
        }
        if let Some((number, at)) = asked {
            if let Some(answer) = link.poll(number) {
                picture.answer(&answer);
                asked = None;
            } else if at.elapsed() > PATIENCE {
                asked = None;
            }
        } else if Instant::now() >= next {
            next = Instant::now() + EVERY;
            let question = questions.next().copied().unwrap_or_default();
            asked = link
                .send(question)
                .ok()
                .map(|number| (number, Instant::now()));
        }
        if let Err(e) = terminal.draw(|frame| picture.draw(frame)) {
            break Err(e);
        }
        match event::poll(FRAME).and_then(|there| there.then(event::read).transpose()) {
            Ok(Some(Event::Key(key))) if key.kind == KeyEventKind::Press => match key.code {
                KeyCode::Char('q') | KeyCode::Esc => break Ok(()),
                KeyCode::Char('c' | 'd') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                    break Ok(());
                }
                KeyCode::Char(' ') => picture.held = !picture.held,
                _ => (),
            },
            Ok(_) => (),
            Err(e) => break Err(e),
        }
    };
    drop(screen);
    if !was_on {
        let _ = link.ask("RESULT OFF");
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    #[test]
    fn results_are_read_in_both_formats() {
        let csv = part("RESULT,41,reject,late,0.250000,12.5").unwrap();
        let json = r#"RESULT,{"part":41,"outcome":"reject","cause":"late","score":0.25,"latency_ms":12.5}"#;
        assert_eq!(part(json).unwrap(), csv);
        assert_eq!((csv.number, csv.score, csv.reject), (41, Some(0.25), true));
        assert_eq!(part("RESULT,1,reject,no_frame,-,-").unwrap().score, None);
        assert_eq!(
            part("RESULT,{\"part\":1,\"outcome\":\"good\"}")
                .unwrap()
                .score,
            None
        );
        for none in [
            "RESULT,lost,3",
            "RESULT,",
            "RESULT,1,good",
            "RESULT,{",
            "RESULT,1,maybe,-,-,-",
            "OK,IDN",
        ] {
            assert_eq!(part(none), None, "{none}");
        }
    }

    #[test]
    fn the_picture_shows_what_came() {
        let mut picture = Picture::default();
        for (score, outcome) in [(0.2, "good"), (0.7, "reject")] {
            picture.news(News::Line(format!("RESULT,5,{outcome},-,{score},3.0")));
        }
        for answer in [
            &["OK,STATUS,mode=running,recipe=3,memory=ok,self_test=none"][..],
            &["OK,ALARMS,64,lines=1", "ALARMS,6,low_air,stop"],
            &["OK,GET,threshold,0.5000"],
            &[
                "OK,COUNTERS,lines=3",
                "COUNTERS,parts,12",
                "COUNTERS,rejects_late,3",
                "COUNTERS,latency_p99_ms,9",
            ],
            &["ER,COUNTERS,400,no"],
        ] {
            picture.answer(&answer.iter().map(|l| l.to_string()).collect());
        }
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        terminal.draw(|frame| picture.draw(frame)).unwrap();
        let shown = terminal.backend().to_string();
        for text in [
            "running  recipe 3",
            "alarms: 6 low_air",
            "threshold 0.5000",
            "last 2 parts, up to part 5",
            "part 5  reject  -  score 0.7000  3.0 ms",
            "parts 12",
            "verdict: late 3",
            "p99 9",
            "q leave",
            "0.840",
        ] {
            assert!(shown.contains(text), "{text}\n{shown}");
        }
        // The reject's bar reaches above the threshold, the good one's does not.
        let buffer = terminal.backend().buffer();
        let highest = |color| {
            (0..24).find(|y| (0..80).any(|x| buffer[(x, *y)].fg == color && x > 6 && *y > 2))
        };
        let [red, yellow, green] = [Color::Red, Color::Yellow, Color::Green].map(highest);
        assert!(
            red < yellow && yellow < green && red.is_some(),
            "{red:?} {yellow:?} {green:?}"
        );
        // A terminal of no size is no reason to stop.
        Terminal::new(TestBackend::new(1, 1))
            .unwrap()
            .draw(|f| picture.draw(f))
            .unwrap();
    }
}
