//! Tokens by whole requests, as clients send them.

use serde_json::{Value, json};
use types::Verb;

use crate::request::Refusal;
use crate::testing::{Asking, World};

/// A new world with a policy `p` that may use the token API.
async fn world(seed: u64) -> World {
    let world = World::new(seed);
    let rules = r#"path "auth/token/*" { capabilities = ["create", "update", "read", "list"] }
        path "sys/leases/*" { capabilities = ["update", "list"] }"#;
    world.ask(Verb::Write, "sys/policies/acl/p", json!({ "policy": rules })).await.unwrap();
    world
}

async fn made(world: &World, parent: &str, path: &str, body: Value) -> Result<Value, String> {
    let answer = world.ask_as(parent, Verb::Write, &format!("auth/token/{path}"), body).await;
    answer.map(|answer| answer["auth"].clone()).map_err(|error| error.to_string())
}

fn text(auth: &Value) -> String {
    auth["client_token"].as_str().unwrap().to_owned()
}

async fn create(world: &World, parent: &str, body: Value) -> String {
    text(&made(world, parent, "create", body).await.unwrap())
}

async fn lookup(world: &World, token: &str) -> Result<Value, Refusal> {
    world.ask_as(token, Verb::Read, "auth/token/lookup-self", Value::Null).await
}

async fn is_good(world: &World, token: &str) -> bool {
    lookup(world, token).await.is_ok()
}

/// Does what is due until nothing is.
async fn settle(world: &World) {
    for _ in 0..50 {
        // A chore is due in the second after it was planned.
        world.pass(1);
        let reaper = world.service.reaper(crate::lease::undoers);
        if reaper.round().await.unwrap() == 0 {
            return;
        }
    }
    panic!("chores without end");
}

#[tokio::test]
async fn a_child_has_no_more_policies_than_its_parent() {
    let world = world(1).await;
    let parent = create(&world, &world.root_token, json!({ "policies": ["p"], "ttl": "1h" })).await;
    let root = world.root_token.as_str();
    for (maker, path, body, want) in [
        (&*parent, "create", json!({}), Ok(json!(["default", "p"]))),
        (&parent, "create", json!({ "policies": ["p"] }), Ok(json!(["default", "p"]))),
        (&parent, "create", json!({ "policies": ["p"], "no_default_policy": true }), Ok(json!(["p"]))),
        (&parent, "create", json!({ "policies": ["x"] }), Err("child policies must be subset of parent")),
        (&parent, "create", json!({ "policies": ["root"] }), Err("child policies must be subset of parent")),
        (&parent, "create-orphan", json!({ "policies": ["x"] }), Err("child policies must be subset of parent")),
        (&parent, "create-orphan", json!({}), Ok(json!(["default", "p"]))),
        (&parent, "create", json!({ "id": "abc" }), Err("root or sudo privileges required to specify token id")),
        (&parent, "create", json!({ "no_parent": true }), Err("root or sudo privileges required to create orphan token")),
        (&parent, "create", json!({ "period": "10s" }), Err("root or sudo privileges required to create periodic token")),
        (&parent, "create/none", json!({}), Err("unknown role none")),
        (root, "create", json!({}), Ok(json!(["root"]))),
        (root, "create", json!({ "policies": ["X ", "x"] }), Ok(json!(["default", "x"]))),
        (root, "create", json!({ "policies": ["root", "p"] }), Ok(json!(["root"]))),
        (root, "create", json!({ "policies": ["response-wrapping"] }), Err("cannot assign policy \"response-wrapping\"")),
        (root, "create", json!({ "policies": ["root"], "type": "batch" }), Err("batch tokens cannot be root tokens")),
        (root, "create", json!({ "type": "other" }), Err("invalid 'token_type' value (type must be service or batch)")),
        (root, "create", json!({ "entity_alias": "x" }), Err("'entity_alias' is only allowed in combination with token role")),
    ] {
        let found = made(&world, maker, path, body.clone()).await.map(|auth| auth["policies"].clone());
        assert_eq!(found, want.map_err(str::to_owned), "{path} {body}");
    }
}

