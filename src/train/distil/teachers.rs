//! The teachers side by side, and what they say of a view.

use super::targets::{Map, Said};
use crate::train::TrainError;
use crate::train::backbone::{MEAN, STD, config::Said as Configured};
use crate::train::clip::Overrides;
use crate::train::network::Teacher;
use ndarray::Array1;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// `FILE.onnx`, or `FILE.onnx@TAP,TAP`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The file.
    pub path: PathBuf,
    /// Names of its outputs, tensors or nodes; none for all of its outputs.
    pub taps: Vec<String>,
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Named, String> {
        // A folder's name may have the sign too.
        let (path, taps) = match text.rsplit_once('@') {
            Some((path, taps)) if path.ends_with(".onnx") => (path, taps),
            _ => (text, ""),
        };
        let taps: Vec<String> = match taps.is_empty() {
            true => vec![],
            false => taps.split(',').map(String::from).collect(),
        };
        match path.is_empty() || taps.iter().any(String::is_empty) {
            true => Err("FILE.onnx or FILE.onnx@NAME,NAME".into()),
            false => Ok(Named {
                path: path.into(),
                taps,
            }),
        }
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        match self.taps.is_empty() {
            true => Ok(()),
            false => write!(f, "@{}", self.taps.join(",")),
        }
    }
}

/// A teacher, and how pictures are normalised for it.
struct One {
    name: String,
    teacher: Teacher,
    mean: [f32; 3],
    std: [f32; 3],
}

/// All teachers for views of one size.
pub struct Teachers {
    all: Vec<One>,
    /// What no configuration said: a sentence each.
    pub assumed: Vec<String>,
}

impl Teachers {
    /// Reads them for `views` of so many px that the student sees as so many places per side. `means` and `stds` are
    /// those of all teachers, or one of each; what is not named is looked up beside the file, or ImageNet's. `usual`
    /// are the same teachers for views of the usual side, and the grid there.
    ///
    /// # Errors
    /// [`TrainError::Weights`]: one that cannot be run; [`TrainError::Options`].
    pub fn load(
        named: &[Named],
        means: &[[f32; 3]],
        stds: &[[f32; 3]],
        views: (usize, usize),
        usual: Option<(&Teachers, usize)>,
    ) -> Result<Teachers, TrainError> {
        let of = |all: &[[f32; 3]], option: &str, i: usize| match all {
            [] => Ok(None),
            [one] => Ok(Some(*one)),
            each if each.len() == named.len() => Ok(Some(each[i])),
            each => Err(TrainError::Options(format!(
                "{option} is given {} times for {} teachers: once for all, or once for each",
                each.len(),
                named.len()
            ))),
        };
        let (mut all, mut assumed) = (vec![], vec![]);
        for (i, one) in named.iter().enumerate() {
            let same = usual.map(|(all, grid)| (&all.all[i].teacher, grid));
            let teacher = Teacher::load(&one.path, &one.taps, views, same)?;
            let said = Configured::of_pictures(&one.path, &Overrides::default());
            let said = said.map_err(|e| TrainError::Weights {
                path: one.path.clone(),
                what: e.to_string(),
            })?;
            let mut or = |what: &str, option: &str, value: [f32; 3]| {
                assumed.push(format!(
                    "{}: {what} of ImageNet (no configuration says it; {option})",
                    one.path.display()
                ));
                value
            };
            let mean = of(means, "--mean", i)?.or(said.mean);
            let std = of(stds, "--std", i)?.or(said.std);
            all.push(One {
                name: one.path.display().to_string(),
                teacher,
                mean: mean.unwrap_or_else(|| or("mean", "--mean", MEAN)),
                std: std.unwrap_or_else(|| or("deviation", "--std", STD)),
            });
        }
        Ok(Teachers { all, assumed })
    }

    /// Everything that their answers depend on, in words.
    pub fn key(&self) -> String {
        let one = |o: &One| {
            let taps = o.teacher.taps.iter();
            let taps: Vec<String> = taps
                .map(|t| format!("{} x {}", t.name, t.channels))
                .collect();
            let (mean, std) = (o.mean, o.std);
            format!("{} {mean:?} {std:?} {}", o.teacher.digest, taps.join(", "))
        };
        let all: Vec<String> = self.all.iter().map(one).collect();
        all.join("; ")
    }

    /// SHA-256 of each one's file, by `teacher` and the file's name; of two files with the same name the second has its
    /// place in the list behind it.
    pub fn digests(&self) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        for (i, one) in self.all.iter().enumerate() {
            let name = Path::new(&one.name).file_name().unwrap_or_default();
            let mut key = format!("teacher {}", name.to_string_lossy());
            if found.contains_key(&key) {
                key += &format!(" ({})", i + 1);
            }
            found.insert(key, one.teacher.digest.clone());
        }
        found
    }

    /// A line about each.
    pub fn about(&self) -> Vec<String> {
        let one = |o: &One| {
            let taps = o.teacher.taps.iter().map(|t| match t.is_pooled() {
                true => format!("{} ({}, whole picture)", t.name, t.channels),
                false => format!(
                    "{} ({} x {} places of {})",
                    t.name, t.grid, t.grid, t.channels
                ),
            });
            let fixed = o.teacher.fixed.map(|s| format!(", {s} px"));
            let taps: Vec<String> = taps.collect();
            format!(
                "{}{}: {}",
                o.name,
                fixed.unwrap_or_default(),
                taps.join(", ")
            )
        };
        self.all.iter().map(one).collect()
    }

    /// Whether one of them is made for one size of pictures.
    pub fn is_fixed(&self) -> bool {
        self.all.iter().any(|o| o.teacher.fixed.is_some())
    }

    /// What they say of a view, [3, side, side] in 0..=1.
    ///
    /// # Errors
    /// [`TrainError::Weights`]: tract's own, or a number that is not finite.
    pub fn say(&self, view: &[f32], side: usize) -> Result<Said, TrainError> {
        let mut said = Said {
            maps: vec![],
            whole: None,
        };
        for one in &self.all {
            let plane = side * side;
            let normalised = view.iter().enumerate();
            let normalised =
                normalised.map(|(i, v)| (v - one.mean[i / plane]) / one.std[i / plane]);
            let normalised: Vec<f32> = normalised.collect();
            let rows = one.teacher.run(&normalised, side);
            let rows = rows.map_err(|what| TrainError::Weights {
                path: PathBuf::from(&one.name),
                what,
            })?;
            for (tap, rows) in one.teacher.taps.iter().zip(rows) {
                match tap.is_pooled() {
                    true => {
                        let whole = Array1::from(rows.into_raw_vec_and_offset().0);
                        said.whole.get_or_insert(whole);
                    }
                    false => said.maps.push(Map {
                        rows,
                        grid: tap.grid,
                    }),
                }
            }
        }
        Ok(said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_teacher_is_a_file_and_perhaps_taps() {
        let of = |text: &str| Named::from_str(text).map(|n| (n.path, n.taps));
        assert_eq!(of("a/b.onnx").unwrap(), ("a/b.onnx".into(), vec![]));
        let two = vec!["s8".to_string(), "/x/y".to_string()];
        assert_eq!(
            of("b@c/t.onnx@s8,/x/y").unwrap(),
            ("b@c/t.onnx".into(), two)
        );
        assert_eq!(of("b@c/t.onnx").unwrap(), ("b@c/t.onnx".into(), vec![]));
        assert!(of("t.onnx@s8,").is_err() && of("").is_err());
    }
}
