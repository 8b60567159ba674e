//! How samples compare with held-out images, without any network from elsewhere.
//!
//! - Fréchet distance (Heusel et al. 2017, 1706.08500) of two normals fitted to features:
//!   |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)). The features are not those of a trained network
//!   but 16 brightnesses and 16 edge strengths on a 4 x 4 grid and the mean of each channel. So it
//!   orders models on the same images and says when means, contrast or coarse layout are off; it
//!   is comparable neither with published FIDs nor between data sets, and it sees no fine texture
//!   and no meaning. Its value for two halves of held-out images is what the sample size alone
//!   gives.
//! - Coverage (Naeem et al. 2020, 2002.09797): the share of held-out images that have a sample
//!   nearer than their own fifth nearest held-out neighbour, by distance of values.
//! - Duplicates: the share of samples with another sample nearer than all but the closest hundredth
//!   of held-out images have a held-out neighbour.
//! - Where the modes are known: the share of samples within twice the source's own noise of a
//!   template, the share of the ten digits that such samples show, and how far their frequencies
//!   are from the true ones (total variation).

use sweep_data::GlyphDensity;
use sweep_spec::{data::ImageFacts, metric::Metric};

/// Side of the grid of the features.
const GRID: usize = 4;

/// The neighbour whose distance is the radius of a held-out image.
const NEIGHBOUR: usize = 5;

/// Share of held-out images whose nearest neighbour is nearer than what counts as a duplicate.
const DUPLICATE_SHARE: f64 = 0.01;

/// Fewest images on either side: below, a covariance of 33 features says nothing.
const FEWEST: usize = 64;

/// Mean squared distance from a template, in variances of the source, up to which a sample counts
/// as one of its mode.
const RECOGNISED: f64 = 4.0;

/// An image as levels.
type Levels = Vec<u8>;

/// Everything that can be said of `samples` against two lots of held-out images. Too few images
/// give no number.
pub(crate) fn compare(
    samples: &[Levels],
    held_out: &[Levels],
    others: &[Levels],
    facts: ImageFacts,
    density: Option<&GlyphDensity>,
) -> Vec<(Metric, f64)> {
    let mut found = Vec::new();
    if samples.len() >= FEWEST && held_out.len() >= FEWEST {
        let normal = |images: &[Levels]| {
            let rows: Vec<Vec<f64>> = images.iter().map(|image| features(image, facts)).collect();
            Normal::of(&rows)
        };
        let real = normal(held_out);
        found.push((Metric::FrechetDistance, real.frechet(&normal(samples))));
        if others.len() >= FEWEST {
            found.push((Metric::FrechetFloor, real.frechet(&normal(others))));
        }
        found.extend(spread(samples, held_out));
    }
    found.extend(density.into_iter().flat_map(|density| modes(samples, density)));
    found
}

#[expect(clippy::cast_precision_loss, reason = "small counts")]
fn modes(samples: &[Levels], density: &GlyphDensity) -> Vec<(Metric, f64)> {
    let weights = density.digit_weights();
    let mut counts = vec![0_usize; weights.len()];
    for (digit, distance) in samples.iter().map(|sample| density.nearest(sample)) {
        counts[digit] += usize::from(distance <= RECOGNISED);
    }
    let recognised: usize = counts.iter().sum();
    let share = |part: usize, whole: usize| part as f64 / whole as f64;
    let seen = counts.iter().filter(|&&count| count > 0).count();
    let mut found = vec![
        (Metric::InMode, share(recognised, samples.len())),
        (Metric::ModeCoverage, share(seen, counts.len())),
    ];
    if recognised > 0 {
        let pairs = counts.iter().zip(&weights);
        let apart: f64 = pairs.map(|(&n, weight)| (share(n, recognised) - weight).abs()).sum();
        found.push((Metric::ModeDistance, 0.5 * apart));
    }
    found
}

#[expect(clippy::cast_precision_loss, reason = "small counts")]
fn spread(samples: &[Levels], held_out: &[Levels]) -> [(Metric, f64); 2] {
    let mut nearest = Vec::with_capacity(held_out.len());
    let mut covered = 0_usize;
    for (index, image) in held_out.iter().enumerate() {
        let mut distances = distances(image, held_out, Some(index));
        distances.sort_unstable();
        nearest.push(distances[0]);
        let radius = distances[NEIGHBOUR - 1];
        covered += usize::from(samples.iter().any(|sample| distance(image, sample) <= radius));
    }
    nearest.sort_unstable();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place")]
    let place = (DUPLICATE_SHARE * nearest.len() as f64) as usize;
    let limit = nearest[place];
    let is_double = |(index, sample): (usize, &Levels)| {
        distances(sample, samples, Some(index)).into_iter().min().is_some_and(|d| d < limit)
    };
    let doubles = samples.iter().enumerate().filter(|&pair| is_double(pair)).count();
    [
        (Metric::Coverage, covered as f64 / held_out.len() as f64),
        (Metric::Duplicates, doubles as f64 / samples.len() as f64),
    ]
}

