//! Which column means what (`--map ROLE=COLUMN`) and which rows are wanted (`--where
//! COLUMN=VALUE`).

use std::{path::Path, str::FromStr};

use sweep_fit::Observation;

use super::{error::SourceError, own::Own};

/// What a column can mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    N,
    D,
    C,
    Loss,
    Unique,
    Group,
    Budget,
    Noise,
    Seconds,
}

impl Role {
    const ALL: [Self; 9] = [
        Self::N,
        Self::D,
        Self::C,
        Self::Loss,
        Self::Unique,
        Self::Group,
        Self::Budget,
        Self::Noise,
        Self::Seconds,
    ];

    /// What a column may mean by its name alone: the others change the fit in ways that a table
    /// which happens to have such a column need not want.
    const PLAIN: [Self; 4] = [Self::N, Self::D, Self::C, Self::Loss];

    const fn name(self) -> &'static str {
        match self {
            Self::N => "N",
            Self::D => "D",
            Self::C => "C",
            Self::Loss => "loss",
            Self::Unique => "unique",
            Self::Group => "group",
            Self::Budget => "budget",
            Self::Noise => "noise",
            Self::Seconds => "seconds",
        }
    }
}

/// One `ROLE=COLUMN`.
#[derive(Clone, Debug)]
pub(crate) struct MapArg {
    role: Role,
    column: String,
}

/// All of `--map`, and columns that are read beside the roles.
#[derive(Clone, Debug)]
pub(crate) struct Mapping {
    maps: Vec<MapArg>,
    /// Columns of finite numbers of either sign, where an empty cell is no number.
    extras: Vec<String>,
    /// Columns that are called like a role of [`Role::PLAIN`] have it.
    by_name: bool,
}

impl Mapping {
    /// Reads the arguments of `--map`; without any the columns' names decide.
    pub(crate) fn new(arguments: &[String]) -> Result<Self, SourceError> {
        if arguments.is_empty() {
            return Ok(Self { maps: Vec::new(), extras: Vec::new(), by_name: true });
        }
        let mapping = Self::beside(arguments, Vec::new())?;
        if mapping.has_loss() {
            return Ok(mapping);
        }
        Err(SourceError::Option {
            option: "--map loss=COLUMN".to_owned(),
            shape: "of the form ROLE=COLUMN",
            hint: "the loss must be mapped".to_owned(),
        })
    }

    /// Whether the loss is mapped.
    pub(crate) fn has_loss(&self) -> bool {
        self.maps.iter().any(|map| map.role == Role::Loss)
    }

    /// Reads the arguments of `--map` for a table of scores: these columns are read beside the
    /// roles, and the loss may be missing.
    pub(crate) fn beside(arguments: &[String], extras: Vec<String>) -> Result<Self, SourceError> {
        let mut list: Vec<MapArg> = Vec::new();
        let bad = |option: &str, hint: String| {
            Err(SourceError::Option {
                option: format!("--map {option}"),
                shape: "of the form ROLE=COLUMN",
                hint,
            })
        };
        for text in arguments {
            let roles = Role::ALL.map(Role::name).join(", ");
            let Some((name, column)) = text.split_once('=') else {
                return bad(text, format!("roles are {roles}"));
            };
            let Some(role) = Role::ALL.into_iter().find(|role| role.name() == name) else {
                return bad(text, format!("`{name}` is no role; roles are {roles}"));
            };
            if list.iter().any(|map| map.role == role) {
                return bad(text, format!("`{name}` is mapped twice"));
            }
            list.push(MapArg { role, column: column.to_owned() });
        }
        Ok(Self { maps: list, extras, by_name: false })
    }
}

/// One `COLUMN=VALUE`: the row is kept where the cell is this text.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    column: String,
    value: String,
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (column, value) = text
            .split_once('=')
            .ok_or_else(|| "give COLUMN=VALUE; hint: --where dataset=c4".to_owned())?;
        Ok(Self { column: column.to_owned(), value: value.to_owned() })
    }
}

/// The columns that are called like their roles.
fn named(path: &Path, names: &[String]) -> Result<Vec<(Role, usize)>, SourceError> {
    let place = |role: Role| names.iter().position(|name| name == role.name());
    let roles: Vec<(Role, usize)> =
        Role::PLAIN.into_iter().filter_map(|role| Some((role, place(role)?))).collect();
    if roles.len() > 1 && roles.iter().any(|(role, _)| *role == Role::Loss) {
        return Ok(roles);
    }
    Err(SourceError::Unmapped { path: path.into(), existing: names.join(", ") })
}

/// Roles and filters resolved to the columns of one table.
pub(super) struct Columns<'a> {
    names: Vec<String>,
    roles: Vec<(Role, usize)>,
    extras: Vec<usize>,
    filters: Vec<(usize, &'a str)>,
    /// Of a table of ours that is read by the names of its columns.
    own: Option<Own>,
    /// Whether `filters` are those of [`Own`].
    chosen: bool,
    /// What a place in the table is called in messages.
    unit: &'static str,
}

/// A row as it is used: its observation, and what the run cost.
pub(super) struct Row {
    pub(super) observation: Observation,
    /// Measured GPU-seconds, where mapped.
    pub(super) seconds: Option<f64>,
    /// The columns beside the roles.
    pub(super) extras: Vec<Option<f64>>,
}

