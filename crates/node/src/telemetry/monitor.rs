//! [`Monitor`]: the traces for who follows them over the API, as they come.
//!
//! Always: whoever traces never waits; a follower that does not read in time misses lines, and is told how many; only our own
//! crates' traces are shown, which hold no secret at any level. Costs nothing while nobody follows.

use std::fmt::Write as _;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use serde_json::{Map, Value};
use service::{TraceFormat, TraceLevel};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context as LayerContext, Layer};

/// Who may follow at once.
const FOLLOWERS_MAX: usize = 16;
/// Lines that may wait for a follower.
const LINES_MAX: usize = 512;
/// The longest text of a field; the rest of it is cut off.
const TEXT_BYTES_MAX: usize = 4096;
/// Whose traces are shown: dependencies may trace what they carry.
const SOURCES: [&str; 8] = ["barrier", "cli", "crypto", "engine", "node", "raft", "service", "storage"];

/// Where followers are. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Monitor(Arc<Shared>);

#[derive(Default)]
struct Shared {
    followers: Mutex<Vec<Follower>>,
    /// Says which traces are wanted; unset while something else receives the traces.
    want: OnceLock<Box<dyn Fn(Targets) + Send + Sync>>,
}

struct Follower {
    id: u64,
    level: Level,
    format: TraceFormat,
    lines: Sender<Bytes>,
    missed: u64,
}

impl Monitor {
    /// `want` changes what this layer is told of.
    pub(super) fn wants_by(&self, want: Box<dyn Fn(Targets) + Send + Sync>) {
        // Only the first is that of this process.
        let _ = self.0.want.set(want);
    }

    /// The traces from now on: until [`Monitor::close`], or until the stream is dropped. `None`: too many follow already, or nobody can.
    pub(crate) fn follow(&self, level: TraceLevel, format: TraceFormat) -> Option<Following> {
        self.0.want.get()?;
        let (lines, received) = channel(LINES_MAX);
        let id = {
            let mut followers = self.followers();
            if followers.len() >= FOLLOWERS_MAX {
                return None;
            }
            let id = followers.last().map_or(0, |last| last.id + 1);
            followers.push(Follower { id, level: level_of(level), format, lines, missed: 0 });
            id
        };
        self.want();
        Some(Following { monitor: self.clone(), id, received })
    }

    /// Ends everybody's stream.
    pub(crate) fn close(&self) {
        self.followers().clear();
        self.want();
    }

    fn followers(&self) -> MutexGuard<'_, Vec<Follower>> {
        self.0.followers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self, id: u64) {
        self.followers().retain(|follower| follower.id != id);
        self.want();
    }

    /// As detailed as the one who wants the most.
    fn want(&self) {
        let level = self.followers().iter().map(|follower| LevelFilter::from_level(follower.level)).max().unwrap_or(LevelFilter::OFF);
        if let Some(want) = self.0.want.get() {
            want(sources(level));
        }
    }
}

/// Nothing but our own, down to `level`.
pub(super) fn sources(level: LevelFilter) -> Targets {
    Targets::new().with_default(LevelFilter::OFF).with_targets(SOURCES.map(|source| (source, level)))
}

fn level_of(level: TraceLevel) -> Level {
    match level {
        TraceLevel::Trace => Level::TRACE,
        TraceLevel::Debug => Level::DEBUG,
        TraceLevel::Info => Level::INFO,
        TraceLevel::Warn => Level::WARN,
        TraceLevel::Error => Level::ERROR,
    }
}

/// A follower's stream of lines.
pub(crate) struct Following {
    monitor: Monitor,
    id: u64,
    received: Receiver<Bytes>,
}

impl Stream for Following {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.received.poll_recv(context).map(|line| line.map(Ok))
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.monitor.forget(self.id);
    }
}

impl<S: Subscriber> Layer<S> for Monitor {
    fn on_event(&self, event: &Event<'_>, _context: LayerContext<'_, S>) {
        let metadata = event.metadata();
        let mut line = None;
        for follower in self.followers().iter_mut().filter(|follower| *metadata.level() <= follower.level) {
            let line = line.get_or_insert_with(|| Line::of(event));
            let mut text = line.render(follower.format);
            if follower.missed > 0 {
                text = format!("{}{text}", Line::missed(follower.missed).render(follower.format));
            }
            // Nothing may be traced in here.
            match follower.lines.try_send(Bytes::from(text)) {
                Ok(()) => follower.missed = 0,
                Err(_) => follower.missed += 1,
            }
        }
    }
}

/// An event, ready to be written in either form.
struct Line {
    time: String,
    level: Level,
    target: String,
    message: String,
    fields: Map<String, Value>,
}

impl Line {
    fn of(event: &Event<'_>) -> Line {
        let metadata = event.metadata();
        let mut line = Line::new(*metadata.level(), metadata.target());
        event.record(&mut line);
        line
    }

    fn missed(count: u64) -> Line {
        let mut line = Line::new(Level::WARN, "node::telemetry");
        line.message = format!("{count} lines were not read in time, and are lost");
        line
    }

    fn new(level: Level, target: &str) -> Line {
        use types::Clock as _;
        let time = crate::facts::rfc3339(types::SystemClock.now());
        Line { time, level, target: target.to_owned(), message: String::new(), fields: Map::new() }
    }