#[tokio::test]
async fn sudo_on_the_path_lifts_the_bounds_but_never_makes_root() {
    let world = world(2).await;
    let rules = r#"path "auth/token/create" { capabilities = ["update", "sudo"] }"#;
    world.ask(Verb::Write, "sys/policies/acl/s", json!({ "policy": rules })).await.unwrap();
    let maker = create(&world, &world.root_token, json!({ "policies": ["s"] })).await;
    let auth = made(&world, &maker, "create", json!({ "policies": ["x"], "no_parent": true, "period": "10m" })).await.unwrap();
    assert_eq!((&auth["policies"], &auth["orphan"], &auth["lease_duration"]), (&json!(["default", "x"]), &json!(true), &json!(600)));
    let root = made(&world, &maker, "create", json!({ "policies": ["root"] })).await;
    assert_eq!(root, Err("root tokens may not be created without parent token being root".into()));
}

#[tokio::test]
async fn a_token_tells_all_that_is_known_of_it() {
    let world = world(3).await;
    let body =
        json!({ "policies": ["p"], "ttl": "1h", "display_name": "a b", "meta": { "k": "v" }, "num_uses": 9, "explicit_max_ttl": "2h" });
    let auth = made(&world, &world.root_token, "create", body).await.unwrap();
    let token = text(&auth);
    assert!(token.starts_with("hvs.") && token.len() == 28, "as clients expect");
    world.pass(10);
    let shown = lookup(&world, &token).await.unwrap();
    for (name, want) in [
        ("id", json!(token)),
        ("accessor", auth["accessor"].clone()),
        ("creation_time", json!(1_795_510_800)),
        ("creation_ttl", json!(3600)),
        ("ttl", json!(3590)),
        ("explicit_max_ttl", json!(7200)),
        ("display_name", json!("token-a-b")),
        ("meta", json!({ "k": "v" })),
        ("num_uses", json!(8)),
        ("orphan", json!(false)),
        ("path", json!("auth/token/create")),
        ("policies", json!(["default", "p"])),
        ("renewable", json!(true)),
        ("type", json!("service")),
        ("entity_id", json!("")),
        ("issue_time", json!("2026-11-24T09:00:00Z")),
        ("expire_time", json!("2026-11-24T10:00:00Z")),
    ] {
        assert_eq!(shown[name], want, "{name}");
    }
    let accessor = json!({ "accessor": auth["accessor"] });
    let by_accessor = world.ask(Verb::Write, "auth/token/lookup-accessor", accessor.clone()).await.unwrap();
    assert_eq!((&by_accessor["id"], &by_accessor["display_name"]), (&json!(""), &json!("token-a-b")), "never the text");
    let by_text = world.ask(Verb::Write, "auth/token/lookup", json!({ "token": token })).await.unwrap();
    assert_eq!(by_text["num_uses"], json!(8), "asking for another's token costs that one nothing");
    assert_eq!(world.ask(Verb::Write, "auth/token/lookup", json!({})).await.unwrap()["policies"], json!(["root"]), "the caller's own");
    let refused = world.ask(Verb::Write, "auth/token/lookup", json!({ "token": "nope" })).await;
    assert_eq!(refused, Err(Refusal::Forbidden("bad token".into())));
    let accessors = world.ask(Verb::List, "auth/token/accessors", Value::Null).await.unwrap();
    assert!(accessors["keys"].as_array().unwrap().contains(&auth["accessor"]));
    let plain = create(&world, &world.root_token, json!({ "policies": ["p"] })).await;
    let denied = world.ask_as(&plain, Verb::List, "auth/token/accessors", Value::Null).await;
    assert_eq!(denied, Err(Refusal::Denied), "that needs sudo");
    world.ask(Verb::Write, "auth/token/revoke-accessor", accessor).await.unwrap();
    assert!(!is_good(&world, &token).await);
}

#[tokio::test]
async fn the_end_of_a_parent_is_the_end_of_its_children_at_once_and_nothing_is_left() {
    let world = world(4).await;
    let before = world.barrier.view().names_below(&barrier::Name::root(), 10_000).unwrap().len();
    let parent = create(&world, &world.root_token, json!({ "policies": ["p"] })).await;
    let mut family = vec![parent.clone()];
    for generation in 0..4 {
        family.push(create(&world, &family[generation].clone(), json!({})).await);
    }
    let batch = create(&world, &family[2].clone(), json!({ "type": "batch" })).await;
    let orphan = text(&made(&world, &family[1].clone(), "create-orphan", json!({ "ttl": "1h" })).await.unwrap());
    for token in family.iter().chain([&batch, &orphan]) {
        assert!(is_good(&world, token).await);
    }
    world.ask(Verb::Write, "auth/token/revoke", json!({ "token": parent })).await.unwrap();
    for token in family.iter().chain([&batch]) {
        assert_eq!(lookup(&world, token).await, Err(Refusal::Denied), "before anything was cleaned up");
    }
    assert!(is_good(&world, &orphan).await);
    settle(&world).await;
    world.pass(3600);
    settle(&world).await;
    assert!(!is_good(&world, &orphan).await);
    let left = world.barrier.view().names_below(&barrier::Name::root(), 10_000).unwrap();
    assert_eq!(left.len(), before, "records are left: {:?}", left.iter().map(barrier::Name::as_str).collect::<Vec<_>>());
}

