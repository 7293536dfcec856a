//! The page's mark-up. Every text goes through the template engine, which escapes it; only the
//! style sheet and the charts, which hold none of the user's text, go in as they are.

use super::chart::{self, Axes};
use super::tables::{confusion, figures, headline, named, percent, score, scrolling};
use super::{Case, Curve, Curves, Group, Level, Page, Set};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};

const STYLE: &str = include_str!("style.css");
/// Nothing from elsewhere, and no script at all.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:";
/// One self-contained HTML page.
pub fn page(report: &Page) -> String {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="generator" content=(report.software);
                title { (report.title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { (report.title) }
                    p { "Bundle " strong { (report.bundle) } }
                    @if let Some(warning) = &report.warning {
                        p.warning { (warning) }
                    }
                }
                main {
                    (headline(&report.sets))
                    @for (i, set) in report.sets.iter().enumerate() { (section(i, set)) }
                    (glossary())
                }
                footer { p { "Made by " (report.software) } }
            }
        }
    }
    .into_string()
}

fn section(i: usize, set: &Set) -> Markup {
    let id = format!("set-{i}");
    html! {
        section.set aria-labelledby=(id) {
            h2 id=(id) { (set.name) }
            @for note in &set.notes { p.note { (note) } }
            details open {
                summary { "Figures of each class" }
                (scrolling("Figures of each class", figures(set)))
            }
            @if let Some(types) = &set.types {
                details open {
                    summary { "Types of defects" }
                    p.note { (types.to_string()) }
                    (scrolling("Types of defects", confusion(types)))
                }
            }
            @for curves in set.curves.iter().take(1) {
                details open {
                    summary { "Curves" }
                    div.charts {
                        (curve_chart(curves, Axes::Roc, false))
                        (curve_chart(curves, Axes::PrecisionRecall, false))
                    }
                }
            }
            details open {
                summary { "Image scores" }
                (histogram(set))
            }
            @if set.curves.len() > 1 {
                details {
                    summary { "Curves of each class" }
                    div.classes {
                        @for curves in set.curves.iter().skip(1) {
                            div {
                                h3 { (named(&curves.name)) }
                                div.charts.small {
                                    (curve_chart(curves, Axes::Roc, true))
                                    (curve_chart(curves, Axes::PrecisionRecall, true))
                                }
                            }
                        }
                    }
                }
            }
            @if let Some((low, high)) = set.scale {
                h3 { "Pictures" }
                p.note {
                    "Photo, heat map, mask. One colour scale for all pictures of the set, from "
                    (score(Some(low.into()))) " (no colour) to " (score(Some(high.into()))) " (yellow). "
                    "Verdicts are at the bundle's threshold, " (score(Some(set.threshold.into()))) "."
                }
            }
            @for group in set.groups.iter().filter(|g| !g.cases.is_empty()) {
                (cases(group, set.threshold))
            }
            @if !set.failed.is_empty() {
                details {
                    summary { "Pictures and masks that could not be read: " (set.failed.len()) }
                    ul { @for reason in &set.failed { li { (reason) } } }
                }
            }
        }
    }
}

/// A drawing with the words that stand for it where it is not seen.
fn drawing(drawn: Result<String, String>, words: &str) -> Markup {
    match drawn {
        Ok(svg) => html! { div.chart role="img" aria-label=(words) { (PreEscaped(svg)) } },
        Err(reason) => html! { p { (words) ": " (reason) } },
    }
}

fn curve_chart(curves: &Curves, axes: Axes, small: bool) -> Markup {
    let (title, area, list) = match axes {
        Axes::Roc => ("ROC", "AUROC", &curves.roc),
        Axes::PrecisionRecall => ("Precision and recall", "AP", &curves.precision_recall),
    };
    let entry = |c: &Curve| {
        let (class, level) = match c.level {
            Level::Image => ("image", "pictures"),
            Level::Pixel => ("pixel", "pixels"),
        };
        (class, format!("{level}: {area} {}", percent(c.area)))
    };
    let entries: Vec<_> = list.iter().map(entry).collect();
    let said: Vec<&str> = entries.iter().map(|(_, text)| text.as_str()).collect();
    let words = format!("{title}, {}; {}", named(&curves.name), said.join("; "));
    html! {
        figure {
            figcaption { (title) }
            @if list.is_empty() {
                p.note { "No curve: it needs normal and abnormal pictures." }
            } @else {
                (drawing(chart::curves(list, axes, small), &words))
                ul.legend { @for (class, text) in &entries { li class=(class) { (text) } } }
            }
        }
    }
}

fn histogram(set: &Set) -> Markup {
    let Some(h) = &set.histogram else {
        return html! { p.note { "No picture has a score." } };
    };
    let threshold = f64::from(set.threshold);
    let counts = [&h.normal, &h.abnormal].map(|v| v.iter().sum::<usize>());
    let other = set.pooled.images.saturating_sub(counts[0] + counts[1]);
    let words = format!(
        "Histogram of the image scores, {:.3} to {:.3}: {} normal and {} abnormal pictures; threshold {threshold:.3}",
        h.low, h.high, counts[0], counts[1],
    );
    html! {
        figure.wide {
            (drawing(chart::histogram(h, threshold), &words))
            ul.legend {
                li.normal { "normal: " (counts[0]) }
                li.abnormal { "abnormal: " (counts[1]) }
                @if other > 0 { li.other { "NaN: " (other) } }
                li.mark {
                    "the bundle's threshold: " (score(Some(threshold)))
                    @if !chart::reaches(h, threshold) { ", outside the drawing" }
                }
            }
        }
    }
}

