//! Facts: what a node tells of itself – metrics, requests under way, the machine it runs on, since when it leads.
//!
//! Always: no fact holds a secret, a token or a path beyond its mount; every metric has a real source. Telling costs a request
//! a few atomic additions and two short locks.
//! Knows nothing of who may ask.

mod certificates;
mod host;
mod in_flight;
mod leading;
pub mod metrics;
mod traffic;

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use serde_json::Value;
use types::{Clock, RequestId, Timestamp};

use crate::config::{Config, StoragePlace};
use crate::http::Remote;
use crate::telemetry::Monitor;

use in_flight::InFlight;
use metrics::{Metrics, Scrape, Summary};
use traffic::Traffic;

pub(crate) use certificates::Certificates;
pub(crate) use leading::{Elections, Leading, follow};

const HOSTNAME_HEADER: HeaderName = HeaderName::from_static("x-vault-hostname");
const NODE_ID_HEADER: HeaderName = HeaderName::from_static("x-vault-raft-node-id");
/// The text format of Prometheus, version 0.0.4.
const PROMETHEUS_MEDIA_TYPE: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Marks an answer that was given without the service: it counts as no request to it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WithoutService;

/// What a node tells of itself.
pub struct Facts {
    /// The version that clients are told.
    api_version: String,
    /// As `sys/seal-status` names it.
    storage_type: &'static str,
    prometheus: bool,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// As `sys/config/state/sanitized` shows it.
    configuration: Value,
    started: Timestamp,
    clock: Arc<dyn Clock>,
    leading: Leading,
    in_flight: InFlight,
    metrics: Metrics,
    requests: Summary,
    traffic: Traffic,
    monitor: Monitor,
    certificates: Certificates,
}

/// In which form metrics are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricsFormat {
    /// Vault's own JSON.
    Json,
    /// The text format of Prometheus.
    Prometheus,
}

/// Why metrics are not told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetricsError {
    /// The configuration says so.
    #[error("prometheus is not enabled (set telemetry.prometheus_retention_time above 0)")]
    PrometheusOff,
    /// No such format.
    #[error("metric response format {0:?} unknown (ask for \"prometheus\", or for none)")]
    UnknownFormat(String),
}

/// Metrics, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenderedMetrics {
    /// The value of `Content-Type`.
    pub media_type: HeaderValue,
    /// The text.
    pub body: String,
}

impl Facts {
    pub(crate) fn new(config: &Config, clock: Arc<dyn Clock>) -> Facts {
        let hostname = host::name();
        let mut headers = Vec::new();
        if config.node_headers.hostname
            && let Ok(value) = HeaderValue::from_str(&hostname)
        {
            headers.push((HOSTNAME_HEADER, value));
        }
        if config.node_headers.node_id
            && let Ok(value) = HeaderValue::from_str(config.storage.node_id.as_str())
        {
            headers.push((NODE_ID_HEADER, value));
        }
        let metrics = Metrics::default();
        let requests = metrics.summary("vault_core_handle_request", "Time that requests to the service took, in milliseconds.");
        Facts {
            api_version: config.api_version.clone(),
            storage_type: match config.storage.place {
                StoragePlace::Folder { .. } => "raft",
                StoragePlace::Memory => "inmem",
            },
            prometheus: config.telemetry.prometheus,
            headers,
            configuration: config.shown(),
            started: clock.now(),
            clock,
            leading: Leading::default(),
            in_flight: InFlight::default(),
            metrics,
            requests,
            traffic: Traffic::default(),
            monitor: Monitor::default(),
            certificates: Certificates::default(),
        }
    }

    /// The same, with the traces that may be followed.
    pub(crate) fn with_monitor(self, monitor: Monitor) -> Facts {
        Facts { monitor, ..self }
    }

    /// The Vault-like version that clients are told.
    pub fn api_version(&self) -> &str {
        &self.api_version
    }

