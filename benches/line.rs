//! How many parts per second the line core takes on one core, and that its memory does not grow:
//! `cargo bench --bench line [-- PARTS]`, 10 million parts by default.
//!
//! Simulated time: 1,000 parts/s, 500 ms of belt, light barrier, verdicts after 20 ms, 2 % rejects, the
//! outputs read after every call and every tick that the station asks for.

use faprompt_edge::line::settings::{
    AlarmSettings, ConfirmWindow, Debounce, PulseWidth, RejectDelay, SettingError, Threshold,
};
use faprompt_edge::line::{
    AlarmSet, Event, Frame, FrameId, Input, Micros, Observer, Pairing, PartId, Settings, Station,
    Statistics, Trigger, Verdict, View, Wiring,
};
use std::time::Instant;

/// Distance of two parts, us.
const STEP: u64 = 1000;
/// Parts that are being judged at a time.
const JUDGING: u64 = 20;

fn settings() -> Result<Settings, SettingError> {
    Ok(Settings {
        trigger: Trigger::Edge {
            debounce: Debounce::new(200)?,
            pairing: Pairing::new(200, 400, STEP as u32)?,
        },
        threshold: Threshold::new(0.5)?,
        further_thresholds: [Threshold::new(0.5)?; 3],
        delay: RejectDelay::millis(500, 5)?,
        width: PulseWidth::new(1)?,
        wiring: Wiring::EnergiseForGood {
            confirm: Some(ConfirmWindow::new(100)?),
        },
        strobe: None,
        default_lane: None,
        alarms: AlarmSettings {
            stop_on: AlarmSet::NONE,
            ..AlarmSettings::default()
        },
    })
}

/// Resident memory, kB (Linux).
fn memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Calls the station as often as it asks to be until `now`; says how often its output was on.
fn tick<O: Observer>(station: &mut Station<O>, wake: &mut Option<Micros>, now: Micros) -> u64 {
    let mut on = 0;
    while let Some(at) = wake.filter(|at| *at <= now) {
        *wake = station.tick(at);
        on += u64::from(station.outputs().good);
    }
    *wake = station.tick(now);
    on + u64::from(station.outputs().good)
}

fn main() -> Result<(), SettingError> {
    let parts = std::env::args().find_map(|a| a.parse().ok());
    let parts: u64 = parts.unwrap_or(10_000_000);
    let mut outcomes = 0u64;
    let observer = |_, event| outcomes += u64::from(matches!(event, Event::Outcome { .. }));
    let mut station: Station<_> = Station::new(settings()?, Statistics::default(), observer);
    println!("size of the station   {} bytes", size_of_val(&station));
    station.start(Micros(0));
    let (mut wake, mut on) = (None, 0);
    let started = Instant::now();
    for i in 0..parts + JUDGING {
        let now = Micros(1_000_000 + i * STEP);
        on += tick(&mut station, &mut wake, now);
        if i < parts {
            station.on_trigger(now, now);
            let frame = Frame {
                id: FrameId(i),
                view: View::FIRST,
                exposed: now.plus(200),
                flaw: None,
            };
            on += tick(&mut station, &mut wake, now.plus(400));
            station.on_frame(frame, now.plus(400));
        }
        if let Some(part) = i.checked_sub(JUDGING) {
            let score = if part % 50 == 7 { 0.9 } else { 0.1 };
            station.on_verdict(
                PartId(part),
                View::FIRST,
                Verdict::Score(score),
                now.plus(500),
            );
            // The sensor in the bin, 50 ms after the reject.
            let seen = part % 50 == 37;
            station.on_input(Input::RejectConfirm, seen, now.plus(500), now.plus(500));
        }
        on += tick(&mut station, &mut wake, now.plus(600));
        if i % (parts / 4).max(1) == 0 {
            let kb = memory().map_or("unknown".into(), |kb| format!("{kb} kB"));
            println!("resident memory       {kb} after {i} parts");
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    let end = Micros(1_000_000 + (parts + JUDGING + 1000) * STEP);
    tick(&mut station, &mut wake, end);
    let (statistics, _) = station.finish(end);
    println!("parts                 {parts} in {seconds:.2} s");
    println!("parts per second      {:.0}", parts as f64 / seconds);
    println!("good                  {}", statistics.outcomes.good);
    println!(
        "rejects               {}",
        statistics.outcomes.all_rejects()
    );
    println!("outcomes reported     {outcomes}, output seen on {on} times");
    println!("confirmed             {}", statistics.confirms.confirmed);
    let p99 = statistics.latency.percentile_us(99);
    println!("latency p99           {} us", p99.unwrap_or(0));
    assert_eq!(outcomes, parts, "every part one outcome");
    Ok(())
}
