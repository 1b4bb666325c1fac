//! Where a dev cluster lies on disk and which ports it uses.
//!
//! ```text
//! <folder>/dev.json                    written last: without it the folder holds no cluster
//! <folder>/ca.pem                      the authority; its key is thrown away once the nodes have their certificates
//! <folder>/n1/{node.hcl,node.pem,node-key.pem,data/,trace.log}
//! ```

use std::fmt::Write as _;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use types::NodeId;

use crate::args::Dev;
use crate::fault::Fault;
use crate::files;
use crate::pki::Authority;

/// The shape of `dev.json`.
const FORMAT: u32 = 1;
const FORMAT_BYTES_MAX: u64 = 64 * 1024;
const CLUSTER_NAME: &str = "dev";
const NODES_DEFAULT: u8 = 3;
const PORT_DEFAULT: u16 = 8200;
/// A kept dev cluster should outlive the experiment.
const CERTIFICATE_VALIDITY: Duration = Duration::from_secs(10 * 365 * 86_400);

/// One dev cluster.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Layout {
    format: u32,
    pub(super) tls: bool,
    pub(super) nodes: Vec<Place>,
    /// Where it lies; not kept, so that the folder can be moved while it is stopped.
    #[serde(skip)]
    folder: PathBuf,
}

/// One node.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Place {
    pub(super) id: String,
    pub(super) api_port: u16,
    pub(super) cluster_port: u16,
}

impl Layout {
    /// Lays a new cluster out in `folder`, which must be empty or absent.
    pub(super) fn create(folder: &Path, args: &Dev) -> Result<Layout, Fault> {
        let folder = absolute(folder)?;
        let count = args.nodes.unwrap_or(NODES_DEFAULT);
        if !matches!(count, 1 | 3 | 5) {
            return Err(Fault::local(format!("--nodes {count}: a dev cluster has 1, 3 or 5 nodes"))
                .cure("an even number has no larger a minority that may fail"));
        }
        let ports = pick_ports(args.port.unwrap_or(PORT_DEFAULT), 2 * usize::from(count))?;
        files::create_folder(&folder)?;
        let mut entries = std::fs::read_dir(&folder).map_err(|error| files::fault("read the folder", &folder, &error))?;
        if entries.next().is_some() {
            return Err(Fault::local(format!("{} is not empty, and holds no dev cluster (no dev.json)", folder.display()))
                .cure("give an empty folder, or remove what a start that was cut off has left"));
        }
        let places = ports
            .chunks_exact(2)
            .enumerate()
            .map(|(at, pair)| Place { id: format!("n{}", at + 1), api_port: pair[0], cluster_port: pair[1] })
            .collect();
        let layout = Layout { format: FORMAT, tls: args.tls, nodes: places, folder };
        layout.write()?;
        Ok(layout)
    }

    /// The cluster that `folder` holds; `None` when it holds none. Arguments that say something else are refused.
    pub(super) fn load(folder: &Path, args: &Dev) -> Result<Option<Layout>, Fault> {
        let folder = absolute(folder)?;
        let file = folder.join("dev.json");
        let Some(bytes) = files::read(&file, FORMAT_BYTES_MAX)? else { return Ok(None) };
        let mut layout: Layout = serde_json::from_slice(&bytes).map_err(|error| Fault::local(format!("{}: {error}", file.display())))?;
        layout.folder = folder;
        let kept = |what: &str| {
            Fault::local(format!("{}: the cluster that is kept here {what}", file.display()))
                .cure("leave the flag out, or use another --data-dir")
        };
        let usable =
            layout.format == FORMAT && !layout.nodes.is_empty() && layout.nodes.iter().all(|place| NodeId::parse(&place.id).is_ok());
        if !usable {
            return Err(Fault::local(format!("{}: not written by this version", file.display())).cure("use another --data-dir"));
        }
        if args.nodes.is_some_and(|count| usize::from(count) != layout.nodes.len()) {
            return Err(kept(&format!("has {} nodes", layout.nodes.len())));
        }
        if args.port.is_some_and(|port| port != 0 && port != layout.nodes[0].api_port) {
            return Err(kept(&format!("begins at port {}", layout.nodes[0].api_port)));
        }
        if args.tls && !layout.tls {
            return Err(kept("speaks plain HTTP to clients"));
        }
        Ok(Some(layout))
    }

