//! Tables that `sweep` itself wrote: what their columns say that no `--map` has to.

/// Rows of a table of ours that a fit is made of: checks are held out, and what did not end has no
/// loss. They count until a `--where` chooses otherwise.
const WANTED: [(&str, &str); 2] = [("role", "fit"), ("state", "finished")];

/// The columns of a table of ours.
pub(super) struct Own {
    family: usize,
    sequence: usize,
    wanted: [(usize, &'static str); 2],
}

impl Own {
    /// The columns, where the table is one of ours.
    pub(super) fn find(names: &[String]) -> Option<Self> {
        let place = |name: &str| names.iter().position(|column| column == name);
        let [role, state] = WANTED;
        Some(Self {
            family: place("family")?,
            sequence: place("sequence")?,
            wanted: [(place(role.0)?, role.1), (place(state.0)?, state.1)],
        })
    }

    /// Columns and texts of the rows that a fit is made of.
    pub(super) fn wanted(&self) -> impl Iterator<Item = (usize, &'static str)> {
        self.wanted.into_iter()
    }

    /// The same in words.
    pub(super) fn told() -> String {
        WANTED.map(|(name, value)| format!("{name}={value}")).join(" and ")
    }

    /// Columns that are read of every row.
    pub(super) fn columns(&self) -> [usize; 2] {
        [self.family, self.sequence]
    }

    /// Positions that one unit of D of a row goes through: D counts images of so many patches.
    pub(super) fn positions<'c>(&self, cell: impl Fn(usize) -> Option<&'c str>) -> Option<f64> {
        let patches = cell(self.sequence)?.parse().ok()?;
        (cell(self.family)? == "diffusion").then_some(patches)
    }
}
