//! The page's tables and how a figure is written. Computes nothing but the mean over sets and margins.

use super::Set;
use crate::train::defect_types::TypeFigures;
use crate::train::evaluate::{Figures, TRIVIAL, mean};
use crate::train::metrics::threshold_text;
use maud::{Markup, html};

/// What stands for a figure that is not defined.
const NONE: &str = "-";

/// In percent, to one place.
pub fn percent(v: Option<f64>) -> String {
    v.filter(|v| v.is_finite())
        .map_or(NONE.into(), |v| format!("{:.1}", 100.0 * v))
}

/// In the score's own unit.
pub fn score(v: Option<f64>) -> String {
    v.filter(|v| v.is_finite())
        .map_or(NONE.into(), |v| format!("{v:.3}"))
}

/// The name, or the sign for none.
pub fn named(text: &str) -> &str {
    if text.is_empty() { NONE } else { text }
}

/// The best score that needs no network, and which it is.
fn best_trivial(f: &Figures) -> Option<(f64, &'static str)> {
    let values = f.trivial_auroc.iter().zip(TRIVIAL);
    values
        .filter_map(|(v, name)| v.map(|v| (v, name)))
        .max_by(|a, b| a.0.total_cmp(&b.0))
}

/// A table that scrolls by itself where the window is narrow; reached by keyboard, hence named.
pub fn scrolling(name: &str, table: Markup) -> Markup {
    html! { div.scroll role="group" aria-label=(name) tabindex="0" { (table) } }
}

/// Means over classes, a row per set, and over the sets.
pub fn headline(sets: &[Set]) -> Markup {
    let row = |name: &str, f: &Figures| {
        let trivial = best_trivial(f);
        let margin = f
            .image_auroc
            .zip(trivial)
            .map(|(a, (t, _))| 100.0 * (a - t));
        html! {
            tr {
                th scope="row" { (name) }
                td { (f.images) }
                td.main { (percent(f.image_auroc)) }
                td { (percent(trivial.map(|(t, _)| t))) }
                td.word { (trivial.map_or(NONE, |(_, name)| name)) }
                td class=(margin.map_or("", |m| if m > 0.0 { "better" } else { "worse" })) {
                    (margin.map_or(NONE.into(), |m| format!("{m:+.1}")))
                }
                td { (percent(f.image_ap)) }
                td { (percent(f.pg2)) }
                td { (percent(f.pb2)) }
                td { (percent(f.f1_max)) }
                td { (percent(f.pixel_auroc)) }
                td { (percent(f.pixel_pro)) }
            }
        }
    };
    // Keys only: two sets may have one name.
    let means = (0usize..).map(|i| i.to_string()).zip(sets);
    let all = mean(&means.map(|(key, s)| (key, s.mean.clone())).collect());
    let table = html! {
        table {
            caption { "Mean over the classes of each set, in percent" }
            thead {
                tr {
                    th rowspan="2" scope="col" { "Data set" }
                    th rowspan="2" scope="col" { "Pictures" }
                    th colspan="8" scope="colgroup" { "Picture" }
                    th colspan="2" scope="colgroup" { "Pixel" }
                }
                tr {
                    th scope="col" { "AUROC" }
                    th scope="col" { "Best trivial" }
                    th.word scope="col" { "which" }
                    th scope="col" { "Margin" }
                    th scope="col" { "AP" }
                    th scope="col" { "pg2" }
                    th scope="col" { "pb2" }
                    th scope="col" { "F1-max" }
                    th scope="col" { "AUROC" }
                    th scope="col" { "PRO" }
                }
            }
            tbody { @for set in sets { (row(&set.name, &set.mean)) } }
            @if sets.len() > 1 { tfoot { (row("Mean over sets", &all)) } }
        }
    };
    html! {
        section aria-labelledby="headline" {
            h2 #headline { "Result" }
            (scrolling("Result, table", table))
            p.note {
                "\"Best trivial\" is the best of " (TRIVIAL.len()) " image scores that need no network ("
                (TRIVIAL.join(", ")) "). A bundle has to beat it by the margin beside it to be worth anything. pg2: good "
                "pictures passed while 2 % of the bad are missed; pb2: bad pictures found while 2 % of the good are lost."
            }
        }
    }
}

/// Figures of each class; their mean and the pool where there are several.
pub fn figures(set: &Set) -> Markup {
    let row = |name: &str, f: &Figures| {
        html! {
            tr {
                th scope="row" { (named(name)) }
                td { (f.images) }
                td { (f.anomalous) }
                td { (f.with_mask) }
                td.main { (percent(f.image_auroc)) }
                td { (percent(f.image_ap)) }
                td { (percent(f.pg2)) }
                td { (percent(f.pb2)) }
                td { (percent(f.pixel_auroc)) }
                td { (percent(f.pixel_pro)) }
                td { (percent(f.f1_max)) }
                td { (f.f1_threshold.map_or(NONE.into(), threshold_text)) }
                @for trivial in f.trivial_auroc { td { (percent(trivial)) } }
            }
        }
    };
    html! {
        table {
            caption { "In percent, thresholds in the score's own unit" }
            thead {
                tr {
                    th rowspan="2" scope="col" { "Class" }
                    th rowspan="2" scope="col" { "Pictures" }
                    th rowspan="2" scope="col" { "Abnormal" }
                    th rowspan="2" scope="col" { "With mask" }
                    th colspan="4" scope="colgroup" { "Picture" }
                    th colspan="2" scope="colgroup" { "Pixel" }
                    th colspan="2" scope="colgroup" { "Largest F1" }
                    th colspan=(TRIVIAL.len()) scope="colgroup" { "AUROC without a network" }
                }
                tr {
                    th scope="col" { "AUROC" }
                    th scope="col" { "AP" }
                    th scope="col" { "pg2" }
                    th scope="col" { "pb2" }
                    th scope="col" { "AUROC" }
                    th scope="col" { "PRO" }
                    th scope="col" { "F1" }
                    th scope="col" { "threshold" }
                    @for name in TRIVIAL { th scope="col" { (name) } }
                }
            }
            tbody { @for (class, f) in &set.classes { (row(class, f)) } }
            @if set.classes.len() > 1 {
                tfoot {
                    (row("Mean over classes", &set.mean))
                    (row("Pooled", &set.pooled))
                }
            }
        }
    }
}

/// The found defective parts of each type by what they were seen as.
pub fn confusion(types: &TypeFigures) -> Markup {
    html! {
        table {
            caption { "Defective parts that were found: what they are, and what they were seen as" }
            thead {
                tr {
                    th scope="col" { "Is" }
                    @for name in &types.seen { th scope="col" { (name) } }
                }
            }
            tbody {
                @for (name, row) in types.truth.iter().zip(&types.confusion) {
                    tr {
                        th scope="row" { (named(name)) }
                        @for (seen, count) in types.seen.iter().zip(row) {
                            td class=(if seen.to_lowercase() == *name { "main" } else { "" }) { (count) }
                        }
                    }
                }
            }
        }
    }
}