    /// `raft` or `inmem`.
    pub fn storage_type(&self) -> &'static str {
        self.storage_type
    }

    /// When this process started.
    pub fn started(&self) -> Timestamp {
        self.started
    }

    /// Since when this node leads; `None` while it does not.
    pub fn leading_since(&self) -> Option<Timestamp> {
        self.leading.since()
    }

    pub(crate) fn leading(&self) -> &Leading {
        &self.leading
    }

    /// Of which certificates it tells.
    pub(crate) fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// The registry, to be given further sources.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// All metrics. `format`: the query parameter of that name; `accept`: the header.
    ///
    /// # Errors
    /// See [`MetricsError`].
    pub fn render_metrics(&self, format: Option<&str>, accept: Option<&str>) -> Result<RenderedMetrics, MetricsError> {
        let format = match (format.unwrap_or_default(), accept.unwrap_or_default()) {
            ("prometheus", _) => MetricsFormat::Prometheus,
            ("", accept) if accept.contains("application/openmetrics-text") || accept.contains("prometheus/telemetry") => {
                MetricsFormat::Prometheus
            }
            ("", _) => MetricsFormat::Json,
            (other, _) => return Err(MetricsError::UnknownFormat(other.chars().take(40).collect())),
        };
        if format == MetricsFormat::Prometheus && !self.prometheus {
            return Err(MetricsError::PrometheusOff);
        }
        let now = self.clock.now();
        let mut scrape = self.metrics.scrape();
        scrape.gauge("vault_core_in_flight_requests", "Requests under way.", &[], self.in_flight.count() as f64);
        scrape.gauge("process_start_time_seconds", "When the process started, in seconds since 1970.", &[], self.started.0 as f64 / 1000.0);
        self.traffic.measure(&mut scrape);
        self.certificates.measure(&mut scrape);
        host::measure_process(&mut scrape);
        Ok(match format {
            MetricsFormat::Prometheus => RenderedMetrics { media_type: PROMETHEUS_MEDIA_TYPE, body: scrape.to_prometheus() },
            MetricsFormat::Json => {
                let body = scrape.to_json(&rfc3339(now), now.since(self.started)).to_string();
                RenderedMetrics { media_type: HeaderValue::from_static("application/json"), body }
            }
        })
    }

    /// The machine, as `sys/host-info` shows it. What the system does not tell is left out. Reads a few files of `/proc`.
    pub fn host_info(&self) -> Value {
        host::info(&rfc3339(self.clock.now()))
    }

    /// The requests under way by id, as `sys/in-flight-req` shows them; of a path only what names the mount.
    pub fn in_flight(&self) -> Value {
        self.in_flight.to_json()
    }
}

/// Stands around every request: lists it while it is under way, measures it, and names the node in the answer.
///
/// Leaves the request's id in its extensions.
pub(crate) async fn observe(State(facts): State<Arc<Facts>>, mut request: Request, next: Next) -> Response {
    let id = RequestId::generate();
    let began = Instant::now();
    let remote = request.extensions().get::<Remote>().map(|Remote(address)| *address);
    let _listed = facts.in_flight.enter(id, facts.clock.now(), remote, request.method(), request.uri().path());
    request.extensions_mut().insert(id);
    let mut response = next.run(request).await;
    facts.metrics.answered(response.status());
    if response.extensions().get::<WithoutService>().is_none() {
        facts.requests.record(began.elapsed());
    }
    for (name, value) in &facts.headers {
        response.headers_mut().insert(name, value.clone());
    }
    response
}

/// `GET /v1/sys/metrics` where the listener serves it without a token.
pub(crate) async fn serve_metrics(State(facts): State<Arc<Facts>>, request: Request) -> Response {
    let parameters = request.uri().query().unwrap_or_default().split('&');
    let format = parameters.filter_map(|pair| pair.strip_prefix("format=")).next_back();
    let accept = request.headers().get(http::header::ACCEPT).and_then(|value| value.to_str().ok());
    let (status, media_type, body) = match facts.render_metrics(format, accept) {
        Ok(rendered) => (http::StatusCode::OK, rendered.media_type, rendered.body),
        Err(error) => {
            let body = serde_json::json!({ "errors": [error.to_string()] }).to_string();
            (http::StatusCode::BAD_REQUEST, HeaderValue::from_static("application/json"), body)
        }
    };
    let mut response = Response::new(axum::body::Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, media_type);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.extensions_mut().insert(WithoutService);
    response
}

