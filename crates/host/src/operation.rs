//! Operations of all parts of the host, as the operator sees them.

use std::fmt;

/// Change of the host, such as "remove device vtep1024".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    verb: Verb,
    object: String,
}

/// Verb of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Add,
    Attach,
    Change,
    Create,
    Delete,
    Destroy,
    Remove,
    Set,
    TurnOn,
    Write,
}

/// Tense in which an operation is described.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tense {
    /// "remove device vtep1024", as in "would remove …" and "cannot remove …".
    Infinitive,
    /// "removed device vtep1024".
    Past,
}

impl Operation {
    pub(crate) fn new(verb: Verb, object: impl fmt::Display) -> Operation {
        Operation {
            verb,
            object: object.to_string(),
        }
    }

    /// Returns a description of the operation in one line.
    pub fn describe(&self, tense: Tense) -> String {
        format!("{} {}", self.verb.in_tense(tense), self.object)
    }
}

impl Verb {
    fn in_tense(self, tense: Tense) -> &'static str {
        let (infinitive, past) = match self {
            Verb::Add => ("add", "added"),
            Verb::Attach => ("attach", "attached"),
            Verb::Change => ("change", "changed"),
            Verb::Create => ("create", "created"),
            Verb::Delete => ("delete", "deleted"),
            Verb::Destroy => ("destroy", "destroyed"),
            Verb::Remove => ("remove", "removed"),
            Verb::Set => ("set", "set"),
            Verb::TurnOn => ("turn on", "turned on"),
            Verb::Write => ("write", "wrote"),
        };
        match tense {
            Tense::Infinitive => infinitive,
            Tense::Past => past,
        }
    }
}

/// Prints the infinitive.
impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.in_tense(Tense::Infinitive))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operation_has_a_tense() {
        let operation = Operation::new(Verb::TurnOn, "IPv6 forwarding");
        assert_eq!(
            operation.describe(Tense::Infinitive),
            "turn on IPv6 forwarding"
        );
        assert_eq!(operation.describe(Tense::Past), "turned on IPv6 forwarding");
        let operation = Operation::new(Verb::Destroy, "ipset overlay");
        assert_eq!(operation.describe(Tense::Past), "destroyed ipset overlay");
    }
}
