//! The file that tells scripts how to reach a dev cluster.
//!
//! Always: it appears whole, readable by its owner only, and only once the cluster serves.

use std::path::Path;

use client::SecretString;
use serde::Serialize;
use zeroize::Zeroizing;

use super::layout::Layout;
use crate::fault::Fault;
use crate::files;

/// What init gave, as far as it is known: nothing for a kept or uninitialised cluster.
pub(super) struct Keys {
    /// Shares in base64.
    pub(super) shares: Vec<SecretString>,
    pub(super) root_token: Option<SecretString>,
    pub(super) threshold: u32,
}

#[derive(Serialize)]
struct Ready<'a> {
    nodes: Vec<Node<'a>>,
    root_token: &'a str,
    unseal_keys_b64: Vec<&'a str>,
    threshold: u32,
    /// A file; signs the clients' listeners with `--tls`, and the peers' in any case.
    ca_cert: String,
}

#[derive(Serialize)]
struct Node<'a> {
    id: &'a str,
    api_addr: String,
    cluster_addr: String,
    data_dir: String,
    pid: u32,
}

/// Writes the file.
pub(super) fn write(file: &Path, layout: &Layout, pids: &[u32], keys: &Keys) -> Result<(), Fault> {
    files::replace(file, &json(layout, pids, keys)).map_err(|fault| fault.during("--ready-file"))
}

fn json(layout: &Layout, pids: &[u32], keys: &Keys) -> Zeroizing<Vec<u8>> {
    let nodes = layout.nodes.iter().zip(pids).map(|(place, &pid)| Node {
        id: &place.id,
        api_addr: layout.api_address(place),
        cluster_addr: layout.cluster_address(place),
        data_dir: layout.data_dir(place).display().to_string(),
        pid,
    });
    let ready = Ready {
        nodes: nodes.collect(),
        // EXPOSE: this file is how a script gets them; it was asked for, and its mode is 0600.
        root_token: keys.root_token.as_ref().map_or("", SecretString::expose),
        unseal_keys_b64: keys.shares.iter().map(SecretString::expose).collect(),
        threshold: keys.threshold,
        ca_cert: layout.ca_file().display().to_string(),
    };
    Zeroizing::new(serde_json::to_vec(&ready).expect("texts and numbers are JSON"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Dev;

    #[test]
    fn the_shape_is_what_scripts_expect() {
        let folder = tempfile::tempdir().unwrap();
        let args = Dev {
            nodes: Some(1),
            port: Some(0),
            tls: true,
            data_dir: None,
            ready_file: None,
            quiet: true,
            sealed: false,
            uninitialized: false,
        };
        let layout = Layout::create(folder.path(), &args).unwrap();
        let keys = Keys { shares: vec!["c2hhcmU=".to_owned().into()], root_token: Some("hvs.x".to_owned().into()), threshold: 3 };
        let value: serde_json::Value = serde_json::from_slice(&json(&layout, &[7], &keys)).unwrap();
        let place = &layout.nodes[0];
        let want = serde_json::json!({
            "nodes": [{
                "id": "n1",
                "api_addr": format!("https://127.0.0.1:{}", place.api_port),
                "cluster_addr": format!("https://127.0.0.1:{}", place.cluster_port),
                "data_dir": folder.path().join("n1/data"),
                "pid": 7,
            }],
            "root_token": "hvs.x",
            "unseal_keys_b64": ["c2hhcmU="],
            "threshold": 3,
            "ca_cert": folder.path().join("ca.pem"),
        });
        assert_eq!(value, want);
        let nothing = Keys { shares: vec![], root_token: None, threshold: 3 };
        let value: serde_json::Value = serde_json::from_slice(&json(&layout, &[7], &nothing)).unwrap();
        assert_eq!((&value["root_token"], &value["unseal_keys_b64"]), (&"".into(), &serde_json::json!([])));
    }
}
