//! A network of its own for each node: a namespace with two links, one to the other nodes and one to the test, so that a node can be cut
//! off from its peers and still be asked.
//!
//! Always: everything is removed on drop; what a killed test process has left is removed by the next.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

/// Begins the names of all that is made here; the process's id follows.
const PREFIX: &str = "cv";

/// Namespaces joined by a bridge. Needs root.
pub struct Network {
    /// The second byte of all addresses.
    net: u8,
    nodes: usize,
}

impl Network {
    /// One namespace for each node.
    ///
    /// # Errors
    /// What `ip` said: it is not there, or the kernel or the rights do not allow it.
    pub fn make(nodes: usize) -> Result<Network, String> {
        remove_left_over();
        // Test processes that run side by side get addresses of their own.
        let net = u8::try_from(64 + std::process::id() % 128).expect("below 256");
        let network = Network { net, nodes };
        network.set_up()?;
        Ok(network)
    }

    fn set_up(&self) -> Result<(), String> {
        let bridge = name("b");
        ip(&format!("link add {bridge} type bridge"))?;
        ip(&format!("link set {bridge} up"))?;
        for at in 0..self.nodes {
            let (space, peers, clients) = (self.namespace(at), name(&format!("p{at}")), name(&format!("c{at}")));
            ip(&format!("netns add {space}"))?;
            ip(&format!("link add {peers} type veth peer name peers netns {space}"))?;
            ip(&format!("link set {peers} master {bridge} up"))?;
            ip(&format!("link add {clients} type veth peer name clients netns {space}"))?;
            ip(&format!("addr add 10.{}.{at}.1/24 dev {clients}", self.net))?;
            ip(&format!("link set {clients} up"))?;
            ip(&format!("-n {space} addr add {}/24 dev peers", self.peer_address(at)))?;
            ip(&format!("-n {space} addr add {}/24 dev clients", self.client_address(at)))?;
            for link in ["lo", "peers", "clients"] {
                ip(&format!("-n {space} link set {link} up"))?;
            }
        }
        Ok(())
    }

    pub(crate) fn namespace(&self, at: usize) -> String {
        name(&format!("n{at}"))
    }

    pub(crate) fn peer_address(&self, at: usize) -> Ipv4Addr {
        Ipv4Addr::new(10, self.net, 200, octet(at + 1))
    }

    pub(crate) fn client_address(&self, at: usize) -> Ipv4Addr {
        Ipv4Addr::new(10, self.net, octet(at), 2)
    }

    /// Cuts a node off from all others, without a word to either side. The test still reaches it.
    pub fn cut_off(&self, at: usize) {
        ip(&format!("link set {} down", name(&format!("p{at}")))).expect("a link of ours can be set");
    }

    /// Joins it to the others again.
    pub fn mend(&self, at: usize) {
        ip(&format!("link set {} up", name(&format!("p{at}")))).expect("a link of ours can be set");
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        remove(&format!("{PREFIX}{}", std::process::id()));
    }
}

fn octet(at: usize) -> u8 {
    u8::try_from(at).expect("a cluster has few nodes")
}

/// At most 15 bytes, as the kernel wants it.
fn name(what: &str) -> String {
    format!("{PREFIX}{}{what}", std::process::id())
}

fn ip(args: &str) -> Result<(), String> {
    let output = Command::new("ip").args(args.split_whitespace()).output().map_err(|error| format!("run ip: {error}"))?;
    if output.status.success() { Ok(()) } else { Err(format!("ip {args}: {}", String::from_utf8_lossy(&output.stderr).trim())) }
}

/// What is there of ours: names of namespaces, and of links.
fn there(folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| name.starts_with(PREFIX)).collect()
}

/// Removes what begins so, up to the letter after the process's id.
fn remove(start: &str) {
    let is_of_it = |name: &str| name.strip_prefix(start).is_some_and(|rest| !rest.starts_with(|next: char| next.is_ascii_digit()));
    // With a namespace go its ends of the links, and with them the others.
    for space in there("/run/netns").iter().filter(|name| is_of_it(name)) {
        let _ = ip(&format!("netns del {space}"));
    }
    for link in there("/sys/class/net").iter().filter(|name| is_of_it(name)) {
        let _ = ip(&format!("link del {link}"));
    }
}

fn remove_left_over() {
    for name in there("/run/netns").into_iter().chain(there("/sys/class/net")) {
        let process: String = name[PREFIX.len()..].chars().take_while(char::is_ascii_digit).collect();
        let is_of_nobody = !process.is_empty() && !Path::new("/proc").join(&process).exists();
        if is_of_nobody {
            remove(&format!("{PREFIX}{process}"));
        }
    }
}
