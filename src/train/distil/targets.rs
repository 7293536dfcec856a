//! What the student is asked to predict: the teachers' maps at its own places, standardised; the principal components
//! of all of them; and those of the feature of the whole picture.

use crate::memory::eigen::eigen;
use crate::train::TrainError;
use crate::train::tensors::Tensors;
use crate::train::tensors::store::Store;
use ndarray::{Array1, Array2, ArrayView2, Axis, concatenate, s};
use sha2::{Digest, Sha256};

/// Most numbers that a map gives a place of the student's: more become as many principal components.
const MOST: usize = 256;
/// Standardised numbers are cut off here.
const FARTHEST: f32 = 8.0;

/// A map on its way to the student's places.
#[derive(Clone, Debug)]
struct Group {
    /// Mean and components [C, K] of what the teacher says of a place, where it says more than [`MOST`].
    components: Option<(Array1<f32>, Array2<f32>)>,
    shift: Array1<f32>,
    scale: Array1<f32>,
}

/// How a view's maps become targets.
#[derive(Clone, Debug)]
pub struct Targets {
    groups: Vec<Group>,
    /// [D, C]: all groups to the student's patch features.
    pub patch: Array2<f32>,
    /// Part of the variance that these hold.
    pub kept: f32,
    image_mean: Array1<f32>,
    image: Array2<f32>,
}

/// A map of one view as the teacher gives it.
pub struct Map {
    /// [places, channels], row by row.
    pub rows: Array2<f32>,
    /// Places per side.
    pub grid: usize,
}

/// One view's targets.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// All groups side by side, [places, D].
    pub joined: Array2<f32>,
    /// Of the whole picture, [1, C].
    pub image: Array2<f32>,
}

/// What the teachers say of one view.
pub struct Said {
    /// Every map.
    pub maps: Vec<Map>,
    /// The first feature of the whole picture that there is.
    pub whole: Option<Array1<f32>>,
}

/// The places of a finer grid become numbers of the coarser one's: [grid * grid, C] to [own * own, C * f * f].
fn folded(rows: &Array2<f32>, grid: usize, own: usize) -> Array2<f32> {
    let (f, c) = (grid / own, rows.ncols());
    if f == 1 {
        return rows.clone();
    }
    let mut out = Array2::zeros((own * own, c * f * f));
    for place in 0..own * own {
        let (y, x) = (place / own, place % own);
        for k in 0..f * f {
            let from = (y * f + k / f) * grid + x * f + k % f;
            let to = s![place, k * c..(k + 1) * c];
            out.slice_mut(to).assign(&rows.row(from));
        }
    }
    out
}

/// Rows whose products are summed at once.
const ROWS: usize = 4096;

/// Mean, principal components [D, count], their variances.
type Components = (Array1<f32>, Array2<f32>, Array1<f32>);

/// The first `count` principal components of rows; as many as there are not are zero.
fn components(rows: ArrayView2<f32>, count: usize) -> Result<Components, TrainError> {
    let mean = rows.mean_axis(Axis(0)).expect("at least one row");
    let n = rows.ncols();
    let mut covariance = Array2::<f64>::zeros((n, n));
    for part in rows.axis_chunks_iter(Axis(0), ROWS) {
        let centred = (&part - &mean).mapv(f64::from);
        covariance += &centred.t().dot(&centred);
    }
    covariance /= rows.nrows() as f64;
    if covariance.iter().any(|v| !v.is_finite()) {
        let what =
            "the teachers' maps have no principal components: they hold NaN or infinite numbers";
        return Err(TrainError::Options(what.into()));
    }
    let (found, vectors) = largest(covariance, count);
    let basis = Array2::from_shape_fn((n, count), |(i, k)| {
        vectors.get((i, k)).map_or(0.0, |v| *v as f32)
    });
    let values = Array1::from_shape_fn(count, |k| found.get(k).map_or(0.0, |v| v.max(0.0) as f32));
    Ok((mean, basis, values))
}