fn distances(image: &[u8], of: &[Levels], except: Option<usize>) -> Vec<u64> {
    let others = of.iter().enumerate().filter(|(index, _)| Some(*index) != except);
    others.map(|(_, other)| distance(image, other)).collect()
}

fn distance(a: &[u8], b: &[u8]) -> u64 {
    a.iter().zip(b).map(|(&a, &b)| u64::from(a.abs_diff(b)).pow(2)).sum()
}

/// Brightness and edge strength on the grid, then the mean of each channel, all from 0 to 1.
#[expect(clippy::cast_precision_loss, reason = "small counts")]
fn features(image: &[u8], facts: ImageFacts) -> Vec<f64> {
    let (side, channels) = (facts.side as usize, facts.channels as usize);
    let pixels = image.chunks_exact(channels);
    let grey: Vec<f64> = pixels
        .map(|pixel| pixel.iter().map(|&v| f64::from(v)).sum::<f64>() / (255.0 * channels as f64))
        .collect();
    let mut cells = vec![0.0; 2 * GRID * GRID];
    let mut counts = [0.0; GRID * GRID];
    for row in 0..side {
        for column in 0..side {
            let cell = row * GRID / side * GRID + column * GRID / side;
            let here = grey[row * side + column];
            let right = grey[row * side + (column + 1).min(side - 1)];
            let below = grey[(row + 1).min(side - 1) * side + column];
            cells[cell] += here;
            cells[GRID * GRID + cell] += libm::hypot(right - here, below - here);
            counts[cell] += 1.0;
        }
    }
    for (cell, value) in cells.iter_mut().enumerate() {
        *value /= counts[cell % (GRID * GRID)];
    }
    let mean = |channel: usize| {
        let values = image.iter().skip(channel).step_by(channels);
        values.map(|&v| f64::from(v)).sum::<f64>() / (255.0 * (side * side) as f64)
    };
    cells.extend((0..channels).map(mean));
    cells
}

/// A normal distribution fitted to rows.
struct Normal {
    mean: Vec<f64>,
    covariance: Vec<Vec<f64>>,
}

impl Normal {
    #[expect(clippy::cast_precision_loss, reason = "small counts")]
    fn of(rows: &[Vec<f64>]) -> Self {
        let (count, width) = (rows.len() as f64, rows[0].len());
        let mean: Vec<f64> =
            (0..width).map(|i| rows.iter().map(|row| row[i]).sum::<f64>() / count).collect();
        let entry = |i: usize, j: usize| {
            let products = rows.iter().map(|row| (row[i] - mean[i]) * (row[j] - mean[j]));
            products.sum::<f64>() / (count - 1.0)
        };
        let covariance = (0..width).map(|i| (0..width).map(|j| entry(i, j)).collect()).collect();
        Self { mean, covariance }
    }

    /// tr((S1 S2)^(1/2)) is the sum of the roots of the eigenvalues of R S2 R with R = S1^(1/2),
    /// which is symmetric.
    fn frechet(&self, other: &Self) -> f64 {
        let between = self.mean.iter().zip(&other.mean).map(|(a, b)| (a - b).powi(2));
        let trace = |matrix: &[Vec<f64>]| (0..matrix.len()).map(|i| matrix[i][i]).sum::<f64>();
        let (values, vectors) = eigen(self.covariance.clone());
        let width = values.len();
        let root: Vec<Vec<f64>> = (0..width)
            .map(|i| {
                let entry = |j: usize| {
                    let terms = (0..width)
                        .map(|k| vectors[i][k] * values[k].max(0.0).sqrt() * vectors[j][k]);
                    terms.sum()
                };
                (0..width).map(entry).collect()
            })
            .collect();
        let inner = product(&product(&root, &other.covariance), &root);
        let roots: f64 = eigen(inner).0.iter().map(|value| value.max(0.0).sqrt()).sum();
        let spread = trace(&self.covariance) + trace(&other.covariance) - 2.0 * roots;
        // Rounding leaves a little below zero where both are equal.
        (between.sum::<f64>() + spread).max(0.0)
    }
}

fn product(a: &[Vec<f64>], b: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let entry = |row: &[f64], j: usize| row.iter().zip(b).map(|(x, b)| x * b[j]).sum();
    a.iter().map(|row| (0..b.len()).map(|j| entry(row, j)).collect()).collect()
}

/// Eigenvalues and eigenvectors (as columns) of a symmetric matrix by cyclic Jacobi rotations
/// (Golub and Van Loan, section 8.5). 60 sweeps are far beyond what 50 rows need.
fn eigen(mut a: Vec<Vec<f64>>) -> (Vec<f64>, Vec<Vec<f64>>) {
    let width = a.len();
    let mut vectors: Vec<Vec<f64>> =
        (0..width).map(|i| (0..width).map(|j| f64::from(u8::from(i == j))).collect()).collect();
    for _ in 0..60 {
        let off: f64 = (0..width)
            .flat_map(|i| (0..i).map(move |j| (i, j)))
            .map(|(i, j)| a[i][j].powi(2))
            .sum();
        let on: f64 = (0..width).map(|i| a[i][i].powi(2)).sum();
        if off <= 1e-28 * on {
            break;
        }
        for p in 0..width {
            for q in p + 1..width {
                rotate(&mut a, &mut vectors, p, q);
            }
        }
    }
    ((0..width).map(|i| a[i][i]).collect(), vectors)
}

