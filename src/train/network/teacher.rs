//! A network as a teacher: its maps, each on a grid that the student's places divide, and its feature of the whole
//! picture.

use super::super::TrainError;
use super::refuse::refuse_miscomputed;
use super::{Found, digest, input, maps, open, parse, rows};
use crate::graph::rows::on_rows;
use crate::ops::weights::Arithmetic;
use ndarray::Array2;
use std::path::{Path, PathBuf};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::*;
use tract_onnx::tract_hir::infer::Factoid;

/// What a teacher hands out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::train) struct TeacherTap {
    /// The name in the file.
    pub name: String,
    /// Numbers of a place.
    pub channels: usize,
    /// Places per side, a multiple of the student's; 1 for a feature of the whole picture.
    pub grid: usize,
}

impl TeacherTap {
    /// Whether it says one thing of the whole picture.
    pub fn is_pooled(&self) -> bool {
        self.grid == 1
    }
}

/// A teacher for pictures of one size.
pub(in crate::train) struct Teacher {
    /// SHA-256 of the file, as of [`super::Network`].
    pub digest: String,
    /// What it hands out, in the order of its outputs.
    pub taps: Vec<TeacherTap>,
    plan: Arc<TypedSimplePlan>,
    /// The side that the file is made for, if it says one.
    pub fixed: Option<usize>,
}

impl Teacher {
    /// Reads the ONNX file `path` for pictures of `side` px that the student sees as `grid` places per side; without
    /// `taps` all outputs of the file. A file made for another side gets resized pictures. `usual` is the same teacher
    /// for pictures of the usual side and the grid there: maps get as many places for one of the student's.
    ///
    /// # Errors
    /// [`TrainError::Weights`]: unreadable, or a network that cannot teach; the message names operators, inputs or
    /// taps that say so.
    pub fn load(
        path: &Path,
        taps: &[String],
        (side, grid): (usize, usize),
        usual: Option<(&Teacher, usize)>,
    ) -> Result<Teacher, TrainError> {
        let wrong = |what: String| TrainError::Weights {
            path: PathBuf::from(path),
            what,
        };
        let mut teacher =
            read(path, taps, (side, grid), usual).map_err(|e| wrong(format!("{e:#}")))?;
        teacher.digest = digest(path).map_err(wrong)?;
        Ok(teacher)
    }

    /// What it makes of a normalised picture [3, `side`, `side`]: rows [grid * grid, channels] for each tap.
    ///
    /// # Errors
    /// tract's own, and a number that is not finite, in words.
    pub fn run(&self, picture: &[f32], side: usize) -> Result<Vec<Array2<f32>>, String> {
        let failed = |e: TractError| format!("{e:#}");
        let picture = Tensor::from_shape(&[3, side, side], picture).map_err(failed)?;
        let found = self.plan.run(tvec!(picture.into_tvalue()));
        let found = found.map_err(failed)?;
        let rows = self.taps.iter().zip(&found).map(|(tap, rows)| {
            let values = crate::ops::slice(rows).map_err(failed)?;
            if let Some(odd) = values.iter().find(|v| !v.is_finite()) {
                return Err(format!("tap `{}` of a view is {odd}", tap.name));
            }
            let shape = (tap.grid * tap.grid, tap.channels);
            Array2::from_shape_vec(shape, values.to_vec())
                .map_err(|e| format!("tap `{}`: {e}", tap.name))
        });
        rows.collect()
    }
}

fn read(
    path: &Path,
    taps: &[String],
    (side, grid): (usize, usize),
    usual: Option<(&Teacher, usize)>,
) -> TractResult<Teacher> {
    let mut model = parse(path)?;
    refuse_miscomputed(path, taps)?;
    let fixed = fixed_side(&model)?;
    let (own, channels_last) = input(&model, fixed.or(Some(side)))?;
    let names: Vec<String> = match taps.is_empty() {
        false => taps.to_vec(),
        true => {
            let outlets = model.output_outlets()?;
            let name = |o: &OutletId| {
                let label = model.outlet_label(*o);
                label.unwrap_or(&model.node(o.node).name).to_string()
            };
            outlets.iter().map(name).collect()
        }
    };
    let advice = match channels_last {
        true => [1, own, own, 3],
        false => [1, 3, own, own],
    };
    let opened = open(path, model.clone(), &names, own, channels_last, true)?;
    if opened.taps.iter().all(|t| t.own == 1) {
        model.set_input_fact(0, f32::fact(advice).into())?;
        bail!(
            "none of {} is a map: a teacher is asked for maps, as in FILE.onnx@NAME,NAME; maps of it:\n{}",
            names.join(", "),
            maps(model)
        );
    }
    let grids: Vec<usize> = match usual {
        Some((teacher, of)) => {
            let taps = teacher.taps.iter();
            taps.map(|t| if t.is_pooled() { 1 } else { t.grid / of * grid })
                .collect()
        }
        None => opened.taps.iter().map(|t| on(t, grid)).collect(),
    };
    let model = rows(&opened, side, &grids)?;
    let facts = model.outputs.iter().map(|o| model.outlet_fact(*o));
    let channels = facts
        .map(|f| Ok(f?.shape[1].to_usize()?))
        .collect::<TractResult<Vec<_>>>()?;
    let taps = opened.taps.iter().zip(grids).zip(channels);
    let taps = taps.map(|((tap, grid), channels)| TeacherTap {
        name: tap.name.clone(),
        channels,
        grid,
    });
    Ok(Teacher {
        digest: String::new(),
        taps: taps.collect(),
        plan: on_rows(&model.into_decluttered()?, Arithmetic::F32)?
            .into_optimized()?
            .into_runnable()?,
        fixed,
    })
}

/// The side that a file is made for.
fn fixed_side(model: &InferenceModel) -> TractResult<Option<usize>> {
    let shape = &model.input_fact(0)?.shape;
    let sides = shape.dims().skip(1).filter_map(|d| d.concretize());
    let sides = sides.filter_map(|d| d.to_usize().ok()).filter(|d| *d != 3);
    Ok(sides.max())
}

/// The grid that a tap is brought to: the nearest multiple of the student's.
fn on(tap: &Found, grid: usize) -> usize {
    match tap.own {
        1 => 1,
        own => grid * ((own as f64 / grid as f64).round() as usize).max(1),
    }
}
