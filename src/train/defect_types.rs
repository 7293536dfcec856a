//! Which type of defect was seen, against which it is: accuracy and the confusion matrix.

use super::evaluate::Judged;
use super::methods::words::class_words;
use super::metrics::{Ranking, threshold_text};
use crate::control::host::UNKNOWN;
use serde::Serialize;
use std::collections::BTreeMap;

/// How well types are distinguished, among the defective parts of a set that were found: those whose score is above
/// the threshold of the largest F1.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TypeFigures {
    /// That threshold.
    pub threshold: f32,
    /// Number of defective parts.
    pub defective: usize,
    /// Defective parts that were found.
    pub found: usize,
    /// Found parts of a type that the network was asked for.
    pub asked: usize,
    /// Parts among `asked` whose type was right.
    pub right: usize,
    /// Parts among `asked` whose type was left open: two were about equally likely.
    pub unknown: usize,
    /// `right` / `asked`; `None` of none.
    pub accuracy: Option<f64>,
    /// The most frequent type among `asked`: what always saying it would come to.
    pub most_frequent: String,
    /// Its share of `asked`.
    pub most_frequent_share: Option<f64>,
    /// Their true types in lower case: the rows of `confusion`.
    pub truth: Vec<String>,
    /// The types that they were seen as: the columns of `confusion`, `unknown` the last.
    pub seen: Vec<String>,
    /// Found parts of each row's type by what they were seen as.
    pub confusion: Vec<Vec<usize>>,
}

impl std::fmt::Display for TypeFigures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let percent = |v: Option<f64>| v.map_or("-".into(), |v| format!("{:.1} %", 100.0 * v));
        write!(
            f,
            "of {} defective parts {} were found (score above {}, the largest F1), {} of a type that was asked for: \
             {} seen as what they are ({}), {} as unknown; the most frequent type, {}, is {}",
            self.defective,
            self.found,
            threshold_text(self.threshold.into()),
            self.asked,
            self.right,
            percent(self.accuracy),
            self.unknown,
            match self.most_frequent.as_str() {
                "" => "-",
                name => name,
            },
            percent(self.most_frequent_share)
        )
    }
}

fn share(part: usize, of: usize) -> Option<f64> {
    (of > 0).then(|| part as f64 / of as f64)
}

/// The figures of a set that was judged by a network with these types; `None` where it has none, or
/// nothing is defective.
pub fn type_figures(judged: &[Judged], types: &[String]) -> Option<TypeFigures> {
    let defective = judged.iter().filter(|j| j.sample.anomalous).count();
    if types.is_empty() || defective == 0 {
        return None;
    }
    let ranking = Ranking::new(judged.iter().map(|j| (j.score, j.sample.anomalous)));
    // Without a good part every defective one is found.
    let threshold = ranking.f1_threshold().unwrap_or(f32::NEG_INFINITY);
    let mut seen = types.to_vec();
    seen.push(UNKNOWN.into());
    let mut rows: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for j in judged {
        if !j.sample.anomalous || j.score <= threshold {
            continue;
        }
        let row = rows.entry(class_words(&j.sample.kind).to_lowercase());
        let row = row.or_insert_with(|| vec![0; seen.len()]);
        let of = j.defect.as_deref().unwrap_or(UNKNOWN);
        let column = seen.iter().position(|s| s == of);
        row[column.unwrap_or(seen.len() - 1)] += 1;
    }
    let total = |row: &Vec<usize>| row.iter().sum::<usize>();
    let (mut asked, mut right, mut unknown) = (0, 0, 0);
    let mut most = (String::new(), 0);
    for (name, row) in &rows {
        let Some(own) = types.iter().position(|t| t.to_lowercase() == *name) else {
            continue;
        };
        asked += total(row);
        right += row[own];
        unknown += row[types.len()];
        if total(row) > most.1 {
            most = (name.clone(), total(row));
        }
    }
    Some(TypeFigures {
        threshold,
        defective,
        found: rows.values().map(total).sum(),
        asked,
        right,
        unknown,
        accuracy: share(right, asked),
        most_frequent_share: share(most.1, asked),
        most_frequent: most.0,
        truth: rows.keys().cloned().collect(),
        seen,
        confusion: rows.into_values().collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::datasets::Sample;

    fn judged(kind: &str, score: f32, defect: Option<&str>) -> Judged {
        Judged {
            sample: Sample {
                image: "a.png".into(),
                mask: None,
                class: "nut".into(),
                kind: kind.into(),
                anomalous: kind != "good",
            },
            score,
            untaught: false,
            defect: defect.map(String::from),
            trivial: None,
            encoded: None,
            segmentation: None,
            map: None,
            marked: None,
        }
    }

    #[test]
    fn found_parts_are_counted_by_what_they_are_and_what_they_were_seen_as() {
        let types = ["scratch", "metal dust"].map(String::from);
        let all = [
            judged("good", 0.1, Some("scratch")),
            judged("good", 0.2, Some("unknown")),
            // Below every threshold that is worth it: not found.
            judged("scratch", 0.05, Some("scratch")),
            judged("scratch", 0.9, Some("scratch")),
            judged("scratch", 0.9, Some("metal dust")),
            judged("scratch", 0.9, Some("unknown")),
            judged("Metal_Dust", 0.8, Some("metal dust")),
            // Nobody asked for it.
            judged("hole", 0.8, Some("scratch")),
        ];
        let f = type_figures(&all, &types).unwrap();
        assert_eq!((f.defective, f.found, f.asked), (6, 5, 4));
        assert_eq!((f.right, f.unknown, f.accuracy), (2, 1, Some(0.5)));
        assert_eq!(
            (f.most_frequent.as_str(), f.most_frequent_share),
            ("scratch", Some(0.75))
        );
        assert_eq!(f.truth, ["hole", "metal dust", "scratch"]);
        assert_eq!(f.seen, ["scratch", "metal dust", "unknown"]);
        assert_eq!(f.confusion, [[1, 0, 0], [0, 1, 0], [1, 1, 1]]);
        assert_eq!(type_figures(&all, &[]), None);
        assert_eq!(type_figures(&all[..2], &types), None);
    }
}
