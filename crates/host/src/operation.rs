//! Operations of all parts of the host, as the operator sees them.

use std::fmt;
use std::sync::Arc;

/// Change of the host, such as "remove device vtep1024".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    verb: Verb,
    kind: ObjectKind,
    device: Option<Arc<str>>,
    object: String,
}

/// Kind of object that an operation is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ObjectKind {
    /// Forwarding of a family, by the host or from a device.
    Forwarding,
    /// VXLAN device, or a setting of a device.
    Device,
    /// Bridge.
    Bridge,
    /// Port of a bridge.
    Port,
    /// Address of a device.
    Address,
    /// Neighbour of a peer.
    Neighbour,
    /// FDB entry of a peer.
    FdbEntry,
    /// Nexthop object of a peer.
    Nexthop,
    /// Route to a peer.
    Route,
    /// Routing rule of an overlay.
    Rule,
    /// CNI configuration of an overlay.
    CniFile,
    /// Rules, sets and tables of the firewall.
    Firewall,
    /// Network of the container engine.
    DockerNetwork,
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
    pub(crate) fn new(verb: Verb, kind: ObjectKind, object: impl fmt::Display) -> Operation {
        Operation {
            verb,
            kind,
            device: None,
            object: object.to_string(),
        }
    }

    /// Sets the device that the object is, or is on.
    pub(crate) fn on(self, device: Option<Arc<str>>) -> Operation {
        Operation { device, ..self }
    }

    /// Returns the kind of the object.
    pub fn kind(&self) -> ObjectKind {
        self.kind
    }

    /// Returns the device that the object is, or is on; `None`: it has nothing to do with one.
    pub fn device(&self) -> Option<&str> {
        self.device.as_deref()
    }

    /// Returns whether the operation creates the object.
    pub fn creates(&self) -> bool {
        matches!(self.verb, Verb::Add | Verb::Create)
    }

    /// Returns whether the operation removes the object.
    pub fn removes(&self) -> bool {
        matches!(self.verb, Verb::Remove | Verb::Delete | Verb::Destroy)
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
        let operation = Operation::new(Verb::TurnOn, ObjectKind::Forwarding, "IPv6 forwarding");
        assert_eq!(
            operation.describe(Tense::Infinitive),
            "turn on IPv6 forwarding"
        );
        assert_eq!(operation.describe(Tense::Past), "turned on IPv6 forwarding");
        let operation = Operation::new(Verb::Destroy, ObjectKind::Firewall, "ipset overlay");
        assert_eq!(operation.describe(Tense::Past), "destroyed ipset overlay");
    }
}
