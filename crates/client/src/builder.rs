//! How a [`Client`] is made: addresses, token, TLS, and the limits of a call.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::failover::Nodes;
use crate::tls::{self, TlsError};
use crate::{Client, SecretString, Shared, parse_duration};

/// Vault's default, and ours: TLS unless the address says otherwise.
pub(crate) const ADDRESS_DEFAULT: &str = "https://127.0.0.1:8200";
/// Most addresses a client keeps, given and learned together.
pub(crate) const ADDRESSES_MAX: usize = 32;
/// Idle connections that are kept for each node.
const IDLE_CONNECTIONS_PER_NODE_MAX: usize = 64;

/// What bounds each call.
pub(crate) struct Settings {
    pub(crate) timeout: Duration,
    pub(crate) attempt_timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) retries_max: u32,
    pub(crate) namespace: Option<String>,
    pub(crate) discover: bool,
    pub(crate) leader_for_writes: bool,
}

/// Makes a [`Client`]. Every setter replaces what was set before.
pub struct Builder {
    addresses: Vec<String>,
    token: Option<SecretString>,
    ca_file: Option<PathBuf>,
    tls_skip_verify: bool,
    tls_server_name: Option<String>,
    settings: Settings,
}

impl Default for Builder {
    fn default() -> Builder {
        Builder {
            addresses: Vec::new(),
            token: None,
            ca_file: None,
            tls_skip_verify: false,
            tls_server_name: None,
            settings: Settings {
                timeout: Duration::from_secs(60),
                attempt_timeout: Duration::from_secs(10),
                connect_timeout: Duration::from_secs(2),
                retries_max: 6,
                namespace: None,
                discover: false,
                leader_for_writes: false,
            },
        }
    }
}

impl Builder {
    /// The nodes' API URLs, or a load balancer's: `http://` or `https://`, a host, and perhaps a port. At most 32. Default
    /// `https://127.0.0.1:8200`. Tried in this order, starting with the one that answered last.
    pub fn addresses<A: Into<String>>(mut self, addresses: impl IntoIterator<Item = A>) -> Builder {
        self.addresses = addresses.into_iter().map(Into::into).collect();
        self
    }

    /// Sent with each request.
    pub fn token(mut self, token: SecretString) -> Builder {
        self.token = Some(token);
        self
    }