fn cases(group: &Group, threshold: f32) -> Markup {
    html! {
        details open {
            summary { (group.title) }
            div.cases { @for case in &group.cases { (card(case, threshold)) } }
        }
    }
}

/// A thumbnail; the words alone where there is none.
fn picture(bytes: Option<&[u8]>, what: &str, file: &str) -> Markup {
    let known = bytes.and_then(|b| Some((b, image::guess_format(b).ok()?.to_mime_type())));
    html! {
        @match known {
            Some((bytes, mime)) => {
                img alt=(format!("{what} of {file}"))
                    src=(format!("data:{mime};base64,{}", STANDARD.encode(bytes)));
            }
            None => span.absent { "no " (what) }
        }
    }
}

fn card(case: &Case, threshold: f32) -> Markup {
    // As the device decides: above is a reject, and so is NaN.
    let reject = case.score > threshold || case.score.is_nan();
    let (verdict, right) = match (case.anomalous, reject) {
        (true, true) => ("found", true),
        (true, false) => ("missed", false),
        (false, true) => ("false alarm", false),
        (false, false) => ("passed", true),
    };
    html! {
        figure.case {
            div.triple {
                (picture(case.photo.as_deref(), "photo", &case.file))
                (picture(case.heat.as_deref(), "heat map", &case.file))
                @if case.anomalous { (picture(case.mask.as_deref(), "mask", &case.file)) }
            }
            figcaption {
                span.verdict.(if right { "right" } else { "wrong" }) { (verdict) }
                " " span.score { (score(Some(case.score.into()))) }
                " " (named(&case.class)) ", " (named(&case.kind))
                " " span.file { (case.file) }
            }
        }
    }
}

fn glossary() -> Markup {
    html! {
        details {
            summary { "What the figures mean" }
            dl {
                dt { "AUROC" }
                dd { "The chance that an abnormal picture (or pixel) scores higher than a normal one; 50 is guessing." }
                dt { "AP" }
                dd { "Average precision: precision over recall, without interpolation." }
                dt { "PRO" }
                dd { "How much of each abnormal region is covered, over false-positive rates of pixels up to 30 percent." }
                dt { "F1-max, largest F1" }
                dd { "The best F1 of any threshold. That threshold was chosen on these very pictures: on others it does worse." }
                dt { "AUROC without a network" }
                dd { "In whichever direction is better, so never below 50." }
                dt { "Mean, pooled" }
                dd { "The mean weighs every class the same; pooled takes all pictures as one class, with one threshold for all." }
                dt { "Found, missed, false alarm, passed" }
                dd { "At the bundle's own threshold." }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::evaluate::Figures;
    use crate::train::page::Histogram;

    fn report() -> Page {
        let case = Case {
            file: "<script>alert(1)</script>\".png".into(),
            class: "<b>nut</b>".into(),
            photo: Some(b"no picture".to_vec()),
            mask: Some(b"\x89PNG\r\n\x1a\n".to_vec()),
            score: 0.75,
            anomalous: true,
            ..Case::default()
        };
        Page {
            title: "a & b".into(),
            warning: Some("UNTRAINED".into()),
            sets: vec![Set {
                name: "<i>set".into(),
                threshold: 0.5,
                classes: vec![("<b>nut</b>".into(), Figures::default())],
                curves: vec![Curves::default()],
                histogram: Some(Histogram {
                    low: 0.0,
                    high: 1.0,
                    normal: vec![1, 0],
                    abnormal: vec![0, 2],
                }),
                groups: vec![Group {
                    cases: vec![case],
                    ..Group::default()
                }],
                failed: vec!["<img src=x>".into()],
                ..Set::default()
            }],
            ..Page::default()
        }
    }

    #[test]
    fn text_is_escaped_and_nothing_comes_from_elsewhere() {
        let page = page(&report());
        for raw in ["<script", "<b>nut", "<i>set", "<img src=x>"] {
            assert!(!page.contains(raw), "{raw}");
        }
        assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot;.png"));
        assert!(page.contains("<title>a &amp; b</title>") && page.contains("UNTRAINED"));
        // The name space of SVG is the one address; it is never fetched.
        let elsewhere = page.replace("http://www.w3.org/2000/svg", "");
        assert!(!elsewhere.contains("http://") && !elsewhere.contains("https://"));
        // What is no picture is not shown as one.
        assert!(page.contains("no photo") && page.contains("no heat map"));
        assert!(page.contains("src=\"data:image/png;base64,iVBORw0KGgo=\""));
        assert!(page.contains("found"));
    }

    #[test]
    fn figures_that_are_not_defined_are_shown_as_a_dash() {
        let text = page(&report());
        // A class: eleven figures; the headline: nine and a name.
        assert_eq!(text.matches(">-</td>").count(), 11 + 10);
        assert!(text.contains("No curve"));
        for empty in ["NaN", "null", "None", "inf"] {
            assert!(!text.contains(&format!(">{empty}<")), "{empty}");
        }
        assert!(page(&Page::default()).contains("</html>"));
    }

    #[test]
    fn the_margin_is_to_the_best_trivial_score() {
        let mut report = report();
        report.sets[0].mean = Figures {
            image_auroc: Some(0.7),
            trivial_auroc: [Some(0.6), Some(0.8), None],
            ..Figures::default()
        };
        let text = page(&report);
        assert!(text.contains("class=\"worse\">-10.0<"));
        report.sets[0].mean.image_auroc = Some(0.9);
        assert!(page(&report).contains("class=\"better\">+10.0<"));
        assert!(text.contains("gradient energy"));
    }
}
