//! What the library says through `tracing` while something runs.

use std::{
    fmt::{Debug, Write},
    sync::{Arc, Mutex},
};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};

/// Runs something on this thread, and gives the events that it reported as worth a user's attention.
pub fn of<T>(run: impl FnOnce() -> T) -> (T, String) {
    let lines = Arc::new(Mutex::new(String::new()));
    let done = tracing::subscriber::with_default(Listener(lines.clone()), run);
    let lines = lines.lock().unwrap().clone();
    (done, lines)
}

struct Listener(Arc<Mutex<String>>);

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO && metadata.target().starts_with("deepseek_ocr")
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(format!("{}:", event.metadata().level()));
        event.record(&mut line);
        self.0.lock().unwrap().push_str(&(line.0 + "\n"));
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {field}={value:?}").unwrap();
    }
}
