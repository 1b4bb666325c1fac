//! Traces: where they go, in which form, and which of them. Never a secret, a token or a full path.
//!
//! Always: a trace never waits for whoever reads standard error; the filter can be changed while the node runs.

mod lossy;

use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, LogFormat};

use lossy::Lossy;

/// The traces of this process. Dropped, it waits a moment for what was traced to be written.
pub(crate) struct Traces {
    /// `None` when something else receives the traces.
    change: Option<Box<dyn Fn(EnvFilter) -> bool + Send + Sync>>,
    writer: Lossy,
}

impl Traces {
    /// Sends traces to standard error from now on. Does nothing when something already receives them (a test, say).
    pub(crate) fn start(config: &LogConfig) -> Traces {
        let writer = Lossy::to_standard_error();
        let builder = tracing_subscriber::fmt().with_writer(writer.clone()).with_ansi(false);
        let filter = filter(&config.filter);
        let change: Option<Box<dyn Fn(EnvFilter) -> bool + Send + Sync>> = match config.format {
            LogFormat::Text => {
                let builder = builder.with_env_filter(filter).with_filter_reloading();
                let handle = builder.reload_handle();
                builder.try_init().is_ok().then(|| Box::new(move |filter| handle.reload(filter).is_ok()) as _)
            }
            LogFormat::Json => {
                let builder = builder.json().with_env_filter(filter).with_filter_reloading();
                let handle = builder.reload_handle();
                builder.try_init().is_ok().then(|| Box::new(move |filter| handle.reload(filter).is_ok()) as _)
            }
        };
        if change.is_none() {
            tracing::debug!("traces are received by someone else already");
        }
        Traces { change, writer }
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