/// One rotation that makes the entry (p, q) zero.
fn rotate(a: &mut [Vec<f64>], vectors: &mut [Vec<f64>], p: usize, q: usize) {
    if a[p][q] == 0.0 {
        return;
    }
    let theta = (a[q][q] - a[p][p]) / (2.0 * a[p][q]);
    let t = theta.signum() / (theta.abs() + libm::hypot(theta, 1.0));
    let t = if theta == 0.0 { 1.0 } else { t };
    let c = 1.0 / libm::hypot(t, 1.0);
    let s = t * c;
    for row in a.iter_mut().chain(vectors) {
        let (x, y) = (row[p], row[q]);
        (row[p], row[q]) = (c * x - s * y, s * x + c * y);
    }
    let [first, second] = a.get_disjoint_mut([p, q]).expect("two rows of the matrix");
    for (x, y) in first.iter_mut().zip(second) {
        (*x, *y) = (c * *x - s * *y, s * *x + c * *y);
    }
}

#[cfg(test)]
mod tests {
    use sweep_spec::random::{Purpose, Stream};

    use super::*;

    const FACTS: ImageFacts = ImageFacts { side: 8, channels: 1, classes: 0 };

    fn draws(seed: u64, count: usize, mean: f64) -> Vec<Levels> {
        let mut stream = Stream::new(seed, Purpose::Resampling, 0);
        let mut image = || -> Levels {
            let base = mean + 40.0 * stream.normal();
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a byte")]
            (0..64).map(|_| (base + 10.0 * stream.normal()).clamp(0.0, 255.0) as u8).collect()
        };
        (0..count).map(|_| image()).collect()
    }

    fn value(found: &[(Metric, f64)], metric: Metric) -> f64 {
        found.iter().find(|(found, _)| *found == metric).expect("measured").1
    }

    /// For normals with diagonal covariances the distance is |m1 - m2|^2 + |s1 - s2|^2.
    #[test]
    fn the_distance_of_known_normals_is_the_closed_form() {
        let normal = |mean: [f64; 3], deviation: [f64; 3]| Normal {
            mean: mean.to_vec(),
            covariance: (0..3)
                .map(|i| (0..3).map(|j| if i == j { deviation[i].powi(2) } else { 0.0 }).collect())
                .collect(),
        };
        let (a, b) =
            (normal([0.0, 1.0, 2.0], [1.0, 2.0, 0.5]), normal([1.0, 1.0, 0.0], [2.0, 2.0, 1.5]));
        assert!((a.frechet(&b) - (5.0 + 2.0)).abs() < 1e-10, "{}", a.frechet(&b));
        assert!(a.frechet(&a) < 1e-10);
    }

    #[test]
    fn eigenvectors_rebuild_the_matrix() {
        let a = vec![vec![4.0, 1.0, -2.0], vec![1.0, 2.0, 0.5], vec![-2.0, 0.5, 3.0]];
        let (values, vectors) = eigen(a.clone());
        for i in 0..3 {
            for j in 0..3 {
                let found: f64 = (0..3).map(|k| vectors[i][k] * values[k] * vectors[j][k]).sum();
                assert!((found - a[i][j]).abs() < 1e-12);
            }
        }
    }

    #[test]
    fn the_same_distribution_is_near_and_another_far() {
        let (real, others) = (draws(1, 200, 128.0), draws(2, 200, 128.0));
        let near = compare(&draws(3, 200, 128.0), &real, &others, FACTS, None);
        let far = compare(&draws(3, 200, 60.0), &real, &others, FACTS, None);
        let floor = value(&near, Metric::FrechetFloor);
        assert!(value(&near, Metric::FrechetDistance) < 4.0 * floor + 0.01);
        assert!(value(&far, Metric::FrechetDistance) > 20.0 * floor);
        assert!(value(&near, Metric::Coverage) > 0.9);
        assert!(value(&far, Metric::Coverage) < 0.8);
        assert!(value(&near, Metric::Duplicates) < 0.1);
    }

    /// A model that has collapsed to four images covers little and doubles everything.
    #[test]
    fn collapse_shows() {
        let real = draws(1, 200, 128.0);
        let few = draws(3, 4, 128.0);
        let samples: Vec<Levels> = (0..200).map(|i| few[i % 4].clone()).collect();
        let found = compare(&samples, &real, &[], FACTS, None);
        assert_eq!(value(&found, Metric::Duplicates), 1.0);
        assert!(value(&found, Metric::Coverage) < 0.2, "{found:?}");
        assert!(compare(&samples[..10], &real, &[], FACTS, None).is_empty());
    }
}