impl service::Node for Facts {
    fn version(&self) -> String {
        self.api_version.clone()
    }

    fn software(&self) -> service::Software {
        service::Software { version: crate::VERSION.to_owned(), source_date: source_date() }
    }

    fn host_info(&self) -> Value {
        self.host_info()
    }

    fn in_flight(&self) -> Value {
        self.in_flight()
    }

    fn metrics(&self, format: Option<&str>, accept: Option<&str>) -> Result<(String, String), String> {
        let rendered = self.render_metrics(format, accept).map_err(|error| error.to_string())?;
        Ok((rendered.media_type.to_str().unwrap_or("text/plain").to_owned(), rendered.body))
    }

    fn configuration(&self) -> Value {
        self.configuration.clone()
    }

    fn follow_traces(
        &self,
        level: service::TraceLevel,
        format: service::TraceFormat,
    ) -> Option<BoxStream<'static, std::io::Result<bytes::Bytes>>> {
        Some(self.monitor.follow(level, format)?.boxed())
    }

    fn count(&self, counted: service::Counted<'_>) {
        self.traffic.count(counted);
    }

    fn routes(&self) -> Vec<engine::route::Outline> {
        engine::route::outlines(crate::http::SYSTEM_ROUTES)
    }
}

/// When the sources of this build are from: seconds since 1970, where the builder says it (reproducible-builds.org). The time of
/// the build itself is not in it, so that it can be repeated.
const SOURCE_DATE: Option<&str> = option_env!("SOURCE_DATE_EPOCH");

/// As clients read it; empty when the builder did not say.
pub(crate) fn source_date() -> String {
    let seconds = SOURCE_DATE.and_then(|text| text.parse::<u64>().ok());
    seconds.map_or_else(String::new, |seconds| rfc3339(Timestamp(seconds.saturating_mul(1000))))
}

/// As Go writes times. A time after the year 9999 shows as the last one in it.
pub(crate) fn rfc3339(time: Timestamp) -> String {
    let milliseconds = i64::try_from(time.0).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(milliseconds).unwrap_or(jiff::Timestamp::MAX).to_string()
}

/// What the floors below know, at each scrape.
pub(crate) fn measure_node(scrape: &mut Scrape, raft: &raft::Raft, is_open: bool, is_locked: bool, traces_lost: u64) {
    let status = raft.status();
    let leads = status.role == raft::Role::Leader;
    let index = |index: Option<types::Index>| index.map_or(0, |index| index.0);
    let (committed, applied) = (index(status.committed), index(status.applied));
    scrape.gauge("vault_core_unsealed", "1 while the barrier of this node is open.", &[], f64::from(u8::from(is_open)));
    scrape.gauge("vault_core_active", "1 while this node leads.", &[], f64::from(u8::from(leads)));
    scrape.gauge("vault_raft_storage_stats_commit_index", "The newest entry that is committed.", &[], committed as f64);
    scrape.gauge("vault_raft_storage_stats_applied_index", "The newest entry that is applied.", &[], applied as f64);
    let pending = committed.saturating_sub(applied) as f64;
    scrape.gauge("vault_raft_storage_stats_fsm_pending", "Entries that are committed and not applied.", &[], pending);
    scrape.gauge("vault_raft_peers", "Members of the cluster.", &[], status.members.len() as f64);
    scrape.gauge("conclave_raft_term", "Raft's term.", &[], status.term.0 as f64);
    scrape.gauge("conclave_raft_has_leader", "1 while this node knows a leader.", &[], f64::from(u8::from(status.leader.is_some())));
    measure_raft(scrape, &status, &raft.gauges());
    let stats = raft.log_stats();
    scrape.gauge("conclave_log_bytes", "Bytes of the log's segments.", &[], stats.bytes as f64);
    scrape.gauge("conclave_log_segments", "Segments of the log.", &[], stats.segments as f64);
    scrape.gauge("conclave_log_queued_bytes", "Bytes that wait to be written to the log.", &[], stats.queued_bytes as f64);
    scrape.counter("conclave_log_syncs_total", "Syncs of the log.", &[], stats.syncs);
    scrape.counter("conclave_log_frames_total", "Frames written to the log.", &[], stats.frames);
    scrape.counter("conclave_log_written_bytes_total", "Bytes written to the log.", &[], stats.bytes_written);
    scrape.counter("conclave_trace_lines_lost_total", "Lines of the trace that nobody read in time.", &[], traces_lost);
    let locked = "1 while the process's memory is locked, so that no key is swapped out.";
    scrape.gauge("conclave_memory_locked", locked, &[], f64::from(u8::from(is_locked)));
    scrape.gauge("conclave_build_info", "1; the labels tell the software's version.", &[("version", crate::VERSION)], 1.0);
}

