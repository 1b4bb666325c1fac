//! Who may speak to the peers' port: members with a certificate of this cluster, and nobody else (reference T5, T6).

use std::fs;
use std::path::Path;
use std::time::Duration;

use proto::peer::ceremony_client::CeremonyClient;
use proto::peer::raft_client::RaftClient;
use proto::peer::{HandOverRequest, MemberStatusRequest, ProposeRequest, ReadIndexRequest, VoteRequest};
use tests::raw::request;
use tests::{Cluster, Command, within};
use tonic::Code;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity};

const ANSWER_MAX: Duration = Duration::from_secs(10);

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()))
}

/// A channel to a node's peers' port, as whoever has these files; none: as a stranger.
pub(crate) async fn connect(cluster: &Cluster, at: usize, identity: Option<(&Path, &str)>) -> Result<Channel, tonic::transport::Error> {
    let mut tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(read(&cluster.certs().join("ca.pem"))))
        .domain_name(format!("{}.{}.conclave.internal", cluster.nodes[at].id, cluster.name));
    if let Some((folder, id)) = identity {
        let (certificate, key) = (read(&folder.join(format!("{id}.pem"))), read(&folder.join(format!("{id}-key.pem"))));
        tls = tls.identity(Identity::from_pem(certificate, key));
    }
    let endpoint = Channel::from_shared(cluster.nodes[at].cluster_address()).expect("an address is a URI");
    within("connect", ANSWER_MAX, endpoint.tls_config(tls)?.connect()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn only_members_with_a_certificate_of_this_cluster_are_answered_by_peers() {
    let mut cluster = Cluster::builder().open().await;
    let folder = cluster.folder().to_owned();
    let make = |name: &str, args: &str| {
        let out = folder.join(name);
        Command::new("operator certs -out").arg(&out).arg("-cluster=conclave").arg(args).run().expect_code(0);
        out
    };

    // The control: a member's certificate is answered.
    let member = connect(&cluster, 0, Some((&cluster.certs(), "n2"))).await.expect("a member is let in");
    within("a member's call", ANSWER_MAX, RaftClient::new(member).read_index(ReadIndexRequest::default()))
        .await
        .expect("a member is answered");

    // Let in by the authority, refused by name, on every call.
    let same_authority = folder.join("same-authority");
    fs::create_dir(&same_authority).unwrap();
    for file in ["ca.pem", "ca-key.pem"] {
        fs::copy(cluster.certs().join(file), same_authority.join(file)).unwrap();
    }
    let sign = |cluster_name: &str, node: &str| {
        let command = Command::new("operator certs -out").arg(&same_authority).arg(format!("-cluster={cluster_name}"));
        command.arg(format!("{node}=127.0.0.1")).run().expect_code(0);
    };
    sign("other", "n2");
    sign("conclave", "n9");
    for (what, id, says) in [("of another cluster", "n2", "names no node of cluster"), ("of no member", "n9", "is not a member")] {
        let channel = connect(&cluster, 0, Some((&same_authority, id))).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        let (mut raft, mut ceremony) = (RaftClient::new(channel.clone()), CeremonyClient::new(channel));
        for (call, refusal) in [
            ("ReadIndex", within(what, ANSWER_MAX, raft.read_index(ReadIndexRequest::default())).await.err()),
            ("Vote", within(what, ANSWER_MAX, raft.vote(VoteRequest::default())).await.err()),
            ("Propose", within(what, ANSWER_MAX, raft.propose(ProposeRequest::default())).await.err()),
            ("Status", within(what, ANSWER_MAX, ceremony.status(MemberStatusRequest::default())).await.err()),
            ("HandOver", within(what, ANSWER_MAX, ceremony.hand_over(HandOverRequest::default())).await.err()),
        ] {
            let refusal = refusal.unwrap_or_else(|| panic!("{call} by a certificate {what} was answered"));
            assert_eq!(refusal.code(), Code::PermissionDenied, "{call} by a certificate {what}: {refusal}");
            assert!(refusal.message().contains(says), "{call} by a certificate {what}: {refusal}");
        }
    }

    // Not even let in. With TLS 1.3 the client learns of it at its first call.
    let foreign = make("foreign", "n2=127.0.0.1");
    for (what, identity) in [("no certificate", None), ("a certificate of another authority", Some((foreign.as_path(), "n2")))] {
        let answered = match connect(&cluster, 0, identity).await {
            Ok(channel) => within(what, ANSWER_MAX, RaftClient::new(channel).read_index(ReadIndexRequest::default())).await.ok(),
            Err(_) => None,
        };
        assert!(answered.is_none(), "{what} was answered");
    }
    let plain = Channel::from_shared(format!("http://127.0.0.1:{}", cluster.nodes[0].cluster_port)).unwrap().connect().await;
    if let Ok(channel) = plain {
        let answered = within("plain text", ANSWER_MAX, RaftClient::new(channel).read_index(ReadIndexRequest::default())).await;
        assert!(answered.is_err(), "plain text was answered");
    }
    let http = request(cluster.nodes[0].cluster_port, "GET /v1/sys/health", &[], "");
    assert_eq!(http.status, 0, "the peers' port speaks TLS only: {http:?}");
    // And the clients' port knows nothing of the peers' calls.
    let clients = Channel::from_shared(cluster.nodes[0].api_address()).unwrap().connect().await.expect("the clients' port takes gRPC");
    let refused = within("the clients' port", ANSWER_MAX, RaftClient::new(clients).read_index(ReadIndexRequest::default())).await;
    assert!(refused.is_err(), "the clients' port answered a peer's call");

    cluster.assert_sound();
}
