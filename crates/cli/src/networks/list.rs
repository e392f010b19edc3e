//! List of all overlay networks.

use std::io;

use overlay_core::util::line::one_line;
use schemars::JsonSchema;
use serde::Serialize;

use crate::answers::{Capacity, Overlay, OverlayInfo, Overlays};
use crate::finding::Finding;
use crate::output::Report;
use crate::output::page::{self, Page, bar, styled};

/// Headings of the table, and the columns that are aligned at the right.
const HEADINGS: &[&str] = &[
    "NETWORK", "STATE", "SOURCE", "RANGE", "PREFIX", "AGENTS", "SUBNETS", "USED", "",
];
const RIGHT: &[usize] = &[4, 5, 6, 7];

/// All overlay networks.
#[derive(Debug, Serialize, JsonSchema)]
pub struct List {
    /// Overlays, by name.
    pub networks: Vec<Overlay>,
    /// Number of changes by operators since the log was created.
    pub revision: u64,
}

impl List {
    /// Creates the list.
    pub fn new(overlays: &Overlays) -> List {
        List {
            networks: overlays.overlays.clone(),
            revision: overlays.revision,
        }
    }
}

impl Report for List {
    const COMMAND: &'static str = "networks list";
    const EXAMINES: bool = false;

    fn findings(&self) -> &[Finding] {
        &[]
    }

    fn write(&self, page: &mut Page<'_>) -> io::Result<()> {
        if self.networks.is_empty() {
            return page.line("There are no networks; add one with mesos-overlay networks add.");
        }
        page.table(HEADINGS, RIGHT, self.networks.iter().flat_map(rows))
    }
}

/// Returns the rows of an overlay: one for each family that it has.
pub fn rows(overlay: &Overlay) -> Vec<Vec<String>> {
    let families = families(overlay.info.as_ref(), overlay.agent_subnets);
    let first = [
        one_line(&overlay.name, 64).into_owned(),
        state(overlay),
        one_line(&overlay.source, 16).into_owned(),
    ];
    let agents = overlay.agents.to_string();
    let empty = std::array::from_fn(|_| String::new());
    let row = |(index, family): (usize, Family)| {
        let (names, agents) = match index {
            0 => (first.clone(), agents.clone()),
            _ => (empty.clone(), String::new()),
        };
        let mut row = names.to_vec();
        row.extend([
            family.range,
            family.prefix,
            agents,
            family.total,
            family.used,
            family.bar,
        ]);
        row
    };
    families.into_iter().enumerate().map(row).collect()
}

/// Range of one family, as text.
#[derive(Default)]
struct Family {
    range: String,
    prefix: String,
    total: String,
    used: String,
    bar: String,
}

impl Family {
    fn new(
        range: impl ToString,
        prefix: Option<u8>,
        total: Option<u128>,
        used: Option<u128>,
    ) -> Family {
        let text = |number: Option<u128>| number.map_or(String::new(), |number| number.to_string());
        Family {
            range: range.to_string(),
            prefix: prefix.map_or(String::new(), |prefix| format!("/{prefix}")),
            total: text(total),
            used: text(used),
            bar: total
                .zip(used)
                .map_or(String::new(), |(total, used)| bar(used, total)),
        }
    }
}

/// Returns the families of an overlay, at least one.
fn families(info: Option<&OverlayInfo>, capacity: Option<Capacity>) -> Vec<Family> {
    let capacity = capacity.unwrap_or_default();
    let v4 = info.and_then(|info| Some((info.subnet?, info.prefix)));
    let v6 = info.and_then(|info| Some((info.subnet6?, info.prefix6)));
    let v4 = v4.map(|(range, prefix)| Family::new(range, prefix, capacity.total, capacity.used));
    let v6 = v6.map(|(range, prefix)| Family::new(range, prefix, capacity.total6, capacity.used6));
    let mut families: Vec<Family> = v4.into_iter().chain(v6).collect();
    if families.is_empty() {
        families.push(Family::default());
    }
    families
}

/// Returns the state of an overlay, in the style of its meaning.
pub fn state(overlay: &Overlay) -> String {
    let state = one_line(&overlay.state, 16).into_owned();
    match overlay.state.as_str() {
        "active" => styled(page::GOOD, state),
        "disabled" | "removed" => styled(page::DIM, state),
        "left_out" => styled(page::ERROR, state),
        _ => styled(page::WARNING, state),
    }
}