/// Where this node and the others are, and how large what they hold is.
fn measure_raft(scrape: &mut Scrape, status: &raft::Status, gauges: &raft::Gauges) {
    for (role, name) in [
        (raft::Role::Leader, "leader"),
        (raft::Role::Follower, "follower"),
        (raft::Role::Candidate, "candidate"),
        (raft::Role::Learner, "learner"),
    ] {
        let is = f64::from(u8::from(status.role == role));
        scrape.gauge("conclave_raft_role", "1 for what this node does in Raft.", &[("role", name)], is);
    }
    let voters = status.members.iter().filter(|member| member.voter).count();
    scrape.gauge("conclave_raft_voters", "Members that vote.", &[], voters as f64);
    let index = |index: Option<types::Index>| index.map_or(0, |index| index.0);
    scrape.gauge("conclave_raft_last_index", "The newest entry in the log.", &[], index(gauges.last) as f64);
    scrape.gauge("conclave_raft_purged_index", "The newest entry that is in the log no more.", &[], index(gauges.purged) as f64);
    scrape.gauge("conclave_snapshot_index", "The newest entry in the kept snapshot; 0 without one.", &[], index(gauges.snapshot) as f64);
    scrape.gauge("conclave_snapshot_bytes", "The size of the kept snapshot; 0 without one.", &[], gauges.snapshot_bytes as f64);
    scrape.gauge("conclave_table_keys", "Keys in the table.", &[], gauges.table_keys as f64);
    scrape.gauge("conclave_table_live_bytes", "Bytes of all keys and values in the table.", &[], gauges.table_bytes as f64);
    if let Some(free) = gauges.disk_free_bytes {
        scrape.gauge("conclave_disk_free_bytes", "Bytes that may still be written to the disk of the data folder.", &[], free as f64);
    }
    let full = "1 while the disk has so little room that no writes are taken.";
    scrape.gauge("conclave_disk_full", full, &[], f64::from(u8::from(gauges.disk_is_full)));
    if let Some(silence) = gauges.quorum_silence {
        let help = "At the leader: seconds since a quorum has answered it.";
        scrape.gauge("conclave_raft_quorum_silence_seconds", help, &[], silence.as_secs_f64());
    }
    for follower in &gauges.followers {
        let labels = [("member", follower.id.as_str())];
        let lag = index(gauges.last).saturating_sub(index(follower.matched));
        scrape.gauge("conclave_raft_member_lag", "At the leader: entries that a member lacks.", &labels, lag as f64);
        if let Some(silence) = follower.silence {
            let help = "At the leader: seconds since a member has answered it.";
            scrape.gauge("conclave_raft_member_silence_seconds", help, &labels, silence.as_secs_f64());
        }
    }
}

