//! A real OpenBao as the yardstick: one node, in memory, open, with KV v2 at `secret/`, as [`tests::Cluster`] has it.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::bao::{Bao, Output};

const START_TIMEOUT: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// `bao server`; dropped, it is killed.
pub(crate) struct OpenBao {
    child: Child,
    address: String,
    token: String,
    shares: Vec<String>,
    folder: TempDir,
}

impl OpenBao {
    /// Starts it, makes its keys, opens it, and waits until it serves.
    pub(crate) fn start(program: &Path) -> OpenBao {
        let folder = tempfile::tempdir().expect("the system has a temporary folder");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let address = listener.local_addr().expect("a bound socket has an address");
        drop(listener);
        let config = folder.path().join("server.hcl");
        // Audit devices come from the configuration there, and Vault's paths of rekey and generate-root are off, unless it says otherwise.
        let text = format!(
            "storage \"inmem\" {{}}\nlistener \"tcp\" {{\n  address = \"{address}\"\n  tls_disable = true\n\
             disable_unauthed_rekey_endpoints = false\n  disable_unauthed_generate_root_endpoints = false\n}}\n\
             api_addr = \"http://{address}\"\nunsafe_allow_api_audit_creation = true\n"
        );
        std::fs::write(&config, text).unwrap_or_else(|error| panic!("write {}: {error}", config.display()));
        let trace = std::fs::File::create(folder.path().join("trace.log")).expect("a file can be made in a new folder");
        let mut command = Command::new(program);
        command.arg("server").arg("-config").arg(&config);
        command.env("HOME", folder.path()).stdin(Stdio::null());
        command.stdout(trace.try_clone().expect("a file can be shared")).stderr(trace);
        let child = command.spawn().unwrap_or_else(|error| panic!("run {}: {error}", program.display()));
        let mut server = OpenBao { child, address: format!("http://{address}"), token: String::new(), shares: Vec::new(), folder };
        server.open(program);
        server
    }

    fn open(&mut self, program: &Path) {
        let keys = self.eventually(program, "operator init -key-shares=5 -key-threshold=3 -format=json").json();
        self.token = text(&keys["root_token"]);
        self.shares = keys["unseal_keys_b64"].as_array().map_or_else(Vec::new, |shares| shares.iter().map(text).collect());
        for share in &self.shares[..3] {
            self.eventually(program, &format!("operator unseal {share}"));
        }
        self.eventually(program, "secrets enable -path=secret -version=2 kv");
        // The mount answers 400 for a moment.
        self.eventually(program, "kv put secret/first x=1");
        self.eventually(program, "kv metadata delete secret/first");
    }

    fn eventually(&self, program: &Path, line: &str) -> Output {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let output = self.bao(program.to_owned()).run_at(0, line, "");
            if output.code == Some(0) {
                return output;
            }
            assert!(Instant::now() < deadline, "OpenBao does not serve within {START_TIMEOUT:?}\n{output}");
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    /// Speaks to it, with its root token.
    pub(crate) fn bao(&self, program: PathBuf) -> Bao {
        Bao::new(program, vec![self.address.clone()]).token(&self.token)
    }

    /// Where it serves.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Its root token.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// Its shares, in base64: five, of which three open it.
    pub(crate) fn shares(&self) -> &[String] {
        &self.shares
    }

    /// A folder that goes with it.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for OpenBao {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