#[tokio::test]
async fn children_that_are_left_live_on_as_orphans() {
    let world = world(5).await;
    let grandparent = create(&world, &world.root_token, json!({ "policies": ["p"] })).await;
    let parent = create(&world, &grandparent, json!({})).await;
    let child = create(&world, &parent, json!({ "ttl": "1h" })).await;
    let grandchild = create(&world, &child, json!({})).await;
    let batch = create(&world, &parent, json!({ "type": "batch" })).await;
    let refused = made(&world, &grandparent, "revoke-orphan", json!({ "token": parent })).await;
    assert_eq!(refused, Err("root or sudo privileges required to revoke and orphan".into()));
    world.ask(Verb::Write, "auth/token/revoke-orphan", json!({ "token": parent })).await.unwrap();
    for is_settled in [false, true] {
        assert!(!is_good(&world, &parent).await, "settled: {is_settled}");
        assert!(!is_good(&world, &batch).await, "settled: {is_settled}");
        assert!(is_good(&world, &grandchild).await, "settled: {is_settled}");
        assert_eq!(lookup(&world, &child).await.unwrap()["orphan"], json!(true), "settled: {is_settled}");
        // It can still be renewed and be a parent.
        world.ask_as(&child, Verb::Write, "auth/token/renew-self", json!({})).await.unwrap();
        assert!(is_good(&world, &create(&world, &child, json!({})).await).await);
        settle(&world).await;
    }
    world.ask(Verb::Write, "auth/token/revoke", json!({ "token": grandparent })).await.unwrap();
    settle(&world).await;
    assert!(is_good(&world, &grandchild).await, "no longer its ancestor");
    world.ask(Verb::Write, "auth/token/revoke", json!({ "token": child })).await.unwrap();
    assert!(!is_good(&world, &grandchild).await);
}

#[tokio::test]
async fn a_token_is_used_as_often_as_it_may_be_and_not_once_more() {
    let world = world(6).await;
    let token = create(&world, &world.root_token, json!({ "policies": ["p"], "num_uses": 3 })).await;
    assert_eq!(lookup(&world, &token).await.unwrap()["num_uses"], json!(2));
    let denied = world.ask_as(&token, Verb::Read, "sys/mounts", Value::Null).await;
    assert_eq!(denied, Err(Refusal::Denied), "which costs a use too");
    assert_eq!(lookup(&world, &token).await.unwrap()["num_uses"], json!(-1), "the last one, as Vault shows it");
    assert_eq!(lookup(&world, &token).await, Err(Refusal::Denied));
    let token = create(&world, &world.root_token, json!({ "policies": ["p"], "num_uses": 2 })).await;
    let child = made(&world, &token, "create", json!({})).await;
    assert_eq!(child, Err("restricted use token cannot generate child tokens".into()));
    let child = made(&world, &token, "create", json!({})).await;
    assert_eq!(child, Err("restricted use token cannot generate child tokens".into()));
    // The last use may be the token's own end.
    let token = create(&world, &world.root_token, json!({ "policies": ["p"], "num_uses": 1 })).await;
    assert_eq!(world.ask_as(&token, Verb::Write, "auth/token/revoke-self", json!({})).await, Ok(Value::Null));
    let token = create(&world, &world.root_token, json!({ "policies": ["p"], "num_uses": 1 })).await;
    let renewed = world.ask_as(&token, Verb::Write, "auth/token/renew-self", json!({})).await;
    assert_eq!(renewed, Err(Refusal::Refused("token not found".into())));
    // A renewal is a use, and does not give one back.
    let token = create(&world, &world.root_token, json!({ "policies": ["p"], "num_uses": 2 })).await;
    assert_eq!(world.ask_as(&token, Verb::Write, "auth/token/renew-self", json!({})).await.unwrap()["auth"]["num_uses"], json!(1));
    assert!(is_good(&world, &token).await && !is_good(&world, &token).await);
}