    /// That nobody listens on the ports of a kept cluster.
    pub(super) fn check_ports(&self) -> Result<(), Fault> {
        for place in &self.nodes {
            for (port, role) in [(place.api_port, "api"), (place.cluster_port, "peers")] {
                drop(listen(port).map_err(|error| port_fault(port, &format!("{role} of {}", place.id), &error))?);
            }
        }
        Ok(())
    }

    /// Certificates and configuration; `dev.json` last.
    fn write(&self) -> Result<(), Fault> {
        let made = |error| Fault::local(format!("make the certificates: {error}"));
        let cluster = NodeId::parse(CLUSTER_NAME).expect("the name is well-formed");
        let authority = Authority::generate(&cluster, CERTIFICATE_VALIDITY).map_err(made)?;
        files::create(&self.ca_file(), authority.certificate_pem().as_bytes(), 0o644)?;
        for place in &self.nodes {
            let id = NodeId::parse(&place.id).expect("node ids are made above");
            let hosts = [Ipv4Addr::LOCALHOST.to_string()];
            let identity = authority.issue(&cluster, &id, &hosts, CERTIFICATE_VALIDITY).map_err(made)?;
            let folder = self.folder.join(&place.id);
            files::create_folder(&folder.join("data"))?;
            files::create(&folder.join("node.pem"), identity.certificate_pem.as_bytes(), 0o644)?;
            files::create(&folder.join("node-key.pem"), identity.key_pem.as_bytes(), 0o600)?;
            files::create(&self.config_file(place), self.config(place).as_bytes(), 0o600)?;
        }
        let json = serde_json::to_vec_pretty(self).expect("a layout is JSON");
        files::replace(&self.folder.join("dev.json"), &json)
    }

    /// One node's configuration, in the shape that `conclave server` documents.
    fn config(&self, place: &Place) -> String {
        let folder = self.folder.join(&place.id);
        let (certificate, key) = (quoted(&folder.join("node.pem")), quoted(&folder.join("node-key.pem")));
        let tls = if self.tls {
            format!("tls_cert_file = {certificate}\n  tls_key_file  = {key}")
        } else {
            "tls_disable   = true # plain HTTP, on loopback only".to_owned()
        };
        let mut members = String::new();
        for member in &self.nodes {
            let (api, cluster) = (self.api_address(member), self.cluster_address(member));
            writeln!(members, "  member \"{}\" {{\n    cluster_addr = \"{cluster}\"\n    api_addr     = \"{api}\"\n  }}", member.id)
                .expect("writing to a String cannot fail");
        }
        format!(
            r#"# Written by `conclave dev` for node {id}. Start it alone with: conclave server -config {config}
cluster_name = "{CLUSTER_NAME}"
api_addr     = "{api}"
cluster_addr = "{cluster}"

listener "tcp" {{
  address       = "127.0.0.1:{api_port}"
  {tls}
}}

storage "raft" {{
  path    = {data}
  node_id = "{id}"
}}

cluster {{
  tls_ca_file   = {ca}
  tls_cert_file = {certificate}
  tls_key_file  = {key}

{members}}}
"#,
            id = place.id,
            config = self.config_file(place).display(),
            api = self.api_address(place),
            cluster = self.cluster_address(place),
            api_port = place.api_port,
            data = quoted(&self.data_dir(place)),
            ca = quoted(&self.ca_file()),
        )
    }

    pub(super) fn api_address(&self, place: &Place) -> String {
        format!("{}://127.0.0.1:{}", if self.tls { "https" } else { "http" }, place.api_port)
    }

    pub(super) fn cluster_address(&self, place: &Place) -> String {
        format!("https://127.0.0.1:{}", place.cluster_port)
    }

    pub(super) fn ca_file(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    pub(super) fn config_file(&self, place: &Place) -> PathBuf {
        self.folder.join(&place.id).join("node.hcl")
    }

    pub(super) fn data_dir(&self, place: &Place) -> PathBuf {
        self.folder.join(&place.id).join("data")
    }

    pub(super) fn trace_file(&self, place: &Place) -> PathBuf {
        self.folder.join(&place.id).join("trace.log")
    }
}

/// The configuration holds whole paths: nodes may be started from anywhere.
fn absolute(folder: &Path) -> Result<PathBuf, Fault> {
    std::path::absolute(folder).map_err(|error| files::fault("resolve", folder, &error))
}

/// An HCL string. `${` and `%{` would begin a template.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace("${", "$${").replace("%{", "%%{");
    format!("\"{escaped}\"")
}