/// The largest eigenvalues of a symmetric matrix [n, n], falling, and their vectors in columns, at most `count`.
fn largest(matrix: Array2<f64>, count: usize) -> (Vec<f64>, Array2<f64>) {
    let n = matrix.nrows();
    let (mut values, rows) = eigen(matrix.into_iter().collect(), n);
    values.truncate(count);
    let vectors = Array2::from_shape_fn((n, values.len()), |(i, k)| rows[k * n + i]);
    (values, vectors)
}

/// Divides components by the root of their mean variance.
fn evened(basis: Array2<f32>, values: &Array1<f32>) -> Array2<f32> {
    basis / values.mean().unwrap_or(1.0).max(1e-12).sqrt()
}

impl Group {
    fn project(&self, map: &Map, own: usize) -> Array2<f32> {
        match &self.components {
            None => folded(&map.rows, map.grid, own),
            Some((mean, basis)) => folded(&(&map.rows - mean).dot(basis), map.grid, own),
        }
    }

    fn scaled(&self, rows: Array2<f32>) -> Array2<f32> {
        let rows = (rows - &self.shift) * &self.scale;
        rows.mapv(|v| v.clamp(-FARTHEST, FARTHEST))
    }
}

impl Targets {
    /// From what the teachers say of some views; `own` are the student's places per side, `joint` the numbers of its
    /// patch and image features.
    ///
    /// # Errors
    /// [`TrainError::Options`] for numbers that are not finite.
    pub fn fit(said: &[Said], own: usize, joint: usize) -> Result<Targets, TrainError> {
        let maps = said.first().map_or(0, |s| s.maps.len());
        let (mut groups, mut scaled) = (vec![], vec![]);
        for i in 0..maps {
            let map = &said[0].maps[i];
            let f = map.grid / own;
            let fewer = MOST / (f * f);
            let mut group = Group {
                components: None,
                shift: Array1::zeros(0),
                scale: Array1::zeros(0),
            };
            if map.rows.ncols() > fewer.max(1) {
                let all: Vec<_> = said.iter().map(|s| s.maps[i].rows.view()).collect();
                let all = concatenate(Axis(0), &all).expect("maps of one width");
                let (mean, mut basis, values) = components(all.view(), fewer.max(1))?;
                // Half way to equal spreads: few strong directions would drown the rest.
                basis *= &values.mapv(|v| v.max(1e-6).powf(-0.25));
                group.components = Some((mean, basis));
            }
            let rows: Vec<_> = said
                .iter()
                .map(|s| group.project(&s.maps[i], own))
                .collect();
            let rows: Vec<_> = rows.iter().map(|r| r.view()).collect();
            let rows = concatenate(Axis(0), &rows).expect("maps of one width");
            let spread = rows.std_axis(Axis(0), 0.0).mapv(|v| v.max(1e-4));
            let spread = match group.components {
                // The components of one map keep their spreads' proportions.
                Some(_) => {
                    let even = spread.mapv(|v| v * v).mean().unwrap_or(1.0).sqrt();
                    spread.mapv(|_| even)
                }
                None => spread,
            };
            group.shift = rows.mean_axis(Axis(0)).expect("at least one row");
            group.scale = spread.mapv(f32::recip);
            scaled.push(group.scaled(rows));
            groups.push(group);
        }
        let all: Vec<_> = scaled.iter().map(|r| r.view()).collect();
        let all = concatenate(Axis(1), &all).expect("as many places");
        drop(scaled);
        let (_, basis, values) = components(all.view(), joint)?;
        let kept = values.sum() / all.var_axis(Axis(0), 0.0).sum().max(1e-12);
        let patch = evened(basis, &values);
        let places = own * own;
        let whole: Vec<Array1<f32>> = (said.iter().enumerate())
            .map(|(i, s)| match &s.whole {
                Some(whole) => whole.clone(),
                None => {
                    let rows = all.slice(s![i * places..(i + 1) * places, ..]);
                    rows.mean_axis(Axis(0)).expect("at least one place")
                }
            })
            .collect();
        let rows: Vec<_> = whole
            .iter()
            .map(|w| w.view().insert_axis(Axis(0)))
            .collect();
        let whole = concatenate(Axis(0), &rows).expect("features of one width");
        let (image_mean, basis, values) = components(whole.view(), joint)?;
        Ok(Targets {
            groups,
            patch,
            kept,
            image_mean,
            image: evened(basis, &values),
        })
    }

