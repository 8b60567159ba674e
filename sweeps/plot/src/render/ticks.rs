//! Ranges of axes, ticks and their text: true logarithmic axes with ticks at 1, 2 and 5, linear
//! steps where the range is too narrow for them.

use sweep_spec::units::si;

use crate::figure::{Axis, Panel, Scale};

/// Ticks with text, and short ones without.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ticks {
    pub(crate) major: Vec<(f64, String)>,
    pub(crate) minor: Vec<f64>,
}

/// An axis with its ends decided.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Span {
    scale: Scale,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// Share of the range left free at each end, so that no mark sits on the frame.
const PADDING: f64 = 0.04;

impl Span {
    /// The ends of an axis: its own, or those of the values that have a place on it.
    pub(crate) fn of(axis: &Axis, values: impl Iterator<Item = f64>) -> Self {
        let scale = axis.scale;
        if let Some([low, high]) = axis.range.filter(|[low, high]| low < high) {
            return Self { scale, low, high };
        }
        let usable = |v: &f64| v.is_finite() && (scale == Scale::Linear || *v > 0.0);
        let (low, high) = values
            .filter(usable)
            .map(|v| bend(scale, v))
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        let (low, high) = if low > high {
            (0.0, 1.0)
        } else if high - low < 1e-9 * high.abs().max(1e-3) {
            // One value: half a unit of the logarithm, or a tenth of the value, on each side.
            let tenth = if high == 0.0 { 0.5 } else { 0.1 * high.abs() };
            let half = if scale == Scale::Log { 0.5 } else { tenth };
            (low - half, high + half)
        } else {
            (low, high)
        };
        let padding = PADDING * (high - low);
        Self { scale, low: unbend(scale, low - padding), high: unbend(scale, high + padding) }
    }

    /// Both spans of a panel.
    pub(crate) fn of_panel(panel: &Panel) -> (Self, Self) {
        let extents: Vec<[f64; 2]> = panel
            .series
            .iter()
            .flat_map(|series| series.mark.extent())
            .chain(panel.notes.iter().map(|note| note.at))
            .collect();
        let x = Self::of(&panel.x, extents.iter().map(|p| p[0]));
        let inside =
            |p: &&[f64; 2]| x.place(p[0]).is_some_and(|t| (-1e-9..=1.0 + 1e-9).contains(&t));
        let y = Self::of(&panel.y, extents.iter().filter(inside).map(|p| p[1]));
        (x, y)
    }

    /// Where a value lies between the ends, from 0 to 1; `None` where it has no place.
    pub(crate) fn place(&self, value: f64) -> Option<f64> {
        if self.scale == Scale::Log && value <= 0.0 {
            return None;
        }
        let (low, high) = (bend(self.scale, self.low), bend(self.scale, self.high));
        let place = (bend(self.scale, value) - low) / (high - low);
        place.is_finite().then_some(place)
    }

    /// A tick for every name of an axis, or at most `most` with the text of their numbers.
    pub(crate) fn ticks_of(&self, axis: &Axis, most: usize) -> Ticks {
        if axis.names.is_empty() {
            return self.ticks(most);
        }
        let places = axis.names.iter().enumerate();
        let major = places.map(|(place, name)| (whole(place), name.clone())).collect();
        Ticks { major, minor: Vec::new() }
    }

    /// At most `most` ticks with text.
    pub(crate) fn ticks(&self, most: usize) -> Ticks {
        let most = most.max(2);
        match self.scale {
            Scale::Linear => self.linear(most),
            Scale::Log => self.logarithmic(most),
        }
    }

    fn linear(&self, most: usize) -> Ticks {
        let step = nice_step((self.high - self.low) / whole(most));
        let first = (self.low / step).ceil();
        let count = ((self.high / step).floor() - first).max(0.0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "few ticks")]
        let count = count as usize + 1;
        let major = (0..count)
            .map(|i| (first + whole(i)) * step)
            .filter(|v| (self.low..=self.high).contains(v))
            .map(|v| (v, text(v, step)))
            .collect();
        Ticks { major, minor: Vec::new() }
    }

    fn logarithmic(&self, most: usize) -> Ticks {
        let fine = self.multiples(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0], 1);
        let labelled = |values: Vec<f64>| -> Vec<(f64, String)> {
            values.into_iter().map(|v| (v, text(v, magnitude(v)))).collect()
        };
        let third = self.multiples(&[1.0, 2.0, 5.0], 1);
        if third.len() < 3 {
            // Less than a decade: equal steps, at their logarithmic places.
            let linear = self.linear(most.min(7));
            if linear.major.len() >= 2 {
                return linear;
            }
        }
        if third.len() <= most {
            return Ticks { major: labelled(third), minor: fine };
        }
        let coarse = (1..).map(|stride| self.multiples(&[1.0], stride));
        let major = coarse.take(64).find(|values| values.len() <= most).unwrap_or_default();
        let thrice = self.multiples(&[1.0, 3.0], 1);
        if major.len() < 3 && (3..=most).contains(&thrice.len()) {
            return Ticks { major: labelled(thrice), minor: fine };
        }
        let few_decades = self.multiples(&[1.0], 1).len() <= 6;
        let minor = if few_decades { fine } else { self.multiples(&[1.0], 1) };
        if major.len() < 2 {
            // So narrow a panel that one decade is left: its ends say more.
            let ends = third.first().into_iter().chain(third.last()).copied().collect();
            return Ticks { major: labelled(ends), minor };
        }
        Ticks { major: labelled(major), minor }
    }

    /// Multiples of every `stride`-th power of ten within the span.
    fn multiples(&self, of: &[f64], stride: i32) -> Vec<f64> {
        #[expect(clippy::cast_possible_truncation, reason = "exponents of f64")]
        let (low, high) = (self.low.log10().floor() as i32, self.high.log10().ceil() as i32);
        (low..=high)
            .filter(|exponent| exponent.rem_euclid(stride) == 0)
            .flat_map(|exponent| of.iter().map(move |m| m * 10f64.powi(exponent)))
            .filter(|v| (self.low..=self.high).contains(v))
            .collect()
    }
}