/// `count` ports from `first` on, all free now; any free ones when `first` is 0.
fn pick_ports(first: u16, count: usize) -> Result<Vec<u16>, Fault> {
    if first == 0 {
        // All are held until all are known, so that none comes twice.
        let held: io::Result<Vec<TcpListener>> = (0..count).map(|_| listen(0)).collect();
        let held = held.map_err(|error| Fault::local(format!("find free ports: {error}")))?;
        let ports: io::Result<Vec<u16>> = held.iter().map(|listener| Ok(listener.local_addr()?.port())).collect();
        return ports.map_err(|error| Fault::local(format!("find free ports: {error}")));
    }
    let ports: Vec<u16> = (0..count).map_while(|step| first.checked_add(u16::try_from(step).ok()?)).collect();
    if ports.len() < count {
        return Err(Fault::local(format!("--port {first}: {count} ports are needed, and they end at 65535")).cure("use a smaller --port"));
    }
    for (at, &port) in ports.iter().enumerate() {
        let whose = format!("{} of n{}", if at % 2 == 0 { "api" } else { "peers" }, at / 2 + 1);
        drop(listen(port).map_err(|error| port_fault(port, &whose, &error))?);
    }
    Ok(ports)
}

fn listen(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
}

fn port_fault(port: u16, whose: &str, error: &io::Error) -> Fault {
    match error.kind() {
        io::ErrorKind::AddrInUse => Fault::local(format!("port {port} ({whose}) is in use")).cure(
            "stop what listens there (another dev cluster?), or choose others for a new one: --port 8300, or --port 0 for any free ones",
        ),
        io::ErrorKind::PermissionDenied => {
            Fault::local(format!("port {port} ({whose}) is not ours to use")).cure("choose ports above 1023: --port 8200")
        }
        _ => Fault::local(format!("port {port} ({whose}): {error}")).cure("choose others with --port"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> Dev {
        Dev { nodes: None, port: Some(0), tls: false, data_dir: None, ready_file: None, quiet: true, sealed: false, uninitialized: false }
    }

    #[test]
    fn a_cluster_is_laid_out_and_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("it is $${here}");
        assert!(Layout::load(&folder, &args()).unwrap().is_none());
        let layout = Layout::create(&folder, &args()).unwrap();
        assert_eq!(layout.nodes.len(), 3);
        let ports: std::collections::BTreeSet<u16> = layout.nodes.iter().flat_map(|place| [place.api_port, place.cluster_port]).collect();
        assert_eq!(ports.len(), 6, "no port comes twice");
        let config = std::fs::read_to_string(layout.config_file(&layout.nodes[1])).unwrap();
        assert!(config.contains(r#"node_id = "n2""#) && config.matches("member \"").count() == 3, "{config}");
        assert!(config.contains("$$${here}"), "templates are escaped: {config}");
        let again = Layout::load(&folder, &args()).unwrap().unwrap();
        assert_eq!(again.nodes[2].api_port, layout.nodes[2].api_port);
        assert!(Layout::create(&folder, &args()).is_err(), "it is not laid out twice");
    }

    #[test]
    fn flags_that_contradict_the_kept_cluster_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        Layout::create(folder.path(), &args()).unwrap();
        for other in [Dev { nodes: Some(5), ..args() }, Dev { port: Some(1), ..args() }, Dev { tls: true, ..args() }] {
            assert!(Layout::load(folder.path(), &other).is_err());
        }
        assert!(Layout::load(folder.path(), &Dev { nodes: Some(3), ..args() }).unwrap().is_some());
    }

    #[test]
    fn a_port_in_use_is_named_with_its_cure() {
        let taken = listen(0).unwrap();
        let port = taken.local_addr().unwrap().port();
        let fault = pick_ports(port, 1).unwrap_err().to_string();
        assert!(fault.contains(&port.to_string()) && fault.contains("--port"), "{fault}");
        assert!(pick_ports(65_534, 6).unwrap_err().to_string().contains("65535"));
    }

    #[test]
    fn bad_sizes_and_strange_folders_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        for nodes in [0, 2, 4, 7] {
            assert!(Layout::create(folder.path(), &Dev { nodes: Some(nodes), ..args() }).is_err(), "{nodes}");
        }
        files::create(&folder.path().join("mine"), b"x", 0o600).unwrap();
        assert!(Layout::create(folder.path(), &args()).err().unwrap().to_string().contains("not empty"));
    }
}
