//! What a hostile caller tries, as tests through the whole service: on every route of every table ([`routes`]), and as weaknesses of other
//! servers ([`cves`]; `docs/cves.md` lists them all).

mod cves;
mod routes;

use serde_json::{Value, json};
use types::Verb;
use types::capability::Capability;

use crate::testing::World;

/// Where there is a mount of each kind, besides those that every namespace has: path, then kind.
const MOUNTS: [(&str, &str); 4] =
    [("mounts/kv-v1", "kv-v1"), ("mounts/kv-v2", "kv-v2"), ("auth/userpass", "userpass"), ("auth/approle", "approle")];

/// A world with every backend mounted in the root.
async fn whole_world(seed: u64) -> World {
    let world = World::new(seed);
    for (path, kind) in MOUNTS {
        world.ask(Verb::Write, &format!("sys/{path}"), json!({ "type": kind })).await.unwrap();
    }
    world
}

/// Every capability but `deny` and those of `but`, as a policy has them.
fn capabilities(but: &[Capability]) -> String {
    let all = Capability::ALL.iter().filter(|capability| **capability != Capability::Deny && !but.contains(capability));
    all.map(|capability| format!("{:?}", capability.as_str())).collect::<Vec<_>>().join(",")
}

/// Writes a policy, and makes a token that has it and nothing else.
async fn token_with(world: &World, namespace: &'static str, name: &str, policy: &str) -> String {
    let ask =
        |path: String, body: Value| async move { world.ask_in(namespace, &world.root_token, Verb::Write, &path, body).await.unwrap() };
    ask(format!("sys/policies/acl/{name}"), json!({ "policy": policy })).await;
    let made = ask("auth/token/create".into(), json!({ "policies": [name], "no_default_policy": true, "no_parent": true })).await;
    made["auth"]["client_token"].as_str().unwrap().to_owned()
}

/// `docs/cves.md` names tests: each is where the page says.
#[test]
fn every_test_that_the_page_names_is_there() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = std::fs::read_to_string(root.join("docs/cves.md")).unwrap();
    let mut named = 0;
    for (file, test) in page.split('`').skip(1).step_by(2).filter_map(|code| code.split_once("::")) {
        let file =
            if file.starts_with("crates/") || file.starts_with("tests/") { file.to_owned() } else { format!("crates/service/src/{file}") };
        let text = std::fs::read_to_string(root.join(&file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(text.contains(&format!("fn {test}(")), "{file} has no test {test}");
        named += 1;
    }
    assert!(named > 50, "{named} tests are named");
}
