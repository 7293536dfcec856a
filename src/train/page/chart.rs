//! Curves and histograms as SVG.
//!
//! Draws what it is given. Text and lines get their final colour from the page's style sheet, which
//! knows whether it is dark; the colours of the data are seen on both grounds.

use super::{Curve, Histogram, Level};
use plotters::coord::Shift;
use plotters::prelude::*;
use std::fmt::Display;

/// Colours of the data; `style.css` has the same for the legends.
const IMAGE: RGBColor = RGBColor(0x3B, 0x7D, 0xD8);
const PIXEL: RGBColor = RGBColor(0xC9, 0x70, 0x1A);
const NORMAL: RGBColor = RGBColor(0x2A, 0x9D, 0x8F);
const ABNORMAL: RGBColor = RGBColor(0xD1, 0x49, 0x5B);
/// Axes, the grid, and marks that are no data.
const GREY: RGBColor = RGBColor(0x80, 0x80, 0x80);
/// Only a place-holder: the style sheet sets the colour of all text.
const INK: RGBColor = GREY;

/// Sizes in the drawing's own units. The library draws at whole units only, so a drawing is made
/// larger than it is shown.
struct Scale {
    size: (u32, u32),
    font: u32,
    ticks: usize,
    stroke: u32,
}

const LARGE: Scale = Scale {
    size: (960, 760),
    font: 34,
    ticks: 6,
    stroke: 4,
};
/// For drawings that are shown many at a time.
const SMALL: Scale = Scale {
    size: (600, 510),
    font: 34,
    ticks: 3,
    stroke: 3,
};
const WIDE: Scale = Scale {
    size: (1000, 560),
    font: 32,
    ticks: 7,
    stroke: 3,
};

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn std::error::Error>>;

/// What a plot's axes are called.
#[derive(Clone, Copy)]
pub enum Axes {
    /// False-positive rate, true-positive rate, and the diagonal of chance.
    Roc,
    /// Precision over recall.
    PrecisionRecall,
}

/// The mark-up that `draw` makes; the reason in words if the library fails.
fn svg(scale: &Scale, draw: impl FnOnce(&Area) -> Drawn) -> Result<String, String> {
    let mut out = String::new();
    let drawn = {
        let area = SVGBackend::with_string(&mut out, scale.size).into_drawing_area();
        draw(&area).and_then(|()| area.present().map_err(Into::into))
    };
    drawn.map(|()| out).map_err(|e| e.to_string())
}

/// "0", "0.2", "1": as short as the tick allows.
fn tick(v: &f64) -> String {
    format!("{}", (v * 100.0).round() / 100.0)
}

/// A chart's frame with room for its labels.
fn builder<'a, 'b>(area: &'a Area<'b>, scale: &Scale) -> ChartBuilder<'a, 'b, SVGBackend<'b>> {
    let mut builder = ChartBuilder::on(area);
    builder
        .margin(scale.font)
        .margin_bottom(scale.font / 4)
        .x_label_area_size(9 * scale.font / 4)
        .y_label_area_size(3 * scale.font);
    builder
}

/// Curves in the unit square, small for a page with many of them.
pub fn curves(curves: &[Curve], axes: Axes, small: bool) -> Result<String, String> {
    let scale = if small { &SMALL } else { &LARGE };
    let (x, y) = match axes {
        Axes::Roc => ("false-positive rate", "true-positive rate"),
        Axes::PrecisionRecall => ("recall", "precision"),
    };
    svg(scale, |area| {
        let mut chart = builder(area, scale).build_cartesian_2d(0.0..1.0, 0.0..1.0)?;
        mesh(&mut chart, scale, x, y, &tick, &tick)?;
        if matches!(axes, Axes::Roc) {
            let chance = [(0.0, 0.0), (1.0, 1.0)];
            chart.draw_series(LineSeries::new(chance, GREY.stroke_width(1)))?;
        }
        for curve in curves {
            let colour = match curve.level {
                Level::Image => IMAGE,
                Level::Pixel => PIXEL,
            };
            let style = colour.stroke_width(scale.stroke);
            chart.draw_series(LineSeries::new(curve.points.iter().copied(), style))?;
        }
        Ok(())
    })
}

/// Whether a mark is drawn: far from all scores it would leave no room for them.
pub fn reaches(h: &Histogram, mark: f64) -> bool {
    let room = h.high - h.low;
    (h.low - room..=h.high + room).contains(&mark)
}

