//! Findings that may pass within seconds, and the classification of sentences.

use crate::finding::kinds::{cluster, configuration, host};
use crate::finding::{Finding, Kind};

/// Finding of a look at the cluster or the host.
#[derive(Clone, Debug)]
pub struct Found {
    /// The finding.
    pub finding: Finding,
    /// True if it may pass within seconds, such as an election. It counts only if a second look
    /// finds it again.
    pub may_pass: bool,
}

impl Found {
    /// Creates a finding that does not pass by itself.
    pub fn lasting(finding: Finding) -> Found {
        Found {
            finding,
            may_pass: false,
        }
    }

    /// Creates a finding that may pass within seconds.
    pub fn passing(finding: Finding) -> Found {
        Found {
            finding,
            may_pass: true,
        }
    }

    /// Returns whether this finding counts, with those of an earlier look.
    pub fn lasts(&self, earlier: &[Found]) -> bool {
        let is_same = |other: &Found| {
            (other.finding.code, &other.finding.subject)
                == (self.finding.code, &self.finding.subject)
        };
        !self.may_pass || earlier.iter().any(is_same)
    }
}

/// Returns the finding for the error of an overlay on the agent `subject`.
pub fn overlay_error(subject: &str, overlay: &str, error: &str) -> Finding {
    let (kind, remedy): (&Kind, &str) = match error {
        _ if error.contains("cannot reach the container engine") => (
            &host::ENGINE_ABSENT,
            "Start Docker, or set docker_socket in agent.json; on agents without Docker, set docker_bridge to false",
        ),
        _ if error.contains("container engine") && error.contains("did not answer within") => (
            &host::ENGINE_HUNG,
            "Restart Docker; the agent notices by itself when it answers again",
        ),
        _ if error.contains("is in use by another program") => (
            &host::PORT_IN_USE,
            "End the program that ss -lunp names, and reserve the port in net.ipv4.ip_local_reserved_ports",
        ),
        _ if error.contains("are dropped by") => (&host::FIREWALL_DROPS, AS_IT_SAYS),
        _ => (
            &cluster::OVERLAY_FAILED,
            "Resolve the error; the status changes by itself",
        ),
    };
    let message = format!("overlay {overlay} failed: {}", clause(error));
    kind.finding(message, remedy).about(subject)
}

/// Remedy of errors that name their remedies.
const AS_IT_SAYS: &str = "Do as the sentence says; the error goes by itself when its reason does";

/// Returns the finding for an error of the host of the agent `subject`.
pub fn host_error(subject: &str, error: &str) -> Finding {
    let kind = match error {
        _ if error.contains("are dropped by") => &host::FIREWALL_DROPS,
        _ => &cluster::HOST_ERROR,
    };
    kind.finding(clause(error), AS_IT_SAYS).about(subject)
}

/// Returns the finding for a problem of the cluster, which the master has.
pub fn cluster_problem(problem: &str) -> Finding {
    match problem {
        _ if problem.starts_with("The range ") => configuration::ADDRESS_IN_RANGE.finding(
            clause(problem),
            "Give the overlay or the VTEPs a range in which no host lies",
        ),
        _ if problem.contains(" has the same address as ") => cluster::ADDRESS_TWICE.finding(
            clause(problem),
            "Run one agent on each host, or give each the --ip of a host of its own",
        ),
        _ => cluster::CLUSTER_PROBLEM.finding(clause(problem), "Do as the sentence says"),
    }
}

/// Longest sentence of others that is shown, in characters.
const MAX_CLAUSE: usize = 1000;

/// Returns a sentence of others as one line without a full stop.
pub fn clause(sentence: &str) -> String {
    let line = overlay_core::util::line::one_line(sentence.trim(), MAX_CLAUSE);
    line.trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> &'static str {
        overlay_error("10.0.0.1", "dcos", text).code
    }

    #[test]
    fn errors_that_other_commands_find_too_have_their_kinds() {
        assert_eq!(
            error("cannot reach the container engine at /var/run/docker.sock: No such file"),
            "engine-absent"
        );
        assert_eq!(
            error("the container engine at /x did not answer within 15 s"),
            "engine-hung"
        );
        assert_eq!(
            error("add device vtep1024: UDP port 64000 is in use by another program (ss …)"),
            "port-in-use"
        );
        assert_eq!(error("no room"), "overlay-failed");
        let dropped = "packets of the overlays are dropped by iptables: -j DROP; let them in: …";
        assert_eq!(host_error("10.0.0.1", dropped).code, "firewall-drops");
        assert_eq!(host_error("10.0.0.1", "no device").code, "host-error");
    }

    #[test]
    fn what_may_pass_must_be_found_twice() {
        let finding = |subject: &str| cluster::AGENT_LOST.finding("a", "b").about(subject);
        let passing = Found::passing(finding("1"));
        assert!(!passing.lasts(&[]));
        assert!(!passing.lasts(&[Found::lasting(finding("2"))]));
        assert!(passing.lasts(std::slice::from_ref(&passing)));
        assert!(Found::lasting(finding("1")).lasts(&[]));
    }
}
