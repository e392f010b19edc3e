//! Waiting for something to become true, with a deadline and never longer than
//! it takes. The only place in the test bed that sleeps.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

/// Asks until there is an answer; after `limit` the last reason why there is none
/// becomes the error, together with `what` was waited for.
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
            let text = format!("waited {:.1} s for {what} in vain", limit.as_secs_f64());
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
    fn gives_the_answer_when_there_is_one() {
        let mut asked = 0;
        let answer = until("three", Duration::from_secs(5), || {
            asked += 1;
            Ok((asked == 3).then_some(asked))
        });
        assert_eq!(answer.unwrap(), 3);
    }

    #[test]
    fn says_what_it_waited_for_and_why() {
        let nothing = until::<()>("rain", Duration::ZERO, || Err(anyhow!("no clouds")));
        assert_eq!(
            format!("{:#}", nothing.unwrap_err()),
            "waited 0.0 s for rain in vain: no clouds"
        );
    }
}