#[tokio::test]
async fn of_many_requests_at_once_exactly_as_many_pass_as_there_are_uses() {
    let world = world(7).await;
    // Two nodes over one cluster.
    let other = world.another_node(70);
    for uses in [1, 3] {
        let token = create(&world, &world.root_token, json!({ "policies": ["p"], "num_uses": uses })).await;
        let asks = (0..16).map(|number| {
            let node = if number % 2 == 0 { &world } else { &other };
            lookup(node, &token)
        });
        let passed = futures::future::join_all(asks).await.into_iter().filter(Result::is_ok).count();
        assert_eq!(passed, uses);
    }
}

#[tokio::test]
async fn a_batch_token_has_no_record_and_is_good_as_long_as_its_parent_is() {
    let world = world(8).await;
    let parent = create(&world, &world.root_token, json!({ "policies": ["p"], "ttl": "2h" })).await;
    let count = || world.barrier.view().names_below(&barrier::Name::root(), 10_000).unwrap().len();
    let before = count();
    let auth = made(&world, &parent, "create", json!({ "type": "batch", "ttl": "1h" })).await.unwrap();
    let batch = text(&auth);
    assert_eq!(count(), before);
    assert!(batch.starts_with("hvb."));
    assert_eq!((&auth["token_type"], &auth["renewable"], &auth["accessor"]), (&json!("batch"), &json!(false), &json!("")));
    let shown = lookup(&world, &batch).await.unwrap();
    assert_eq!((&shown["type"], &shown["ttl"], &shown["id"]), (&json!("batch"), &json!(3600), &json!(batch)));
    for (path, want) in [
        ("create", "batch tokens cannot create more tokens"),
        ("renew-self", "batch tokens cannot be renewed"),
        ("revoke-self", "batch tokens cannot be revoked"),
    ] {
        assert_eq!(made(&world, &batch, path, json!({})).await, Err(want.into()), "{path}");
    }
    for path in ["renew", "revoke", "revoke-orphan"] {
        let refused = made(&world, &world.root_token, path, json!({ "token": batch })).await.unwrap_err();
        assert!(refused.starts_with("batch tokens cannot be"), "{refused}");
    }
    for (name, value) in [("period", json!("1h")), ("num_uses", json!(2)), ("explicit_max_ttl", json!("1h")), ("id", json!("x"))] {
        let mut body = json!({ "type": "batch", "policies": ["p"] });
        body[name] = value;
        let refused = made(&world, &world.root_token, "create", body).await;
        assert_eq!(refused, Err(format!("batch tokens cannot have {name:?} set")));
    }
    let long = json!({ "type": "batch", "policies": ["p"], "meta": (0..60).map(|n| (n.to_string(), json!("x".repeat(99)))).collect::<serde_json::Map<_, _>>() });
    assert!(made(&world, &world.root_token, "create", long).await.unwrap_err().contains("more than 4096"));
    let forged = format!("{}{}", &batch[..batch.len() - 2], if batch.ends_with("AA") { "BB" } else { "AA" });
    assert!(!is_good(&world, &forged).await);
    for text in ["hvb.", "hvb.!", "hvb.AAAA"] {
        assert!(!is_good(&world, text).await, "{text}");
    }
    assert!(!is_good(&World::new(80), &batch).await, "another cluster's");
    assert!(is_good(&world, &batch).await);
    world.ask(Verb::Write, "auth/token/revoke", json!({ "token": parent })).await.unwrap();
    assert_eq!(lookup(&world, &batch).await, Err(Refusal::Denied));
    let free =
        text(&made(&world, &world.root_token, "create-orphan", json!({ "type": "batch", "policies": ["p"], "ttl": "1h" })).await.unwrap());
    world.pass(3599);
    assert!(is_good(&world, &free).await);
    world.pass(1);
    assert!(!is_good(&world, &free).await);
}

