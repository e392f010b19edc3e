//! What a pass would do, without doing it.

use overlay_core::host_api::desired::Desired;

use crate::reconciler;

/// What a pass would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preview {
    /// The operations, one line each.
    pub operations: Vec<String>,
    /// What stays because containers use it, one sentence each.
    pub draining: Vec<String>,
    /// What cannot be read or made right, one sentence each.
    pub problems: Vec<String>,
}

/// What [`crate::make_right`] would do with the host, in the network namespace of
/// the calling thread.
pub fn preview(desired: &Desired) -> Preview {
    reconciler::preview(desired)
}
