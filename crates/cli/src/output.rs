//! Output of the commands: a page for people or JSON for programs, and the exit status.
//!
//! A command that examines something returns a [`Report`]. [`finish`] prints it and returns the
//! exit status: 0 if all is well, 1 if an error was found, 2 if the command could not ask.

pub mod page;
pub mod progress;

use std::io::{self, Write};
use std::process::ExitCode;

use anstream::AutoStream;
use schemars::JsonSchema;
use serde::Serialize;

use crate::finding::{Finding, Severity};
use page::Page;

/// Exit status: an error was found, or the master refused a change.
pub const FOUND: u8 = 1;
/// Exit status: the command could not find out, or its arguments are wrong. The same status as
/// clap's.
pub const NOT_ASKED: u8 = 2;

/// Form of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Tables and sentences for people.
    #[default]
    Table,
    /// One JSON object, see docs/schemas.
    Json,
}

/// Use of colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Color {
    /// Colours on a terminal, unless the variable NO_COLOR is set.
    #[default]
    Auto,
    /// Colours always.
    Always,
    /// No colours.
    Never,
}

/// Options of all commands that report something.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
#[command(next_help_heading = "Output")]
pub struct OutputOptions {
    /// Form of the output: a table for people, or JSON for programs.
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: Format,
    /// Use of colours. "auto" uses them on a terminal, unless NO_COLOR is set.
    #[arg(long, value_name = "WHEN", value_enum, default_value_t)]
    pub color: Color,
}

/// Result of a command that examines something.
pub trait Report: Serialize + JsonSchema {
    /// Name of the command, such as `status` or `ipam check`.
    const COMMAND: &'static str;

    /// True if the command examines something. The page of one that does ends with a line that
    /// sums up what was found.
    const EXAMINES: bool = true;

    /// Returns what is wrong, the worst first.
    fn findings(&self) -> &[Finding];

    /// Writes the report for people, without its findings.
    ///
    /// # Errors
    /// The output cannot be written.
    fn write(&self, page: &mut Page<'_>) -> io::Result<()>;
}

/// Sentence that says why a command could not do what it was told, with the way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure(pub String);

impl<T: Into<String>> From<T> for Failure {
    fn from(sentence: T) -> Failure {
        Failure(sentence.into())
    }
}

/// JSON of a report.
#[derive(Serialize, JsonSchema)]
pub struct Document<'a, R> {
    /// Name of the command.
    command: &'static str,
    /// Version of the program.
    version: &'static str,
    /// True if no error was found.
    ok: bool,
    /// What is wrong, the worst first.
    findings: &'a [Finding],
    #[serde(flatten)]
    report: &'a R,
}

/// Prints the result of a command, and returns the exit status.
pub fn finish<R: Report>(options: OutputOptions, result: Result<R, Failure>) -> ExitCode {
    let report = match result {
        Ok(report) => report,
        Err(Failure(sentence)) => return refuse(&sentence),
    };
    let printed = match options.output {
        Format::Table => print_page(options.color, &report),
        Format::Json => print_json(&report),
    };
    match printed {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            refuse(&format!("cannot write the output: {error}"))
        }
        _ if is_well(report.findings()) => ExitCode::SUCCESS,
        _ => ExitCode::from(FOUND),
    }
}

/// Prints an error, and returns the exit status of a command that could not ask.
pub fn refuse(sentence: &str) -> ExitCode {
    fail(NOT_ASKED, sentence)
}

/// Prints an error, and returns an exit status.
pub fn fail(status: u8, sentence: &str) -> ExitCode {
    let mut stderr = AutoStream::auto(io::stderr());
    let word = page::styled(page::ERROR, "error:");
    let _ = writeln!(stderr, "{word} {}", page::printable(sentence));
    ExitCode::from(status)
}

fn is_well(findings: &[Finding]) -> bool {
    findings
        .iter()
        .all(|finding| finding.severity != Severity::Error)
}

fn print_json<R: Report>(report: &R) -> io::Result<()> {
    let document = Document {
        command: R::COMMAND,
        version: env!("CARGO_PKG_VERSION"),
        ok: is_well(report.findings()),
        findings: report.findings(),
        report,
    };
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, &document)?;
    writeln!(out)
}

fn print_page<R: Report>(color: Color, report: &R) -> io::Result<()> {
    let choice = match color {
        Color::Auto => anstream::AutoStream::choice(&io::stdout()),
        Color::Always => anstream::ColorChoice::Always,
        Color::Never => anstream::ColorChoice::Never,
    };
    let mut stream = AutoStream::new(io::stdout().lock(), choice);
    let mut text = Vec::new();
    let mut page = Page::new(&mut text);
    report.write(&mut page)?;
    if R::EXAMINES || !report.findings().is_empty() {
        page.findings(report.findings())?;
    }
    stream.write_all(&text)?;
    stream.flush()
}
