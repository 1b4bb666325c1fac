//! Properties of every route of every table: who is served, under which spellings, and with what in the body. A new route is tried like the
//! others without a line here; only one that strangers reach is an entry in [`OPEN`].

use std::collections::BTreeSet;
use std::sync::Arc;

use engine::route::{Access, Outline};
use serde_json::Value;
use types::capability::Capability;
use types::{Path, Verb};

use super::{capabilities, token_with, whole_world};
use crate::backend;
use crate::records::Records;
use crate::request::{Refusal, Request};
use crate::testing::{Asking, World};

/// The golden inventory of what is served without a token, besides what the node itself serves while sealed (its own list:
/// `node::http::system`). A further one is a decision, and belongs here.
const OPEN: [&str; 19] = [
    // Logins: how one comes by a token.
    "auth/approle/login: update",
    "auth/userpass/login/{username}: update",
    // How far an act on the keys has come, in numbers only: holders have no token, and must see that they are waited for.
    "sys/generate-root-token/attempt: read",
    // Shares for an act that somebody started who may: each is its own proof.
    "sys/generate-root-token/update: update",
    "sys/generate-root/attempt: read",
    "sys/generate-root/update: update",
    // As Vault: a login page asks for the mounts that are to be shown there, and nothing else is told.
    "sys/internal/ui/mounts/{path...}: read",
    "sys/internal/ui/mounts: read",
    "sys/internal/ui/namespaces: read",
    "sys/rekey/init: read",
    "sys/rekey/update: update",
    "sys/rekey/verify: read",
    "sys/rotate/root/init: read",
    "sys/rotate/root/update: update",
    "sys/rotate/root/verify: read",
    "sys/seals/attempt: read",
    "sys/seals/update: update",
    // Who holds a wrapping token asks how old it is, and for what.
    "sys/wrapping/lookup: read",
    "sys/wrapping/lookup: update",
];

/// Spellings of paths, of which each is one line: see there.
const SPELLINGS: &str = include_str!("../../../../tests/corpora/path-spellings.txt");
/// Bodies, of which each is one line: see there.
const BODIES: &str = include_str!("../../../../tests/corpora/json-bodies.txt");

/// Fields whose values are secrets.
const SECRET_FIELDS: [&str; 9] = ["password", "password_hash", "secret_id", "token", "id", "data", "input", "accessor", "options"];

fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().filter(|line| !line.is_empty() && !line.starts_with("# "))
}

/// Every route of the world's root, each with a path that takes it.
fn routes(world: &World) -> Vec<(String, Outline)> {
    let records = Records::new(world.barrier.view(), Arc::default());
    let mounts: Vec<_> = records.mounts(&crate::namespace::Namespace::root()).unwrap().iter().cloned().collect();
    let mut routes = Vec::new();
    for mount in mounts {
        for route in backend::find(&mount).unwrap().outlines() {
            routes.push((mount.path.clone(), route));
        }
    }
    assert!(routes.len() > 120, "{} routes", routes.len());
    routes
}

/// A path that takes the route, with `value` for each parameter.
fn path_of(mount: &str, route: &Outline, value: &str) -> String {
    let rest: Vec<&str> = route.pattern.split('/').map(|segment| if segment.starts_with('{') { value } else { segment }).collect();
    format!("{mount}{}", rest.join("/")).trim_end_matches('/').to_owned()
}

async fn answer(world: &World, token: Option<&str>, verb: Verb, path: &str, body: &str, query: &[(&str, &str)]) -> Result<String, Refusal> {
    let path = Path::parse(path).unwrap();
    let request = Request {
        id: types::RequestId::generate(),
        verb,
        namespace: Path::root(),
        path: if matches!(verb, Verb::List | Verb::Scan) { path.as_folder() } else { path },
        body: crypto::SecretBytes::from(body.as_bytes().to_vec()),
        query: query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        token: token.map(|token| crypto::SecretBytes::from(token.as_bytes().to_vec())),
        remote: Some("127.0.0.1:40000".parse().unwrap()),
        headers: Vec::new(),
        wrap_ttl: None,
        upload: None,
        reading: Default::default(),
    };
    world.service.handle(request).await.outcome.map(|answer| crate::testing::shown(&answer).to_string())
}

