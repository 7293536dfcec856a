//! Descriptors as they are stored and compared: bytes, with a step per row.

use crate::ops::simd::{multiply_add, vectorised};
use crate::ops::sum_lanes;
use crate::ops::tract::*;

/// Largest absolute value of a stored number, in steps.
const KEPT: f32 = 127.0;
/// The same of a row that is compared with stored ones: finer, while sums of 384 products stay far from 2^31.
const ASKED: f32 = 4095.0;

/// Rounds a row to whole steps; returns the size of a step.
fn round<T>(row: &[f32], most: f32, to: &mut Vec<T>, whole: impl Fn(f32) -> T) -> f32 {
    let largest = row.iter().fold(0f32, |m, v| m.max(v.abs()));
    let step = if largest > 0.0 { largest / most } else { 1.0 };
    let inverse = 1.0 / step;
    to.extend(row.iter().map(|v| whole((v * inverse).round())));
    step
}

/// Rows of bytes: row i is `steps[i]` times its bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// The numbers in steps, -127..=127, [rows, dim].
    pub bytes: Vec<i8>,
    /// The size of a step of each row, `[rows]`.
    pub steps: Vec<f32>,
    /// The squared length of each row as it is stored, `[rows]`.
    pub squares: Vec<f32>,
}

impl Rows {
    /// A part's descriptors [places, dim], rounded.
    ///
    /// # Errors
    /// A number that is not finite.
    pub fn of(descriptors: &[f32], dim: usize) -> TractResult<Rows> {
        let mut rows = Rows::default();
        rows.take(descriptors, dim)?;
        Ok(rows)
    }

    /// Makes room for this many numbers in this many rows, none of which is there yet.
    pub fn with_room(numbers: usize, rows: usize) -> Rows {
        Rows {
            bytes: Vec::with_capacity(numbers),
            steps: Vec::with_capacity(rows),
            squares: Vec::with_capacity(rows),
        }
    }

    /// Takes another part's descriptors, in the same memory.
    ///
    /// # Errors
    /// As [`Rows::of`]; there are no rows then.
    pub fn take(&mut self, descriptors: &[f32], dim: usize) -> TractResult<()> {
        self.bytes.clear();
        self.steps.clear();
        self.squares.clear();
        if let Some(v) = descriptors.iter().find(|v| !v.is_finite()) {
            bail!("the descriptors hold {v}");
        }
        for row in descriptors.chunks_exact(dim) {
            let step = round(row, KEPT, &mut self.bytes, |v| v as i8);
            self.steps.push(step);
        }
        self.measure(dim);
        Ok(())
    }

    /// Rows from the bytes and steps of a file.
    pub fn stored(bytes: Vec<i8>, steps: Vec<f32>, dim: usize) -> Rows {
        let mut rows = Rows {
            bytes,
            steps,
            squares: vec![],
        };
        rows.measure(dim);
        rows
    }

    fn measure(&mut self, dim: usize) {
        let rows = self.bytes.chunks_exact(dim).zip(&self.steps);
        let square = |(row, step): (&[i8], &f32)| {
            let sum: i32 = row.iter().map(|b| i32::from(*b) * i32::from(*b)).sum();
            step * step * sum as f32
        };
        self.squares.clear();
        self.squares.extend(rows.map(square));
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Appends the numbers of a row to `out`.
    pub fn number(&self, row: usize, dim: usize, out: &mut Vec<f32>) {
        let bytes = &self.bytes[row * dim..][..dim];
        out.extend(bytes.iter().map(|b| f32::from(*b) * self.steps[row]));
    }

    /// The numbers of all rows, [rows, dim].
    pub fn numbers(&self, dim: usize) -> Vec<f32> {
        let mut all = Vec::with_capacity(self.bytes.len());
        (0..self.len()).for_each(|row| self.number(row, dim, &mut all));
        all
    }

    /// Appends a row of other rows.
    pub fn push(&mut self, other: &Rows, row: usize, dim: usize) {
        self.bytes
            .extend_from_slice(&other.bytes[row * dim..][..dim]);
        self.steps.push(other.steps[row]);
        self.squares.push(other.squares[row]);
    }
}

/// The good parts that a memory learns from: each as it came, and perhaps [in further views](super::views).
#[derive(Clone, Debug, Default)]
pub struct Learned<'a> {
    rows: Vec<&'a Rows>,
    /// Index of the part that each of `rows` is from.
    owners: Vec<usize>,
}

impl<'a> Learned<'a> {
    /// Puts rows together, part by part, each part's own view first; `views` says how many views each part has,
    /// and is empty where all have one.
    pub fn new(rows: impl IntoIterator<Item = &'a Rows>, views: &[usize]) -> Learned<'a> {
        let rows: Vec<&Rows> = rows.into_iter().collect();
        let owners = match views {
            [] => (0..rows.len()).collect(),
            views => {
                let owners = views.iter().enumerate();
                owners
                    .flat_map(|(part, n)| std::iter::repeat_n(part, *n))
                    .collect()
            }
        };
        Learned { rows, owners }
    }

    /// The rows of all views, part by part.
    pub fn rows(&self) -> &[&'a Rows] {
        &self.rows
    }

    /// Index of the part that each of the rows is from.
    pub fn owners(&self) -> &[usize] {
        &self.owners
    }

    /// How many parts there are.
    pub fn parts(&self) -> usize {
        self.owners.last().map_or(0, |last| last + 1)
    }

    /// The rows of each part as it came.
    pub fn own(&self) -> impl Iterator<Item = &'a Rows> {
        let first = |part| self.owners.partition_point(|owner| *owner < part);
        (0..self.parts()).filter_map(move |part| self.rows.get(first(part)).copied())
    }

