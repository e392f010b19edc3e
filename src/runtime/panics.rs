//! Panics as values.

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

/// A caught panic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Panic {
    /// What it said.
    pub message: String,
    /// Where: `file:line:column`.
    pub place: String,
}

impl fmt::Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "panicked at {}: {}", self.place, self.message)
    }
}

thread_local! {
    /// How many [`catch`]es this thread is in, and the place of the last panic
    /// in them.
    static CATCHING: RefCell<(u32, Option<String>)> = const { RefCell::new((0, None)) };
}

/// Runs `f`; a panic in it is returned instead of going on.
///
/// What `f` changed half-way stays so: the caller must throw away or repair what
/// it lent to `f`.
pub fn catch<R>(f: impl FnOnce() -> R) -> Result<R, Panic> {
    note_places();
    CATCHING.with_borrow_mut(|(depth, _)| *depth += 1);
    let result = panic::catch_unwind(AssertUnwindSafe(f));
    let place = CATCHING.with_borrow_mut(|(depth, place)| {
        *depth -= 1;
        place.take()
    });
    result.map_err(|payload| {
        let message = text(payload.as_ref());
        // A payload may be anything; one whose drop panics is leaked.
        if let Err(again) = panic::catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            std::mem::forget(again);
        }
        Panic {
            message,
            place: place.unwrap_or_else(|| "an unknown place".to_owned()),
        }
    })
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

/// The place is known to the panic hook only. Ours remembers it for [`catch`] and
/// says nothing; other panics go the way they always went.
fn note_places() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let ours = CATCHING.with_borrow_mut(|(depth, place)| {
                *place = info.location().map(ToString::to_string);
                *depth > 0
            });
            if !ours {
                previous(info);
            }
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_and_where() {
        let line = line!() + 1;
        let caught = catch(|| panic!("no {}", "way")).unwrap_err();
        assert_eq!(caught.message, "no way");
        assert!(
            caught.place.starts_with(&format!("{}:{line}:", file!())),
            "{}",
            caught.place
        );
    }

    #[test]
    fn takes_any_payload() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("and the payload's drop too");
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
    }
}