/// What takes this node's disk, at each scrape.
pub(crate) fn measure_space(scrape: &mut Scrape, raft: &raft::Raft) {
    let raft::Sizes { live, log, table, snapshot } = raft.sizes();
    for (name, help, bytes) in [
        ("conclave_storage_live_bytes", "Bytes of all names and values, as ciphertext: what the rest is in proportion to.", live),
        ("conclave_storage_log_bytes", "Bytes of the disk that the log takes.", log),
        ("conclave_storage_table_bytes", "Bytes of the disk that the table takes.", table),
        ("conclave_storage_snapshot_bytes", "Bytes of the disk that the kept snapshot takes.", snapshot),
    ] {
        scrape.gauge(name, help, &[], bytes as f64);
    }
    if let Some(check) = raft.last_check() {
        scrape.gauge("conclave_check_index", "The entry at which replicas were compared last.", &[], check.index.0 as f64);
        for (member, disagrees) in raft::disagreeing(&check) {
            let help = "1 for a member that held another state than the majority when they were compared last.";
            scrape.gauge("conclave_check_divergent", help, &[("member", member.as_str())], f64::from(u8::from(disagrees)));
        }
        let help = "1 if replicas held different states when they were compared last.";
        scrape.gauge("conclave_check_divergence", help, &[], f64::from(u8::from(check.is_divergent())));
    }
    let rejoining = "1 while this node has lost what it had, and does not vote until it has caught up.";
    scrape.gauge("conclave_raft_rejoining", rejoining, &[], f64::from(u8::from(raft.is_rejoining())));
}

/// What there is to say of this node's journal, at each scrape. `joined`: the last entry in the audit log, while the node is open.
pub(crate) fn measure_journal(scrape: &mut Scrape, journal: &dyn barrier::Journal, joined: Option<u64>) {
    scrape.gauge("conclave_journal_entries", "The number of the journal's last entry.", &[], journal.last() as f64);
    let help = "Acts on the cluster's keys that could not be written to the journal.";
    scrape.counter("conclave_journal_failures_total", help, &[], journal.failures());
    if let Some(joined) = joined {
        scrape.gauge("conclave_journal_joined", "The last of the journal's entries that is in the audit log.", &[], joined as f64);
    }
}

/// How the schedules of snapshots go.
pub(crate) fn measure_snapshots(scrape: &mut Scrape, figures: service::SnapshotFigures) {
    let seconds = |time: types::Timestamp| time.0 as f64 / 1000.0;
    let help = "When the newest scheduled snapshot was made, in seconds since 1970; 0 without one.";
    scrape.gauge("conclave_snapshot_last_saved_timestamp_seconds", help, &[], seconds(figures.saved));
    let help = "When the newest snapshot was made that a restore drill has found good, in seconds since 1970; 0 without one.";
    scrape.gauge("conclave_snapshot_last_restorable_timestamp_seconds", help, &[], seconds(figures.restorable));
    let help = "Scheduled snapshots and drills in vain since the last good ones, of all schedules together.";
    scrape.gauge("conclave_snapshot_schedules_failing", help, &[], figures.failing as f64);
}

/// What the service counts since this node was opened, at each scrape.
pub(crate) fn measure_service(scrape: &mut Scrape, audit: &service::AuditFailures, chores: service::ChoreCounts) {
    scrape.counter(
        "vault_audit_log_request_failure",
        "Requests that no audit device recorded, and that were refused.",
        &[],
        audit.requests,
    );
    scrape.counter(
        "vault_audit_log_response_failure",
        "Answers that no audit device recorded, and that were not told.",
        &[],
        audit.responses,
    );
    for (device, failures) in &audit.devices {
        let help = "Records that a device did not take, whether another did or not.";
        scrape.counter("conclave_audit_device_failures_total", help, &[("device", device)], *failures);
    }
    scrape.counter(
        "conclave_chores_done_total",
        "Chores that this node did while it led: ends of tokens and leases, and clearing up.",
        &[],
        chores.done,
    );
    scrape.counter("conclave_chores_failed_total", "Attempts at chores in vain; they are repeated.", &[], chores.failed);
}
