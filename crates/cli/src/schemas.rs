//! Schemas of the JSON output, one for each command that reports something.

use schemars::{Schema, schema_for};

use crate::output::{Document, Report};

/// Returns the names of commands and the schemas of their output. docs/schemas has them.
pub fn all() -> Vec<(&'static str, Schema)> {
    vec![entry::<crate::config::Conversion>()]
}

/// Returns the name of a command and the schema of its output.
fn entry<R: Report + 'static>() -> (&'static str, Schema) {
    (R::COMMAND, schema_for!(Document<'static, R>))
}