impl<'a> Columns<'a> {
    /// Finds the columns; an unknown one is refused with those that exist.
    pub(super) fn resolve(
        path: &Path,
        names: Vec<String>,
        mapping: &Mapping,
        filters: &'a [Filter],
    ) -> Result<Self, SourceError> {
        let place = |name: &str| {
            names.iter().position(|column| column == name).ok_or_else(|| {
                SourceError::UnknownColumn {
                    path: path.into(),
                    name: name.to_owned(),
                    existing: names.join(", "),
                }
            })
        };
        let extras = mapping
            .extras
            .iter()
            .map(|name| place(name))
            .collect::<Result<Vec<_>, SourceError>>()?;
        let roles = if mapping.by_name {
            named(path, &names)?
        } else {
            let maps = mapping.maps.iter();
            maps.map(|map| Ok((map.role, place(&map.column)?)))
                .collect::<Result<Vec<_>, SourceError>>()?
        };
        let mut filters: Vec<(usize, &'a str)> = filters
            .iter()
            .map(|filter| Ok((place(&filter.column)?, filter.value.as_str())))
            .collect::<Result<_, SourceError>>()?;
        let own = Own::find(&names).filter(|_| mapping.by_name);
        let chosen = filters.is_empty() && own.is_some();
        if let Some(own) = own.as_ref().filter(|_| chosen) {
            filters.extend(
                own.wanted().map(|(column, value)| -> (usize, &'a str) { (column, value) }),
            );
        }
        Ok(Self { names, roles, extras, filters, own, chosen, unit: "line" })
    }

    /// The same, for a table whose places are not lines.
    pub(super) fn counted_by(self, unit: &'static str) -> Self {
        Self { unit, ..self }
    }

    /// What a place in the table is called in messages.
    pub(super) fn unit(&self) -> &'static str {
        self.unit
    }

    /// Columns that a role or a filter reads, each once, in the order of the table.
    pub(super) fn needed(&self) -> Vec<usize> {
        let roles = self.roles.iter().map(|(_, column)| *column);
        let all = roles
            .chain(self.extras.iter().copied())
            .chain(self.filters.iter().map(|(column, _)| *column))
            .chain(self.own.iter().flat_map(Own::columns));
        all.collect::<std::collections::BTreeSet<usize>>().into_iter().collect()
    }

    /// The columns by name, in the order of their numbers.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether `--where` lets a row through.
    pub(super) fn wanted<'c>(&self, cell: &impl Fn(usize) -> Option<&'c str>) -> bool {
        self.filters.iter().all(|&(column, value)| cell(column) == Some(value))
    }

    /// The observation of a row, or what is wrong with it.
    pub(super) fn observation<'c>(
        &self,
        line: u64,
        cell: impl Fn(usize) -> Option<&'c str>,
    ) -> Result<Row, Vec<String>> {
        let positions = self.own.as_ref().and_then(|own| own.positions(&cell));
        let mut row = Observation { line: Some(line), positions, ..Observation::default() };
        let (mut seconds, unit) = (None, self.unit);
        let mut bad = Vec::new();
        for &(role, column) in &self.roles {
            let text = cell(column).unwrap_or_default();
            if role == Role::Group {
                if text.is_empty() {
                    bad.push(format!("{unit} {line}: {} is empty", self.names[column]));
                }
                row.group = Some(text.to_owned());
                continue;
            }
            let number = text.trim().parse::<f64>().ok().filter(|v| v.is_finite() && *v > 0.0);
            let Some(number) = number else {
                bad.push(format!("{unit} {line}: {} is '{text}'", role.name()));
                continue;
            };
            match role {
                Role::N => row.n = Some(number),
                Role::D => row.d = Some(number),
                Role::C => row.flops = Some(number),
                Role::Loss => row.loss = number,
                Role::Unique => row.unique = Some(number),
                Role::Budget => row.budget = Some(number),
                Role::Noise => row.noise = Some(number),
                Role::Seconds => seconds = Some(number),
                Role::Group => {}
            }
        }
        let mut extras = Vec::with_capacity(self.extras.len());
        for &column in &self.extras {
            let text = cell(column).unwrap_or_default().trim();
            let number = text.parse::<f64>().ok().filter(|v| v.is_finite());
            if number.is_none() && !text.is_empty() {
                bad.push(format!("{unit} {line}: {} is '{text}'", self.names[column]));
            }
            extras.push(number);
        }
        if bad.is_empty() { Ok(Row { observation: row, seconds, extras }) } else { Err(bad) }
    }

    /// The roles in their order, each with its column, and which rows a table of ours gives.
    pub(super) fn roles(&self) -> String {
        let role = |&(role, column): &(Role, usize)| {
            let (name, column) = (role.name(), &self.names[column]);
            if name == column { name.to_owned() } else { format!("{name}={column}") }
        };
        let roles = self.roles.iter().map(role).collect::<Vec<_>>().join(", ");
        if self.chosen { format!("{roles}; rows of {}", Own::told()) } else { roles }
    }

    /// A column that names runs, where no group is mapped.
    pub(super) fn run_column(&self) -> Option<String> {
        if self.roles.iter().any(|(role, _)| *role == Role::Group) {
            return None;
        }
        let names_runs = |name: &&String| {
            matches!(name.to_ascii_lowercase().as_str(), "run" | "run_name" | "run_id")
        };
        self.names.iter().find(names_runs).cloned()
    }
}