    /// Sent with each request as `X-Vault-Namespace`.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Builder {
        self.settings.namespace = Some(namespace.into()).filter(|name| !name.is_empty());
        self
    }

    /// PEM certificates of the authorities to trust, in place of the system's.
    pub fn ca_file(mut self, file: impl Into<PathBuf>) -> Builder {
        self.ca_file = Some(file.into());
        self
    }

    /// Accepts any certificate: whoever sits between can read the token. For experiments only.
    pub fn dangerous_tls_skip_verify(mut self, skip: bool) -> Builder {
        self.tls_skip_verify = skip;
        self
    }

    /// The name that the server's certificate must carry, in place of the address's host.
    pub fn tls_server_name(mut self, name: impl Into<String>) -> Builder {
        self.tls_server_name = Some(name.into());
        self
    }

    /// The whole call's limit, retries included. Default 60 s.
    pub fn timeout(mut self, timeout: Duration) -> Builder {
        self.settings.timeout = timeout;
        self
    }

    /// One node's limit, for requests that may be sent again; others get what is left of the whole. Default 10 s.
    pub fn attempt_timeout(mut self, timeout: Duration) -> Builder {
        self.settings.attempt_timeout = timeout;
        self
    }

    /// The limit of connecting to one node. Default 2 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Builder {
        self.settings.connect_timeout = timeout;
        self
    }

    /// How many more times each node may be asked, with growing waits in between (50 ms, doubled up to 1 s, with jitter).
    /// Failing over to another node is no retry and does not wait. Default 6: about 1.5 s, which outlasts an election.
    pub fn retries_max(mut self, rounds: u32) -> Builder {
        self.settings.retries_max = rounds;
        self
    }

    /// Learns the other members by itself (see [`Client::discover`]): before the first call, after a failover, and once a
    /// minute. Off by default, as behind a load balancer members may not be reachable.
    pub fn discover(mut self, discover: bool) -> Builder {
        self.settings.discover = discover;
        self
    }

    /// Sends writes to the leader first, once [`Client::discover`] has told who leads. It saves the hop from a follower,
    /// and puts its TLS and encryption work on the leader. Off by default.
    pub fn leader_for_writes(mut self, prefer: bool) -> Builder {
        self.settings.leader_for_writes = prefer;
        self
    }

    /// Takes what the environment sets: for each of the following the first of `CONCLAVE_`, `BAO_` and `VAULT_` that is
    /// set and not empty.
    ///
    /// `ADDRS` (only `CONCLAVE_`: separated by commas) or `ADDR`, `TOKEN`, `NAMESPACE`, `CACERT`, `SKIP_VERIFY`,
    /// `TLS_SERVER_NAME`, `CLIENT_TIMEOUT`, `MAX_RETRIES`.
    pub fn environment(self) -> Result<Builder, EnvironmentError> {
        self.environment_from(|name| env::var(name).ok())
    }

    /// [`Builder::environment`] with any source of variables.
    fn environment_from(mut self, lookup: impl Fn(&str) -> Option<String>) -> Result<Builder, EnvironmentError> {
        let lookup = |name: String| lookup(&name).filter(|value| !value.is_empty()).map(|value| (name, value));
        let first = |suffix: &str| ["CONCLAVE", "BAO", "VAULT"].iter().find_map(|prefix| lookup(format!("{prefix}_{suffix}")));
        if let Some((_, list)) = lookup("CONCLAVE_ADDRS".to_owned()) {
            self = self.addresses(list.split(',').map(str::trim).filter(|address| !address.is_empty()));
        } else if let Some((_, address)) = first("ADDR") {
            self = self.addresses([address]);
        }
        if let Some((_, token)) = first("TOKEN") {
            self = self.token(token.into());
        }
        if let Some((_, namespace)) = first("NAMESPACE") {
            self = self.namespace(namespace);
        }
        if let Some((_, file)) = first("CACERT") {
            self = self.ca_file(file);
        }
        if let Some((variable, text)) = first("SKIP_VERIFY") {
            self.tls_skip_verify = parse_bool(&text).ok_or(EnvironmentError::Bool { variable, text })?;
        }
        if let Some((_, name)) = first("TLS_SERVER_NAME") {
            self = self.tls_server_name(name);
        }
        if let Some((variable, text)) = first("CLIENT_TIMEOUT") {
            self.settings.timeout = parse_duration(&text).map_err(|source| EnvironmentError::Duration { variable, source })?;
        }
        if let Some((variable, text)) = first("MAX_RETRIES") {
            self.settings.retries_max = text.parse().map_err(|_| EnvironmentError::Number { variable, text })?;
        }
        Ok(self)
    }

    /// Checks everything, reads the CA file, and makes the client. Connects to nobody yet.
    pub fn build(self) -> Result<Client, BuildError> {
        let given = if self.addresses.is_empty() { vec![ADDRESS_DEFAULT.to_owned()] } else { self.addresses };
        if given.len() > ADDRESSES_MAX {
            return Err(BuildError::TooManyAddresses { count: given.len() });
        }
        let mut addresses: Vec<Arc<str>> = Vec::with_capacity(given.len());
        for text in &given {
            let address = parse_address(text)?;
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        let needs_tls = addresses.iter().any(|address| address.starts_with("https://"));
        let trust = tls::Trust {
            ca_file: self.ca_file.as_deref().map(Path::to_path_buf),
            skip_verify: self.tls_skip_verify,
            server_name: self.tls_server_name,
            needed: needs_tls,
        };
        let tls = tls::config(&trust)?;
        let settings = self.settings;
        let mut https = tls.clone();
        https.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(https)
            .connect_timeout(settings.connect_timeout)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_PER_NODE_MAX)
            .tcp_nodelay(true)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .user_agent(concat!("conclave/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|source| BuildError::Http { source })?;
        let mut grpc = tls;
        grpc.alpn_protocols = vec![b"h2".to_vec()];
        let shared = Shared { http, tls: Arc::new(grpc), nodes: Nodes::new(addresses), settings };
        Ok(Client {
            shared: Arc::new(shared),
            token: self.token.map(Arc::new),
            pinned: None,
            wrap_ttl: None,
            reading: crate::Reading::default(),
        })
    }
}

/// Why a client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// No URL of a node.
    #[error("{text:?} is no address of a node (use http:// or https://, a host, and perhaps a port: \"https://10.0.0.1:8200\")")]
    Address {
        /// What was given.
        text: String,
    },
    /// More than 32.
    #[error("{count} addresses are too many (at most {ADDRESSES_MAX})")]
    TooManyAddresses {
        /// How many were given.
        count: usize,
    },
    /// The TLS settings cannot be used.
    #[error("{0}")]
    Tls(#[from] TlsError),
    /// A variable of the environment cannot be used.
    #[error("{0}")]
    Environment(#[from] EnvironmentError),
    /// The HTTP library refused.
    #[error("HTTP client")]
    Http {
        /// Its reason.
        #[source]
        source: reqwest::Error,
    },
}

/// Why a variable of the environment cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    /// Neither true nor false.
    #[error("{variable}: {text:?} is neither true nor false (use 1, true, 0 or false)")]
    Bool {
        /// Its name.
        variable: String,
        /// Its value.
        text: String,
    },
    /// No duration.
    #[error("{variable}: {source}")]
    Duration {
        /// Its name.
        variable: String,
        /// What is wrong.
        source: crate::DurationError,
    },
    /// No whole number.
    #[error("{variable}: {text:?} is no whole number (use 0 or more)")]
    Number {
        /// Its name.
        variable: String,
        /// Its value.
        text: String,
    },
}

/// Scheme, host and port, without a trailing slash: `https://host:8200`. A path, a query or credentials are refused.
pub(crate) fn parse_address(text: &str) -> Result<Arc<str>, BuildError> {
    let refused = || BuildError::Address { text: text.chars().take(200).collect() };
    let url = reqwest::Url::parse(text).map_err(|_| refused())?;
    let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none();
    if !matches!(url.scheme(), "http" | "https") || !plain || !matches!(url.path(), "" | "/") || url.host_str().is_none() {
        return Err(refused());
    }
    let host = url.host_str().ok_or_else(refused)?;
    let port = url.port_or_known_default().ok_or_else(refused)?;
    Ok(Arc::from(format!("{}://{host}:{port}", url.scheme())))
}

/// As Go's `strconv.ParseBool`, which Vault's clients use.
fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_urls_of_hosts() {
        for (text, want) in [
            ("http://127.0.0.1:8200", Some("http://127.0.0.1:8200")),
            ("https://Vault.Example", Some("https://vault.example:443")),
            ("http://[::1]:8200/", Some("http://[::1]:8200")),
            ("127.0.0.1:8200", None),
            ("http://", None),
            ("ftp://a", None),
            ("http://user:pass@a", None),
            ("http://a/v1", None),
            ("http://a?b", None),
            ("", None),
        ] {
            assert_eq!(parse_address(text).ok().as_deref(), want, "{text}");
        }
    }

    fn from(variables: &[(&str, &str)]) -> Result<Builder, EnvironmentError> {
        Builder::default().environment_from(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn our_own_variables_come_first() {
        let builder = from(&[
            ("VAULT_ADDR", "http://v:1"),
            ("BAO_ADDR", "http://b:1"),
            ("CONCLAVE_ADDR", ""),
            ("VAULT_CLIENT_TIMEOUT", "5s"),
            ("VAULT_MAX_RETRIES", "0"),
            ("BAO_SKIP_VERIFY", "T"),
        ])
        .unwrap();
        assert_eq!(builder.addresses, ["http://b:1"], "an empty variable counts as unset");
        assert_eq!(builder.settings.timeout, Duration::from_secs(5));
        assert_eq!(builder.settings.retries_max, 0);
        assert!(builder.tls_skip_verify);
        let list = from(&[("CONCLAVE_ADDRS", "http://a:1, http://b:1,"), ("CONCLAVE_ADDR", "http://c:1")]).unwrap();
        assert_eq!(list.addresses, ["http://a:1", "http://b:1"]);
    }

    #[test]
    fn a_bad_variable_is_named() {
        for (name, value) in [("VAULT_SKIP_VERIFY", "maybe"), ("BAO_CLIENT_TIMEOUT", "soon"), ("CONCLAVE_MAX_RETRIES", "-1")] {
            let error = from(&[(name, value)]).err().expect(name);
            assert!(error.to_string().contains(name), "{error}");
        }
    }

    #[test]
    fn the_same_address_is_kept_once() {
        let client = Client::builder().addresses(["http://a:80", "http://a/"]).build().unwrap();
        assert_eq!(client.addresses().len(), 1);
        assert!(Client::builder().addresses(vec!["http://a"; 33]).build().is_err());
    }
}
