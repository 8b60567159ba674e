//! Loops that the compiler turns into vector code: dispatch on the processor's instruction set,
//! a fast exponential, sums, and small matrix products.
//!
//! Everything here is safe Rust. [`dispatch`] compiles its closure once per instruction set and
//! chooses at run time; what it calls must be `#[inline(always)]` to be compiled along. Sums run
//! over a fixed number of lanes in a fixed order, so a result does not depend on the thread count.

use std::array;

/// Lanes of a sum: one AVX-512 register, two AVX2 registers, four of NEON.
pub(crate) const LANES: usize = 16;

/// Runs a closure compiled for the widest instruction set of this processor. The closure carries
/// `#[inline(always)]`: left as a function of its own it would be compiled for the narrowest one,
/// where a fused multiply-add is a call into the C library.
#[inline]
pub(crate) fn dispatch<R>(body: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(body)
}

/// The natural exponential without a branch, for arguments up to 88; below -87 it gives a number
/// under 1.7e-38. Relative error below 3e-7 (measured over the whole range in the test): the
/// argument is split as n ln 2 + r with |r| <= ln 2 / 2, and e^r is a polynomial of degree 6.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    /// Adding it leaves the nearest whole number in the low mantissa bits.
    const ROUND: f32 = 12_582_912.0;
    /// ln 2 in two parts, the first exact when multiplied by a small whole number.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, x));
    let mut p = 1.388_888_9e-3_f32;
    for coefficient in [8.333_334e-3, 4.166_666_8e-2, 1.666_666_7e-1, 0.5, 1.0, 1.0] {
        p = p.mul_add(r, coefficient);
    }
    // The exponent field of 2^n; n is within -126..=127 after the clamp.
    let scale = f32::from_bits(shifted.to_bits().wrapping_add(127).wrapping_shl(23));
    p * scale
}

#[inline(always)]
fn add_lanes(lanes: [f32; LANES]) -> f32 {
    let eight: [f32; 8] = array::from_fn(|i| lanes[i] + lanes[i + 8]);
    let four: [f32; 4] = array::from_fn(|i| eight[i] + eight[i + 4]);
    (four[0] + four[2]) + (four[1] + four[3])
}

/// Sum of `term(a, b)` over two slices of one length.
#[inline(always)]
pub(crate) fn sum2(a: &[f32], b: &[f32], term: impl Fn(f32, f32, f32) -> f32) -> f32 {
    let (a_rows, a_rest) = a.as_chunks::<LANES>();
    let (b_rows, b_rest) = b.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for (x, y) in a_rows.iter().zip(b_rows) {
        for lane in 0..LANES {
            lanes[lane] = term(x[lane], y[lane], lanes[lane]);
        }
    }
    let mut total = add_lanes(lanes);
    for (&x, &y) in a_rest.iter().zip(b_rest) {
        total = term(x, y, total);
    }
    total
}

/// Sum of products.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    sum2(
        a,
        b,
        #[inline(always)]
        |x, y, sum| x.mul_add(y, sum),
    )
}

/// The largest element, or negative infinity of none.
#[inline(always)]
pub(crate) fn max(values: &[f32]) -> f32 {
    let (rows, rest) = values.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for row in rows {
        for lane in 0..LANES {
            lanes[lane] = if row[lane] > lanes[lane] { row[lane] } else { lanes[lane] };
        }
    }
    let rest = rest.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    lanes.into_iter().fold(rest, f32::max)
}

/// Replaces each value by `exp(scale * value - shift)` and gives their sum.
#[inline(always)]
pub(crate) fn exp_in_place(values: &mut [f32], scale: f32, shift: f32) -> f32 {
    let (rows, rest) = values.as_chunks_mut::<LANES>();
    let mut lanes = [0.0; LANES];
    for row in rows {
        for lane in 0..LANES {
            row[lane] = exp(row[lane].mul_add(scale, -shift));
            lanes[lane] += row[lane];
        }
    }
    let mut total = add_lanes(lanes);
    for value in rest {
        *value = exp(value.mul_add(scale, -shift));
        total += *value;
    }
    total
}

/// A matrix as a slice with the distance between its rows.
#[derive(Clone, Copy)]
pub(crate) struct Rows<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) stride: usize,
}

/// Rows of a register tile. Six rows of sixteen lanes use twelve AVX2 registers of sixteen.
const TILE_ROWS: usize = 6;

