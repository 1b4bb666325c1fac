//! gRPC over TLS against nodes that are sealed, break, or answer; and who is trusted.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use client::{Builder, Client, Error, Failure, SecretData, TransactionResult};
use proto::kv::kv_server::{Kv, KvServer};
use proto::kv::operation::Call;
use proto::kv::operation_result::Outcome;
use proto::kv::{
    DeleteRequest, DeleteResponse, GetRequest, GetResponse, ListRequest, ListResponse, NotFound, OperationResult, PutRequest, PutResponse,
    TransactRequest, TransactResponse, Version,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status};

/// What a node answers.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Fine,
    Sealed,
    Broken,
}

/// A node that counts what it is asked, and keeps the token and the last data.
#[derive(Clone)]
struct Fake {
    mood: Mood,
    asked: Arc<AtomicUsize>,
    token: Arc<Mutex<String>>,
}

impl Fake {
    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn take<M>(&self, request: &Request<M>) -> Result<(), Status> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let token = request.metadata().get("x-vault-token").map(|value| value.to_str().unwrap().to_owned());
        *self.token.lock().unwrap() = token.unwrap_or_default();
        match self.mood {
            Mood::Fine => Ok(()),
            Mood::Sealed => Err(Status::unavailable("Vault is sealed")),
            Mood::Broken => Err(Status::internal("the disk is full")),
        }
    }
}

fn version() -> Version {
    Version { number: 3, created_time: "t".to_owned(), deletion_time: String::new(), destroyed: false }
}

