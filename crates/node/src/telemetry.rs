//! Traces: where they go and in which form. Never a secret, a token or a full path.

use std::io;

use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, LogFormat};

/// Sends traces to standard error from now on. Does nothing when something already receives them (a test, say).
pub(crate) fn start(config: &LogConfig) {
    // Openraft tells each step at "info" and each lost call at "warn"; who wants that names it in the filter.
    let filter_text = if config.filter.contains("openraft") { config.filter.clone() } else { format!("{},openraft=error", config.filter) };
    // The configuration has checked the filter; a newer syntax in the environment must not stop a node.
    let filter = EnvFilter::try_new(&filter_text).unwrap_or_else(|_| EnvFilter::new(crate::config::LOG_FILTER_DEFAULT));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(false);
    let started = match config.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    if started.is_err() {
        tracing::debug!("traces are received by someone else already");
    }
}