/// `out[i, j] = sum over k of a(i, k) * b[k, j]` for i below `rows`, k in `ks`, j below `columns`.
/// `a` is read through `transposed`: `a[i, k]` or, transposed, `a[k, i]`.
#[inline(always)]
pub(crate) fn product(
    out: &mut [f32],
    out_stride: usize,
    (a, transposed): (Rows<'_>, bool),
    b: Rows<'_>,
    (rows, ks, columns): (usize, std::ops::Range<usize>, usize),
) {
    let mut row = 0;
    while row < rows {
        let left = rows - row;
        let at = |k: usize| if transposed { k * a.stride + row } else { row * a.stride + k };
        let step = if transposed { 1 } else { a.stride };
        let target = &mut out[row * out_stride..];
        row += match left {
            TILE_ROWS.. => {
                tile_rows::<TILE_ROWS>(target, out_stride, a.data, at, step, b, ks.clone(), columns)
            }
            4.. => tile_rows::<4>(target, out_stride, a.data, at, step, b, ks.clone(), columns),
            2.. => tile_rows::<2>(target, out_stride, a.data, at, step, b, ks.clone(), columns),
            _ => tile_rows::<1>(target, out_stride, a.data, at, step, b, ks.clone(), columns),
        };
    }
}

#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "the inner loop of `product`, split by tile height")]
fn tile_rows<const R: usize>(
    out: &mut [f32],
    out_stride: usize,
    a: &[f32],
    at: impl Fn(usize) -> usize,
    step: usize,
    b: Rows<'_>,
    ks: std::ops::Range<usize>,
    columns: usize,
) -> usize {
    let mut column = 0;
    while column + LANES <= columns {
        tile::<R, LANES>(out, out_stride, a, &at, step, b, ks.clone(), column);
        column += LANES;
    }
    // Half a row of lanes: heads are often eight wide.
    if column + LANES / 2 <= columns {
        tile::<R, { LANES / 2 }>(out, out_stride, a, &at, step, b, ks.clone(), column);
        column += LANES / 2;
    }
    for r in 0..R {
        for j in column..columns {
            let total = ks
                .clone()
                .map(|k| (a[at(k) + r * step], b.data[k * b.stride + j]))
                .fold(0.0, |sum: f32, (x, y)| x.mul_add(y, sum));
            out[r * out_stride + j] = total;
        }
    }
    R
}

/// One tile of R rows and W columns, held in registers over the whole sum.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "the inner loop of `product`, split by tile width")]
fn tile<const R: usize, const W: usize>(
    out: &mut [f32],
    out_stride: usize,
    a: &[f32],
    at: &impl Fn(usize) -> usize,
    step: usize,
    b: Rows<'_>,
    ks: std::ops::Range<usize>,
    column: usize,
) {
    let mut tile = [[0.0_f32; W]; R];
    for k in ks {
        let right: &[f32; W] =
            b.data[k * b.stride + column..].first_chunk().expect("columns are within a row");
        let start = at(k);
        let left = &a[start..start + (R - 1) * step + 1];
        for r in 0..R {
            let scale = left[r * step];
            for lane in 0..W {
                tile[r][lane] = scale.mul_add(right[lane], tile[r][lane]);
            }
        }
    }
    for (r, values) in tile.iter().enumerate() {
        out[r * out_stride + column..][..W].copy_from_slice(values);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_close_everywhere() {
        let mut worst = 0.0_f64;
        for i in 0..400_000 {
            let x = -86.9 + f64::from(i) * (174.5 / 400_000.0);
            #[expect(clippy::cast_possible_truncation, reason = "the argument is an f32")]
            let x = x as f32;
            let exact = libm::exp(f64::from(x));
            worst = worst.max(
                (f64::from(dispatch(
                    #[inline(always)]
                    || exp(x),
                )) / exact
                    - 1.0)
                    .abs(),
            );
        }
        assert!(worst < 3e-7, "relative error {worst:e}");
        assert!(exp(-1e9) < 1.7e-38);
        assert_eq!(exp(0.0), 1.0);
    }

    fn wave(len: usize, scale: f32) -> Vec<f32> {
        #[expect(clippy::cast_precision_loss, reason = "small counts")]
        (0..len).map(|i| (i as f32 * scale).sin()).collect()
    }

    #[test]
    fn products_equal_the_triple_loop_for_odd_shapes() {
        for (rows, inner, columns) in
            [(1, 1, 1), (6, 16, 16), (7, 5, 19), (13, 33, 40), (64, 16, 64)]
        {
            for transposed in [false, true] {
                let a = wave(rows * inner, 0.7);
                let b = wave(inner * columns, 0.3);
                let stride = if transposed { rows } else { inner };
                let mut out = vec![0.0; rows * columns];
                let left = Rows { data: &a, stride };
                let right = Rows { data: &b, stride: columns };
                dispatch(
                    #[inline(always)]
                    || {
                        product(
                            &mut out,
                            columns,
                            (left, transposed),
                            right,
                            (rows, 0..inner, columns),
                        );
                    },
                );
                for i in 0..rows {
                    for j in 0..columns {
                        let exact: f32 = (0..inner)
                            .map(|k| if transposed { a[k * rows + i] } else { a[i * inner + k] } * b[k * columns + j])
                            .sum();
                        let got = out[i * columns + j];
                        assert!(
                            (got - exact).abs() < 1e-4,
                            "{rows} {inner} {columns}: {got} {exact}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn sums_and_maxima_cover_the_rest() {
        for len in [0, 1, 15, 16, 17, 50] {
            let values = wave(len, 1.3);
            let exact: f32 = values.iter().map(|x| x * x).sum();
            assert!((dot(&values, &values) - exact).abs() < 1e-4);
            assert_eq!(max(&values), values.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        }
    }
}
