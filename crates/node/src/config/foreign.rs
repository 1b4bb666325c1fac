//! Vault's keys that are no settings here, by block: those that would change nothing, and those that are refused.
//!
//! Always: a key whose effect somebody may rely on is refused; what is merely idle is something that cannot be had, that is
//! always so, or that a faster design has no use for. `docs/operate/configuration.md` lists the same keys with the same words.

use super::section::Foreign::{self, Idle, Refused};

pub(super) const ROOT: &[(&str, Foreign)] = &[
    ("ui", Idle("there is no web interface; every other interface is always on")),
    ("disable_cache", Idle("caches hold only what is known to be current, so there is nothing to turn off")),
    ("cache_size", Idle("caches are bounded by themselves")),
    ("disable_sealwrap", Idle("there is no seal wrapping")),
    ("disable_printable_check", Idle("control characters in paths are always refused")),
    ("disable_performance_standby", Idle("every unsealed node serves reads and writes")),
    ("disable_clustering", Idle("without a cluster block there are no peers")),
    ("license_path", Idle("no licence is needed")),
    ("detect_deadlocks", Idle("there are no such locks")),
    ("imprecise_lease_role_tracking", Idle("leases are counted exactly")),
    ("log_requests_level", Refused("a request's record belongs to an audit device (remove this line)")),
    ("log_file", Refused("traces go to standard error (let the service manager keep them, and remove this line)")),
    ("log_rotate_bytes", Refused("traces go to standard error (remove this line)")),
    ("log_rotate_duration", Refused("traces go to standard error (remove this line)")),
    ("log_rotate_max_files", Refused("traces go to standard error (remove this line)")),
    ("plugin_directory", Refused("engines are built in, and no other program is ever run (remove this line)")),
    ("plugin_tmpdir", Refused("engines are built in, and no other program is ever run (remove this line)")),
    ("plugin_file_uid", Refused("engines are built in, and no other program is ever run (remove this line)")),
    ("plugin_file_permissions", Refused("engines are built in, and no other program is ever run (remove this line)")),
    ("raw_storage_endpoint", Refused("what lies below the barrier is never served (remove this line)")),
    ("introspection_endpoint", Refused("what lies below the barrier is never served (remove this line)")),
    ("ha_storage", Refused("storage \"raft\" is highly available by itself (remove this block)")),
    ("service_registration", Refused("probe sys/health instead (remove this block)")),
    ("default_max_request_duration", Refused("write max_request_duration into the listener block")),
    ("administrative_namespace_path", Refused("there is no such namespace (remove this line)")),
    ("experiments", Refused("there are none (remove this line)")),
    ("entropy", Refused("randomness comes from the operating system (remove this block)")),
    ("user_lockout", Refused("tune each userpass mount's lockout instead (remove this block)")),
    ("reporting", Refused("nothing is ever reported to anybody (remove this block)")),
];

pub(super) const LISTENER: &[(&str, Foreign)] = &[
    ("tls_prefer_server_cipher_suites", Idle("the server's order always holds")),
    ("http_read_timeout", Idle("max_request_duration bounds the reading of a request, and all that follows")),
    ("http_write_timeout", Idle("max_request_duration bounds the answer, and http_idle_timeout who does not read it")),
    ("disable_request_limiter", Idle("the limits of requests are fixed")),
    ("tls_cipher_suites", Refused("only suites without known weakness are ever spoken (remove this line)")),
    ("tls_max_version", Refused("TLS 1.3 is always spoken (remove this line; tls_min_version is to be had)")),
    ("proxy_protocol_behavior", Refused("the PROXY protocol is not read (remove this line)")),
    ("proxy_protocol_authorized_addrs", Refused("the PROXY protocol is not read (remove this line)")),
    ("x_forwarded_for_authorized_addrs", Refused("a client's address is the connection's (remove this line)")),
    ("x_forwarded_for_hop_skips", Refused("a client's address is the connection's (remove this line)")),
    ("x_forwarded_for_reject_not_authorized", Refused("a client's address is the connection's (remove this line)")),
    ("x_forwarded_for_reject_not_present", Refused("a client's address is the connection's (remove this line)")),
    ("custom_response_headers", Refused("add headers in a proxy in front (remove this block)")),
    ("profiling", Refused("profiles are not served (remove this block)")),
    ("inflight_requests_logging", Refused("sys/in-flight-req takes a token (remove this block)")),
    ("require_request_header", Refused("X-Vault-Request is not asked for (remove this line)")),
    ("chroot_namespace", Refused("name the namespace in each request (remove this line)")),
    ("redact_addresses", Refused("a client needs these answers (remove this line)")),
    ("redact_cluster_name", Refused("a client needs these answers (remove this line)")),
    ("redact_version", Refused("a client needs these answers (remove this line)")),
];

pub(super) const RAFT: &[(&str, Foreign)] = &[
    ("performance_multiplier", Idle("elections always take well under a second")),
    ("max_entry_size", Idle("the largest entry follows from max_request_size")),
    ("autopilot_reconcile_interval", Refused("dead members are not removed by themselves (remove this line)")),
    ("autopilot_update_interval", Refused("dead members are not removed by themselves (remove this line)")),
];

pub(super) const TELEMETRY: &[(&str, Foreign)] = &[
    ("usage_gauge_period", Idle("gauges are read when they are asked for")),
    ("maximum_gauge_cardinality", Idle("no metric has labels without bound")),
    ("lease_metrics_epsilon", Idle("leases are counted exactly")),
    ("num_lease_metrics_buckets", Idle("leases are counted exactly")),
    ("add_lease_metrics_namespace_labels", Refused("no metric names a namespace (remove this line)")),
    ("enable_hostname_label", Refused("the one who scrapes knows whom it asked (remove this line)")),
    ("metrics_prefix", Refused("names begin with vault_ or conclave_ (remove this line)")),
    ("filter_default", Refused("filter where metrics are kept (remove this line)")),
    ("prefix_filter", Refused("filter where metrics are kept (remove this line)")),
    ("statsite_address", Refused("metrics are fetched from sys/metrics (remove this line)")),
    ("statsd_address", Refused("metrics are fetched from sys/metrics (remove this line)")),
    ("dogstatsd_addr", Refused("metrics are fetched from sys/metrics (remove this line)")),
    ("dogstatsd_tags", Refused("metrics are fetched from sys/metrics (remove this line)")),
    ("circonus_api_token", Refused("metrics are fetched from sys/metrics (remove this line)")),
    ("stackdriver_project_id", Refused("metrics are fetched from sys/metrics (remove this line)")),
];
