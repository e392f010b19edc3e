//! Waiting for a condition, with a deadline.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

/// Calls `ask` until it returns a value.
///
/// # Errors
/// No value within `limit`; the error contains `what` and the last error of `ask`.
pub fn until<T>(
    what: &str,
    limit: Duration,
    mut ask: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(2);
    loop {
        let why = match ask() {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        if start.elapsed() >= limit {
            let text = format!(
                "timeout after {:.1} s while waiting for {what}",
                limit.as_secs_f64()
            );
            return Err(why.map_or_else(|| anyhow!("{text}"), |error| error.context(text.clone())));
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_the_first_value() {
        let mut asked = 0;
        let answer = until("three", Duration::from_secs(5), || {
            asked += 1;
            Ok((asked == 3).then_some(asked))
        });
        assert_eq!(answer.unwrap(), 3);
    }

    #[test]
    fn the_error_names_condition_and_cause() {
        let nothing = until::<()>("rain", Duration::ZERO, || Err(anyhow!("no clouds")));
        assert_eq!(
            format!("{:#}", nothing.unwrap_err()),
            "timeout after 0.0 s while waiting for rain: no clouds"
        );
    }
}
