//! Page of a report for people: lines, tables, bars and findings.

use std::fmt::Display;
use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use console::{Alignment, measure_text_width, pad_str};

use crate::finding::{Finding, Severity};

/// Style of errors.
pub const ERROR: Style = AnsiColor::Red.on_default().bold();
/// Style of warnings.
pub const WARNING: Style = AnsiColor::Yellow.on_default().bold();
/// Style of what is well.
pub const GOOD: Style = AnsiColor::Green.on_default();
/// Style of headings.
pub const HEADING: Style = Style::new().bold();
/// Style of what is less important.
pub const DIM: Style = Style::new().dimmed();

/// Space between columns.
const GAP: &str = "   ";
/// Width of a bar, in characters.
const BAR: usize = 20;

/// Page that a report is written on. Styles are ANSI sequences, which the caller removes if there
/// is no terminal.
pub struct Page<'a> {
    out: &'a mut dyn Write,
}

impl<'a> Page<'a> {
    /// Creates a page on an output.
    pub fn new(out: &'a mut dyn Write) -> Page<'a> {
        Page { out }
    }

    /// Writes a line, or several.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn line(&mut self, text: impl Display) -> io::Result<()> {
        writeln!(self.out, "{}", printable(&text.to_string()))
    }

    /// Writes a line in bold type, after an empty line.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn heading(&mut self, text: impl Display) -> io::Result<()> {
        writeln!(self.out, "\n{}", printable(&styled(HEADING, text)))
    }

    /// Writes a table with a heading for each column. Columns named in `right` (by index) are
    /// aligned at the right. Nothing if there are no rows.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn table(
        &mut self,
        headings: &[&str],
        right: &[usize],
        rows: impl IntoIterator<Item = Vec<String>>,
    ) -> io::Result<()> {
        let cells = |row: Vec<String>| row.iter().map(|cell| printable_cell(cell)).collect();
        let rows: Vec<Vec<String>> = rows.into_iter().map(cells).collect();
        if rows.is_empty() {
            return Ok(());
        }
        let width = |column: usize, heading: &str| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            let widths = cells.map(|cell| measure_text_width(cell));
            widths.fold(measure_text_width(heading), usize::max)
        };
        let widths: Vec<usize> = headings
            .iter()
            .enumerate()
            .map(|(i, h)| width(i, h))
            .collect();
        // A style around nothing would keep the spaces before it.
        let headings = headings.iter().map(|heading| match heading.is_empty() {
            true => String::new(),
            false => styled(DIM, heading),
        });
        for row in std::iter::once(headings.collect()).chain(rows) {
            let cells = row
                .iter()
                .zip(&widths)
                .enumerate()
                .map(|(index, (cell, width))| {
                    let alignment = match right.contains(&index) {
                        true => Alignment::Right,
                        false => Alignment::Left,
                    };
                    pad_str(cell, *width, alignment, None).into_owned()
                });
            let line = cells.collect::<Vec<_>>().join(GAP);
            writeln!(self.out, "{}", line.trim_end())?;
        }
        Ok(())
    }

    /// Writes findings, each with its remedy, and a line that sums up.
    pub(super) fn findings(&mut self, findings: &[Finding]) -> io::Result<()> {
        writeln!(self.out)?;
        for finding in findings {
            let (style, word) = match finding.severity {
                Severity::Error => (ERROR, "error"),
                Severity::Warning => (WARNING, "warning"),
            };
            let subject = finding.subject.as_ref();
            let subject = subject.map_or(String::new(), |subject| format!("{subject}: "));
            let word = styled(style, format_args!("{word}:"));
            self.line(format_args!("{word} {subject}{}", finding.message))?;
            self.line(format_args!("  {}", finding.remedy))?;
            let about = format_args!("[{}] {}", finding.code, finding.see);
            self.line(format_args!("  {}", styled(DIM, about)))?;
        }
        self.line(summary(findings))
    }
}

/// Returns a text in a style.
pub fn styled(style: Style, text: impl Display) -> String {
    format!("{}{text}{}", style.render(), style.render_reset())
}

/// Returns a text without what could change a terminal: control characters other than line breaks
/// and tabs become spaces. The styles of this module stay. Much of what is printed was chosen by
/// others, such as the names of tasks.
pub fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_control() && c != '\n' && c != '\t') {
        printable.push_str(&rest[..at]);
        rest = &rest[at..];
        let length = style_length(rest);
        match length {
            0 => printable.push(' '),
            _ => printable.push_str(&rest[..length]),
        }
        let skipped = length.max(rest.chars().next().map_or(0, char::len_utf8));
        rest = &rest[skipped..];
    }
    printable.push_str(rest);
    printable
}

/// Returns a text as [`printable`] does, in one line.
fn printable_cell(text: &str) -> String {
    printable(text).replace(['\n', '\t'], " ")
}

/// Returns the length of the style that a text begins with, in bytes; 0: it begins with none.
fn style_length(text: &str) -> usize {
    let styles = [ERROR, WARNING, GOOD, HEADING, DIM];
    let sequences = styles.iter().map(|style| style.render().to_string());
    let reset = ERROR.render_reset().to_string();
    let found = sequences
        .chain([reset])
        .find(|sequence| text.starts_with(sequence.as_str()));
    found.map_or(0, |sequence| sequence.len())
}

/// Returns a bar that shows how much of `total` is used, such as `████░░░░`.
pub fn bar(used: u128, total: u128) -> String {
    let filled = match total {
        0 => 0,
        // Something in use is never an empty bar, and something free never a full one.
        _ if used == 0 => 0,
        _ if used >= total => BAR,
        _ => ((used as f64 / total as f64 * BAR as f64) as usize).clamp(1, BAR - 1),
    };
    format!("{}{}", "█".repeat(filled), "░".repeat(BAR - filled))
}

/// Returns a number and a noun, which gets an "s" unless the number is 1.
pub fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Returns a duration in one unit, such as `12 s`, `5 min` or `3 d`.
pub fn duration(seconds: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(86_400, "d"), (3_600, "h"), (60, "min")];
    let unit = UNITS.iter().find(|(length, _)| seconds >= 2 * length);
    match unit {
        Some((length, unit)) => format!("{} {unit}", seconds / length),
        None => format!("{seconds} s"),
    }
}

fn summary(findings: &[Finding]) -> String {
    let number = |severity| findings.iter().filter(|f| f.severity == severity).count();
    match (number(Severity::Error), number(Severity::Warning)) {
        (0, 0) => styled(GOOD, "Nothing is wrong."),
        (0, warnings) => styled(WARNING, format_args!("{}.", count(warnings, "warning"))),
        (errors, 0) => styled(ERROR, format_args!("{}.", count(errors, "error"))),
        (errors, warnings) => styled(
            ERROR,
            format_args!(
                "{}, {}.",
                count(errors, "error"),
                count(warnings, "warning")
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A task's name may neither move the cursor nor set the title of the terminal.
    #[test]
    fn only_styles_of_this_program_reach_the_terminal() {
        let hostile = "a\u{1b}]0;title\u{7}b\u{1b}[2J\u{1b}[8mc\u{9b}31md\re";
        assert_eq!(printable(hostile), "a ]0;title b [2J [8mc 31md e");
        let text = format!("{} {hostile}", styled(ERROR, "error:"));
        assert!(printable(&text).starts_with(&styled(ERROR, "error:")));
        let mut out = Vec::new();
        let mut page = Page::new(&mut out);
        page.table(&["TASK"], &[], [vec!["x\ny\u{1b}[H".to_owned()]])
            .unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.lines().nth(1), Some("x y [H"));
    }
}
