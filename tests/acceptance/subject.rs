//! What is judged: a cluster of three, or a second OpenBao, which shows that the tables are true of OpenBao and that nothing
//! is compared that differs by chance.

use std::path::{Path, PathBuf};

use tests::Cluster;

use crate::bao::Bao;
use crate::openbao::OpenBao;

/// With the value `openbao`, OpenBao is judged in place of Conclave.
const SUBJECT_VARIABLE: &str = "CONCLAVE_ACCEPTANCE_AT";

/// Open, with KV v2 at `secret/`.
pub(crate) enum Subject {
    Conclave(Box<Cluster>),
    OpenBao(OpenBao),
}

impl Subject {
    pub(crate) async fn start(program: &Path) -> Subject {
        match std::env::var(SUBJECT_VARIABLE).as_deref() {
            Ok("openbao") => Subject::OpenBao(OpenBao::start(program)),
            Ok(other) => panic!("{SUBJECT_VARIABLE} is {other:?}; it may be \"openbao\", or not be there"),
            Err(_) => Subject::Conclave(Box::new(Cluster::builder().open().await)),
        }
    }

    /// Speaks to its nodes in turn, with its root token.
    pub(crate) fn bao(&self, program: PathBuf) -> Bao {
        match self {
            Subject::Conclave(cluster) => Bao::of(program, cluster).token(self.token()),
            Subject::OpenBao(server) => server.bao(program),
        }
    }

    /// Where its nodes serve.
    pub(crate) fn addresses(&self) -> Vec<String> {
        match self {
            Subject::Conclave(cluster) => cluster.nodes.iter().map(|node| node.api_address()).collect(),
            Subject::OpenBao(server) => vec![server.address().to_owned()],
        }
    }

    /// Its root token.
    pub(crate) fn token(&self) -> &str {
        match self {
            Subject::Conclave(cluster) => &cluster.keys().root_token,
            Subject::OpenBao(server) => server.token(),
        }
    }

    /// Its shares: five, of which three open it.
    pub(crate) fn shares(&self) -> &[String] {
        match self {
            Subject::Conclave(cluster) => &cluster.keys().shares,
            Subject::OpenBao(server) => server.shares(),
        }
    }

    /// A folder that goes with it.
    pub(crate) fn folder(&self) -> &Path {
        match self {
            Subject::Conclave(cluster) => cluster.folder(),
            Subject::OpenBao(server) => server.folder(),
        }
    }

    /// Whether it is Conclave.
    pub(crate) fn is_conclave(&self) -> bool {
        matches!(self, Subject::Conclave(_))
    }
}
