//! The OpenAPI document is valid, and what can be generated from it finds no answer of 5xx: by openapi-spec-validator and
//! schemathesis, within a minute.

use serde_json::json;

use crate::check::Tally;
use crate::subject::Subject;
use crate::{clients, needs};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/openapi/check.py");

#[tokio::test(flavor = "multi_thread")]
async fn the_document_is_valid_and_nothing_answers_5xx() {
    let (Some(program), Some(python)) = (needs::bao(), needs::schemathesis()) else { return };
    let subject = Subject::start(&program).await;
    let mut tally = Tally::default();
    let mut command = clients::command(&python);
    command.arg(SCRIPT);
    let input = json!({ "addresses": subject.addresses(), "token": subject.token(), "folder": subject.folder() });
    clients::run(&mut tally, "schemathesis", command, subject.folder(), &input);
    tally.finish(4);
    if let Subject::Conclave(mut cluster) = subject {
        cluster.assert_sound();
    }
}
