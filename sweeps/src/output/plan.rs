//! A plan as a table.

mod budgets;

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use sweep_spec::{
    cost::Basis,
    data::DataManifest,
    plan::{DevicePlan, Plan, PlannedRun, Storage, Totals},
    run::RunRole,
    units::{bytes, si},
};

use super::table::{duration, lines, ratio, table};

/// Which lines a plan has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rows {
    /// One for each budget, where the grid is one of budgets; else one for each run.
    Folded,
    /// One for each run.
    Every,
}

/// Prints the grid, its totals and its warnings.
pub(crate) fn print(plan: &Plan, rows: Rows, out: &mut dyn Write) -> io::Result<()> {
    let Totals { checks, trunks, sensitivity, .. } = plan.totals;
    let fit = plan.totals.runs - checks - trunks - sensitivity;
    let others = [(trunks, "trunks"), (sensitivity, "at other learning rates")];
    let mut more = String::new();
    for (count, what) in others.iter().filter(|(count, _)| *count > 0) {
        let _ = write!(more, ", {count} {what}");
    }
    writeln!(
        out,
        "sweep {}  {} runs ({fit} to fit, {checks} to check{more}) on {} unique {}, {} held out",
        plan.name,
        plan.totals.runs,
        count(plan.data.train_tokens),
        data_words(&plan.data),
        count(plan.data.validation_tokens),
    )?;
    writeln!(out)?;
    let folded = if rows == Rows::Folded { budgets::folded(plan) } else { None };
    writeln!(out, "{}", folded.unwrap_or_else(|| run_table(plan)))?;
    writeln!(out)?;
    writeln!(
        out,
        "total  {} {}, {:.3e} FLOPs exact ({:.3e} as 6ND), at most {} a run",
        count(plan.totals.tokens),
        plan.data.unit(),
        plan.totals.flops,
        plan.totals.flops_6nd,
        bytes(plan.totals.memory_bytes_max),
    )?;
    if plan.totals.trunks > 0 {
        writeln!(out, "{}", trunk_line(plan))?;
    }
    if plan.totals.sensitivity > 0 {
        writeln!(out, "{}", sensitivity_line(plan))?;
    }
    for device in &plan.devices {
        writeln!(out, "{}", device_line(plan, device))?;
    }
    writeln!(out, "{}", disk_line(plan))?;
    for warning in &plan.warnings {
        writeln!(out, "warning: {warning}")?;
    }
    Ok(())
}

fn data_words(data: &DataManifest) -> String {
    match &data.image {
        None => format!("tokens of vocabulary {}", data.vocabulary),
        Some(image) if image.channels == 1 => format!("grey images of {0} x {0}", image.side),
        Some(image) => format!("colour images of {0} x {0}", image.side),
    }
}

/// What a column shows of a run.
type Cell = fn(&PlannedRun) -> String;

/// Columns that are shown where runs differ in them.
const VARYING: [(&str, Cell); 3] = [
    ("batch", |run| run.batch.to_string()),
    ("rate", |run| format!("{:.2e}", run.learning_rate)),
    ("seed", |run| run.seed.to_string()),
];

fn run_table(plan: &Plan) -> String {
    let mut header =
        vec!["run", "role", "shape", "N", "N non-emb", "D", "D/N", "FLOPs", "6ND", "steps"];
    header.extend(["epochs", "memory"]);
    let names: Vec<String> =
        plan.devices.iter().map(|device| format!("on {}", device.kind.name)).collect();
    header.extend(names.iter().map(String::as_str));
    let forks = plan.totals.trunks > 0;
    if forks {
        header.extend(["fork", "own FLOPs"]);
    }
    let differs = |cell: Cell| plan.runs.iter().any(|run| cell(run) != cell(&plan.runs[0]));
    let varying: Vec<_> = VARYING.into_iter().filter(|&(_, cell)| differs(cell)).collect();
    header.extend(varying.iter().map(|(name, _)| *name));
    let mut rows = table(&header, &[0, 1, 2]);
    for run in &plan.runs {
        let mut cells = run_cells(run);
        if forks {
            cells.push(run.parent.as_ref().map_or_else(String::new, |edge| edge.step.to_string()));
            cells.push(format!("{:.2e}", run.own_flops));
        }
        cells.extend(varying.iter().map(|(_, cell)| cell(run)));
        rows.add_row(cells);
    }
    lines(&rows)
}

