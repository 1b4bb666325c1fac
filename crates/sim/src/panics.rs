//! Panics of the simulation's thread: a task that panics ends in silence, so its message is caught here.

use std::cell::RefCell;
use std::panic;
use std::sync::Once;

thread_local! {
    static CAUGHT: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

static HOOK: Once = Once::new();

/// From now on, panics of this thread are kept rather than printed.
pub(crate) fn catch() {
    HOOK.call_once(|| {
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let is_kept = CAUGHT.with_borrow_mut(|caught| caught.as_mut().map(|caught| caught.push(info.to_string())).is_some());
            if !is_kept {
                print(info);
            }
        }));
    });
    CAUGHT.set(Some(Vec::new()));
}

/// The first panic of this thread since [`catch`], if there was one.
pub(crate) fn first() -> Option<String> {
    CAUGHT.with_borrow(|caught| caught.as_ref().and_then(|caught| caught.first().cloned()))
}

/// From now on, panics of this thread are printed again.
pub(crate) fn release() {
    CAUGHT.set(None);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_kept_with_its_words() {
        catch();
        assert_eq!(first(), None);
        let result = panic::catch_unwind(|| panic!("out of tune"));
        assert!(result.is_err() && first().is_some_and(|text| text.contains("out of tune")));
        release();
        assert_eq!(first(), None);
    }
}
