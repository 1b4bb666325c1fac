//! `conclave operator certs`: certificates that an operator brings to the nodes.

use std::path::{Path, PathBuf};
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

/// Writes `ca.pem`, `ca-key.pem`, and each node's certificate and key. An authority that is there already is used.
pub(crate) fn run(printer: &Printer, args: &Certs) -> Result<(), Fault> {
    let cluster = NodeId::parse(&args.cluster).map_err(|error| Fault::local(format!("-cluster: {error}")))?;
    let nodes = args.nodes.iter().map(|text| parse_node(text)).collect::<Result<Vec<_>, _>>()?;
    let owner = args.owner.as_deref().map(parse_owner).transpose()?;
    let validity = DAY * args.days;
    for (at, (id, _)) in nodes.iter().enumerate() {
        if nodes[..at].iter().any(|(earlier, _)| earlier == id) {
            return Err(Fault::local(format!("{id} is named twice")).cure("write its hosts together: n1=10.0.0.1,vault1.example"));
        }
    }
    let mut wanted = Vec::new();
    let mut kept = Vec::new();
    for (id, hosts) in &nodes {
        let place = Place::of(args, id);
        if args.keep && place.is_complete() {
            kept.push(place.certificate.display().to_string());
            continue;
        }
        if let Some(file) = place.files().find(|file| file.exists()) {
            return Err(Fault::local(format!("{} is there already", file.display()))
                .cure("nothing is overwritten: move it away first, or leave complete sets as they are with -keep"));
        }
        wanted.push((id, hosts, place));
    }
    files::create_folder(&args.out)?;
    let authority = authority(&args.out, &cluster, validity)?;
    // All are made before one is written: a bad host leaves nothing half-done.
    let identities = wanted
        .iter()
        .map(|(id, hosts, _)| authority.issue(&cluster, id, hosts, validity).map_err(|error| Fault::local(format!("{id}: {error}"))))
        .collect::<Result<Vec<_>, _>>()?;
    let mut written = Vec::new();
    let mut write = |file: &Path, content: &str, mode: u32, owner: Option<Owner>| {
        files::create(file, content.as_bytes(), mode)?;
        if let Some((user, group)) = owner {
            std::os::unix::fs::chown(file, Some(user), group).map_err(|error| files::fault("give away", file, &error))?;
        }
        written.push(file.display().to_string());
        Ok::<(), Fault>(())
    };
    if !args.out.join("ca.pem").exists() {
        write(&args.out.join("ca-key.pem"), &authority.key_pem(), KEY_MODE, None)?;
        write(&args.out.join("ca.pem"), authority.certificate_pem(), CERTIFICATE_MODE, None)?;
    }
    for ((_, _, place), identity) in wanted.iter().zip(identities) {
        if let Some(authority_file) = &place.authority {
            files::create_folder(authority_file.parent().expect("it is in the node's folder"))?;
            write(authority_file, authority.certificate_pem(), CERTIFICATE_MODE, owner)?;
        }
        write(&place.key, &identity.key_pem, KEY_MODE, owner)?;
        write(&place.certificate, &identity.certificate_pem, CERTIFICATE_MODE, owner)?;
    }
    let whole = json!({"cluster": cluster.as_str(), "files": written, "kept": kept});
    printer.answer(&whole.as_object().cloned().unwrap_or_default(), &whole, || {
        let mut text = String::new();
        if !kept.is_empty() {
            text.push_str(&format!("Left as they were:\n  {}\n", kept.join("\n  ")));
        }
        if !written.is_empty() {
            text.push_str(&format!(
                "Written for the cluster {cluster}, valid for {} days:\n  {}\n\nGive each node {} and its own two files. \
                 Keep {} offline: whoever has it can make nodes.\n",
                args.days,
                written.join("\n  "),
                if args.folders.is_some() { "the ca.pem of its folder" } else { "ca.pem" },
                args.out.join("ca-key.pem").display(),
            ));
        }
        text
    })
}

/// Who is to have a file: user, and group where one is named.
type Owner = (u32, Option<u32>);

/// Where a node's files go.
struct Place {
    /// Its own copy of the authority's certificate, where each node has a folder.
    authority: Option<PathBuf>,
    certificate: PathBuf,
    key: PathBuf,
}

impl Place {
    fn of(args: &Certs, id: &NodeId) -> Place {
        match &args.folders {
            Some(folders) => {
                let folder = folders.join(id.as_str());
                Place { authority: Some(folder.join("ca.pem")), certificate: folder.join("node.pem"), key: folder.join("node-key.pem") }
            }
            None => Place { authority: None, certificate: args.out.join(format!("{id}.pem")), key: args.out.join(format!("{id}-key.pem")) },
        }
    }

    fn files(&self) -> impl Iterator<Item = &PathBuf> {
        self.authority.iter().chain([&self.key, &self.certificate])
    }

    fn is_complete(&self) -> bool {
        self.files().all(|file| file.exists())
    }
}

/// `user` or `user:group`, in numbers.
fn parse_owner(text: &str) -> Result<Owner, Fault> {
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    let parsed = user.parse().ok().zip(group.map_or(Some(None), |group| group.parse().ok().map(Some)));
    parsed.ok_or_else(|| {
        Fault::local(format!("-owner: {text:?} names nobody")).cure("write numbers: 65532:65532 (`id -u` and `id -g` tell them)")
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
#[allow(clippy::disallowed_methods, reason = "test files need not be durable")]
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
        assert!(fault.to_string().contains("n1-key.pem is there already"), "{fault}");
        assert_eq!(std::fs::read(out.join("n1.pem")).unwrap(), before);
        assert!(!out.join("n3.pem").exists(), "it is all or nothing");
        certs(&out, &["n3=host"]).unwrap();
    }

    #[test]
    fn each_node_has_a_folder_of_its_own_and_what_is_complete_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (out, folders) = (folder.path().join("authority"), folder.path().join("nodes"));
        let own = std::fs::metadata(folder.path()).unwrap();
        let owner = format!("--owner={}:{}", own.uid(), own.gid());
        let flags = [format!("--folders={}", folders.display()), "--keep".to_owned(), owner];
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        certs(&out, &[flags.as_slice(), &["n1=a", "n2=b"]].concat()).unwrap();
        let read = |file: &str| std::fs::read(folders.join(file)).unwrap();
        assert_eq!(read("n1/ca.pem"), std::fs::read(out.join("ca.pem")).unwrap());
        assert_ne!(read("n1/node-key.pem"), read("n2/node-key.pem"));
        assert_eq!(std::fs::metadata(folders.join("n2/node-key.pem")).unwrap().mode() & 0o777, 0o600);
        let before = read("n1/node.pem");
        certs(&out, &[flags.as_slice(), &["n1=a", "n3=c"]].concat()).unwrap();
        assert_eq!(read("n1/node.pem"), before, "kept");
        assert!(!read("n3/node.pem").is_empty(), "what is missing is made");
        std::fs::remove_file(folders.join("n2/node.pem")).unwrap();
        let fault = certs(&out, &[flags.as_slice(), &["n2=b"]].concat()).unwrap_err();
        assert!(fault.to_string().contains("n2/ca.pem"), "half a set is nobody's: {fault}");
        for owner in ["", "root", "1:", "-1", "1:staff"] {
            let fault = certs(&out, &[&format!("--owner={owner}"), "n9=a"]).unwrap_err();
            assert!(fault.to_string().contains("-owner"), "{owner}: {fault}");
        }
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