/// Denied as by any policy; or told that a share would do, too.
fn is_denied(outcome: &Result<String, Refusal>) -> bool {
    match outcome {
        Err(Refusal::Denied) => true,
        Err(Refusal::Forbidden(text)) => text == crate::sys::keys::SUDO_OR_SHARE,
        _ => false,
    }
}

/// Reference T23: a stranger, or who has a token that is none, reaches what is listed and nothing else, and writes nothing.
#[tokio::test]
async fn strangers_reach_what_is_listed_and_write_nothing() {
    let world = whole_world(1).await;
    let before = world.records();
    let mut open = BTreeSet::new();
    for (mount, route) in routes(&world) {
        for method in &route.methods {
            let path = path_of(&mount, &route, "name");
            for token in [None, Some("hvs.nobody"), Some("hvb.AAAA"), Some("root"), Some("")] {
                let outcome = answer(&world, token, method.verb, &path, "", &[]).await;
                let what = format!("{mount}{}: {}", route.pattern, method.verb);
                if route.access.is_open(method.verb) {
                    open.insert(what.clone());
                } else if route.access == Access::SudoOrShare {
                    let is_told_of_shares = matches!(&outcome, Err(Refusal::Forbidden(text)) if text == crate::sys::keys::SUDO_OR_SHARE);
                    assert!(is_told_of_shares, "{what} with {token:?}: {outcome:?}");
                } else {
                    let takes_a_wrapped_answer = mount == "sys/" && matches!(route.pattern, "wrapping/unwrap" | "wrapping/rewrap");
                    let is_told_of_wrapping = takes_a_wrapped_answer && matches!(outcome, Err(Refusal::Refused(_)));
                    assert!(outcome == Err(Refusal::Denied) || is_told_of_wrapping, "{what} with {token:?}: {outcome:?}");
                }
                assert!(world.records() == before, "{what} with {token:?} wrote");
            }
        }
    }
    assert_eq!(open.iter().map(String::as_str).collect::<Vec<_>>(), OPEN);
}

/// CVE-2023-0665 and its like: every operation needs its own capability; all the others together do not make up for it.
#[tokio::test]
async fn cve_2023_0665_every_operation_needs_its_capability() {
    let world = whole_world(2).await;
    let needed = |verb: Verb| match verb {
        Verb::Read => &[Capability::Read][..],
        Verb::Write => &[Capability::Create, Capability::Update],
        Verb::Patch => &[Capability::Patch],
        Verb::Delete => &[Capability::Delete],
        Verb::List => &[Capability::List],
        Verb::Scan => &[Capability::Scan],
    };
    let mut tokens = Vec::new();
    for verb in [Verb::Read, Verb::Write, Verb::Patch, Verb::Delete, Verb::List, Verb::Scan] {
        let policy = format!("path \"*\" {{ capabilities = [{}] }}", capabilities(needed(verb)));
        tokens.push((verb, token_with(&world, "", &format!("all-but-{verb}"), &policy).await));
    }
    let no_sudo = format!("path \"*\" {{ capabilities = [{}] }}", capabilities(&[Capability::Sudo]));
    let no_sudo = token_with(&world, "", "no-sudo", &no_sudo).await;
    let before = world.records();
    let mut tried = 0;
    for (mount, route) in routes(&world).into_iter().filter(|(_, route)| route.access != Access::Anyone) {
        let path = path_of(&mount, &route, "name");
        for method in route.methods.iter().filter(|method| !route.access.is_open(method.verb)) {
            let (_, token) = tokens.iter().find(|(verb, _)| *verb == method.verb).unwrap();
            let without = [Some(token), Some(&no_sudo).filter(|_| matches!(route.access, Access::Sudo | Access::SudoOrShare))];
            for token in without.into_iter().flatten() {
                let outcome = answer(&world, Some(token), method.verb, &path, "", &[]).await;
                assert!(is_denied(&outcome), "{path}: {}: {outcome:?}", method.verb);
                tried += 1;
            }
        }
    }
    assert!(world.records() == before, "something was written");
    assert!(tried > 200, "{tried}");
}

