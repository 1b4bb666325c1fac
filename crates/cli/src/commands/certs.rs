//! `conclave operator certs`: certificates that an operator brings to the nodes.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use types::NodeId;

use crate::args::Certs;
use crate::fault::Fault;
use crate::files;
use crate::output::Printer;
use crate::pki::Authority;

/// The largest PEM file of an authority that is read.
const PEM_BYTES_MAX: u64 = 64 * 1024;
/// Who may read a certificate.
const CERTIFICATE_MODE: u32 = 0o644;
/// Who may read a key.
const KEY_MODE: u32 = 0o600;
const DAY: Duration = Duration::from_secs(86_400);

/// Writes `ca.pem`, `ca-key.pem`, and `<id>.pem`, `<id>-key.pem` for each node. An authority that is there already is used.
pub(crate) fn run(printer: &Printer, args: &Certs) -> Result<(), Fault> {
    let cluster = NodeId::parse(&args.cluster).map_err(|error| Fault::local(format!("-cluster: {error}")))?;
    let nodes = args.nodes.iter().map(|text| parse_node(text)).collect::<Result<Vec<_>, _>>()?;
    let validity = DAY * args.days;
    files::create_folder(&args.out)?;
    for (at, (id, _)) in nodes.iter().enumerate() {
        let twice = nodes[..at].iter().any(|(earlier, _)| earlier == id);
        if twice {
            return Err(Fault::local(format!("{id} is named twice")).cure("write its hosts together: n1=10.0.0.1,vault1.example"));
        }
        let present = [format!("{id}.pem"), format!("{id}-key.pem")].map(|name| args.out.join(name)).into_iter().find(|file| file.exists());
        if let Some(file) = present {
            return Err(Fault::local(format!("{} is there already", file.display())).cure("nothing is overwritten: move it away first"));
        }
    }
    let authority = authority(&args.out, &cluster, validity)?;
    // All are made before one is written: a bad host leaves nothing half-done.
    let identities = nodes
        .iter()
        .map(|(id, hosts)| authority.issue(&cluster, id, hosts, validity).map_err(|error| Fault::local(format!("{id}: {error}"))))
        .collect::<Result<Vec<_>, _>>()?;
    let mut written = Vec::new();
    if !args.out.join("ca.pem").exists() {
        files::create(&args.out.join("ca-key.pem"), authority.key_pem().as_bytes(), KEY_MODE)?;
        files::create(&args.out.join("ca.pem"), authority.certificate_pem().as_bytes(), CERTIFICATE_MODE)?;
        written.extend([args.out.join("ca.pem"), args.out.join("ca-key.pem")]);
    }
    for ((id, _), identity) in nodes.iter().zip(identities) {
        let (certificate, key) = (args.out.join(format!("{id}.pem")), args.out.join(format!("{id}-key.pem")));
        files::create(&key, identity.key_pem.as_bytes(), KEY_MODE)?;
        files::create(&certificate, identity.certificate_pem.as_bytes(), CERTIFICATE_MODE)?;
        written.extend([certificate, key]);
    }
    let list: Vec<String> = written.iter().map(|file| file.display().to_string()).collect();
    let whole = json!({"cluster": cluster.as_str(), "files": list});
    printer.answer(&whole.as_object().cloned().unwrap_or_default(), &whole, || {
        format!(
            "Written for the cluster {cluster}, valid for {} days:\n  {}\n\nGive each node ca.pem and its own two files. \
             Keep {} offline: whoever has it can make nodes.\n",
            args.days,
            list.join("\n  "),
            args.out.join("ca-key.pem").display(),
        )
    })
}

/// The one in `folder`, or a new one that is not written yet.
fn authority(folder: &Path, cluster: &NodeId, validity: Duration) -> Result<Authority, Fault> {
    let (certificate, key) = (folder.join("ca.pem"), folder.join("ca-key.pem"));
    match (files::read_text(&certificate, PEM_BYTES_MAX)?, files::read_text(&key, PEM_BYTES_MAX)?) {
        (Some(certificate_pem), Some(key_pem)) => {
            Authority::load(&certificate_pem, &key_pem).map_err(|error| Fault::local(format!("{}: {error}", certificate.display())))
        }
        (None, None) => Authority::generate(cluster, validity).map_err(|error| Fault::local(format!("make the authority: {error}"))),
        (Some(_), None) => Err(Fault::local(format!("{} is there, but its key {} is not", certificate.display(), key.display()))
            .cure("bring the key to sign for more nodes, or use another folder for a new authority")),
        (None, Some(_)) => Err(Fault::local(format!("{} is there, but its certificate {} is not", key.display(), certificate.display()))
            .cure("bring the certificate, or use another folder for a new authority")),
    }
}

/// `id=host,host`.
fn parse_node(text: &str) -> Result<(NodeId, Vec<String>), Fault> {
    let refused = |why: &str| Fault::local(format!("{text:?} {why}")).cure("write n1=10.0.0.1,vault1.example");
    let (id, hosts) = text.split_once('=').ok_or_else(|| refused("names no host"))?;
    let id = NodeId::parse(id).map_err(|error| refused(&format!("is no node: {error}")))?;
    let hosts: Vec<String> = hosts.split(',').map(|host| host.trim().to_owned()).filter(|host| !host.is_empty()).collect();
    if hosts.is_empty() {
        return Err(refused("names no host"));
    }
    Ok((id, hosts))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use clap::Parser as _;

    use super::*;
    use crate::args::{Arguments, Command, Operator};

    fn certs(out: &Path, nodes: &[&str]) -> Result<(), Fault> {
        let flags = ["conclave", "operator", "certs", "--format", "json", "--out", out.to_str().unwrap()];
        let arguments = Arguments::parse_from(flags.into_iter().chain(nodes.iter().copied()));
        let Command::Operator(Operator::Certs(args)) = arguments.command else { panic!("parsed as another command") };
        run(&Printer::new(&arguments.global).unwrap(), &args)
    }

    #[test]
    fn keys_are_private_and_nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("certs");
        certs(&out, &["n1=127.0.0.1", "n2=host"]).unwrap();
        for key in ["ca-key.pem", "n1-key.pem", "n2-key.pem"] {
            assert_eq!(std::fs::metadata(out.join(key)).unwrap().mode() & 0o777, 0o600, "{key}");
        }
        let before = std::fs::read(out.join("n1.pem")).unwrap();
        let fault = certs(&out, &["n3=host", "n1=127.0.0.1"]).unwrap_err();
        assert!(fault.to_string().contains("n1.pem"), "{fault}");
        assert_eq!(std::fs::read(out.join("n1.pem")).unwrap(), before);
        assert!(!out.join("n3.pem").exists(), "it is all or nothing");
        certs(&out, &["n3=host"]).unwrap();
    }

    #[test]
    fn a_bad_node_is_named_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        for node in ["n1", "n1=", "N1=host", "=host", "n1=a b"] {
            let fault = certs(folder.path(), &[node]).unwrap_err();
            assert!(fault.to_string().contains(node.split('=').next().unwrap()), "{node}: {fault}");
        }
        assert!(certs(folder.path(), &["n1=a", "n1=b"]).unwrap_err().to_string().contains("twice"));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
