//! Findings: what is wrong, and what to do about it.
//!
//! Every kind of finding is a [`Kind`] in [`kinds`], with a code that scripts may rely on and the
//! section of docs/troubleshooting.md that explains it.

pub mod kinds;

use schemars::JsonSchema;
use serde::Serialize;

/// Severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Something does not work. The program exits with 1.
    Error,
    /// Something works, and will not under other circumstances.
    Warning,
}

/// Kind of findings.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// Identifier for scripts, in lower case with hyphens. It stays the same in later releases.
    pub code: &'static str,
    /// Severity of all findings of this kind.
    pub severity: Severity,
    /// Meaning in a few words, for the list in docs/findings.md.
    pub meaning: &'static str,
    /// Section of docs/troubleshooting.md (the part of a link after `#`), or another page of docs
    /// with its section (`firewall.md#firewalld`).
    pub section: &'static str,
}

impl Kind {
    /// Creates a kind of errors.
    pub const fn error(code: &'static str, meaning: &'static str, section: &'static str) -> Kind {
        Kind {
            code,
            severity: Severity::Error,
            meaning,
            section,
        }
    }

    /// Creates a kind of warnings.
    pub const fn warning(code: &'static str, meaning: &'static str, section: &'static str) -> Kind {
        Kind {
            severity: Severity::Warning,
            ..Kind::error(code, meaning, section)
        }
    }

    /// Returns a finding of this kind. `message` is one sentence without a full stop at its end.
    /// `remedy` is an instruction, also without.
    pub fn finding(&self, message: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding {
            code: self.code,
            severity: self.severity,
            subject: None,
            message: message.into(),
            remedy: remedy.into(),
            see: self.page(),
        }
    }

    /// Returns the page and section that explain findings of this kind.
    pub fn page(&self) -> String {
        match self.section.contains(".md") {
            true => format!("docs/{}", self.section),
            false => format!("docs/troubleshooting.md#{}", self.section),
        }
    }
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Finding {
    /// Identifier of the kind of finding. docs/findings.md lists all.
    pub code: &'static str,
    /// `error` or `warning`.
    pub severity: Severity,
    /// What the finding is about: an agent's address, an overlay, a device or a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// What is wrong, in one sentence.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
    /// Page and section of the documentation that explain it.
    pub see: String,
}

impl Finding {
    /// Sets what the finding is about.
    pub fn about(mut self, subject: impl ToString) -> Finding {
        self.subject = Some(subject.to_string());
        self
    }
}