#[tokio::test]
async fn a_renewal_never_passes_a_bound() {
    let world = world(9).await;
    let renew = async |token: &str, increment: &str| {
        let answer = world.ask_as(token, Verb::Write, "auth/token/renew-self", json!({ "increment": increment })).await;
        answer.map(|answer| answer["auth"]["lease_duration"].as_u64().unwrap()).map_err(|error| error.to_string())
    };
    let token = create(&world, &world.root_token, json!({ "policies": ["p"], "ttl": "1h" })).await;
    assert_eq!(renew(&token, "").await, Ok(3600), "as long as it was given");
    assert_eq!(renew(&token, "2h").await, Ok(7200));
    world.pass(100);
    assert_eq!(renew(&token, "0").await, Ok(7200), "as long as it was given last");
    assert_eq!(renew(&token, "900h").await, Ok(768 * 3600 - 100), "the mount's bound, from the making on");
    assert_eq!(renew(&token, "100").await, Ok(100), "less is granted too");
    let shown = lookup(&world, &token).await.unwrap();
    assert_eq!((&shown["creation_ttl"], &shown["ttl"], &shown["last_renewal_time"]), (&json!(3600), &json!(100), &json!(1_795_510_900)));
    world.pass(100);
    assert!(!is_good(&world, &token).await);
    assert_eq!(made(&world, &world.root_token, "renew", json!({ "token": token })).await, Err("token not found".into()));
    assert_eq!(made(&world, &world.root_token, "renew", json!({})).await, Err("missing token ID".into()));
    assert_eq!(renew(&world.root_token, "").await, Err("lease is not renewable".into()), "a root token that never ends");
    let fixed = create(&world, &world.root_token, json!({ "policies": ["p"], "renewable": false })).await;
    assert_eq!(renew(&fixed, "").await, Err("lease is not renewable".into()));
    let bound = create(&world, &world.root_token, json!({ "policies": ["p"], "ttl": "1h", "explicit_max_ttl": "90m" })).await;
    world.pass(1800);
    assert_eq!(renew(&bound, "2h").await, Ok(3600));
    let auth = made(&world, &world.root_token, "create", json!({ "policies": ["p"] })).await.unwrap();
    let by_accessor = json!({ "accessor": auth["accessor"], "increment": 60 });
    let renewed = made(&world, &world.root_token, "renew-accessor", by_accessor).await.unwrap();
    assert_eq!((&renewed["lease_duration"], &renewed["client_token"]), (&json!(60), &json!("")), "never the text");
}

#[tokio::test]
async fn a_periodic_token_lives_as_long_as_it_is_renewed() {
    let world = world(10).await;
    let renew = async |token: &str| {
        let answer = world.ask_as(token, Verb::Write, "auth/token/renew-self", json!({ "increment": "5h" })).await;
        answer.map(|answer| answer["auth"]["lease_duration"].as_u64().unwrap())
    };
    let token = create(&world, &world.root_token, json!({ "policies": ["p"], "period": "1h" })).await;
    for _ in 0..2000 {
        world.pass(3599);
        assert_eq!(renew(&token).await, Ok(3600));
    }
    assert_eq!(lookup(&world, &token).await.unwrap()["period"], json!(3600));
    let bound = create(&world, &world.root_token, json!({ "policies": ["p"], "period": "1h", "explicit_max_ttl": "90m" })).await;
    world.pass(3000);
    assert_eq!(renew(&bound).await, Ok(2400), "for periodic ones too");
    world.pass(2400);
    assert_eq!(renew(&bound).await, Err(Refusal::Denied));
    let auth = made(&world, &world.root_token, "create", json!({ "policies": ["p"], "period": "800h" })).await.unwrap();
    assert_eq!(auth["lease_duration"], json!(768 * 3600), "no period is longer than the mount allows");
}

#[tokio::test]
async fn cve_2021_32923_a_token_at_its_bound_ends_and_never_becomes_eternal() {
    let world = world(11).await;
    for body in [json!({ "explicit_max_ttl": "4s", "ttl": "3s" }), json!({ "explicit_max_ttl": "4s", "period": "3s" })] {
        let mut body = body.clone();
        body["policies"] = json!(["p"]);
        let token = create(&world, &world.root_token, body.clone()).await;
        world.pass(2);
        let renewed = made(&world, &token, "renew-self", json!({ "increment": "1h" })).await.unwrap();
        assert_eq!(renewed["lease_duration"], json!(2), "{body}");
        // Less than a second is left; Vault once made it last for ever.
        world.pass_ms(1_500);
        let over = made(&world, &token, "renew-self", json!({ "increment": "1h" })).await;
        assert_eq!(over, Err("past the max TTL, cannot renew".into()), "{body}");
        assert_eq!(lookup(&world, &token).await.unwrap()["ttl"], json!(0));
        world.pass_ms(500);
        assert!(!is_good(&world, &token).await, "{body}");
    }
    // A role whose bound was made stricter holds at the next renewal.
    world.ask(Verb::Write, "auth/token/roles/r", json!({ "allowed_policies": "p" })).await.unwrap();
    let token = text(&made(&world, &world.root_token, "create/r", json!({ "ttl": "1h" })).await.unwrap());
    world.ask(Verb::Write, "auth/token/roles/r", json!({ "token_explicit_max_ttl": "30m" })).await.unwrap();
    world.pass(1800);
    assert_eq!(made(&world, &token, "renew-self", json!({})).await, Err("past the max TTL, cannot renew".into()));
    // No token without an end is made by one that has an end.
    let expiring_root = create(&world, &world.root_token, json!({ "ttl": "1h" })).await;
    let refused = made(&world, &expiring_root, "create", json!({})).await;
    assert_eq!(refused, Err("expiring root tokens cannot create non-expiring root tokens".into()));
    assert_eq!(
        made(&world, &world.root_token, "create", json!({ "ttl": "500ms", "policies": ["p"] })).await,
        Err("the TTL is less than a second".into())
    );
}

