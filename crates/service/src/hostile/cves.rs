//! Weaknesses that other servers had, tried here. Those that a test beside the code tries already are named in `docs/cves.md`.

use serde_json::{Value, json};
use types::Verb;

use super::{capabilities, token_with, whole_world};
use crate::request::Refusal;
use crate::testing::World;

fn all() -> String {
    format!("path \"*\" {{ capabilities = [{}] }}", capabilities(&[]))
}

async fn as_token(world: &World, token: &str, verb: Verb, path: &str, body: Value) -> Result<Value, Refusal> {
    world.ask_as(token, verb, path, body).await
}

/// A deny of a folder holds for its list, however the slash at its end is written, in the rule and in the request.
#[tokio::test]
async fn cve_2026_63131_a_denied_folder_is_not_listed() {
    let world = whole_world(1).await;
    world.ask(Verb::Write, "kv-v1/private/a", json!({ "x": "y" })).await.unwrap();
    for (number, rule) in ["kv-v1/private", "kv-v1/private/", "kv-v1/private/*", "kv-v1/private*", "kv-v1/+/"].iter().enumerate() {
        let policy = format!("path \"kv-v1/*\" {{ capabilities = [\"list\", \"scan\"] }} path \"{rule}\" {{ capabilities = [\"deny\"] }}");
        let token = token_with(&world, "", &format!("p{number}"), &policy).await;
        for path in ["kv-v1/private", "kv-v1/private/", "kv-v1//private//"] {
            for verb in [Verb::List, Verb::Scan] {
                assert_eq!(as_token(&world, &token, verb, path, Value::Null).await, Err(Refusal::Denied), "{rule}: {verb} {path}");
            }
        }
        assert_eq!(as_token(&world, &token, Verb::List, "kv-v1", Value::Null).await, Ok(json!({ "keys": ["private/"] })), "the control");
    }
}

/// Names that are kept in lower case are judged as they are kept: a deny, or a rule that grants less, holds for every spelling.
#[tokio::test]
async fn cve_2026_93335_no_case_of_a_name_escapes_a_deny() {
    let world = whole_world(2).await;
    let user = json!({ "password": "pw", "token_policies": ["default"] });
    world.ask(Verb::Write, "auth/userpass/users/bob", user.clone()).await.unwrap();
    world.ask(Verb::Write, "auth/approle/role/bob", json!({})).await.unwrap();
    world.ask(Verb::Write, "sys/policies/acl/bob", json!({ "policy": "path \"a\" { capabilities = [\"read\"] }" })).await.unwrap();
    for below in ["auth/userpass/users/", "auth/approle/role/", "sys/policies/acl/", "sys/policy/"] {
        for (kind, own) in [("deny", "\"deny\""), ("less", "\"list\"")] {
            let policy = format!("{} path \"{below}bob\" {{ capabilities = [{own}] }}", all());
            let token = token_with(&world, "", &format!("no-bob-{kind}"), &policy).await;
            for name in ["bob", "BOB", "Bob", "bOb"] {
                for (verb, body) in [(Verb::Read, Value::Null), (Verb::Write, user.clone()), (Verb::Delete, Value::Null)] {
                    let outcome = as_token(&world, &token, verb, &format!("{below}{name}"), body).await;
                    assert_eq!(outcome, Err(Refusal::Denied), "{kind}: {verb} {below}{name}");
                }
            }
            let other = as_token(&world, &token, Verb::Read, &format!("{below}BOBBY"), Value::Null).await;
            assert_ne!(other, Err(Refusal::Denied), "{kind}: another name is another name");
        }
    }
    // A rule that is written with capitals grants as written, where none speaks of the name as it is kept.
    let policy = "path \"sys/policies/acl/BOB\" { capabilities = [\"read\"] }";
    let token = token_with(&world, "", "capitals", policy).await;
    assert!(as_token(&world, &token, Verb::Read, "sys/policies/acl/BOB", Value::Null).await.is_ok());
    assert_eq!(as_token(&world, &token, Verb::Read, "sys/policies/acl/bob", Value::Null).await, Err(Refusal::Denied));
    // Names that are kept as they are written are apart.
    let policy = "path \"kv-v1/*\" { capabilities = [\"create\"] } path \"kv-v1/example\" { capabilities = [\"deny\"] }";
    let token = token_with(&world, "", "kv", policy).await;
    assert_eq!(as_token(&world, &token, Verb::Write, "kv-v1/EXAMPLE", json!({ "x": "y" })).await, Ok(Value::Null));
    assert_eq!(world.ask(Verb::Read, "kv-v1/example", Value::Null).await, Ok(json!("none")));
}

