//! Addresses: where a node listens ([`SocketAddr`]) and the URLs it is reached under ([`Url`]).

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::mistake::shown;

/// `http` or `https`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// In clear.
    Http,
    /// Over TLS.
    Https,
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        })
    }
}

/// `scheme://host:port`, without path, query or user.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Url {
    scheme: Scheme,
    host: String,
    port: u16,
}

impl Url {
    /// `http` or `https`.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// A name in lower case, or an IP address (an IPv6 one in brackets).
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Never 0.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `host:port`.
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// The socket address, where the host is an IP address.
    pub fn socket_address(&self) -> Option<SocketAddr> {
        self.authority().parse().ok()
    }

    /// The URL of a listener at `address`, which is neither unspecified nor of port 0.
    pub(super) fn of(scheme: Scheme, address: SocketAddr) -> Url {
        let host = match address.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        Url { scheme, host, port: address.port() }
    }

    /// Reads `text`. `port_default`: the port to name in a cure; `port_required`: whether the scheme's own port may be meant.
    pub(super) fn parse(text: &str, port_default: u16, port_required: bool) -> Result<Url, String> {
        let shown = shown(text);
        let uri = text.parse::<http::Uri>().map_err(|_| no_url(text, port_default))?;
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            Some(other) => return Err(format!("{shown} starts with {other:?} (write https:// or http://)")),
            None => return Err(no_url(text, port_default)),
        };
        let authority = uri.authority().ok_or_else(|| no_url(text, port_default))?;
        if authority.as_str().contains('@') {
            return Err("holds a user name or password (write scheme, host and port alone)".to_owned());
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(|| no_url(text, port_default))?.to_ascii_lowercase();
        let port_given = authority.as_str().len() > host.len();
        let port = match (uri.port_u16(), scheme) {
            (Some(port), _) => port,
            (None, _) if port_given => return Err(format!("{shown} has a bad port (write 1 to 65535)")),
            (None, _) if port_required => return Err(format!("{shown} has no port (try \"{scheme}://{host}:{port_default}\")")),
            (None, Scheme::Http) => 80,
            (None, Scheme::Https) => 443,
        };
        if port == 0 {
            return Err(format!("{shown} has a bad port (write 1 to 65535)"));
        }
        let url = Url { scheme, host, port };
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(format!("{shown} has a path (write \"{url}\")"));
        }
        if url.socket_address().is_some_and(|address| address.ip().is_unspecified()) {
            return Err(format!("{shown} reaches no node (write the address that others use for this node)"));
        }
        Ok(url)
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority())
    }
}

fn no_url(text: &str, port_default: u16) -> String {
    let host_and_port = text.parse::<http::uri::Authority>().is_ok_and(|authority| authority.port_u16().is_some());
    match host_and_port {
        true if text.contains('@') => "holds a user name or password (write scheme, host and port alone)".to_owned(),
        true => format!("{} has no scheme (try \"https://{text}\")", shown(text)),
        false => format!("{} is no URL (write scheme://host:port, such as \"https://10.0.0.1:{port_default}\")", shown(text)),
    }
}

/// Reads `text` as IP address and port. `port_default`: the port to name in a cure.
pub(super) fn parse_socket_address(text: &str, port_default: u16) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let shown = shown(text);
    if let Ok(ip) = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        return Err(format!("{shown} has no port (try \"{}\")", SocketAddr::new(ip, port_default)));
    }
    let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
    Err(match port.parse::<u16>() {
        Ok(port) if host.is_empty() => format!("{shown} has no IP address (try \"127.0.0.1:{port}\", or \"0.0.0.0:{port}\" for all)"),
        Ok(port) if !host.contains([':', '/', '@']) => format!("{shown} has no IP address but a name (try \"127.0.0.1:{port}\")"),
        _ => format!("{shown} is no IP address with a port (write one such as \"127.0.0.1:{port_default}\")"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_scheme_host_and_port() {
        for (text, want) in [
            ("http://127.0.0.1:8200", "http://127.0.0.1:8200"),
            ("https://Vault.Example.com", "https://vault.example.com:443"),
            ("https://[::1]:8200/", "https://[::1]:8200"),
            ("http://a", "http://a:80"),
        ] {
            assert_eq!(Url::parse(text, 8200, false).map(|url| url.to_string()), Ok(want.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_no_url_is_told_how_to_become_one() {
        for (text, want) in [
            ("127.0.0.1:8200", r#""127.0.0.1:8200" has no scheme (try "https://127.0.0.1:8200")"#),
            ("ftp://a:1", r#""ftp://a:1" starts with "ftp" (write https:// or http://)"#),
            ("https://a", r#""https://a" has no port (try "https://a:8201")"#),
            ("https://a:0", r#""https://a:0" has a bad port (write 1 to 65535)"#),
            ("https://a:99999", r#""https://a:99999" has a bad port (write 1 to 65535)"#),
            ("https://a:8201/x", r#""https://a:8201/x" has a path (write "https://a:8201")"#),
            ("https://u:p@a:8201", "holds a user name or password (write scheme, host and port alone)"),
            ("https://0.0.0.0:8201", r#""https://0.0.0.0:8201" reaches no node (write the address that others use for this node)"#),
            ("", r#""" is no URL (write scheme://host:port, such as "https://10.0.0.1:8201")"#),
            ("hello world", r#""hello world" is no URL (write scheme://host:port, such as "https://10.0.0.1:8201")"#),
        ] {
            assert_eq!(Url::parse(text, 8201, true), Err(want.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_no_socket_address_is_told_how_to_become_one() {
        for (text, want) in [
            ("0.0.0.0", r#""0.0.0.0" has no port (try "0.0.0.0:8200")"#),
            ("::1", r#""::1" has no port (try "[::1]:8200")"#),
            ("[::1]", r#""[::1]" has no port (try "[::1]:8200")"#),
            (":8300", r#"":8300" has no IP address (try "127.0.0.1:8300", or "0.0.0.0:8300" for all)"#),
            ("localhost:8300", r#""localhost:8300" has no IP address but a name (try "127.0.0.1:8300")"#),
            ("127.0.0.1:99999", r#""127.0.0.1:99999" is no IP address with a port (write one such as "127.0.0.1:8200")"#),
            ("http://127.0.0.1:8200", r#""http://127.0.0.1:8200" is no IP address with a port (write one such as "127.0.0.1:8200")"#),
        ] {
            assert_eq!(parse_socket_address(text, 8200), Err(want.to_owned()), "{text}");
        }
        assert!(parse_socket_address("127.0.0.1:0", 8200).is_ok());
    }
}