#[tokio::test]
async fn roles_say_what_their_tokens_are() {
    let world = world(12).await;
    let role = async |body: Value| {
        world.ask(Verb::Delete, "auth/token/roles/r", Value::Null).await.unwrap();
        world.ask(Verb::Write, "auth/token/roles/r", body).await.map_err(|error| error.to_string())
    };
    let root = world.root_token.as_str();
    assert_eq!(world.ask(Verb::List, "auth/token/roles", Value::Null).await, Ok(json!("none")));
    assert_eq!(world.ask(Verb::Read, "auth/token/roles/r", Value::Null).await, Ok(json!("none")));
    role(json!({ "allowed_policies": "p,Q", "period": "1h", "orphan": true, "path_suffix": "sfx", "token_num_uses": 4 })).await.unwrap();
    let shown = world.ask(Verb::Read, "auth/token/roles/r", Value::Null).await.unwrap();
    for (name, want) in [
        ("name", json!("r")),
        ("allowed_policies", json!(["p", "q"])),
        ("disallowed_policies", json!([])),
        ("period", json!(3600)),
        ("token_period", json!(3600)),
        ("orphan", json!(true)),
        ("renewable", json!(true)),
        ("path_suffix", json!("sfx")),
        ("token_type", json!("default-service")),
        ("token_num_uses", json!(4)),
        ("allowed_entity_aliases", Value::Null),
    ] {
        assert_eq!(shown[name], want, "{name}");
    }
    world.ask(Verb::Write, "auth/token/roles/r", json!({ "renewable": false })).await.unwrap();
    assert_eq!(
        world.ask(Verb::Read, "auth/token/roles/r", Value::Null).await.unwrap()["path_suffix"],
        json!("sfx"),
        "a change of one member"
    );
    assert_eq!(world.ask(Verb::List, "auth/token/roles", Value::Null).await.unwrap()["keys"], json!(["r"]));
    let auth = made(&world, root, "create/r", json!({ "policies": ["p"], "num_uses": 9 })).await.unwrap();
    assert_eq!(
        (&auth["orphan"], &auth["renewable"], &auth["num_uses"], &auth["lease_duration"]),
        (&json!(true), &json!(false), &json!(4), &json!(3600))
    );
    let shown = lookup(&world, &text(&auth)).await.unwrap();
    assert_eq!((&shown["path"], &shown["role"], &shown["period"]), (&json!("auth/token/create/r/sfx"), &json!("r"), &json!(3600)));
    assert_eq!(
        made(&world, root, "create/r", json!({ "policies": ["x"] })).await,
        Err(
            r#"token policies (["default" "x"]) must be subset of the role's allowed policies (["default" "p" "q"]) or glob policies ([])"#
                .into()
        )
    );
    for (body, want) in [
        (json!({ "token_type": "other" }), "invalid 'token_type' value \"other\""),
        (json!({ "token_type": "batch" }), "'token_type' cannot be 'batch' when role is set to generate non-orphan tokens"),
        (json!({ "token_type": "batch", "orphan": true }), "'token_type' cannot be 'batch' when role is set to generate renewable tokens"),
        (json!({ "path_suffix": "a/b" }), "given role path suffix contains invalid characters; must match \\w[\\w-.]+\\w"),
        (
            json!({ "token_bound_cidrs": "10.0.0.0/33" }),
            r#"token_bound_cidrs must be addresses or CIDR blocks, such as "10.1.2.3" or "10.0.0.0/8""#,
        ),
        (
            json!({ "token_ttl": "1h" }),
            "token_ttl means nothing to a token role (ask for a ttl when a token is made, or use token_explicit_max_ttl or token_period)",
        ),
    ] {
        assert_eq!(role(body.clone()).await, Err(want.to_owned()), "{body}");
    }
    for (kind, asked, want) in [
        ("service", json!("batch"), "service"),
        ("default-service", json!("batch"), "batch"),
        ("default-service", Value::Null, "service"),
        ("default-batch", Value::Null, "batch"),
        ("default-batch", json!("service"), "service"),
        ("batch", json!("service"), "batch"),
    ] {
        role(json!({ "token_type": kind, "orphan": true, "renewable": false })).await.unwrap();
        let auth = made(&world, root, "create/r", json!({ "policies": ["p"], "type": asked })).await.unwrap();
        assert_eq!(auth["token_type"], json!(want), "{kind} {asked}");
    }
    role(json!({ "allowed_policies": "p" })).await.unwrap();
    let token = text(&made(&world, root, "create/r", json!({})).await.unwrap());
    world.ask(Verb::Delete, "auth/token/roles/r", Value::Null).await.unwrap();
    assert!(is_good(&world, &token).await);
    let refused = made(&world, &token, "renew-self", json!({})).await;
    assert_eq!(refused, Err("original token role \"r\" could not be found, not renewing".into()));
}

