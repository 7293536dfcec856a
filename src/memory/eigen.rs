//! Eigenvalues and eigenvectors of a symmetric matrix, in the order in which principal components are wanted.

use nalgebra::{DMatrix, SymmetricEigen};

/// Eigenvalues of a symmetric matrix [n, n] of finite numbers, falling, and their vectors of length 1 in rows [n, n].
pub fn eigen(matrix: Vec<f64>, n: usize) -> (Vec<f64>, Vec<f64>) {
    if n == 0 {
        return (vec![], vec![]);
    }
    let found = SymmetricEigen::new(DMatrix::from_vec(n, n, matrix));
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|a, b| found.eigenvalues[*b].total_cmp(&found.eigenvalues[*a]));
    let values = order.iter().map(|k| found.eigenvalues[*k]).collect();
    let vectors = order.iter().map(|k| found.eigenvectors.column(*k));
    let vectors = vectors.flat_map(|v| v.iter().copied().collect::<Vec<_>>());
    (values, vectors.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::numbers;

    fn dot(a: &[f64], b: &[f64]) -> f64 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn eigenvectors_are_those_of_the_matrix_the_largest_first() {
        let n = 17;
        let x = numbers(n * n, 5);
        let at = |i: usize, j: usize| f64::from(x[i * n + j]);
        // x x^T; the same of rank 1; one that is diagonal already; nothing.
        let product = |rank: usize| -> Vec<f64> {
            (0..n * n)
                .map(|i| (0..rank).map(|k| at(i / n, k) * at(i % n, k)).sum())
                .collect()
        };
        let diagonal = (0..n * n).map(|i| if i % (n + 1) == 0 { i as f64 } else { 0.0 });
        for a in [product(n), product(1), diagonal.collect(), vec![0.0; n * n]] {
            let (values, vectors) = eigen(a.clone(), n);
            assert!(values.is_sorted_by(|a, b| a >= b), "{values:?}");
            for (k, (value, v)) in values.iter().zip(vectors.chunks_exact(n)).enumerate() {
                for (i, other) in vectors.chunks_exact(n).enumerate() {
                    let want = f64::from(u8::from(i == k));
                    assert!((dot(v, other) - want).abs() < 1e-9);
                }
                for (row, v_i) in a.chunks_exact(n).zip(v) {
                    let product = dot(row, v);
                    assert!(
                        (product - value * v_i).abs() < 1e-6,
                        "{product} for {value} {v_i}"
                    );
                }
            }
        }
        assert_eq!(eigen(vec![3.0], 1), (vec![3.0], vec![1.0]));
        assert_eq!(eigen(vec![], 0), (vec![], vec![]));
    }
}
