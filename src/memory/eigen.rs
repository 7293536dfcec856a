//! Eigenvalues and eigenvectors of a symmetric matrix: Householder's reduction to a tridiagonal matrix, then QL
//! with implicit shifts (EISPACK's `tred2` and `tql2`; Golub and Van Loan, 8.3).
//!
//! The matrix is worked on in columns, which follow one another in memory: `v[j * n..]` is column j.

/// Eigenvalues, and eigenvectors in rows, of a symmetric matrix [n, n], in no order.
pub fn eigen(mut v: Vec<f64>, n: usize) -> (Vec<f64>, Vec<f64>) {
    let (mut diagonal, mut beside) = (vec![0f64; n], vec![0f64; n]);
    if n > 0 {
        tridiagonal(&mut v, &mut diagonal, &mut beside, n);
        implicit_ql(&mut v, &mut diagonal, &mut beside, n);
    }
    (diagonal, v)
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Reduces `v` to a tridiagonal matrix with the diagonal `d` and `e` beside it; `v` becomes the transformation.
fn tridiagonal(v: &mut [f64], d: &mut [f64], e: &mut [f64], n: usize) {
    (0..n).for_each(|j| d[j] = v[j * n + n - 1]);
    for i in (1..n).rev() {
        let scale: f64 = d[..i].iter().map(|x| x.abs()).sum();
        let mut h = 0.0;
        if scale == 0.0 {
            e[i] = d[i - 1];
            for j in 0..i {
                d[j] = v[j * n + i - 1];
                (v[j * n + i], v[i * n + j]) = (0.0, 0.0);
            }
        } else {
            d[..i].iter_mut().for_each(|x| *x /= scale);
            h = dot(&d[..i], &d[..i]);
            let f = d[i - 1];
            let g = if f > 0.0 { -h.sqrt() } else { h.sqrt() };
            e[i] = scale * g;
            h -= f * g;
            d[i - 1] = f - g;
            e[..i].fill(0.0);
            for j in 0..i {
                let f = d[j];
                v[i * n + j] = f;
                let column = &v[j * n + j + 1..j * n + i];
                let g = e[j] + v[j * n + j] * f + dot(column, &d[j + 1..i]);
                let below = e[j + 1..i].iter_mut().zip(column);
                below.for_each(|(e, v)| *e += v * f);
                e[j] = g;
            }
            e[..i].iter_mut().for_each(|x| *x /= h);
            let half = dot(&e[..i], &d[..i]) / (h + h);
            let pairs = e[..i].iter_mut().zip(&d[..i]);
            pairs.for_each(|(e, d)| *e -= half * d);
            for j in 0..i {
                let (f, g) = (d[j], e[j]);
                let column = &mut v[j * n + j..j * n + i];
                for (v, (e, d)) in column.iter_mut().zip(e[j..i].iter().zip(&d[j..i])) {
                    *v -= f * e + g * d;
                }
                d[j] = v[j * n + i - 1];
                v[j * n + i] = 0.0;
            }
        }
        d[i] = h;
    }
    for i in 0..n - 1 {
        v[i * n + n - 1] = v[i * n + i];
        v[i * n + i] = 1.0;
        let h = d[i + 1];
        let (head, tail) = v.split_at_mut((i + 1) * n);
        let next = &mut tail[..=i];
        if h != 0.0 {
            let pairs = d[..=i].iter_mut().zip(&*next);
            pairs.for_each(|(d, v)| *d = v / h);
            for column in head.chunks_exact_mut(n) {
                let g = dot(next, &column[..=i]);
                let pairs = column[..=i].iter_mut().zip(&d[..=i]);
                pairs.for_each(|(v, d)| *v -= g * d);
            }
        }
        next.fill(0.0);
    }
    for j in 0..n {
        d[j] = v[j * n + n - 1];
        v[j * n + n - 1] = 0.0;
    }
    v[n * n - 1] = 1.0;
    e[0] = 0.0;
}

/// Makes the tridiagonal matrix diagonal, and `v` its eigenvectors.
fn implicit_ql(v: &mut [f64], d: &mut [f64], e: &mut [f64], n: usize) {
    e.rotate_left(1);
    e[n - 1] = 0.0;
    let (mut shift, mut largest) = (0.0, 0f64);
    for l in 0..n {
        largest = largest.max(d[l].abs() + e[l].abs());
        let small = f64::EPSILON * largest;
        let m = (l..n).find(|m| e[*m].abs() <= small).unwrap_or(n - 1);
        // The last one is always small; NaN converges nowhere.
        while m > l && e[l].abs() > small {
            let g = d[l];
            let p = (d[l + 1] - g) / (2.0 * e[l]);
            let r = p.hypot(1.0).copysign(p);
            d[l] = e[l] / (p + r);
            d[l + 1] = e[l] * (p + r);
            let (next, h) = (d[l + 1], g - d[l]);
            d[l + 2..].iter_mut().for_each(|d| *d -= h);
            shift += h;
            let mut p = d[m];
            let (mut c, mut c2, mut c3) = (1.0, 1.0, 1.0);
            let (mut s, mut s2) = (0.0, 0.0);
            let after = e[l + 1];
            for i in (l..m).rev() {
                (c3, c2, s2) = (c2, c, s);
                let (g, h) = (c * e[i], c * p);
                let r = p.hypot(e[i]);
                e[i + 1] = s * r;
                (s, c) = (e[i] / r, p / r);
                p = c * d[i] - s * g;
                d[i + 1] = h + s * (c * g + s * d[i]);
                let (a, b) = v[i * n..(i + 2) * n].split_at_mut(n);
                for (a, b) in a.iter_mut().zip(b) {
                    (*a, *b) = (c * *a - s * *b, s * *a + c * *b);
                }
            }
            p = -s * s2 * c3 * after * e[l] / next;
            e[l] = s * p;
            d[l] = c * p;
        }
        d[l] += shift;
        e[l] = 0.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::numbers;

    #[test]
    fn eigenvectors_are_those_of_the_matrix() {
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
    }
}