    /// The same without some of the parts; the others are numbered anew.
    pub fn without(&self, left_out: impl Fn(usize) -> bool) -> Learned<'a> {
        let mut others = Learned::default();
        let mut last = None;
        for (rows, owner) in self.rows.iter().zip(&self.owners) {
            if !left_out(*owner) {
                let own = others.owners.last().copied();
                let number = own.map_or(0, |n| n + usize::from(last != Some(*owner)));
                others.rows.push(rows);
                others.owners.push(number);
                last = Some(*owner);
            }
        }
        others
    }
}

/// Rows that are compared with stored ones.
#[derive(Default)]
pub struct Asked {
    values: Vec<i16>,
    steps: Vec<f32>,
    squares: Vec<f32>,
    dim: usize,
}

impl Asked {
    /// Takes other rows, in the same memory.
    ///
    /// # Errors
    /// A number that is not finite: it has no distance from anything.
    pub fn take(&mut self, descriptors: &[f32], dim: usize) -> TractResult<()> {
        self.dim = dim;
        self.values.clear();
        self.steps.clear();
        self.squares.clear();
        for row in descriptors.chunks_exact(dim) {
            let step = round(row, ASKED, &mut self.values, |v| v as i16);
            let square = sum_lanes(row, |v| v * v);
            if !square.is_finite() {
                bail!("a descriptor of length {square}");
            }
            self.steps.push(step);
            self.squares.push(square);
        }
        Ok(())
    }

    /// Takes stored rows, in the same memory.
    pub fn take_kept(&mut self, rows: &Rows, dim: usize) {
        self.dim = dim;
        self.values.clear();
        self.values.extend(rows.bytes.iter().map(|b| i16::from(*b)));
        self.steps.clone_from(&rows.steps);
        self.squares.clone_from(&rows.squares);
    }

    /// The squared distances of row `row` from stored rows. Where rounding would leave them below zero they are
    /// zero.
    pub fn distances(&self, row: usize, kept: Kept, out: &mut [f32]) {
        let q = &self.values[row * self.dim..][..self.dim];
        distances(q, self.steps[row], self.squares[row], kept, out);
    }
}

/// Stored rows that follow one another in memory.
#[derive(Clone, Copy)]
pub struct Kept<'a> {
    /// The numbers in steps, [rows, dim].
    pub bytes: &'a [i8],
    /// The size of a step of each row, `[rows]`.
    pub steps: &'a [f32],
    /// The squared length of each row, `[rows]`.
    pub squares: &'a [f32],
}

vectorised! {
    /// The squared distance of a row from each kept one.
    fn distances(q: &[i16], step: f32, square: f32, kept: Kept, out: &mut [f32]) {
        let rows = kept.bytes.chunks_exact(q.len()).zip(kept.steps.iter().zip(kept.squares));
        for (out, (row, (kept_step, kept_square))) in out.iter_mut().zip(rows) {
            let mut sum = 0i32;
            for (q, b) in q.iter().zip(row) {
                sum += i32::from(*q) * i32::from(*b);
            }
            let product = -2.0 * step * kept_step;
            *out = multiply_add::<FUSED>(product, sum as f32, square + kept_square).max(0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::numbers;

    #[test]
    fn distances_are_those_of_the_numbers() {
        let dim = 45;
        let (a, b) = (numbers(3 * dim, 1), numbers(7 * dim, 2));
        let kept = Rows::of(&b, dim).unwrap();
        let mut asked = Asked::default();
        asked.take(&a, dim).unwrap();
        for row in 0..3 {
            let mut got = [0f32; 7];
            let all = Kept {
                bytes: &kept.bytes,
                steps: &kept.steps,
                squares: &kept.squares,
            };
            asked.distances(row, all, &mut got);
            for (i, got) in got.iter().enumerate() {
                let pairs = a[row * dim..][..dim].iter().zip(&b[i * dim..][..dim]);
                let want: f32 = pairs.map(|(a, b)| (a - b) * (a - b)).sum();
                assert!((got - want).abs() < 0.02 * want, "{got} for {want}");
            }
        }
        // A row from itself, as it is kept.
        asked.take_kept(&kept, dim);
        let mut own = [1f32];
        let first = Kept {
            bytes: &kept.bytes[..dim],
            steps: &kept.steps[..1],
            squares: &kept.squares[..1],
        };
        asked.distances(0, first, &mut own);
        assert!(own[0] < 1e-4, "{own:?}");
    }

    #[test]
    fn views_belong_to_their_part() {
        let rows: Vec<Rows> = (0..6).map(|i| Rows::of(&[i as f32], 1).unwrap()).collect();
        let learned = Learned::new(&rows, &[3, 1, 2]);
        assert_eq!(learned.owners(), [0, 0, 0, 1, 2, 2]);
        let own: Vec<&Rows> = learned.own().collect();
        assert_eq!(
            (learned.parts(), own),
            (3, vec![&rows[0], &rows[3], &rows[4]])
        );
        let others = learned.without(|part| part == 1);
        assert_eq!(others.owners(), [0, 0, 0, 1, 1]);
        assert_eq!(others.rows()[3], &rows[4]);
        assert_eq!(Learned::new(&rows, &[]).owners(), [0, 1, 2, 3, 4, 5]);
        assert_eq!(Learned::default().parts(), 0);
    }

    #[test]
    fn what_is_no_number_is_refused() {
        assert!(Rows::of(&[1.0, f32::NAN], 2).is_err());
        let mut asked = Asked::default();
        assert!(asked.take(&[1.0, f32::INFINITY], 2).is_err());
        assert!(asked.take(&[1.0, f32::NAN], 2).is_err());
        assert_eq!(Rows::of(&[0.0; 4], 2).unwrap().squares, [0.0, 0.0]);
    }
}
