//! A fit as a table for people, with every convention stated.

use std::io::{self, Write};

use sweep_fit::{Direction, Estimate, Fit, Method};
use sweep_spec::units::si;

use super::table::{lines, table};

/// Prints the law, its constants, the optimum and what is proved about them.
pub(crate) fn print(fit: &Fit, out: &mut dyn Write) -> io::Result<()> {
    heading(fit, out)?;
    writeln!(out, "\n{}", constants(fit))?;
    if let Some(isoflop) = &fit.isoflop {
        let mut rows = table(
            &["budget", "sizes", "N*", "95 % of N*", "D*", "loss", "N* (cubic)", "verdict"],
            &[7],
        );
        for budget in &isoflop.budgets {
            let optimum = |pick: fn((f64, f64, f64)) -> String| {
                budget.minimum().map_or_else(|| "none".to_owned(), pick)
            };
            rows.add_row([
                format!("{:.3e}", budget.flops),
                budget.points.len().to_string(),
                optimum(|o| si(o.0)),
                budget.interval().map_or_else(
                    || "open".to_owned(),
                    |[low, high]| format!("{} .. {}", si(low), si(high)),
                ),
                optimum(|o| si(o.1)),
                optimum(|o| format!("{:.4}", o.2)),
                budget.cubic_n.map_or_else(|| "none".to_owned(), si),
                budget.verdict.words().to_owned(),
            ]);
        }
        writeln!(out, "\n{}", lines(&rows))?;
    }
    if !fit.optimum.is_empty() {
        let mut rows = table(&["C = 6ND", "N*", "D*", "D*/N*", "loss"], &[]);
        for at in &fit.optimum {
            rows.add_row([
                format!("{:.3e}", at.flops),
                si(at.n),
                si(at.d),
                si(at.d / at.n),
                at.loss.map_or_else(|| "unknown".to_owned(), |loss| format!("{loss:.5}")),
            ]);
        }
        writeln!(out, "\n{}", lines(&rows))?;
    }
    footing(fit, out)
}

fn heading(fit: &Fit, out: &mut dyn Write) -> io::Result<()> {
    match fit.method {
        Method::Direct => writeln!(out, "{}  {}", fit.law_name(), fit.law.formula())?,
        Method::Isoflop | Method::Envelope => {
            writeln!(out, "{}  N* = N_0 C^a, D* = D_0 C^b", fit.law_name())?;
        }
    }
    writeln!(
        out,
        "{} observations, {} dropped as the highest; sum of {} is {:.10e}",
        fit.n_points, fit.n_dropped, fit.objective, fit.objective_value
    )?;
    writeln!(out, "loss as given, C = 6 N D where not measured")
}

fn constants(fit: &Fit) -> String {
    let mut rows = table(&["", "value", "standard error", "95 % interval"], &[0]);
    let mut add = |name: &str, estimate: &Estimate| {
        rows.add_row([
            name.to_owned(),
            number(estimate.value),
            estimate.se.map_or_else(|| "-".to_owned(), number),
            estimate
                .ci95
                .map_or_else(|| "-".to_owned(), |[l, h]| format!("{} .. {}", number(l), number(h))),
        ]);
    };
    for parameter in &fit.params {
        add(parameter.name, &parameter.estimate);
    }
    if let Some(exponents) = &fit.exponents {
        add("a (N* ~ C^a)", &exponents.a);
        add("b (D* ~ C^b)", &exponents.b);
    }
    lines(&rows)
}

fn footing(fit: &Fit, out: &mut dyn Write) -> io::Result<()> {
    if let Some(held) = &fit.held_out {
        writeln!(
            out,
            "\nheld out {}: mean error {:.3} %, largest {:.3} %",
            held.n,
            100.0 * held.mean_abs_rel_error,
            100.0 * held.max_abs_rel_error
        )?;
    }
    if let Some(certificate) = &fit.certificate {
        let condition = certificate
            .condition_number
            .map_or_else(|| "not defined on a bound".to_owned(), |c| format!("{c:.2e}"));
        writeln!(
            out,
            "\nminimum {} over the grid of exponents, step {:.4}; condition number {condition}",
            if certificate.global { "certified" } else { "not certified" },
            certificate.resolution
        )?;
        for direction in &certificate.directions {
            writeln!(out, "{}", flat(direction))?;
        }
    }
    Ok(())
}

/// A flat direction and what would shrink it, in a line.
fn flat(direction: &Direction) -> String {
    let moved = direction.along.iter().map(|(name, share)| format!("{name} {share:+.3}"));
    let together = moved.collect::<Vec<_>>().join(", ");
    let run = direction.run.map_or_else(String::new, |run| {
        let sizes = [("N", run.n), ("D", run.d), ("C", run.flops)];
        let sizes = sizes.into_iter().filter_map(|(name, v)| Some(format!("{name} {:.3e}", v?)));
        let sizes = sizes.collect::<Vec<_>>().join(", ");
        format!("; a run of {sizes} shrinks its error most, to {:.2} of it", run.shrinks_to)
    });
    format!("flat direction (eigenvalue {:.1e}): {together}{run}", direction.eigenvalue)
}

/// Six significant digits, with an exponent where that is shorter.
pub(crate) fn number(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-4..1e7).contains(&size) {
        return format!("{value:.5e}");
    }
    #[expect(clippy::cast_possible_truncation, reason = "between -4 and 7")]
    let digits = if size == 0.0 { 0 } else { size.log10().floor() as i32 };
    let decimals = usize::try_from(5 - digits).unwrap_or(0);
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_six_digits() {
        for (value, text) in [
            (477.8268, "477.827"),
            (0.347_31, "0.347310"),
            (2_143.424, "2143.42"),
            (5e13, "5.00000e13"),
            (0.0, "0.00000"),
        ] {
            assert_eq!(number(value), text);
        }
    }
}