    /// How many numbers each group has.
    pub fn widths(&self) -> Vec<usize> {
        self.groups.iter().map(|g| g.shift.len()).collect()
    }

    /// The targets of a view that the student sees as `own` places per side.
    pub fn of(&self, said: &Said, own: usize) -> Target {
        let groups = self.groups.iter().zip(&said.maps);
        let groups: Vec<_> = groups
            .map(|(group, map)| group.scaled(group.project(map, own)))
            .collect();
        let groups: Vec<_> = groups.iter().map(|r| r.view()).collect();
        let joined = concatenate(Axis(1), &groups).expect("as many places");
        let whole = match &said.whole {
            Some(whole) => whole.clone(),
            None => joined.mean_axis(Axis(0)).expect("at least one place"),
        };
        let image = (whole - &self.image_mean).dot(&self.image);
        Target {
            joined,
            image: image.insert_axis(Axis(0)),
        }
    }

    /// SHA-256 over all their numbers.
    pub fn digest(&self) -> String {
        let mut digest = Sha256::new();
        let mut add = |v: &f32| digest.update(v.to_le_bytes());
        self.patch.iter().for_each(&mut add);
        self.image_mean.iter().for_each(&mut add);
        self.image.iter().for_each(&mut add);
        for group in &self.groups {
            group.shift.iter().chain(&group.scale).for_each(&mut add);
            if let Some((mean, basis)) = &group.components {
                mean.iter().chain(basis).for_each(&mut add);
            }
        }
        crate::bundle::envelope::hex(&digest.finalize())
    }

    /// Puts them into a file.
    pub fn store(&self, store: &mut Store) {
        store.array("patch", &self.patch);
        store.array("patch.kept", &ndarray::arr1(&[self.kept]));
        store.array("image.mean", &self.image_mean);
        store.array("image", &self.image);
        for (i, group) in self.groups.iter().enumerate() {
            store.array(format!("group.{i}.shift"), &group.shift);
            store.array(format!("group.{i}.scale"), &group.scale);
            if let Some((mean, basis)) = &group.components {
                store.array(format!("group.{i}.mean"), mean);
                store.array(format!("group.{i}.components"), basis);
            }
        }
    }

