//! How fast runs were trained, by size and device: tokens and FLOPs a second, and the share of the
//! device's peak (MFU) where that peak is known.

use super::runs::{RUNS_MOST, facts, figure, look};
use crate::{
    figure::{Axis, Figure, Mark, Panel, Series, Style},
    input::{PlotInput, RunCurve, Speed},
};

/// What a panel shows of a speed; absent where it is not known.
type Part = fn(&Speed) -> Option<f64>;

pub(super) fn build(input: &PlotInput, name: &str) -> Figure {
    let size = || Axis::log("parameters N", "");
    let measured: Vec<(&RunCurve, &Speed)> =
        input.runs.iter().filter_map(|run| Some((run, run.speed.as_ref()?))).collect();
    let drawn = &measured[..measured.len().min(RUNS_MOST)];
    let mut devices: Vec<&str> = drawn.iter().map(|(_, speed)| speed.device.as_str()).collect();
    devices.sort_unstable();
    devices.dedup();
    let tokens: Part = |speed| Some(speed.tokens_per_second);
    let flops: Part = |speed| Some(speed.flops_per_second);
    let share: Part = |speed| Some(100.0 * speed.flops_per_second / speed.peak?);
    let panel = |title: &str, axis: Axis| Panel::new(size(), axis).titled(title);
    let mut parts: Vec<(Panel, Part)> = vec![
        (panel("tokens", Axis::log("tokens a second", "tokens/s")), tokens),
        (panel("compute", Axis::log("exact FLOPs a second", "FLOP/s")), flops),
    ];
    if drawn.iter().any(|(_, speed)| speed.peak.is_some()) {
        let axis = Axis::log("of the f32 peak (MFU)", "%");
        parts.push((panel("use of the device", axis), share));
    }
    let panels = parts.into_iter().map(|(mut panel, part)| {
        for (index, device) in devices.iter().enumerate() {
            let of_device = drawn.iter().filter(|(_, speed)| speed.device == *device);
            let points: Vec<[f64; 2]> =
                of_device.filter_map(|(run, speed)| Some([run.n, part(speed)?])).collect();
            if !points.is_empty() {
                let (tone, shape) = look(index, devices.len());
                let marks =
                    Series::new(*device, Style::points(tone, shape), Mark::Points { points });
                panel.series.push(marks.legend(*device));
            }
        }
        panel
    });
    let panels: Vec<Panel> = panels.collect();
    let mut facts = facts(input, drawn.len());
    facts.runs_hidden = measured.len() - drawn.len();
    facts.notes.push(
        "Speed over the whole of a run with its evaluations, beside whatever else its machine did."
            .to_owned(),
    );
    let unknown: Vec<&str> = devices
        .iter()
        .copied()
        .filter(|device| drawn.iter().any(|(_, s)| s.device == *device && s.peak.is_none()))
        .collect();
    if !unknown.is_empty() {
        facts.notes.push(format!("Peak unknown, so no MFU: {}.", unknown.join(", ")));
    }
    let missing = measured.is_empty().then(|| "No finished run has a measured speed.".to_owned());
    let description = format!(
        "Training speed of {} runs against their size, a colour and mark for each of {} devices.",
        drawn.len(),
        devices.len()
    );
    figure(name, "Training speed", description, panels, facts, missing)
}