/// Reference T12: whatever is denied at a path is denied under every spelling of it; a spelling that is not refused is either the same path, or
/// another name, for which policy and routing see the same text.
#[tokio::test]
async fn no_spelling_of_any_routes_path_escapes_a_deny() {
    let world = whole_world(3).await;
    let all = capabilities(&[]);
    let (mut same, mut refused, mut other) = (0, 0, 0);
    for (number, (mount, route)) in routes(&world).into_iter().filter(|(_, route)| route.access != Access::Anyone).enumerate() {
        let path = path_of(&mount, &route, "name");
        let policy = format!(
            "path \"*\" {{ capabilities = [{all}] }} path \"{path}\" {{ capabilities = [\"deny\"] }} path \"{path}/\" {{ capabilities = [\"deny\"] }}"
        );
        let token = token_with(&world, "", &format!("p{number}"), &policy).await;
        for line in lines(SPELLINGS) {
            let slashes = if line.contains("{/}") { path.matches('/').count() } else { 1 };
            for slash in 0..slashes {
                let raw = spelled(line, &path, slash);
                let Ok(parsed) = Path::parse_http(&raw) else {
                    refused += 1;
                    continue;
                };
                let is_same = parsed.without_folder().as_str() == path;
                if is_same {
                    same += 1
                } else {
                    other += 1
                }
                for method in route.methods.iter().filter(|method| !route.access.is_open(method.verb)) {
                    if is_same {
                        let outcome = answer(&world, Some(&token), method.verb, parsed.as_str(), "{}", &[]).await;
                        assert!(is_denied(&outcome), "{raw:?}: {}: {outcome:?}", method.verb);
                    } else if matches!(method.verb, Verb::Read | Verb::List) {
                        let outcome = answer(&world, Some(&token), method.verb, parsed.as_str(), "", &[]).await;
                        assert_ne!(outcome, Err(Refusal::Internal), "{raw:?}: {}", method.verb);
                    }
                }
            }
        }
    }
    assert!(same > 500 && refused > 1_000 && other > 100, "{same} {refused} {other}");
}

/// One line of the corpus, for one path: `{path}` is the whole, `{/}` one of its slashes, spelled as the line says; `{first}` and `{rest}` are its
/// first letter as hex digits, and what follows.
fn spelled(line: &str, path: &str, slash: usize) -> String {
    if line.contains("{/}") {
        let at = path.match_indices('/').nth(slash).unwrap().0;
        let spelling = line.replace("{/}", "");
        return format!("{}{spelling}{}", &path[..at], &path[at + 1..]);
    }
    let first = format!("{:02x}", path.as_bytes()[0]);
    line.replace("{path}", path).replace("{first}", &first).replace("{rest}", &path[1..]).replace("{upper}", &path.to_uppercase())
}

/// Reference T19, CVE-2025-4166: whatever the body is, no route fails by itself, and no error repeats it.
#[tokio::test]
async fn cve_2025_4166_no_route_repeats_or_breaks_at_an_odd_body() {
    let world = whole_world(4).await;
    let policy = format!("path \"*\" {{ capabilities = [{}] }}", capabilities(&[]));
    let token = token_with(&world, "", "all", &policy).await;
    let mut tried = 0;
    for (mount, route) in routes(&world) {
        // Sealing is what it is for; revoking the caller's token would end the test.
        if matches!((mount.as_str(), route.pattern), ("sys/", "seal") | ("auth/token/", "revoke-self")) {
            continue;
        }
        let path = path_of(&mount, &route, "name");
        for method in route.methods.iter().filter(|method| matches!(method.verb, Verb::Write | Verb::Patch)) {
            for line in lines(BODIES) {
                // Every field that the route takes, with the same odd value. Errors may name what is no secret: a mount, a policy, a time.
                let value = |name: &str| if SECRET_FIELDS.contains(&name) { line.to_owned() } else { line.replace("canary", "odd") };
                let members: Vec<String> = method.fields.iter().map(|field| format!("{:?}:{}", field.name, value(field.name))).collect();
                for body in [line.to_owned(), format!("{{{}}}", members.join(","))] {
                    let outcome = answer(&world, Some(&token), method.verb, &path, &body, &[]).await;
                    tried += 1;
                    if let Err(refusal) = outcome {
                        let text = refusal.to_string();
                        assert_ne!(refusal, Refusal::Internal, "{path}: {}: {body}", method.verb);
                        assert!(!text.contains("canary"), "{path}: {}: {body}: {text}", method.verb);
                    }
                }
            }
        }
    }
    assert!(tried > 2_000, "{tried}");
}