    /// Reads them from a file that [`Targets::store`] wrote into.
    ///
    /// # Errors
    /// What is missing or of another shape.
    pub fn read(tensors: &Tensors) -> Result<Targets, String> {
        let vector = |name: &str| -> Result<Array1<f32>, String> {
            let array = tensors.array(name).map_err(|e| e.to_string())?;
            array
                .into_dimensionality()
                .map_err(|e| format!("{name}: {e}"))
        };
        let matrix = |name: &str| tensors.matrix(name, None, None).map_err(|e| e.to_string());
        let mut groups = vec![];
        while tensors.has(&format!("group.{}.shift", groups.len())) {
            let at = |what: &str| format!("group.{}.{what}", groups.len());
            let components = match tensors.has(&at("mean")) {
                true => Some((vector(&at("mean"))?, matrix(&at("components"))?)),
                false => None,
            };
            let (shift, scale) = (vector(&at("shift"))?, vector(&at("scale"))?);
            groups.push(Group {
                components,
                shift,
                scale,
            });
        }
        let kept = vector("patch.kept")?;
        Ok(Targets {
            groups,
            patch: matrix("patch")?,
            kept: kept.first().copied().unwrap_or(0.0),
            image_mean: vector("image.mean")?,
            image: matrix("image")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_are_the_directions_of_most_variance() {
        // Variance 9 along (3, 4) / 5, variance 1 across it.
        let along = [0.6f32, 0.8];
        let across = [-0.8f32, 0.6];
        let mut rows = Array2::zeros((4, 2));
        for (i, (a, b)) in [(3.0, 1.0), (3.0, -1.0), (-3.0, 1.0), (-3.0, -1.0)]
            .into_iter()
            .enumerate()
        {
            for c in 0..2 {
                rows[[i, c]] = 5.0 + a * along[c] + b * across[c];
            }
        }
        let (mean, basis, values) = components(rows.view(), 3).unwrap();
        assert!(mean.iter().all(|v| (v - 5.0).abs() < 1e-5));
        assert!((values[0] - 9.0).abs() < 1e-4 && (values[1] - 1.0).abs() < 1e-4);
        let dot = basis[[0, 0]] * along[0] + basis[[1, 0]] * along[1];
        assert!((dot.abs() - 1.0).abs() < 1e-5, "{basis:?}");
        // There is no third one.
        assert_eq!((values[2], basis[[0, 2]]), (0.0, 0.0));
    }

    #[test]
    fn the_largest_eigenvalues_come_first() {
        // A A^T of known values 1, 1/2, 1/3 ... in turned axes: Householder's reflection.
        let n = 120;
        let u = Array1::from_shape_fn(n, |i| ((i % 7) as f64 - 2.5) / 10.0);
        let u = &u / u.dot(&u).sqrt();
        let turn = Array2::from_shape_fn((n, n), |(i, k)| {
            f64::from(u8::from(i == k)) - 2.0 * u[i] * u[k]
        });
        let values = Array2::from_diag(&Array1::from_shape_fn(n, |k| 1.0 / (1.0 + k as f64)));
        let matrix = turn.dot(&values).dot(&turn);
        let (found, vectors) = largest(matrix, 8);
        for k in 0..8 {
            assert!(
                (found[k] - 1.0 / (1.0 + k as f64)).abs() < 1e-9,
                "{k}: {found:?}"
            );
            let cosine = vectors.column(k).dot(&turn.column(k)).abs();
            assert!((cosine - 1.0).abs() < 1e-6, "{k}: {cosine}");
        }
    }

    #[test]
    fn finer_places_become_numbers_of_coarser_ones() {
        let rows = Array2::from_shape_fn((16, 1), |(i, _)| i as f32);
        let out = folded(&rows, 4, 2);
        assert_eq!(out.row(0).to_vec(), [0.0, 1.0, 4.0, 5.0]);
        assert_eq!(out.row(3).to_vec(), [10.0, 11.0, 14.0, 15.0]);
    }

    #[test]
    fn what_comes_out_is_standardised_and_comes_back_from_a_file() {
        let said: Vec<Said> = (0..8)
            .map(|k| Said {
                maps: vec![
                    Map {
                        rows: Array2::from_shape_fn((16, 3), |(i, c)| {
                            10.0 + ((i * 7 + c * 5 + k * 11) % 13) as f32
                        }),
                        grid: 4,
                    },
                    // More than a place may have.
                    Map {
                        rows: Array2::from_shape_fn((4, 300), |(i, c)| {
                            ((i * 3 + c * c + k * 17) % 19) as f32
                        }),
                        grid: 2,
                    },
                ],
                whole: None,
            })
            .collect();
        let targets = Targets::fit(&said, 2, 6).unwrap();
        assert_eq!(targets.widths(), [12, 256]);
        let all: Vec<Target> = said.iter().map(|s| targets.of(s, 2)).collect();
        assert_eq!(all[0].joined.dim(), (4, 268));
        assert_eq!(all[0].image.dim(), (1, 6));
        let first: Vec<f32> = all
            .iter()
            .flat_map(|t| t.joined.column(0).to_vec())
            .collect();
        let mean = first.iter().sum::<f32>() / first.len() as f32;
        let spread = first.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / first.len() as f32;
        assert!(
            mean.abs() < 1e-5 && (spread - 1.0).abs() < 1e-4,
            "{mean} {spread}"
        );
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.safetensors");
        let mut store = Store::default();
        targets.store(&mut store);
        store.save(&path).unwrap();
        let back = Targets::read(&Tensors::load(&path).unwrap()).unwrap();
        assert_eq!(back.of(&said[3], 2), all[3]);
    }
}
