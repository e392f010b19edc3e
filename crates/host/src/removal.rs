//! Reconciliation on behalf of an operator, which returns the applied operations.

use overlay_core::host_api::desired::Desired;
use overlay_core::host_api::problem::Problem;

use crate::operation::{Operation, Tense};
use crate::reconciler::{preview, reconcile_with_failures};

/// Result of [`reconcile_and_verify`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Operations that were applied.
    pub applied: Vec<Operation>,
    /// Parts of the host that cannot be read or cannot be made as desired, one sentence each.
    pub problems: Vec<String>,
    /// Overlays whose removal waits for their containers, one sentence each.
    pub draining: Vec<String>,
}

/// Makes the host match `desired` once, in the network namespace of the calling thread, and
/// checks that it does. An operation that is necessary again although it did not fail is a
/// problem: another program works against it.
pub fn reconcile_and_verify(desired: &Desired) -> Outcome {
    let before = preview(desired).operations;
    let (report, failed) = reconcile_with_failures(desired);
    let after = preview(desired);
    let mut outcome = Outcome {
        applied: Vec::new(),
        problems: Problem::texts(&report.host),
        draining: after.draining,
    };
    let is_remaining = |operation: &Operation| after.operations.contains(operation);
    outcome.applied = before
        .into_iter()
        .filter(|operation| !is_remaining(operation))
        .collect();
    outcome.problems.extend(undone(&after.operations, &failed));
    outcome
}

/// Returns a sentence for each remaining operation that did not fail.
fn undone(remaining: &[Operation], failed: &[Operation]) -> Vec<String> {
    remaining
        .iter()
        .filter(|operation| !failed.contains(operation))
        .map(|operation| {
            format!(
                "cannot {}: another program has undone it; is the Mesos agent still running?",
                operation.describe(Tense::Infinitive)
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::{ObjectKind, Verb};

    /// Many operations can fail for one reason, of which the report names only a few.
    #[test]
    fn remaining_operations_were_undone_unless_they_failed() {
        let remove = |name: &str| {
            let object = format_args!("device {name}");
            Operation::new(Verb::Remove, ObjectKind::Bridge, object)
        };
        let remaining = ["m-a", "m-ab", "m-b"].map(remove);
        assert_eq!(
            undone(&remaining, &["m-ab", "m-b"].map(remove)),
            [
                "cannot remove device m-a: another program has undone it; is the Mesos agent still \
                 running?"
            ]
        );
        assert_eq!(undone(&remaining, &remaining), [""; 0]);
    }
}