fn bend(scale: Scale, value: f64) -> f64 {
    if scale == Scale::Log { value.ln() } else { value }
}

fn unbend(scale: Scale, value: f64) -> f64 {
    if scale == Scale::Log { value.exp() } else { value }
}

fn magnitude(value: f64) -> f64 {
    10f64.powi(exponent(value))
}

#[expect(clippy::cast_possible_truncation, reason = "an exponent of an f64")]
fn exponent(value: f64) -> i32 {
    // The small term keeps 1000 (log10 2.9999999999999996) in its decade.
    if value == 0.0 { 0 } else { (value.abs().log10() + 1e-9).floor() as i32 }
}

#[expect(clippy::cast_precision_loss, reason = "a number of ticks")]
const fn whole(count: usize) -> f64 {
    count as f64
}

/// The least of 1, 2, 5 times a power of ten that is not below `least`.
fn nice_step(least: f64) -> f64 {
    let base = magnitude(least);
    [1.0, 2.0, 5.0].iter().map(|m| m * base).find(|s| *s >= least * 0.999).unwrap_or(10.0 * base)
}

/// The text of a tick whose neighbours are `step` away.
fn text(value: f64, step: f64) -> String {
    let size = value.abs();
    if size < step * 1e-6 {
        return "0".to_owned();
    }
    if !(1e-4..1e21).contains(&size) {
        let power = exponent(value);
        let digits = value / 10f64.powi(power);
        let text = format!("{digits:.1}");
        return format!("{}e{power}", text.strip_suffix(".0").unwrap_or(&text));
    }
    if size >= 1e3 && step >= 0.01 * size {
        return si(value);
    }
    let (scale, suffix) =
        [(1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")]
            .into_iter()
            .find(|(scale, _)| size >= *scale)
            .unwrap_or((1.0, ""));
    let decimals = usize::try_from(-exponent(step / scale)).unwrap_or(0).min(12);
    format!("{:.decimals$}{suffix}", value / scale).replacen('-', "\u{2212}", 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(scale: Scale, low: f64, high: f64, most: usize) -> Vec<String> {
        Span { scale, low, high }.ticks(most).major.into_iter().map(|(_, text)| text).collect()
    }

    #[test]
    fn log_axes_have_ticks_at_1_2_5_and_at_decades() {
        assert_eq!(labels(Scale::Log, 0.9e6, 12e6, 9), ["1M", "2M", "5M", "10M"]);
        assert_eq!(labels(Scale::Log, 1e12, 1e17, 8), ["1T", "10T", "100T", "1P", "10P", "100P"]);
        assert_eq!(labels(Scale::Log, 1e12, 1e17, 4), ["1T", "100T", "10P"]);
        assert_eq!(labels(Scale::Log, 5e19, 3e22, 5), ["100E", "1e21", "1e22"]);
        assert_eq!(labels(Scale::Log, 11.6e3, 770e3, 4), ["30k", "100k", "300k"]);
    }

    #[test]
    fn a_log_axis_of_less_than_a_decade_still_has_ticks() {
        assert_eq!(labels(Scale::Log, 1.31, 1.93, 8), ["1.4", "1.5", "1.6", "1.7", "1.8", "1.9"]);
        assert_eq!(labels(Scale::Log, 2.012, 2.034, 5), ["2.015", "2.020", "2.025", "2.030"]);
        assert_eq!(labels(Scale::Log, 1.04e6, 1.4e6, 5), ["1.1M", "1.2M", "1.3M", "1.4M"]);
    }

    #[test]
    fn linear_ticks_have_as_many_decimals_as_their_step() {
        assert_eq!(
            labels(Scale::Linear, -1.2, 1.2, 5),
            ["\u{2212}1.0", "\u{2212}0.5", "0", "0.5", "1.0"]
        );
        assert_eq!(labels(Scale::Linear, 0.0, 45_000.0, 5), ["0", "10k", "20k", "30k", "40k"]);
    }

    #[test]
    fn ends_are_found_where_values_are_missing_or_equal() {
        let axis = Axis::log("loss", "nats");
        let none = Span::of(&axis, [f64::NAN, -1.0, 0.0].into_iter());
        assert!(none.low > 0.0 && none.high > none.low, "{none:?}");
        let one = Span::of(&axis, std::iter::once(3.0));
        assert!(one.low < 3.0 && one.high > 3.0, "{one:?}");
        assert!(one.ticks(6).major.len() >= 2);
        let share = Span::of(&Axis::linear("share", ""), std::iter::once(0.2));
        assert!(share.low > 0.0 && share.high < 1.0, "{share:?}");
        let zero = Span::of(&Axis::linear("x", ""), std::iter::once(0.0));
        assert!(zero.low < 0.0 && zero.high > 0.0);
        assert!((0.49..0.51).contains(&zero.place(0.0).expect("inside")));
    }
}