#[tokio::test]
async fn a_bound_token_is_good_only_from_where_it_may_be_used() {
    let world = world(13).await;
    world.ask(Verb::Write, "auth/token/roles/r", json!({ "token_bound_cidrs": "10.0.0.0/8", "allowed_policies": "p" })).await.unwrap();
    for kind in ["service", "batch"] {
        let token = text(&made(&world, &world.root_token, "create/r", json!({ "type": kind })).await.unwrap());
        for (remote, want) in [("10.1.2.3:1", true), ("127.0.0.1:1", false), ("[::ffff:10.1.2.3]:1", true)] {
            let asking = Asking { token: Some(token.clone()), remote, ..world.asking(Verb::Read, "auth/token/lookup-self", Value::Null) };
            assert_eq!(world.send(asking).await.outcome.is_ok(), want, "{kind} {remote}");
        }
        let shown = world.ask(Verb::Write, "auth/token/lookup", json!({ "token": token })).await.unwrap();
        assert_eq!(shown["bound_cidrs"], json!(["10.0.0.0/8"]));
    }
}

#[tokio::test]
async fn a_text_that_its_maker_chose_belongs_to_one_token() {
    let world = world(14).await;
    let body = json!({ "id": "my-id", "policies": ["p"] });
    assert_eq!(create(&world, &world.root_token, body.clone()).await, "my-id");
    assert_eq!(made(&world, &world.root_token, "create", body.clone()).await, Err("cannot create a token with a duplicate ID".into()));
    let child = create(&world, "my-id", json!({})).await;
    world.ask_as("my-id", Verb::Write, "auth/token/revoke-self", json!({})).await.unwrap();
    let refused = made(&world, &world.root_token, "create", body.clone()).await.unwrap_err();
    assert!(refused.contains("still being cleaned up"), "{refused}");
    settle(&world).await;
    assert_eq!(create(&world, &world.root_token, body).await, "my-id");
    assert!(!is_good(&world, &child).await, "of the first");
    settle(&world).await;
    assert!(is_good(&world, "my-id").await);
    for id in ["hvs.abc", "a.b", "a b"] {
        assert!(
            made(&world, &world.root_token, "create", json!({ "id": id })).await.unwrap_err().starts_with("custom token ID")
                | id.contains(' ')
        );
    }
}