fn run_cells(run: &PlannedRun) -> Vec<String> {
    let shape = &run.shape;
    let mut cells = vec![
        run.id.short().to_owned(),
        crate::export::role(run.role).to_owned(),
        format!("{} x {}", shape.width(), shape.layers()),
        count(run.parameters.total),
        count(run.parameters.non_embedding),
        count(run.tokens),
        ratio(run.tokens_per_parameter),
        format!("{:.2e}", run.flops),
        format!("{:.2e}", run.flops_6nd),
        run.steps.to_string(),
        ratio(run.epochs),
        bytes(run.memory_bytes),
    ];
    cells.extend(run.seconds.iter().map(|predicted| {
        predicted.map_or_else(|| "unknown".to_owned(), |predicted| duration(predicted.seconds))
    }));
    cells
}

/// What the trunks save.
fn trunk_line(plan: &Plan) -> String {
    let branches = plan.runs.iter().filter(|run| run.parent.is_some()).count();
    let saved = 100.0 * (1.0 - plan.totals.flops / plan.totals.flops_alone);
    format!(
        "trunks {} carry {branches} branches: {:.3e} FLOPs in place of {:.3e} if every run were \
         trained alone, {saved:.1} % saved",
        plan.totals.trunks, plan.totals.flops, plan.totals.flops_alone
    )
}

/// What the runs at other learning rates add, which the law does without.
fn sensitivity_line(plan: &Plan) -> String {
    let others = || plan.runs.iter().filter(|run| run.role == RunRole::Sensitivity);
    let flops: f64 = others().map(|run| run.own_flops).sum();
    let mut text = format!(
        "rates  {} runs at other learning rates: {flops:.3e} FLOPs of the total, {:.1} %; no fit \
         uses them",
        plan.totals.sensitivity,
        100.0 * flops / plan.totals.flops
    );
    for (place, device) in plan.devices.iter().enumerate() {
        let seconds = others().map(|run| run.seconds[place].map(|predicted| predicted.seconds));
        if let Some(seconds) = seconds.sum::<Option<f64>>() {
            let _ = write!(text, "; {} on {}", duration(seconds), device.kind.name);
        }
    }
    text
}

fn device_line(plan: &Plan, device: &DevicePlan) -> String {
    let (name, slots) = (&device.kind.name, device.kind.slots);
    let memory = match (device.runs_in_memory, device.kind.memory_bytes) {
        (Some(runs), Some(slot)) => format!(
            "; memory suffices for {runs} of {} runs ({} a slot)",
            plan.totals.runs,
            bytes(slot)
        ),
        _ => String::new(),
    };
    let (Some(all), Some(wall)) = (device.device_seconds, device.wall_seconds) else {
        let hint = "hint: `sweep plan --calibrate` measures this machine, and runs that were \
                    trained measure every other";
        return format!("on {name}: speed unknown{memory}; {hint}");
    };
    let basis = match device.basis {
        Some(Basis::Measured) => "measured",
        Some(Basis::Interpolated) => "from other shapes measured here",
        _ => "by a table, within a factor of three",
    };
    format!(
        "on {name}: {} of training, {} on {slots} slot{} ({basis}){memory}",
        duration(all),
        duration(wall),
        if slots == 1 { "" } else { "s" }
    )
}

/// What stays on disks.
fn disk_line(plan: &Plan) -> String {
    let Storage { checkpoint_bytes, points, point_bytes } = plan.storage;
    format!(
        "disk   checkpoints at most {}, about {} points ({})",
        bytes(checkpoint_bytes),
        count(points),
        bytes(point_bytes)
    )
}

fn count(value: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
    si(value as f64)
}
