//! Changes at the master. What is lost is said before, and the operator confirms.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::connection::http::Answer;
use crate::connection::{AskError, Master};
use crate::output::page::{self, Page, styled};
use crate::output::{FOUND, Failure, fail, refuse};

/// Options of commands that change something at the master.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
#[command(next_help_heading = "Confirmation")]
pub struct ConsentOptions {
    /// Make the change without asking.
    #[arg(long)]
    pub yes: bool,
    /// Print what would be lost and what would be sent, and change nothing.
    #[arg(long, conflicts_with = "yes")]
    pub dry_run: bool,
}

/// Request that changes something.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Request {
    /// Method of HTTP.
    pub method: &'static str,
    /// Path at the leading master.
    pub path: String,
    /// Body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
}

/// Reason why a change was not made, or is not known to have been made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotDone {
    /// The master refused it. Has the master's sentences.
    Refused(String),
    /// The master was not asked, or its answer is not known.
    Failed(Failure),
}

impl From<Failure> for NotDone {
    fn from(failure: Failure) -> NotDone {
        NotDone::Failed(failure)
    }
}

impl From<AskError> for NotDone {
    fn from(error: AskError) -> NotDone {
        NotDone::Failed(error.into())
    }
}

impl NotDone {
    /// Prints the reason, and returns the exit status.
    pub fn exit(self) -> ExitCode {
        match self {
            NotDone::Refused(sentence) => fail(FOUND, &sentence),
            NotDone::Failed(Failure(sentence)) => refuse(&sentence),
        }
    }
}

/// Result of a command that changes something.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Change {
    /// True if the change was made; false if it would be.
    pub done: bool,
    /// Requests that were sent to the master, or would be.
    pub requests: Vec<Request>,
    /// Losses by the change, and what happens then: one sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub losses: Vec<String>,
    /// Further remarks, one sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl Change {
    /// Creates a change that was not made yet.
    pub fn new(request: Request, losses: Vec<String>) -> Change {
        Change {
            done: false,
            requests: vec![request],
            losses,
            notes: Vec::new(),
        }
    }

    /// Writes what would be sent, if nothing was, and the notes.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn write(&self, page: &mut Page<'_>) -> io::Result<()> {
        if !self.done {
            if !self.losses.is_empty() {
                page.line(styled(page::WARNING, "This would happen:"))?;
            }
            for loss in &self.losses {
                page.line(format_args!("- {loss}"))?;
            }
            for Request { method, path, body } in &self.requests {
                let body = body
                    .as_ref()
                    .map_or(String::new(), |body| format!(" {body}"));
                page.line(format_args!("Would send {method} {path}{body}"))?;
            }
        }
        for note in &self.notes {
            page.line(format_args!("{} {note}.", styled(page::DIM, "note:")))?;
        }
        Ok(())
    }

    /// Has the operator confirm: see [`confirm`].
    ///
    /// # Errors
    /// The operator does not confirm, or cannot be asked.
    pub fn confirm(&self, options: ConsentOptions, word: &str) -> Result<bool, Failure> {
        confirm(&self.losses, options, word)
    }
}

/// Says what is lost and has the operator confirm, unless nothing is lost or `--yes` was given.
/// `word` is what the operator types. Returns false if only a dry run is wanted.
///
/// # Errors
/// The operator does not confirm, or cannot be asked.
pub fn confirm(losses: &[String], options: ConsentOptions, word: &str) -> Result<bool, Failure> {
    if options.dry_run {
        return Ok(false);
    }
    if losses.is_empty() {
        return Ok(true);
    }
    let mut err = anstream::AutoStream::auto(io::stderr());
    let _ = writeln!(err, "{}", styled(page::WARNING, "This will happen:"));
    for loss in losses {
        let _ = writeln!(err, "- {loss}");
    }
    if options.yes {
        return Ok(true);
    }
    if !io::stdin().is_terminal() {
        return Err("not confirmed, and nothing was changed: there is no terminal to ask on; give --yes if this is meant".into());
    }
    let _ = write!(err, "Type {word} to confirm: ");
    let _ = err.flush();
    let mut typed = String::new();
    let read = io::stdin().read_line(&mut typed);
    match read.is_ok() && typed.trim() == word {
        true => Ok(true),
        false => {
            Err(format!("not confirmed, and nothing was changed: {word} was not typed").into())
        }
    }
}

/// Sends a request that changes something. `find_out` is a command that shows the outcome if it is
/// not known.
///
/// # Errors
/// The master refuses, or did not answer.
pub fn send(master: &Master, request: &Request, find_out: &str) -> Result<Answer, NotDone> {
    let Request { method, path, body } = request;
    let sent = master
        .http()
        .send(method, master.address(), path, &[], body.as_ref());
    let unknown = |what: &str| {
        NotDone::Failed(
            format!(
                "{what}\nIt is not known whether anything was changed. Find out with: {find_out}"
            )
            .into(),
        )
    };
    match sent {
        Ok(answer) if answer.is_success() => Ok(answer),
        Ok(answer) if answer.status == 503 => match answer.text() {
            text if text.contains("not known whether") => Err(unknown(&text)),
            text => Err(NotDone::Failed(
                format!("the master cannot do it now (status 503): {text}").into(),
            )),
        },
        Ok(answer) => Err(NotDone::Refused(answer.text())),
        // It may have got the request.
        Err(AskError::Silent(what)) => Err(unknown(&what)),
        Err(error) => Err(error.into()),
    }
}
