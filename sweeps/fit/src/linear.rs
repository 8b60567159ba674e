//! Small dense linear algebra: Cholesky factors and eigenvalues of symmetric matrices.

use std::array::from_fn;

pub(crate) type Matrix<const P: usize> = [[f64; P]; P];

/// Solves `matrix` x = `right` for a positive definite matrix; `None` where it is not.
pub(crate) fn solve_positive<const P: usize>(
    matrix: &Matrix<P>,
    right: &[f64; P],
) -> Option<[f64; P]> {
    let mut factor = [[0.0; P]; P];
    for i in 0..P {
        for j in 0..=i {
            let dot: f64 = (0..j).map(|k| factor[i][k] * factor[j][k]).sum();
            let rest = matrix[i][j] - dot;
            if i == j {
                // Below a few roundings of its own diagonal a pivot is noise.
                if !(rest > 1e-15 * matrix[i][i].abs() && rest.is_finite()) {
                    return None;
                }
                factor[i][i] = rest.sqrt();
            } else {
                factor[i][j] = rest / factor[j][j];
            }
        }
    }
    let mut x = *right;
    for i in 0..P {
        let dot: f64 = (0..i).map(|k| factor[i][k] * x[k]).sum();
        x[i] = (x[i] - dot) / factor[i][i];
    }
    for i in (0..P).rev() {
        let dot: f64 = (i + 1..P).map(|k| factor[k][i] * x[k]).sum();
        x[i] = (x[i] - dot) / factor[i][i];
    }
    x.iter().all(|v| v.is_finite()).then_some(x)
}

/// Solves a general square system by elimination with pivoting; `None` where it is singular.
pub(crate) fn solve<const P: usize>(matrix: &Matrix<P>, right: &[f64; P]) -> Option<[f64; P]> {
    let (mut m, mut x) = (*matrix, *right);
    for column in 0..P {
        let pivot =
            (column..P).max_by(|&a, &b| m[a][column].abs().total_cmp(&m[b][column].abs()))?;
        if m[pivot][column].abs() < 1e-300 {
            return None;
        }
        m.swap(column, pivot);
        x.swap(column, pivot);
        for row in column + 1..P {
            let factor = m[row][column] / m[column][column];
            let above = m[column];
            for (cell, upper) in m[row].iter_mut().zip(above).skip(column) {
                *cell -= factor * upper;
            }
            x[row] -= factor * x[column];
        }
    }
    for row in (0..P).rev() {
        let dot: f64 = (row + 1..P).map(|k| m[row][k] * x[k]).sum();
        x[row] = (x[row] - dot) / m[row][row];
    }
    x.iter().all(|v| v.is_finite()).then_some(x)
}

/// Eigenvalues of a symmetric matrix in ascending order and their unit eigenvectors, row k for
/// value k, by Jacobi rotations (Golub and Van Loan, section 8.5).
pub(crate) fn eigen<const P: usize>(matrix: &Matrix<P>) -> ([f64; P], Matrix<P>) {
    let mut m = *matrix;
    let mut turned: Matrix<P> = from_fn(|i| from_fn(|j| f64::from(u8::from(i == j))));
    // Jacobi converges quadratically: ten sweeps are far more than twelve rows need.
    for _ in 0..10 {
        for p in 0..P {
            for q in p + 1..P {
                if m[p][q].abs() < 1e-300 {
                    continue;
                }
                let theta = (m[q][q] - m[p][p]) / (2.0 * m[p][q]);
                let t = theta.signum() / (theta.abs() + theta.hypot(1.0));
                let c = t.hypot(1.0).recip();
                let s = t * c;
                for row in &mut m {
                    (row[p], row[q]) = (c * row[p] - s * row[q], s * row[p] + c * row[q]);
                }
                for rows in [&mut m, &mut turned] {
                    let (upper, lower): ([f64; P], [f64; P]) = (
                        from_fn(|k| c * rows[p][k] - s * rows[q][k]),
                        from_fn(|k| s * rows[p][k] + c * rows[q][k]),
                    );
                    (rows[p], rows[q]) = (upper, lower);
                }
            }
        }
    }
    let mut order: [usize; P] = from_fn(|i| i);
    order.sort_by(|&a, &b| m[a][a].total_cmp(&m[b][b]));
    (order.map(|i| m[i][i]), order.map(|i| turned[i]))
}

/// The matrix scaled to unit diagonal; `None` where a diagonal element is not positive.
pub(crate) fn unit_diagonal<const P: usize>(matrix: &Matrix<P>) -> Option<Matrix<P>> {
    let diagonal: [f64; P] = from_fn(|i| matrix[i][i]);
    if diagonal.iter().any(|d| !(d.is_finite() && *d > 0.0)) {
        return None;
    }
    Some(from_fn(|i| from_fn(|j| matrix[i][j] / (diagonal[i] * diagonal[j]).sqrt())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MATRIX: Matrix<3> = [[4.0, 1.0, 0.5], [1.0, 3.0, -1.0], [0.5, -1.0, 2.0]];

    #[test]
    fn systems_are_solved() {
        let right = [1.0, -2.0, 0.25];
        for x in [solve_positive(&MATRIX, &right), solve(&MATRIX, &right)] {
            let x = x.unwrap();
            for (row, wanted) in MATRIX.iter().zip(right) {
                let got: f64 = row.iter().zip(x).map(|(m, x)| m * x).sum();
                assert!((got - wanted).abs() < 1e-14);
            }
        }
        let indefinite = [[1.0, 2.0], [2.0, 1.0]];
        assert_eq!(solve_positive(&indefinite, &[1.0, 1.0]), None);
        assert!(solve(&indefinite, &[1.0, 1.0]).is_some());
    }

    #[test]
    fn eigenvectors_give_the_matrix_back() {
        let (values, vectors) = eigen(&MATRIX);
        assert!(values.is_sorted());
        for i in 0..3 {
            for j in 0..3 {
                let sum = |f: &dyn Fn(usize) -> f64| (0..3).map(f).sum::<f64>();
                let back = sum(&|k| values[k] * vectors[k][i] * vectors[k][j]);
                assert!((back - MATRIX[i][j]).abs() < 1e-13, "{i} {j}");
                let dot = sum(&|k| vectors[i][k] * vectors[j][k]);
                assert!((dot - f64::from(u8::from(i == j))).abs() < 1e-14, "{i} {j}");
            }
        }
    }
}
