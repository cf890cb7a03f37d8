//! Panics become one line of the log each.
//!
//! A library has a standard library of its own, with a panic hook of its own, which writes several lines to the standard
//! error stream of whoever loaded it. [`report`] sets another one. A panic within a call of the ABI is told by who catches it.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::Once;
use std::thread;

/// Name of the threads of a plugin's runtime.
pub const PLUGIN_THREAD: &str = "plugin";

thread_local! {
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Which panics [`report`] tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// Those of every thread.
    All,
    /// Those of threads without a name and of [`PLUGIN_THREAD`]: others belong to whoever linked the plugin, a test for instance.
    Plugin,
}

/// Has panics told by `tell`, in one line each, from now on; only the first call in a library does something.
pub fn report(threads: Threads, tell: impl Fn(&str) + Send + Sync + 'static) {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let caught = CAUGHT.try_with(Cell::get).unwrap_or(false);
            let current = thread::current();
            let ours = threads == Threads::All || current.name().is_none_or(|name| name == PLUGIN_THREAD);
            if caught {
                let _ = PLACE.try_with(|place| *place.borrow_mut() = place_of(info));
            } else if ours {
                let thread = current.name().unwrap_or("without a name");
                tell(&format!(
                    "panic in thread {thread} at {}: {}",
                    place_of(info),
                    one_line(&text(info.payload()))
                ));
            } else {
                before(info);
            }
        }));
    });
}

/// Runs `call`; the `Err` of a panic is its text and place in one line.
pub(crate) fn catch<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    let nested = CAUGHT.replace(true);
    let result = catch_unwind(AssertUnwindSafe(call));
    CAUGHT.set(nested);
    result.map_err(|panic| {
        // `&panic` would be the box itself as `dyn Any`, whose text is never found.
        let text = one_line(&text(&*panic));
        // The payload's own drop may panic: leak it instead.
        std::mem::forget(panic);
        match PLACE.take() {
            place if place.is_empty() => text,
            place => format!("{text} ({place})"),
        }
    })
}

/// The text of a panic.
pub fn text(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panic without a text".to_owned())
}

fn place_of(info: &PanicHookInfo<'_>) -> String {
    info.location().map_or_else(|| "an unknown place".to_owned(), |at| format!("{}:{}", at.file(), at.line()))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(400).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn each_panic_is_told_once_in_one_line() {
        let (sender, lines) = mpsc::channel();
        report(Threads::Plugin, move |line| drop(sender.send(line.to_owned())));
        // A thread without a name is the plugin's own.
        assert!(thread::spawn(|| panic!("one\n  two")).join().is_err());
        let line = lines.recv().unwrap();
        assert!(line.starts_with("panic in thread without a name at plugin-api/src/panic.rs:"), "{line}");
        assert!(line.ends_with(": one two"), "{line}");
        // Who catches it tells it, with its place.
        let caught = catch(|| panic!("three")).unwrap_err();
        assert!(caught.starts_with("three (plugin-api/src/panic.rs:"), "{caught}");
        assert_eq!(catch(|| 4), Ok(4));
        assert!(lines.try_recv().is_err());
    }
}