    /// As Vault writes them: `2026-11-24T16:38:47.581Z [INFO]  core: message: name=value`, or an object.
    fn render(&self, format: TraceFormat) -> String {
        let level = self.level.as_str();
        match format {
            TraceFormat::Standard => {
                let mut text = format!("{} {:<7} {}: {}", self.time, format!("[{level}]"), self.target, self.message);
                let mut separator = ": ";
                for (name, value) in &self.fields {
                    write!(text, "{separator}{name}={value}").expect("writing to a String cannot fail");
                    separator = " ";
                }
                text.push('\n');
                text
            }
            TraceFormat::Json => {
                let mut object = Map::new();
                let own = [("@level", level.to_lowercase()), ("@message", self.message.clone())];
                object.extend(own.map(|(name, value)| (name.to_owned(), value.into())));
                let own = [("@module", self.target.clone()), ("@timestamp", self.time.clone())];
                object.extend(own.map(|(name, value)| (name.to_owned(), value.into())));
                object.extend(self.fields.clone());
                format!("{}\n", Value::Object(object))
            }
        }
    }

    fn keep(&mut self, field: &Field, value: Value) {
        match value {
            Value::String(text) if field.name() == "message" => self.message = cut(text),
            Value::String(text) => drop(self.fields.insert(field.name().to_owned(), cut(text).into())),
            other => drop(self.fields.insert(field.name().to_owned(), other)),
        }
    }
}

/// At most [`TEXT_BYTES_MAX`] of it, whole characters.
fn cut(mut text: String) -> String {
    if text.len() > TEXT_BYTES_MAX {
        text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
        text.push('…');
    }
    text
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.keep(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.keep(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.keep(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.keep(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.keep(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.keep(field, value.into());
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::reload;

    use super::*;

    /// A monitor, and the subscriber that feeds it.
    fn monitored() -> (Monitor, impl Subscriber + Send + Sync) {
        let monitor = Monitor::default();
        let (filter, handle) = reload::Layer::new(sources(LevelFilter::OFF));
        monitor.wants_by(Box::new(move |wanted| drop(handle.reload(wanted))));
        let subscriber = tracing_subscriber::registry().with(monitor.clone().with_filter(filter));
        (monitor, subscriber)
    }

    #[tokio::test]
    async fn followers_get_what_they_asked_for_in_the_form_they_asked_for() {
        let (monitor, subscriber) = monitored();
        let mut info = monitor.follow(TraceLevel::Info, TraceFormat::Standard).unwrap();
        let mut debug = monitor.follow(TraceLevel::Debug, TraceFormat::Json).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!(target: "raft::handle", "quiet");
            tracing::info!(target: "h2::codec", "authorization: hvs.CANARY");
            tracing::info!(target: "node::boot", node = %"n1", tries = 3, ok = true, "this node\nknows");
        });
        monitor.close();
        let text = |lines: Vec<io::Result<Bytes>>| {
            lines.into_iter().map(|line| String::from_utf8(line.unwrap().to_vec()).unwrap()).collect::<String>()
        };
        let (info, debug) = (text(info.by_ref().collect().await), text(debug.by_ref().collect().await));
        assert!(
            info.ends_with(" [INFO]  node::boot: this node\nknows: node=\"n1\" tries=3 ok=true\n") && !info.contains("quiet"),
            "{info}"
        );
        let objects: Vec<Value> = debug.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(objects.len(), 2, "{debug}");
        assert_eq!(
            (&objects[0]["@level"], &objects[0]["@message"], &objects[0]["@module"]),
            (&"debug".into(), &"quiet".into(), &"raft::handle".into())
        );
        assert_eq!((&objects[1]["node"], &objects[1]["tries"]), (&"n1".into(), &3.into()));
        assert!(objects[1]["@timestamp"].as_str().unwrap().ends_with('Z'));
    }

    #[tokio::test]
    async fn who_does_not_read_misses_lines_and_stops_nobody() {
        let (monitor, subscriber) = monitored();
        let mut slow = monitor.follow(TraceLevel::Warn, TraceFormat::Standard).unwrap();
        let mut read = 0;
        let mut last = String::new();
        tracing::subscriber::with_default(subscriber, || {
            for _ in 0..LINES_MAX + 7 {
                tracing::warn!(target: "raft", "line");
            }
            while let Ok(line) = slow.received.try_recv() {
                read += 1;
                last = String::from_utf8(line.to_vec()).unwrap();
            }
            assert!(read == LINES_MAX && !last.contains("lost"), "{read} {last}");
            tracing::warn!(target: "raft", "line");
        });
        last = String::from_utf8(slow.next().await.unwrap().unwrap().to_vec()).unwrap();
        assert!(last.contains("7 lines were not read in time") && last.lines().count() == 2, "{last}");
    }

    #[test]
    fn followers_are_bounded_and_forgotten() {
        let monitor = Monitor::default();
        assert!(monitor.follow(TraceLevel::Info, TraceFormat::Json).is_none(), "nothing feeds it");
        let (monitor, _subscriber) = monitored();
        let all: Vec<_> = (0..FOLLOWERS_MAX).map(|_| monitor.follow(TraceLevel::Info, TraceFormat::Json).unwrap()).collect();
        assert!(monitor.follow(TraceLevel::Info, TraceFormat::Json).is_none());
        drop(all);
        assert!(monitor.followers().is_empty() && monitor.follow(TraceLevel::Info, TraceFormat::Json).is_some());
        assert_eq!(cut("é".repeat(TEXT_BYTES_MAX)).len(), TEXT_BYTES_MAX + "…".len());
    }
}
