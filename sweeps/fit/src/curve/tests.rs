use super::*;

const STEPS: usize = 4000;
const WARMUP: usize = 100;
const PEAK: f64 = 1e-3;

fn schedule(after: impl Fn(f64) -> f64) -> Vec<f64> {
    (1..=STEPS)
        .map(|step| {
            let count = crate::statistics::count;
            if step <= WARMUP {
                PEAK * count(step) / count(WARMUP)
            } else {
                PEAK * after(count(step - WARMUP) / count(STEPS - WARMUP))
            }
        })
        .collect()
}

fn cosine() -> Vec<f64> {
    schedule(|t| 0.1 + 0.45 * (1.0 + (std::f64::consts::PI * t).cos()))
}

/// Constant, then down by 1 - sqrt over the last fifth.
fn cooldown() -> Vec<f64> {
    schedule(|t| if t < 0.8 { 1.0 } else { 1.0 - 0.95 * ((t - 0.8) / 0.2).sqrt() })
}

fn two_steps() -> Vec<f64> {
    schedule(|t| match t {
        t if t < 0.5 => 1.0,
        t if t < 0.8 => 0.4,
        _ => 0.1,
    })
}

fn recorded(name: &str, rates: Vec<f64>, law: impl Fn(&[f64], usize) -> f64) -> Curve {
    let losses = (20..=STEPS).step_by(40).map(|step| (step, law(&rates, step))).collect();
    Curve { name: name.to_owned(), rates, losses }
}

const ANNEALING: [f64; 5] = [2.6, 0.55, 0.42, 0.35, 0.995];

fn annealing(rates: &[f64], step: usize) -> f64 {
    let [l0, a, alpha, c, lambda] = ANNEALING;
    let [s1, s2] = areas(rates, WARMUP - 1, lambda)[step];
    l0 + a * s1.powf(-alpha) - c * s2
}

const MULTI_POWER: [f64; 7] = [2.7, 0.6, 0.45, 420.0, 1.4, 0.5, 0.55];

/// By the definition: every fall for itself, none merged.
fn multi_power(rates: &[f64], step: usize) -> f64 {
    let [l0, a, alpha, b, c, beta, gamma] = MULTI_POWER;
    let total: f64 = rates[..step].iter().sum();
    let (mut paid, mut area) = (0.0, 0.0);
    for k in (WARMUP..step).rev() {
        area += rates[k];
        let g = 1.0 - (1.0 + c * rates[k].powf(-gamma) * area).powf(-beta);
        paid += (rates[k - 1] - rates[k]) * g;
    }
    l0 + a * total.powf(-alpha) - b * paid
}

#[test]
fn the_annealing_law_comes_back_and_predicts_another_schedule() {
    let curves =
        [recorded("cosine", cosine(), annealing), recorded("cooldown", cooldown(), annealing)];
    let found = fit_curves(&curves, &CurveOptions::default()).unwrap();
    for (parameter, truth) in found.params.iter().zip(ANNEALING) {
        let error = (parameter.estimate.value / truth - 1.0).abs();
        // lambda is found to a millionth of ln(1 - lambda), and C answers to it.
        assert!(error < 1e-5, "{} {}", parameter.name, parameter.estimate.value);
    }
    assert_eq!(found.n_warmup, 4);
    let steps: Vec<usize> = (200..=STEPS).step_by(100).collect();
    let rates = two_steps();
    let predicted = found.predict(&rates, &steps).unwrap();
    for (step, loss) in steps.iter().zip(predicted) {
        assert!((loss / annealing(&rates, *step) - 1.0).abs() < 1e-6, "{step}");
    }
}

#[test]
fn a_given_lambda_is_kept() {
    let curves = [recorded("cooldown", cooldown(), annealing)];
    let options = CurveOptions { lambda: Some(0.99), ..CurveOptions::default() };
    let found = fit_curves(&curves, &options).unwrap();
    assert_eq!(found.param("lambda"), Some(0.99));
    let free = fit_curves(&curves, &CurveOptions::default()).unwrap();
    assert!(free.objective_value < 1e-3 * found.objective_value);
}

/// The truth sums over every fall, the fit over 64: the stated error of the merging is the
/// tolerance.
#[test]
fn the_multi_power_law_predicts_another_schedule() {
    let curves =
        [recorded("cosine", cosine(), multi_power), recorded("cooldown", cooldown(), multi_power)];
    let options = CurveOptions { law: CurveLaw::MultiPower, ..CurveOptions::default() };
    let found = fit_curves(&curves, &options).unwrap();
    for point in &found.points {
        assert!((point.predicted / point.loss - 1.0).abs() < 1e-4, "{point:?}");
    }
    let steps: Vec<usize> = (200..=STEPS).step_by(100).collect();
    let rates = two_steps();
    let predicted = found.predict(&rates, &steps).unwrap();
    for (step, loss) in steps.iter().zip(predicted) {
        let error = (loss / multi_power(&rates, *step) - 1.0).abs();
        assert!(error < 1e-3, "{step} {error:e} {:?}", found.params);
    }
}

#[test]
fn curves_that_mean_nothing_are_refused() {
    let refused = |curves: &[Curve], options: &CurveOptions| {
        fit_curves(curves, options).unwrap_err().to_string()
    };
    let options = CurveOptions::default();
    assert_eq!(fit_curves(&[], &options), Err(FitError::Empty));
    let sound = recorded("run 7", cosine(), annealing);

    let mut odd = sound.clone();
    odd.losses[3].1 = f64::NAN;
    odd.rates[8] = -1.0;
    let message = refused(&[odd], &options);
    assert!(message.contains("curve `run 7`, step 140: loss is NaN"), "{message}");
    assert!(message.contains("curve `run 7`, step 9: rate is -1"), "{message}");

    let mut short = sound.clone();
    short.rates.truncate(1000);
    assert!(refused(&[short], &options).contains("rates for 1 to 1000"));
    let few = Curve { losses: sound.losses[50..53].to_vec(), ..sound.clone() };
    assert!(refused(&[few], &options).contains("5 parameters and there are 3"));
    let constant =
        recorded("flat", schedule(|_| 1.0), |_, step| 3.0 + 1.0 / crate::statistics::count(step));
    assert!(refused(&[constant], &options).contains("fall of its rate"));
    let lambda = CurveOptions { lambda: Some(1.0), ..options };
    assert!(refused(std::slice::from_ref(&sound), &lambda).contains("lambda is 1"));

    let found = fit_curves(&[sound], &options).unwrap();
    assert!(found.predict(&cosine(), &[5]).unwrap_err().to_string().contains("peak at step 100"));
    assert!(found.predict(&cosine(), &[STEPS + 1]).is_err());
}
