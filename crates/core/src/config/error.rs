//! Mistakes in configurations, as lines for the operator.

use std::fmt;

use crate::util::line;

/// Largest number of mistakes that are listed. More of them only hide the first ones.
const MAX_LISTED: usize = 20;

/// Largest total length of the listed mistakes, in bytes. HTTP answers contain them.
const MAX_LISTED_BYTES: usize = 3_500;

/// Mistake in a configuration. Displays as one line, `<file>: <field>: <problem>; <remedy>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The file, as the module's parameter names it, or another source such as `environment`.
    pub file: String,
    /// The path of the field, such as `network.overlays[0].prefix`. Empty for the whole file.
    pub field: String,
    /// The value and what is wrong with it.
    pub problem: String,
    /// The remedy, as an imperative.
    pub remedy: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mistake {
            file,
            field,
            problem,
            remedy,
        } = self;
        let colon = if field.is_empty() { "" } else { ": " };
        write!(f, "{file}: {field}{colon}{problem}; {remedy}")
    }
}

/// All mistakes in a configuration, in the order of the file. There is at least one.
/// Displays as [`lines`](Self::lines).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    mistakes: Vec<Mistake>,
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines().join("\n"))
    }
}

impl ConfigError {
    /// Creates an error with one mistake. Control characters in the texts become spaces.
    pub fn new(
        file: &str,
        field: &str,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> ConfigError {
        let mistake = Mistake {
            file: file.to_owned(),
            field: field.to_owned(),
            problem: one_line(&problem.into()),
            remedy: one_line(&remedy.into()),
        };
        ConfigError {
            mistakes: vec![mistake],
        }
    }

    /// Creates an error from mistakes, or returns `None` if there are none.
    pub fn from_mistakes(mistakes: Vec<Mistake>) -> Option<ConfigError> {
        (!mistakes.is_empty()).then_some(ConfigError { mistakes })
    }

    /// Creates the error of a file that cannot be read. `parameter` is the parameter of the
    /// module that names the file.
    pub fn unreadable(file: &str, reason: &dyn fmt::Display, parameter: &str) -> ConfigError {
        ConfigError::new(
            file,
            "",
            format!("cannot be read: {reason}"),
            format!("make the file readable, or correct the module's parameter {parameter}"),
        )
    }

    /// Creates the error of a file that is not JSON.
    pub(super) fn syntax(file: &str, error: &serde_json::Error) -> ConfigError {
        // The sentence of serde_json ends with the position, which is the field here.
        let text = error.to_string();
        let what = text.split(" at line ").next().unwrap_or(&text);
        ConfigError::new(
            file,
            &format!("line {}, column {}", error.line(), error.column()),
            format!("not JSON: {what}"),
            "correct the file there or just before",
        )
    }

    /// Appends the mistakes of `other`, except those in fields of which a mistake is known.
    pub fn merge(&mut self, other: ConfigError) {
        for mistake in other.mistakes {
            let is_known =
                |known: &Mistake| (&known.file, &known.field) == (&mistake.file, &mistake.field);
            if !self.mistakes.iter().any(is_known) {
                self.mistakes.push(mistake);
            }
        }
    }

    /// Returns all mistakes.
    pub fn mistakes(&self) -> &[Mistake] {
        &self.mistakes
    }

    /// Returns one line per mistake. If the mistakes are too many for a reader, the last line
    /// counts the others.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut bytes = 0;
        for mistake in &self.mistakes {
            let line = mistake.to_string();
            bytes += line.len();
            if lines.len() == MAX_LISTED || (bytes > MAX_LISTED_BYTES && !lines.is_empty()) {
                let more = self.mistakes.len() - lines.len();
                let plural = if more == 1 { "" } else { "s" };
                lines.push(format!(
                    "{}: and {more} more mistake{plural}; correct the ones above first",
                    mistake.file
                ));
                break;
            }
            lines.push(line);
        }
        lines
    }
}

/// Returns `text` without control characters, which would break the line or the operator's
/// terminal.
pub(super) fn one_line(text: &str) -> String {
    line::one_line(text, usize::MAX).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(mistakes: usize, problem: &str) -> ConfigError {
        let mistake = |number| Mistake {
            file: "m".to_owned(),
            field: format!("key{number}"),
            problem: problem.to_owned(),
            remedy: "correct it".to_owned(),
        };
        ConfigError::from_mistakes((0..mistakes).map(mistake).collect()).unwrap()
    }

    #[test]
    fn the_list_is_bounded() {
        let lines = error(20, "is wrong").lines();
        assert_eq!(lines.len(), 20);
        assert_eq!(lines[19], "m: key19: is wrong; correct it");
        let lines = error(21, "is wrong").lines();
        assert_eq!(lines.len(), 21);
        assert_eq!(
            lines[20],
            "m: and 1 more mistake; correct the ones above first"
        );
        assert_eq!(
            error(30, "is wrong").lines()[20],
            "m: and 10 more mistakes; correct the ones above first"
        );
    }

    #[test]
    fn the_length_of_the_list_is_bounded() {
        let lines = error(10, &"x".repeat(1_000)).lines();
        assert_eq!(lines.len(), 4);
        assert_eq!(
            lines[3],
            "m: and 7 more mistakes; correct the ones above first"
        );
        assert_eq!(error(1, &"x".repeat(10_000)).lines().len(), 1);
    }

    #[test]
    fn a_field_is_reported_once() {
        let mut all = error(2, "is wrong");
        all.merge(error(3, "is still wrong"));
        assert_eq!(
            all.lines(),
            [
                "m: key0: is wrong; correct it",
                "m: key1: is wrong; correct it",
                "m: key2: is still wrong; correct it",
            ]
        );
        assert_eq!(ConfigError::from_mistakes(Vec::new()), None);
    }
}