/// Reference T14: a namespace by header and by the path's prefix is one and the same, for every route.
#[tokio::test]
async fn a_namespace_is_the_same_by_header_and_by_prefix() {
    let world = whole_world(5).await;
    world.ask(Verb::Write, "sys/namespaces/a", Value::Null).await.unwrap();
    let in_root =
        format!("path \"a/*\" {{ capabilities = [{}] }} path \"a/sys/mounts\" {{ capabilities = [\"deny\"] }}", capabilities(&[]));
    let own = format!("path \"*\" {{ capabilities = [{}] }} path \"sys/mounts\" {{ capabilities = [\"deny\"] }}", capabilities(&[]));
    let tokens = [token_with(&world, "", "in-root", &in_root).await, token_with(&world, "a", "own", &own).await];
    for (mount, route) in routes(&world).into_iter().filter(|(mount, _)| matches!(mount.as_str(), "sys/" | "auth/token/" | "cubbyhole/")) {
        let path = path_of(&mount, &route, "name");
        for method in route.methods.iter().filter(|method| matches!(method.verb, Verb::Read | Verb::List | Verb::Scan | Verb::Delete)) {
            for token in &tokens {
                let ask = |namespace: &'static str, path: String| {
                    let asking = Asking { token: Some(token.clone()), namespace, ..world.asking(method.verb, &path, Value::Null) };
                    async { world.send(asking).await.outcome.map(|answer| crate::testing::shown(&answer)) }
                };
                let by_header = ask("a", path.clone()).await;
                let by_prefix = ask("", format!("a/{path}")).await;
                let is_drawn = route.pattern.starts_with("tools/random") || route.pattern.starts_with("internal/specs");
                let class = |outcome: &Result<Value, Refusal>| outcome.as_ref().map(|_| ()).map_err(Refusal::to_string);
                assert_eq!(class(&by_header), class(&by_prefix), "{path}: {}", method.verb);
                assert!(is_drawn || by_header == by_prefix, "{path}: {}: {by_header:?} {by_prefix:?}", method.verb);
                if path == "sys/mounts" {
                    assert_eq!(by_header, Err(Refusal::Denied), "both spellings are denied");
                }
            }
        }
    }
}

/// A parameter in the query counts for policies as one in the body does, with a body too: handlers take it from either.
#[tokio::test]
async fn a_denied_parameter_is_denied_in_the_query_too() {
    let world = whole_world(6).await;
    let policy = r#"path "auth/token/create" { capabilities = ["update"] denied_parameters = { "ttl" = [] } }"#;
    let token = token_with(&world, "", "no-ttl", policy).await;
    for body in ["", "{}", r#"{"display_name":"x"}"#] {
        assert!(answer(&world, Some(&token), Verb::Write, "auth/token/create", body, &[]).await.is_ok(), "the control: {body}");
        let outcome = answer(&world, Some(&token), Verb::Write, "auth/token/create", body, &[("ttl", "1h")]).await;
        assert_eq!(outcome, Err(Refusal::Denied), "{body}");
    }
    let allowed = r#"path "auth/token/create" { capabilities = ["update"] allowed_parameters = { "display_name" = [] } }"#;
    let token = token_with(&world, "", "only-a-name", allowed).await;
    let outcome = answer(&world, Some(&token), Verb::Write, "auth/token/create", r#"{"display_name":"x"}"#, &[("period", "1h")]).await;
    assert_eq!(outcome, Err(Refusal::Denied));
    assert!(answer(&world, Some(&token), Verb::Write, "auth/token/create", r#"{"display_name":"x"}"#, &[]).await.is_ok());
    // Of two members of one name the last one counts, for the policy as for the handler.
    let limited = r#"path "auth/token/create" { capabilities = ["update"] allowed_parameters = { "ttl" = ["1h"] } }"#;
    let token = token_with(&world, "", "an-hour", limited).await;
    for (body, fits) in [(r#"{"ttl":"9h","ttl":"1h"}"#, true), (r#"{"ttl":"1h","ttl":"9h"}"#, false)] {
        let outcome = answer(&world, Some(&token), Verb::Write, "auth/token/create", body, &[]).await;
        assert_eq!(outcome.is_ok(), fits, "{body}: {outcome:?}");
    }
}