#[tonic::async_trait]
impl Kv for Fake {
    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        self.take(&request)?;
        let data = match request.get_ref().path.as_str() {
            "absent" => return Err(Status::not_found("")),
            "deleted" => Vec::new(),
            _ => br#"{"x":"1"}"#.to_vec(),
        };
        Ok(Response::new(GetResponse { data, version: Some(version()) }))
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        self.take(&request)?;
        match request.get_ref().cas {
            Some(7) => Err(Status::failed_precondition("check-and-set parameter did not match the current version")),
            _ => Ok(Response::new(PutResponse { version: Some(version()) })),
        }
    }

    async fn delete(&self, request: Request<DeleteRequest>) -> Result<Response<DeleteResponse>, Status> {
        self.take(&request)?;
        Ok(Response::new(DeleteResponse {}))
    }

    async fn list(&self, request: Request<ListRequest>) -> Result<Response<ListResponse>, Status> {
        self.take(&request)?;
        Ok(Response::new(ListResponse { keys: vec!["a".to_owned()] }))
    }

    async fn transact(&self, request: Request<TransactRequest>) -> Result<Response<TransactResponse>, Status> {
        self.take(&request)?;
        let outcome = |at: usize, call: &Call| match call {
            Call::Get(get) if get.path == "absent" => Ok(Outcome::NotFound(NotFound {})),
            Call::Get(_) => Ok(Outcome::Get(GetResponse { data: br#"{"x":"1"}"#.to_vec(), version: Some(version()) })),
            Call::Put(put) if put.cas == Some(7) => {
                let mut status = Status::failed_precondition(format!("operations[{at}]: check-and-set parameter did not match"));
                status.metadata_mut().insert("x-conclave-request-id", "id-1".parse().unwrap());
                Err(status)
            }
            Call::Put(_) => Ok(Outcome::Put(PutResponse { version: Some(version()) })),
            Call::Delete(_) => Ok(Outcome::Delete(DeleteResponse {})),
            Call::List(_) => Ok(Outcome::List(ListResponse { keys: vec!["a".to_owned()] })),
        };
        let results = request
            .get_ref()
            .operations
            .iter()
            .enumerate()
            .map(|(at, operation)| Ok(OperationResult { outcome: Some(outcome(at, operation.call.as_ref().unwrap())?) }));
        Ok(Response::new(TransactResponse { results: results.collect::<Result<_, Status>>()? }))
    }
}

/// An authority, and the nodes that it made.
struct Cluster {
    issuer: Issuer<'static, KeyPair>,
    folder: TempDir,
    tasks: JoinSet<()>,
}

impl Cluster {
    fn new() -> Cluster {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(folder.path().join("ca.pem")).unwrap();
        file.write_all(params.self_signed(&key).unwrap().pem().as_bytes()).unwrap();
        Cluster { issuer: Issuer::new(params, key), folder, tasks: JoinSet::new() }
    }

    fn ca_file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    async fn node(&mut self, mood: Mood, name: &str) -> (Fake, String) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        let identity = Identity::from_pem(certificate.pem(), key.serialize_pem());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("https://{}", listener.local_addr().unwrap());
        let fake = Fake { mood, asked: Arc::default(), token: Arc::default() };
        let server =
            Server::builder().tls_config(ServerTlsConfig::new().identity(identity)).unwrap().add_service(KvServer::new(fake.clone()));
        self.tasks.spawn(async move { server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap() });
        (fake, address)
    }

    fn client(&self, addresses: &[&str]) -> Builder {
        Client::builder()
            .addresses(addresses.iter().copied())
            .ca_file(self.ca_file())
            .token("hvs.canary".to_owned().into())
            .timeout(Duration::from_secs(10))
            .retries_max(1)
    }
}

fn data() -> SecretData {
    serde_json::json!({"x": "1"}).as_object().unwrap().clone().into()
}

async fn nobody() -> String {
    format!("https://{}", TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap())
}

#[tokio::test]
async fn a_sealed_or_absent_node_is_passed_over() {
    let mut cluster = Cluster::new();
    let (sealed, first) = cluster.node(Mood::Sealed, "127.0.0.1").await;
    let (fine, second) = cluster.node(Mood::Fine, "127.0.0.1").await;
    let client = cluster.client(&[&nobody().await, &first, &second]).build().unwrap();
    let kv = client.kv_grpc("secret");
    assert_eq!(kv.put("a", data(), None).await.unwrap().number, 3);
    assert_eq!((sealed.asked(), fine.asked()), (1, 1));
    assert_eq!(*fine.token.lock().unwrap(), "hvs.canary");
    assert_eq!(kv.get("a", None).await.unwrap().data.unwrap().expose()["x"], "1");
    assert_eq!(kv.list("").await.unwrap(), ["a"]);
    kv.delete("a", &[1]).await.unwrap();
    assert_eq!(sealed.asked(), 1, "the node that answered is asked first");
}

#[tokio::test]
async fn a_write_whose_fate_is_unknown_is_not_sent_again() {
    let mut cluster = Cluster::new();
    let (broken, first) = cluster.node(Mood::Broken, "127.0.0.1").await;
    let (fine, second) = cluster.node(Mood::Fine, "127.0.0.1").await;
    let client = cluster.client(&[&first, &second]).build().unwrap();
    let error = client.kv_grpc("secret").put("a", data(), None).await.err().unwrap();
    assert!(matches!(error, Error::Indeterminate { .. }), "{error}");
    assert_eq!((broken.asked(), fine.asked()), (1, 0));
    client.kv_grpc("secret").get("a", None).await.unwrap();
    assert_eq!(fine.asked(), 1, "a read goes on");
}

#[tokio::test]
async fn a_transaction_has_a_result_for_each_operation_or_names_the_one_at_fault() {
    let mut cluster = Cluster::new();
    let (broken, first) = cluster.node(Mood::Broken, "127.0.0.1").await;
    let (fine, second) = cluster.node(Mood::Fine, "127.0.0.1").await;
    let client = cluster.client(&[&second]).build().unwrap();
    let all = client.transaction().get("s", "a").get("s", "absent").put("s", "b", data(), Some(0)).delete("s", "c").list("s", "");
    match all.commit_grpc().await.unwrap().as_slice() {
        [
            TransactionResult::Get(Some(found)),
            TransactionResult::Get(None),
            TransactionResult::Put(version),
            TransactionResult::Delete,
            TransactionResult::List(keys),
        ] => {
            assert_eq!(found.data.as_ref().unwrap().expose()["x"], "1");
            assert_eq!((version.number, keys.as_slice()), (3, ["a".to_owned()].as_slice()));
        }
        other => panic!("{} results of other kinds", other.len()),
    }
    let refused = client.transaction().get("s", "a").put("s", "b", data(), Some(7)).commit_grpc().await.err().unwrap();
    assert_eq!((refused.operation, refused.error.status(), refused.error.request_id()), (Some(1), Some(400), Some("id-1")));

    let both = cluster.client(&[&first, &second]).build().unwrap();
    let lost = both.transaction().put("s", "b", data(), None).commit_grpc().await.err().unwrap();
    assert!(matches!(lost.error, Error::Indeterminate { .. }) && lost.operation.is_none(), "{lost}");
    assert_eq!((broken.asked(), fine.asked()), (1, 2), "a write is not sent again");
    both.transaction().get("s", "a").commit_grpc().await.unwrap();
    assert_eq!(fine.asked(), 3, "reads go on");
}

#[tokio::test]
async fn refusals_are_final_and_absence_is_told_from_deletion() {
    let mut cluster = Cluster::new();
    let (fine, address) = cluster.node(Mood::Fine, "127.0.0.1").await;
    let client = cluster.client(&[&address]).build().unwrap();
    let kv = client.kv_grpc("secret");
    let error = kv.put("a", data(), Some(7)).await.err().unwrap();
    assert_eq!(error.status(), Some(400));
    assert!(error.to_string().contains("check-and-set") && !error.to_string().contains("canary"), "{error}");
    assert!(kv.get("absent", None).await.err().unwrap().is_not_found());
    let deleted = kv.get("deleted", None).await.unwrap();
    assert!(deleted.data.is_none() && deleted.version.number == 3);
    assert_eq!(fine.asked(), 3);
}

#[tokio::test]
async fn a_strangers_certificate_is_refused_before_anything_is_sent() {
    let (mut cluster, mut foreign) = (Cluster::new(), Cluster::new());
    let (fake, stranger) = foreign.node(Mood::Fine, "127.0.0.1").await;
    let (other_name, misnamed) = cluster.node(Mood::Fine, "other.example").await;
    for address in [&stranger, &misnamed] {
        let client = cluster.client(&[address]).build().unwrap();
        let error = client.kv_grpc("secret").put("a", data(), None).await.err().unwrap();
        let told = |error: &Error| matches!(error, Error::Unavailable { tried, .. } if matches!(tried[0].failure, Failure::Tls(_)));
        assert!(told(&error), "{error}");
        let error = client.sys().seal_status().await.err().unwrap();
        assert!(told(&error), "over HTTP as well: {error}");
    }
    assert_eq!((fake.asked(), other_name.asked()), (0, 0));

    let named = cluster.client(&[&misnamed]).tls_server_name("other.example").build().unwrap();
    named.kv_grpc("secret").put("a", data(), None).await.unwrap();
    let trusting = cluster.client(&[&stranger]).dangerous_tls_skip_verify(true).build().unwrap();
    trusting.kv_grpc("secret").put("a", data(), None).await.unwrap();
    assert_eq!((fake.asked(), other_name.asked()), (1, 1));
}

#[tokio::test]
async fn a_server_without_tls_is_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("https://{}", listener.local_addr().unwrap());
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let client = Client::builder().addresses([address]).dangerous_tls_skip_verify(true).retries_max(3).build().unwrap();
    for error in [client.sys().seal_status().await.err().unwrap(), client.kv_grpc("secret").list("").await.err().unwrap()] {
        assert!(error.to_string().contains("http://"), "{error}");
    }
}
