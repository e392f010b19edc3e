//! The table: task, agent, address, and how long a round trip to each other takes.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};

use super::tasks::Task;

/// Round trips per way; the median is shown.
const ROUND_TRIPS: usize = 100;

/// Microseconds from a task (its index) to another.
pub type Reach = BTreeMap<(usize, usize), u64>;

/// A table has so many columns at most; more do not fit on a screen.
const MAX_COLUMNS: usize = 10;

/// Lets every task reach every other one (of many tasks: the first ten). Each must see
/// the other's own address, not one of some host on the way.
pub fn measure(tasks: &[Task]) -> Result<Reach> {
    let mut reach = Reach::new();
    for (from, task) in tasks.iter().enumerate() {
        let others = tasks
            .iter()
            .enumerate()
            .take(MAX_COLUMNS)
            .filter(|(to, _)| *to != from);
        for (to, other) in others {
            let way = || format!("{} does not reach {}", task.name, other.name);
            let ping = task
                .client
                .ping(other.address, ROUND_TRIPS)
                .with_context(way)?;
            let own = task.address.ip();
            // On loopback the kernel takes 127.0.0.1 for whatever is not bound.
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

/// The table as text.
pub fn render(tasks: &[Task], reach: &Reach) -> String {
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
