//! Catching panics, with the place where they happened.

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{self, AssertUnwindSafe};
use std::pin::pin;
use std::sync::Once;
use std::task::Poll;

/// A caught panic. Prints as `panicked at <location>: <message>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Panic {
    /// Message of the panic; `(no message)` if its payload is no text.
    pub message: String,
    /// Location of the panic in the source: `file:line:column`.
    pub location: String,
}

impl fmt::Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "panicked at {}: {}", self.location, self.message)
    }
}

/// State of a thread for the panic hook.
struct Catching {
    /// Number of [`catch`] calls that the thread is in.
    depth: u32,
    /// Location of the thread's last panic.
    location: Option<String>,
}

thread_local! {
    static CATCHING: RefCell<Catching> = const {
        RefCell::new(Catching { depth: 0, location: None })
    };
}

/// Runs `f` and returns a panic in it as an error.
///
/// Changes that `f` made before it panicked stay: the caller must discard or repair
/// whatever it lent to `f`.
pub fn catch<R>(f: impl FnOnce() -> R) -> Result<R, Panic> {
    install_hook();
    CATCHING.with_borrow_mut(|catching| catching.depth += 1);
    let result = panic::catch_unwind(AssertUnwindSafe(f));
    let location = CATCHING.with_borrow_mut(|catching| {
        catching.depth -= 1;
        catching.location.take()
    });
    result.map_err(|payload| {
        let message = text(payload.as_ref());
        // A payload of any type may panic in its destructor. Such a payload is leaked.
        if let Err(again) = panic::catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            std::mem::forget(again);
        }
        Panic {
            message,
            location: location.unwrap_or_else(|| "an unknown location".to_owned()),
        }
    })
}

/// Runs `future` to its end and returns a panic in it as an error. See [`catch`].
pub async fn catch_async<F: Future>(future: F) -> Result<F::Output, Panic> {
    let mut future = pin!(future);
    poll_fn(
        |context| match catch(|| future.as_mut().poll(&mut *context)) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        },
    )
    .await
}

fn text(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "(no message)".to_owned()
    }
}

/// Installs a panic hook, once in the process. Only a hook is told the location of a
/// panic: ours stores it for [`catch`]. Panics outside of [`catch`] go to the previous
/// hook.
fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let is_caught = CATCHING.with_borrow_mut(|catching| {
                catching.location = info.location().map(ToString::to_string);
                catching.depth > 0
            });
            if !is_caught {
                previous(info);
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_message_and_location() {
        let line = line!() + 1;
        let caught = catch(|| panic!("no way")).unwrap_err();
        assert_eq!(caught.message, "no way");
        assert!(
            caught.location.starts_with(&format!("{}:{line}:", file!())),
            "{}",
            caught.location
        );
    }

    #[test]
    fn returns_a_message_that_is_known_at_run_time_only() {
        let count = std::hint::black_box(7);
        let caught = catch(|| panic!("no {count}")).unwrap_err();
        assert_eq!(caught.message, "no 7");
    }

    #[test]
    fn catches_any_payload() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("and the payload's destructor too");
            }
        }
        let caught = catch(|| panic::panic_any(Bomb)).unwrap_err();
        assert_eq!(caught.message, "(no message)");
    }

    #[test]
    fn nests() {
        let inner = catch(|| {
            let inner = catch(|| panic!("inner")).unwrap_err();
            assert_eq!(inner.message, "inner");
            panic!("outer");
        });
        assert_eq!(inner.unwrap_err().message, "outer");
        assert_eq!(catch(|| 5), Ok(5));
        let outside = CATCHING.with_borrow(|catching| (catching.depth, catching.location.clone()));
        assert_eq!(outside, (0, None), "later panics are not caught here");
    }

    #[test]
    fn catches_a_panic_of_a_future_after_it_waited() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let mut line = 0;
        let caught = runtime.block_on(catch_async(async {
            tokio::task::yield_now().await;
            line = line!() + 1;
            panic!("later");
        }));
        let caught = caught.unwrap_err();
        assert_eq!(caught.message, "later");
        let location = format!("{}:{line}:", file!());
        assert!(caught.location.starts_with(&location), "{caught}");
        assert_eq!(runtime.block_on(catch_async(async { 5 })), Ok(5));
    }
}