#[tokio::test]
async fn a_token_has_a_lease_that_ends_it() {
    let world = world(15).await;
    let token = create(&world, &world.root_token, json!({ "policies": ["p"], "ttl": "1h" })).await;
    let keys = world.ask(Verb::List, "sys/leases/lookup/auth/token/create", Value::Null).await.unwrap()["keys"].clone();
    let id = format!("auth/token/create/{}", keys[0].as_str().unwrap());
    assert!(!id.contains(&token[4..]));
    assert_eq!(world.ask(Verb::List, "sys/leases/lookup", Value::Null).await.unwrap()["keys"], json!(["auth/"]));
    let shown = world.ask(Verb::Write, "sys/leases/lookup", json!({ "lease_id": id })).await.unwrap();
    assert_eq!((&shown["id"], &shown["ttl"], &shown["last_renewal"]), (&json!(id), &json!(3600), &Value::Null));
    let lookup_none = world.ask(Verb::Write, "sys/leases/lookup", json!({ "lease_id": "none" })).await;
    assert_eq!(lookup_none, Err(Refusal::Refused("invalid lease".into())));
    for path in ["sys/leases/renew", "sys/renew", &format!("sys/leases/renew/{id}"), &format!("sys/renew/{id}")] {
        let refused = world.ask(Verb::Write, path, json!({ "lease_id": id })).await;
        assert!(matches!(refused, Err(Refusal::Refused(text)) if text.starts_with("tokens cannot be renewed through this")), "{path}");
    }
    assert_eq!(
        world.ask(Verb::Write, "sys/leases/renew", json!({ "lease_id": "none" })).await,
        Err(Refusal::Refused("lease not found".into()))
    );
    assert!(world.ask(Verb::Write, "sys/leases/revoke", json!({})).await.is_err());
    assert_eq!(world.ask(Verb::Write, "sys/leases/revoke", json!({ "lease_id": "none" })).await, Ok(Value::Null));
    for path in ["sys/leases/revoke", "sys/revoke", "sys/leases/revoke/", "sys/revoke/"] {
        let token = create(&world, &world.root_token, json!({ "policies": ["p"], "ttl": "1h", "id": format!("id-{}", path.len()) })).await;
        let before = world.ask(Verb::List, "sys/leases/lookup/auth/token/create", Value::Null).await.unwrap()["keys"].clone();
        let name = before.as_array().unwrap().iter().find(|key| !keys.as_array().unwrap().contains(key)).unwrap();
        let id = format!("auth/token/create/{}", name.as_str().unwrap());
        let (path, body) =
            if path.ends_with('/') { (format!("{path}{id}"), json!({})) } else { (path.to_owned(), json!({ "lease_id": id })) };
        assert_eq!(world.ask(Verb::Write, &path, body).await, Ok(Value::Null), "{path}");
        assert!(!is_good(&world, &token).await, "{path}");
    }
    assert!(is_good(&world, &token).await);
    for path in ["sys/leases/lookup", "sys/leases/lookup/auth"] {
        assert_eq!(world.ask_as(&token, Verb::List, path, Value::Null).await, Err(Refusal::Denied), "that needs sudo");
    }
    assert!(world.ask_as(&token, Verb::Write, "sys/leases/lookup", json!({ "lease_id": id })).await.is_ok(), "and that does not");
    assert_eq!(
        world.ask_as(&token, Verb::Write, "sys/leases/revoke-prefix/auth", json!({})).await,
        Err(Refusal::Denied),
        "that needs sudo"
    );
    assert_eq!(world.ask(Verb::Write, "sys/revoke-prefix/auth/token/create", json!({})).await, Ok(Value::Null));
    assert!(!is_good(&world, &token).await);
    assert_eq!(world.ask(Verb::List, "sys/leases/lookup/auth/token/create", Value::Null).await, Ok(json!("none")));
    assert_eq!(world.ask(Verb::Read, "sys/leases/count", Value::Null).await.unwrap()["lease_count"], json!(0));
    for path in ["sys/leases/tidy", "auth/token/tidy"] {
        assert_eq!(world.ask(Verb::Write, path, json!({})).await, Ok(Value::Null), "{path}");
    }
}

#[tokio::test]
async fn more_leases_than_one_batch_holds_are_revoked_too() {
    let world = world(16).await;
    world.ask(Verb::Write, "auth/token/roles/r", json!({ "allowed_policies": "p" })).await.unwrap();
    let mut tokens = Vec::new();
    for _ in 0..450 {
        tokens.push(text(&made(&world, &world.root_token, "create/r", json!({ "ttl": "1h" })).await.unwrap()));
    }
    let other = create(&world, &world.root_token, json!({ "policies": ["p"] })).await;
    let response = world.send(world.asking(Verb::Write, "sys/leases/revoke-prefix/auth/token/create/r", json!({}))).await;
    assert!(response.warnings[0].contains("the others are being revoked now"));
    settle(&world).await;
    for token in &tokens {
        assert!(!is_good(&world, token).await);
    }
    assert!(is_good(&world, &other).await);
}