/// No spelling of `root` where a policy's name is taken makes a token that may everything, for whoever is not root.
#[tokio::test]
async fn cve_2025_64761_no_spelling_of_root_makes_root() {
    let world = whole_world(3).await;
    let token = token_with(&world, "", "all", &all()).await;
    let ask = |verb, path: &str, body| {
        let (world, token, path) = (&world, &token, path.to_owned());
        async move { world.ask_as(token, verb, &path, body).await }
    };
    let names = [
        "root",
        "ROOT",
        "Root",
        " root",
        "root ",
        "\troot",
        "root\u{a0}",
        "ro\u{200b}ot",
        "\u{ff52}oot",
        "r\u{43e}ot",
        "root\u{0}",
        "root,default",
        "../root",
        "root/",
    ];
    for name in names {
        for (namings, field) in [(json!([name]), "list"), (json!(name), "text")] {
            let mut made = Vec::new();
            for path in ["auth/token/create", "auth/token/create-orphan"] {
                made.push(ask(Verb::Write, path, json!({ "policies": namings })).await);
            }
            let _ = ask(Verb::Write, "auth/token/roles/r", json!({ "allowed_policies": namings, "orphan": true })).await;
            made.push(ask(Verb::Write, "auth/token/create/r", json!({ "policies": namings })).await);
            made.push(ask(Verb::Write, "auth/token/create/r", json!({})).await);
            for policies in ["token_policies", "policies"] {
                let _ = ask(Verb::Write, "auth/userpass/users/u", json!({ "password": "pw", policies: namings })).await;
                made.push(ask(Verb::Write, "auth/userpass/login/u", json!({ "password": "pw" })).await);
                let _ = ask(
                    Verb::Write,
                    "auth/approle/role/r",
                    json!({ policies: namings, "bind_secret_id": false, "token_bound_cidrs": "127.0.0.1" }),
                )
                .await;
                if let Ok(id) = ask(Verb::Read, "auth/approle/role/r/role-id", Value::Null).await {
                    made.push(ask(Verb::Write, "auth/approle/login", json!({ "role_id": id["role_id"] })).await);
                }
            }
            for outcome in made.into_iter().flatten() {
                let Some(token) = outcome["auth"]["client_token"].as_str() else { continue };
                let policies = outcome["auth"]["policies"].to_string();
                assert!(!policies.contains("\"root\""), "{name:?} as a {field}: {policies}");
                let outcome = as_token(&world, token, Verb::Read, "sys/audit", Value::Null).await;
                assert_eq!(outcome, Err(Refusal::Denied), "{name:?} as a {field}: {policies}");
            }
        }
        for path in ["sys/policies/acl/ROOT", "sys/policy/Root", "sys/policies/acl/root"] {
            let outcome = ask(Verb::Write, path, json!({ "policy": all() })).await;
            assert!(outcome.is_err(), "{path}: {outcome:?}");
        }
    }
}

/// A policy's name never leads into another namespace, whatever it is made of.
#[tokio::test]
async fn cve_2026_115365_a_policys_name_stays_in_its_namespace() {
    let world = whole_world(4).await;
    let mut ids = Vec::new();
    for name in ["a", "b"] {
        ids.push(world.ask(Verb::Write, &format!("sys/namespaces/{name}"), Value::Null).await.unwrap()["id"].as_str().unwrap().to_owned());
    }
    let _ = token_with(&world, "a", "strong", &all()).await;
    let token = token_with(&world, "b", "weak", "path \"auth/token/create\" { capabilities = [\"update\", \"sudo\"] }").await;
    let id = &ids[0];
    for name in [
        "strong",
        "a/strong",
        "/a/strong",
        "../a/strong",
        &format!("../{id}/strong"),
        &format!("../../{id}/policy/strong"),
        "a:strong",
        "%2e%2e/a/strong",
    ] {
        let made =
            world.ask_in("b", &token, Verb::Write, "auth/token/create", json!({ "policies": [name], "no_default_policy": true })).await;
        let Ok(made) = made else { continue };
        let made = made["auth"]["client_token"].as_str().unwrap();
        for namespace in ["a", "b", ""] {
            for path in ["sys/mounts", "auth/token/lookup-self"] {
                let outcome = world.ask_in(namespace, made, Verb::Read, path, Value::Null).await;
                assert_eq!(outcome, Err(Refusal::Denied), "{name} in {namespace:?}: {path}");
            }
        }
    }
}

/// What is not there, what is expired, and what is another's fail alike, and none of it makes a token or a lease.
#[tokio::test]
async fn cve_2026_46405_a_failed_login_makes_nothing() {
    let world = whole_world(5).await;
    world.ask(Verb::Write, "auth/userpass/users/bob", json!({ "password": "pw" })).await.unwrap();
    world.ask(Verb::Write, "auth/approle/role/r", json!({})).await.unwrap();
    let role_id = world.ask(Verb::Read, "auth/approle/role/r/role-id", Value::Null).await.unwrap()["role_id"].clone();
    let before = world.records();
    for (path, body) in [
        ("auth/userpass/login/bob", json!({ "password": "wrong" })),
        ("auth/userpass/login/bob", json!({})),
        ("auth/userpass/login/nobody", json!({ "password": "pw" })),
        ("auth/userpass/login/b%6fb", json!({ "password": "pw" })),
        ("auth/approle/login", json!({ "role_id": role_id, "secret_id": "wrong" })),
        ("auth/approle/login", json!({ "role_id": role_id })),
        ("auth/approle/login", json!({ "role_id": "wrong", "secret_id": "wrong" })),
        ("auth/approle/login", json!({})),
    ] {
        let Ok(path) = types::Path::parse(path) else { continue };
        let outcome = world.ask_as("hvs.nobody", Verb::Write, path.as_str(), body.clone()).await;
        assert!(outcome.is_err(), "{body}: {outcome:?}");
        assert!(world.records() == before, "{body} wrote");
    }
}

