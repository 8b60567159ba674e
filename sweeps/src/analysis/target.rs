//! Sizes of a run that is asked about: `N=1e9,D=2e10`.

use std::str::FromStr;

use sweep_spec::units::parse_number;

/// Parameters and tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct At {
    /// Parameters, under the convention of the observations.
    pub(crate) n: f64,
    /// Tokens.
    pub(crate) d: f64,
}

impl FromStr for At {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |why: String| format!("{why}; hint: --at N=1e9,D=2e10");
        let (mut n, mut d) = (None, None);
        for part in text.split(',') {
            let Some((key, value)) = part.split_once('=') else {
                return Err(wrong(format!("`{part}` is not of the form KEY=NUMBER")));
            };
            let number = parse_number(value.trim()).map_err(|error| error.to_string())?;
            if number <= 0.0 {
                return Err(wrong(format!("{key} is {value}, not above 0")));
            }
            let slot = match key.trim() {
                "N" => &mut n,
                "D" => &mut d,
                other => return Err(wrong(format!("`{other}` is neither N nor D"))),
            };
            if slot.replace(number).is_some() {
                return Err(wrong(format!("{key} is given twice")));
            }
        }
        match (n, d) {
            (Some(n), Some(d)) => Ok(Self { n, d }),
            _ => Err(wrong("both N and D are needed".to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_in_any_order() {
        assert_eq!("N=1e9,D=20B".parse(), Ok(At { n: 1e9, d: 2e10 }));
        assert_eq!("D=2e10, N=1e9".parse(), Ok(At { n: 1e9, d: 2e10 }));
    }

    #[test]
    fn what_is_no_size_is_refused_with_a_hint() {
        for bad in ["1e9", "N=1e9", "N=0,D=1", "N=1,N=2", "X=1,D=2", "N=a,D=2", "N=-1,D=2"] {
            let refusal = bad.parse::<At>().unwrap_err();
            assert!(refusal.contains("hint") || bad == "N=a,D=2" || bad == "N=-1,D=2", "{refusal}");
        }
    }
}
