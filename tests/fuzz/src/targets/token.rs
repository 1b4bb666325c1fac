//! Texts that claim to be tokens: none but those that were issued are good, whatever they look like.

use crypto::SecretBytes;
use service::{Refusal, Request};
use types::{Path, RequestId, Verb};

use super::request::World;
use crate::driver::Subject;

pub(super) fn seeds() -> Vec<Vec<u8>> {
    // The world's own root token is among them: its neighbours are tried.
    let own = World::new().root_token;
    let plain = super::lines(include_str!("../../../corpora/tokens.txt")).map(|line| line.as_bytes().to_vec());
    plain.chain([own.into_bytes()]).collect()
}

pub(super) fn subject() -> Box<Subject> {
    let mut world = World::new();
    Box::new(move |input| {
        if world.is_worn() {
            world = World::new();
        }
        let is_issued = input == world.root_token.as_bytes();
        let ask = |verb, path: &str, token: &[u8], body: Vec<u8>| Request {
            id: RequestId::generate(),
            verb,
            namespace: Path::root(),
            path: Path::parse(path).expect("a path of ours"),
            body: SecretBytes::from(body),
            query: vec![],
            token: Some(SecretBytes::from(token.to_vec())),
            remote: None,
            headers: vec![],
            wrap_ttl: None,
            upload: None,
            reading: service::Reading::Configured,
        };
        let outcome = world.send(ask(Verb::Read, "auth/token/lookup-self", input, vec![]));
        assert_eq!(outcome.is_ok(), is_issued, "{outcome:?}");
        // Asked about by root, and unwrapped.
        let text = String::from_utf8_lossy(input).into_owned();
        let (root, body) = (world.root_token.clone(), serde_json::json!({ "token": text, "accessor": text }).to_string().into_bytes());
        let mut outcomes = vec![said(outcome)];
        for path in ["auth/token/lookup", "auth/token/lookup-accessor", "auth/token/renew", "sys/wrapping/lookup", "sys/wrapping/unwrap"] {
            let outcome = world.send(ask(Verb::Write, path, root.as_bytes(), body.clone()));
            let is_known = text == root && matches!(path, "auth/token/lookup" | "auth/token/renew");
            // An empty text is none: then the caller's own token is shown.
            assert!(
                outcome.is_err() || is_known || text.is_empty() || path == "auth/token/renew",
                "{path} knows a token that was not issued"
            );
            outcomes.push(said(outcome));
        }
        outcomes.join("|")
    })
}

fn said(outcome: Result<(), Refusal>) -> String {
    outcome.map_or_else(|refusal| refusal.to_string().chars().take(40).collect(), |()| "done".into())
}