/// An accessor shows and ends a token, and is never one; nor is a stored name, a role id, or another's wrapping token spelled anew.
#[tokio::test]
async fn no_other_text_is_a_token() {
    let world = whole_world(6).await;
    let made = world.ask(Verb::Write, "auth/token/create", json!({ "policies": ["default"] })).await.unwrap()["auth"].clone();
    let (token, accessor) = (made["client_token"].as_str().unwrap(), made["accessor"].as_str().unwrap());
    assert!(world.ask_as(token, Verb::Read, "auth/token/lookup-self", Value::Null).await.is_ok(), "the control");
    let stored: Vec<String> = world.records().into_keys().filter_map(|name| name.rsplit('/').next().map(str::to_owned)).collect();
    let mut texts = vec![
        accessor.to_owned(),
        format!("hvs.{accessor}"),
        token.to_uppercase(),
        token.to_lowercase(),
        format!(" {token}"),
        format!("{token} "),
        format!("{token}\0"),
        format!("{token}.root"),
        format!("{token}."),
        format!("root.{token}"),
        token.trim_start_matches("hvs.").to_owned(),
        token.replace("hvs.", "s."),
        token.replace("hvs.", "hvb."),
        token.replace("hvs.", "hvr."),
        token[..token.len() - 1].to_owned(),
        format!("{token}{token}"),
        "hvs.".into(),
        "hvb.".into(),
        "*".into(),
        "root".into(),
    ];
    texts.extend(stored.iter().flat_map(|name| [name.clone(), format!("hvs.{name}")]));
    for text in texts {
        let outcome = world.ask_as(&text, Verb::Read, "auth/token/lookup-self", Value::Null).await;
        assert_eq!(outcome, Err(Refusal::Denied), "{text:?}");
    }
}

/// A use is spent at the request, a lock at the try, an expiry at the look: nothing waits for a chore.
#[tokio::test]
async fn cve_2026_115362_what_has_ended_is_dead_before_any_chore() {
    let world = whole_world(7).await;
    let made = |body: Value| async {
        world.ask(Verb::Write, "auth/token/create", body).await.unwrap()["auth"]["client_token"].as_str().unwrap().to_owned()
    };
    let (service, batch) =
        (made(json!({ "ttl": "10s" })).await, made(json!({ "ttl": "10s", "type": "batch", "policies": ["default"] })).await);
    let wrapped = world.send(crate::testing::Asking { wrap_ttl_s: 10, ..world.asking(Verb::Read, "sys/mounts", Value::Null) }).await;
    let wrapped = crate::testing::shown(&wrapped.outcome.unwrap())["wrap_info"]["token"].as_str().unwrap().to_owned();
    world.pass(9);
    for token in [&service, &batch] {
        assert!(world.ask_as(token, Verb::Read, "auth/token/lookup-self", Value::Null).await.is_ok());
    }
    world.pass(1);
    for token in [&service, &batch, &wrapped] {
        assert_eq!(world.ask_as(token, Verb::Read, "auth/token/lookup-self", Value::Null).await, Err(Refusal::Denied));
        assert!(world.ask_as(token, Verb::Write, "auth/token/renew-self", json!({ "increment": "1h" })).await.is_err());
    }
    assert!(world.ask_as(&wrapped, Verb::Write, "sys/wrapping/unwrap", Value::Null).await.is_err());
    assert!(world.ask(Verb::Write, "sys/wrapping/unwrap", json!({ "token": wrapped })).await.is_err());
}

/// There are no identities yet, so a rule with a template stands for no path: not for its own text either, and no other text becomes a pattern.
#[tokio::test]
async fn ghsa_59w7_v8rr_pr4p_a_templated_rule_stands_for_no_path() {
    let world = whole_world(8).await;
    let policy = format!(
        "path \"kv-v1/{{{{identity.entity.name}}}}/*\" {{ capabilities = [{}] }} path \"kv-v1/own/*\" {{ capabilities = [\"create\"] }}",
        capabilities(&[])
    );
    let token = token_with(&world, "", "templated", &policy).await;
    for path in ["kv-v1/{{identity.entity.name}}/x", "kv-v1/*/x", "kv-v1/+/x", "kv-v1/a/x", "kv-v1/x"] {
        let outcome = as_token(&world, &token, Verb::Write, path, json!({ "x": "y" })).await;
        assert_eq!(outcome, Err(Refusal::Denied), "{path}");
    }
    assert_eq!(as_token(&world, &token, Verb::Write, "kv-v1/own/x", json!({ "x": "y" })).await, Ok(Value::Null), "the control");
}