/// Bars of both kinds over each other, and a line at the mark, if the drawing reaches it.
pub fn histogram(h: &Histogram, mark: f64) -> Result<String, String> {
    let scale = &WIDE;
    let highest = h.normal.iter().chain(&h.abnormal).max().copied();
    let top = highest.unwrap_or(0).max(1) as f64 * 1.05;
    let mark = Some(mark).filter(|m| reaches(h, *m));
    let low = mark.map_or(h.low, |m| m.min(h.low));
    let high = mark.map_or(h.high, |m| m.max(h.high));
    let bins = h.normal.len().max(h.abnormal.len()).max(1);
    let edge = |i: usize| h.low + (h.high - h.low) * i as f64 / bins as f64;
    svg(scale, |area| {
        let mut chart = builder(area, scale).build_cartesian_2d(low..high, 0.0..top)?;
        let count = |v: &f64| format!("{v:.0}");
        // Enough digits to distinguish the ticks.
        let digits = (1.0 - (high - low).log10().floor()).clamp(1.0, 9.0) as usize;
        let score = |v: &f64| format!("{v:.digits$}");
        mesh(&mut chart, scale, "image score", "pictures", &score, &count)?;
        for (counts, colour) in [(&h.normal, NORMAL), (&h.abnormal, ABNORMAL)] {
            let bars = || counts.iter().enumerate().filter(|(_, n)| **n > 0);
            let bar = |(i, n): (usize, &usize)| [(edge(i), 0.0), (edge(i + 1), *n as f64)];
            chart.draw_series(bars().map(|b| Rectangle::new(bar(b), colour.mix(0.45).filled())))?;
            // Outlined, so that neither kind hides behind the other.
            chart.draw_series(bars().map(|b| Rectangle::new(bar(b), colour.stroke_width(2))))?;
        }
        if let Some(mark) = mark {
            let line = [(mark, 0.0), (mark, top)];
            chart.draw_series(LineSeries::new(line, GREY.stroke_width(scale.stroke)))?;
        }
        Ok(())
    })
}

type Chart<'a, 'b> = ChartContext<
    'a,
    SVGBackend<'b>,
    Cartesian2d<plotters::coord::types::RangedCoordf64, plotters::coord::types::RangedCoordf64>,
>;

/// Axes, grid and their labels.
fn mesh(
    chart: &mut Chart,
    scale: &Scale,
    x: impl Display,
    y: impl Display,
    x_tick: &dyn Fn(&f64) -> String,
    y_tick: &dyn Fn(&f64) -> String,
) -> Drawn {
    let text = ("sans-serif", scale.font).into_font().color(&INK);
    chart
        .configure_mesh()
        .x_labels(scale.ticks)
        .y_labels(scale.ticks)
        .x_desc(x.to_string())
        .y_desc(y.to_string())
        .x_label_formatter(x_tick)
        .y_label_formatter(y_tick)
        .label_style(text.clone())
        .axis_desc_style(text)
        .axis_style(GREY.stroke_width(2))
        .bold_line_style(GREY.mix(0.3))
        .light_line_style(TRANSPARENT)
        .draw()
        .map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_style_sheet_has_the_colours_of_the_data() {
        let css = include_str!("style.css").to_lowercase();
        for RGBColor(r, g, b) in [IMAGE, PIXEL, NORMAL, ABNORMAL] {
            assert!(css.contains(&format!("#{r:02x}{g:02x}{b:02x}")));
        }
    }

    #[test]
    fn empty_and_odd_data_still_make_a_chart() {
        let flat = Curve {
            level: Level::Pixel,
            area: None,
            points: vec![],
        };
        for axes in [Axes::Roc, Axes::PrecisionRecall] {
            let drawn = curves(std::slice::from_ref(&flat), axes, true).unwrap();
            assert!(drawn.starts_with("<svg") && drawn.contains("</svg>"));
        }
        let empty = Histogram {
            low: 0.5,
            high: 0.6,
            ..Histogram::default()
        };
        let lines = |mark: f64| {
            let drawn = histogram(&empty, mark).unwrap();
            assert!(drawn.contains("image score"));
            drawn.matches("stroke-width=\"3\"").count()
        };
        assert_eq!([0.45, 0.9, f64::NAN].map(lines), [1, 0, 0]);
    }
}
