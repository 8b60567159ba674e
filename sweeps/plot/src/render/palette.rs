//! Colours. The ramp rises evenly in lightness and stays apart under the three usual colour
//! blindnesses (a part of `plasma`, whose light end is left out on white and whose dark end on
//! black).

use std::fmt::Write as _;

use crate::figure::{RAMP_STEPS, Tone};

/// Where a drawing is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// In a file of its own, on white.
    Standalone,
    /// Inside a page that has [`page_css`]: colours follow the page.
    Inline,
}

/// A part of a drawing that is no series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The paper.
    Paper,
    /// Lines of the grid.
    Grid,
    /// The frame of a panel and its ticks.
    Frame,
    /// A shaded region.
    Shade,
}

const RAMP_LIGHT: [&str; RAMP_STEPS as usize] =
    ["#0d0887", "#41049d", "#6a00a8", "#8f0da4", "#b12a90", "#cc4778", "#dd5e66", "#e8743c"];
const RAMP_DARK: [&str; RAMP_STEPS as usize] =
    ["#b05cd0", "#c558b4", "#d8579a", "#e5657f", "#f07f5f", "#f89b46", "#fdb92f", "#f5e14a"];

/// Name, colour on white, colour on black.
const COLOURS: [(&str, &str, &str); 8] = [
    ("ink", "#1b1d21", "#e8eaed"),
    ("muted", "#5b6169", "#a9afb7"),
    ("law", "#00695c", "#4fd1c5"),
    ("reference", "#0b57d0", "#8ab4f8"),
    ("paper", "#ffffff", "#15171b"),
    ("grid", "#e6e8eb", "#2a2e35"),
    ("frame", "#868d96", "#737a83"),
    ("shade", "#eef1f4", "#20242a"),
];

fn of_tone(tone: Tone) -> (String, &'static str, &'static str) {
    let index = match tone {
        Tone::Ink => 0,
        Tone::Muted => 1,
        Tone::Law => 2,
        Tone::Reference => 3,
        Tone::Ramp(step) => {
            let step = step.min(RAMP_STEPS - 1);
            let index = usize::from(step);
            return (format!("ramp-{step}"), RAMP_LIGHT[index], RAMP_DARK[index]);
        }
    };
    let (name, light, dark) = COLOURS[index];
    (name.to_owned(), light, dark)
}

const fn of_part(part: Part) -> (&'static str, &'static str, &'static str) {
    COLOURS[match part {
        Part::Paper => 4,
        Part::Grid => 5,
        Part::Frame => 6,
        Part::Shade => 7,
    }]
}

impl Paint {
    pub(crate) fn tone(self, tone: Tone) -> String {
        let (name, light, _) = of_tone(tone);
        self.choose(&name, light)
    }

    pub(crate) fn part(self, part: Part) -> String {
        let (name, light, _) = of_part(part);
        self.choose(name, light)
    }

    fn choose(self, name: &str, light: &str) -> String {
        match self {
            Self::Standalone => light.to_owned(),
            Self::Inline => format!("var(--plot-{name})"),
        }
    }
}

/// A tone on the black of most terminals.
pub(crate) fn on_black(tone: Tone) -> &'static str {
    of_tone(tone).2
}

/// Style rules for a page with inline figures: light, dark by the reader's wish, light on paper.
#[must_use]
pub fn page_css() -> String {
    let mut light = String::new();
    let mut dark = String::new();
    let mut add = |name: &str, on_white: &str, on_black: &str| {
        let _ = write!(light, "--plot-{name}:{on_white};");
        let _ = write!(dark, "--plot-{name}:{on_black};");
    };
    for (name, on_white, on_black) in COLOURS {
        add(name, on_white, on_black);
    }
    for step in 0..RAMP_STEPS {
        let (name, on_white, on_black) = of_tone(Tone::Ramp(step));
        add(&name, on_white, on_black);
    }
    format!(":root{{{light}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n")
}
