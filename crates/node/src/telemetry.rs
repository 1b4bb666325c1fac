//! Traces: where they go, in which form, and which of them. Never a secret, a token or a full path.
//!
//! Always: a trace never waits for whoever reads standard error; the filter can be changed while the node runs.

mod lossy;
mod monitor;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use crate::config::{LogConfig, LogFormat};

use lossy::Lossy;
pub(crate) use monitor::Monitor;

/// The traces of this process. Dropped, it waits a moment for what was traced to be written.
pub(crate) struct Traces {
    /// `None` when something else receives the traces.
    change: Option<Box<dyn Fn(EnvFilter) -> bool + Send + Sync>>,
    writer: Lossy,
    monitor: Monitor,
}

impl Traces {
    /// Sends traces to standard error from now on. Does nothing when something already receives them (a test, say).
    pub(crate) fn start(config: &LogConfig) -> Traces {
        let writer = Lossy::to_standard_error();
        let monitor = Monitor::default();
        let (written, change_written) = reload::Layer::new(filter(&config.filter));
        let (followed, change_followed) = reload::Layer::new(monitor::sources(LevelFilter::OFF));
        let layer = tracing_subscriber::fmt::layer().with_writer(writer.clone()).with_ansi(false);
        let layer: Box<dyn Layer<Registry> + Send + Sync> = match config.format {
            LogFormat::Text => layer.boxed(),
            LogFormat::Json => layer.json().boxed(),
        };
        let layers = tracing_subscriber::registry().with(layer.with_filter(written)).with(monitor.clone().with_filter(followed));
        let change: Option<Box<dyn Fn(EnvFilter) -> bool + Send + Sync>> = if layers.try_init().is_ok() {
            monitor.wants_by(Box::new(move |wanted| drop(change_followed.reload(wanted))));
            Some(Box::new(move |filter| change_written.reload(filter).is_ok()))
        } else {
            tracing::debug!("traces are received by someone else already");
            None
        };
        Traces { change, writer, monitor }
    }

    /// Where the traces can be followed.
    pub(crate) fn monitor(&self) -> Monitor {
        self.monitor.clone()
    }

    /// Changes which traces are written. The text was checked with the configuration.
    pub(crate) fn set_filter(&self, text: &str) {
        if let Some(change) = &self.change
            && !change(filter(text))
        {
            tracing::error!("the filter of traces cannot be changed");
        }
    }

    /// Lines that were not written, as nobody read standard error in time.
    pub(crate) fn lost(&self) -> impl Fn() -> u64 + Send + Sync + use<> {
        let writer = self.writer.clone();
        move || writer.lost()
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        self.writer.flush();
    }
}

fn filter(text: &str) -> EnvFilter {
    // Openraft tells each step at "info" and each lost call at "warn"; who wants that names it in the filter.
    let text = if text.contains("openraft") { text.to_owned() } else { format!("{text},openraft=error") };
    // The configuration has checked the filter; a newer syntax must not stop a node.
    EnvFilter::try_new(&text).unwrap_or_else(|_| EnvFilter::new(crate::config::LOG_FILTER_DEFAULT))
}
