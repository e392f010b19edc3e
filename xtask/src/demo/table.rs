//! Table of tasks with their agents, addresses and times of round trips.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use super::tasks::Task;

/// Round trips per pair of tasks; the table shows the median.
const ROUND_TRIPS: usize = 100;

/// Median times of round trips in microseconds, by the indexes of two tasks.
pub type RoundTrips = BTreeMap<(usize, usize), u64>;

/// Limit of tasks in the columns, so that the table fits on a screen.
const MAX_COLUMNS: usize = 10;

/// Measures round trips from every task to every other one (to the first ten if there are more).
///
/// # Errors
/// A task cannot reach another one, or is seen under an address that is not its own.
pub fn measure(tasks: &[Task]) -> Result<RoundTrips> {
    let mut reach = RoundTrips::new();
    for (from, task) in tasks.iter().enumerate() {
        let others = tasks
            .iter()
            .enumerate()
            .take(MAX_COLUMNS)
            .filter(|(to, _)| *to != from);
        for (to, other) in others {
            let unreachable = || format!("{} cannot reach {}", task.name, other.name);
            let ping = task
                .client
                .ping(other.address, ROUND_TRIPS)
                .with_context(unreachable)?;
            let own = task.address.ip();
            // On loopback the kernel uses 127.0.0.1 as source of unbound sockets.
            ensure!(
                own.is_loopback() || ping.seen_as == own.to_string(),
                "{} sees {} as {}, but it is {own}",
                other.name,
                task.name,
                ping.seen_as,
            );
            reach.insert((from, to), ping.median_us);
        }
    }
    Ok(reach)
}

/// Formats the table.
pub fn render(tasks: &[Task], reach: &RoundTrips) -> String {
    let mut rows = vec![vec!["task".to_owned(), "agent".to_owned(), "IP".to_owned()]];
    let shown = tasks.len().min(MAX_COLUMNS);
    rows[0].extend(tasks[..shown].iter().map(|task| format!("→ {}", task.name)));
    for (from, task) in tasks.iter().enumerate() {
        let mut row = vec![
            task.name.clone(),
            task.agent.clone(),
            task.address.ip().to_string(),
        ];
        row.extend((0..shown).map(|to| {
            reach
                .get(&(from, to))
                .map_or("–".into(), |us| format!("{us} µs"))
        }));
        rows.push(row);
    }
    let columns = rows[0].len();
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            text += &match column {
                0..3 => format!("{cell:<width$}  "),
                _ => format!("{cell:>width$}  "),
            };
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text + "(median time of a TCP round trip between the tasks)\n"
}
