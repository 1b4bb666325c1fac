//! AppRole as its callers see it: requests to one mount, each planned and committed.

use serde_json::{Value, json};
use types::capability::Verb;

use super::*;
use crate::auth::testing::{Got, Node, denied, refused};

const INVALID: &str = "invalid role or secret ID";

#[test]
fn the_table_is_well_formed() {
    assert_eq!(engine::route::check(ROUTES), Vec::<String>::new());
}

/// A node with a role `r` whose role id is `rid`.
async fn node(role: Value) -> Node {
    let node = Node::new("approle");
    let mut body = json!({"role_id": "rid", "token_policies": "a"});
    body.as_object_mut().unwrap().extend(role.as_object().unwrap().clone());
    assert_eq!(node.ask(Verb::Write, "role/R", body).await, Got::Done);
    node
}

/// A new secret id of the role `r`, and its accessor.
async fn secret_id(node: &Node, body: Value) -> (String, String) {
    let data = node.ask(Verb::Write, "role/r/secret-id", body).await.data();
    (data["secret_id"].as_str().unwrap().into(), data["secret_id_accessor"].as_str().unwrap().into())
}

async fn log_in(node: &Node, role_id: &str, secret_id: &str) -> Got {
    node.ask(Verb::Write, "login", json!({"role_id": role_id, "secret_id": secret_id})).await
}

#[tokio::test]
async fn roles_are_made_shown_listed_and_deleted_with_all_that_is_theirs() {
    let node = node(json!({"policies": "B", "period": 60, "bound_cidr_list": "127.0.0.1/32", "secret_id_ttl": "10m"})).await;
    let shown = node.ask(Verb::Read, "role/r", Value::Null).await.data();
    for (member, want) in [
        ("bind_secret_id", json!(true)),
        ("local_secret_ids", json!(false)),
        ("secret_id_bound_cidrs", json!(["127.0.0.1/32"])),
        ("secret_id_num_uses", json!(0)),
        ("secret_id_ttl", json!(600)),
        ("token_policies", json!(["a"])),
        ("policies", Value::Null),
        ("period", json!(60)),
        ("token_period", json!(60)),
        ("role_id", Value::Null),
    ] {
        assert_eq!(shown[member], want, "{member}");
    }
    assert_eq!(node.ask(Verb::Read, "role/r/role-id", Value::Null).await.data(), json!({"role_id": "rid"}));
    assert_eq!(node.ask(Verb::Write, "role/r/role-id", json!({"role_id": "other"})).await, Got::Done);
    let (secret, _) = secret_id(&node, json!({})).await;
    assert_eq!(log_in(&node, "rid", &secret).await, refused(INVALID), "the old role id");
    assert!(matches!(log_in(&node, "other", &secret).await, Got::Auth(_)));
    assert_eq!(node.ask(Verb::Write, "role/second", json!({"role_id": "other"})).await, refused("role_id already in use"));
    assert_eq!(node.ask(Verb::Write, "role/second", json!({})).await, Got::Done);
    assert_eq!(node.ask(Verb::List, "role", Value::Null).await.data(), json!({"keys": ["r", "second"]}));

    for role in ["r", "second", "none"] {
        assert_eq!(node.ask(Verb::Delete, &format!("role/{role}"), Value::Null).await, Got::Done);
    }
    assert_eq!(log_in(&node, "other", &secret).await, refused(INVALID));
    assert_eq!(node.ask(Verb::Read, "role/r", Value::Null).await, Got::NotFound);
    node.do_chores().await;
    assert_eq!(node.records_of_mount(), 0);
}

#[tokio::test]
async fn a_role_of_the_same_name_does_not_know_the_secret_ids_of_the_one_before() {
    let node = node(json!({})).await;
    let (secret, accessor) = secret_id(&node, json!({})).await;
    let auth = log_in(&node, "rid", &secret).await.auth();
    assert!(node.renew(&auth).is_ok());
    node.ask(Verb::Delete, "role/r", Value::Null).await;
    assert!(node.renew(&auth).unwrap_err().contains("does not exist during renewal"));
    node.ask(Verb::Write, "role/r", json!({"role_id": "rid", "token_policies": "a"})).await;
    assert_eq!(log_in(&node, "rid", &secret).await, refused(INVALID));
    let body = json!({ "secret_id_accessor": accessor });
    assert!(matches!(node.ask(Verb::Write, "role/r/secret-id-accessor/lookup", body).await, Got::Error(404, _)));
    assert!(node.renew(&auth).is_err());
}

#[tokio::test]
async fn each_property_has_a_path() {
    let node = node(json!({"secret_id_bound_cidrs": "127.0.0.1/32"})).await;
    for (segment, member, value, first) in [
        ("policies", "token_policies", json!(["x", "y"]), json!([])),
        ("token-ttl", "token_ttl", json!(60), json!(0)),
        ("token-max-ttl", "token_max_ttl", json!(120), json!(0)),
        ("token-num-uses", "token_num_uses", json!(7), json!(0)),
        ("token-bound-cidrs", "token_bound_cidrs", json!(["127.0.0.0/8"]), json!([])),
        ("period", "token_period", json!(30), json!(0)),
        ("bind-secret-id", "bind_secret_id", json!(false), json!(true)),
        ("secret-id-num-uses", "secret_id_num_uses", json!(3), json!(0)),
        ("secret-id-ttl", "secret_id_ttl", json!(90), json!(0)),
        ("secret-id-bound-cidrs", "secret_id_bound_cidrs", json!(["10.0.0.0/8"]), Value::Null),
        ("bound-cidr-list", "bound_cidr_list", json!(["11.0.0.0/8"]), Value::Null),
    ] {
        let path = format!("role/r/{segment}");
        assert_eq!(node.ask(Verb::Write, &path, json!({ member: value })).await, Got::Done, "{segment}");
        assert_eq!(node.ask(Verb::Read, &path, Value::Null).await.data(), json!({ member: value }), "{segment}");
        assert_eq!(node.ask(Verb::Delete, &path, Value::Null).await, Got::Done, "{segment}");
        assert_eq!(node.ask(Verb::Read, &path, Value::Null).await.data(), json!({ member: first }), "{segment}");
        assert_eq!(node.ask(Verb::Write, &path, json!({"other": 1})).await, refused(&format!("missing {member}")), "{segment}");
        let none = format!("role/none/{segment}");
        assert_eq!(node.ask(Verb::Read, &none, Value::Null).await, Got::NotFound);
        assert_eq!(node.ask(Verb::Delete, &none, Value::Null).await, Got::Done);
        assert!(matches!(node.ask(Verb::Write, &none, json!({ member: value })).await, Got::Error(404, _)), "{segment}");
    }
    assert_eq!(node.ask(Verb::Read, "role/r/local-secret-ids", Value::Null).await.data(), json!({"local_secret_ids": false}));
    assert_eq!(node.ask(Verb::Write, "role/r/policies", json!({"policies": "old"})).await, Got::Done);
    assert_eq!(node.ask(Verb::Read, "role/r", Value::Null).await.data()["policies"], json!(["old"]));
    // What does not fit the rest is refused here too.
    node.ask(Verb::Write, "role/r/token-ttl", json!({"token_ttl": 60})).await;
    assert!(matches!(node.ask(Verb::Write, "role/r/token-max-ttl", json!({"token_max_ttl": 10})).await, Got::Error(400, _)));
}

#[tokio::test]
async fn what_a_role_cannot_be_is_refused() {
    let node = node(json!({})).await;
    let local = refused("local_secret_ids can only be modified during role creation");
    assert_eq!(node.ask(Verb::Write, "role/r", json!({"local_secret_ids": true})).await, local);
    let open = refused("at least one constraint should be enabled on the role");
    assert_eq!(node.ask(Verb::Write, "role/r", json!({"bind_secret_id": false})).await, open);
    assert_eq!(node.ask(Verb::Write, "role/r/bind-secret-id", json!({"bind_secret_id": false})).await, open);
    for body in [
        json!({"secret_id_bound_cidrs": "garbage"}),
        json!({"secret_id_num_uses": -1}),
        json!({"secret_id_ttl": "-2s"}),
        json!({"token_type": "bogus"}),
        json!({"role_id": "x".repeat(ID_BYTES_MAX + 1)}),
    ] {
        assert!(matches!(node.ask(Verb::Write, "role/r", body.clone()).await, Got::Error(400, _)), "{body}");
    }
    assert!(matches!(node.ask(Verb::Write, "role/a b", json!({})).await, Got::Error(400, _)));
}

#[tokio::test]
async fn a_login_spends_a_use_and_gives_the_roles_token() {
    let node = node(json!({"token_ttl": "20m", "token_num_uses": 4})).await;
    let (secret, accessor) = secret_id(&node, json!({"metadata": "{\"k\":\"v\"}", "num_uses": 2, "ttl": "5m"})).await;
    let auth = log_in(&node, "rid", &secret).await.auth();
    for (member, want) in [
        ("policies", json!(["a", "default"])),
        ("metadata", json!({"k": "v", "role_name": "r"})),
        ("lease_duration", json!(1200)),
        ("num_uses", json!(4)),
        ("orphan", json!(true)),
    ] {
        assert_eq!(auth[member], want, "{member}");
    }
    let by_text = node.ask(Verb::Write, "role/r/secret-id/lookup", json!({ "secret_id": secret })).await.data();
    let by_accessor = node.ask(Verb::Write, "role/r/secret-id-accessor/lookup", json!({ "secret_id_accessor": accessor })).await.data();
    assert_eq!(by_text, by_accessor);
    for (member, want) in [
        ("secret_id_num_uses", json!(1)),
        ("secret_id_ttl", json!(300)),
        ("metadata", json!({"k": "v"})),
        ("secret_id_accessor", json!(accessor)),
        ("creation_time", json!("1970-01-12T13:46:40Z")),
        ("expiration_time", json!("1970-01-12T13:51:40Z")),
    ] {
        assert_eq!(by_text[member], want, "{member}");
    }
    assert_eq!(node.ask(Verb::List, "role/r/secret-id", Value::Null).await.data(), json!({"keys": [accessor]}));
    assert!(matches!(log_in(&node, "rid", &secret).await, Got::Auth(_)));
    assert_eq!(log_in(&node, "rid", &secret).await, refused(INVALID), "used up");
    assert_eq!(node.ask(Verb::List, "role/r/secret-id", Value::Null).await, Got::NotFound);
}

#[tokio::test]
async fn one_use_is_one_use_however_many_try_at_once() {
    let node = node(json!({})).await;
    for (uses, want) in [(1, 1), (2, 1), (0, 3)] {
        let (secret, _) = secret_id(&node, json!({ "num_uses": uses })).await;
        let body = json!({"role_id": "rid", "secret_id": secret});
        let mut pending = Vec::new();
        for _ in 0..3 {
            pending.push(node.begin("login", body.clone()).await);
        }
        let before = node.tokens();
        let done = pending.into_iter().filter_map(|pending| node.carry_out(pending)).count();
        assert_eq!((done, node.tokens() - before), (want, want), "{uses} uses: the others are planned again");
    }
}

#[tokio::test]
async fn a_login_that_was_planned_before_a_destruction_does_not_happen() {
    let node = node(json!({})).await;
    let (secret, accessor) = secret_id(&node, json!({})).await;
    let pending = node.begin("login", json!({"role_id": "rid", "secret_id": secret})).await;
    let body = json!({ "secret_id_accessor": accessor });
    assert_eq!(node.ask(Verb::Write, "role/r/secret-id-accessor/destroy", body).await, Got::Done);
    assert_eq!(node.carry_out(pending), None);
    assert_eq!((node.tokens(), log_in(&node, "rid", &secret).await), (0, refused(INVALID)));
}

#[tokio::test]
async fn cve_2026_115362_a_secret_id_is_over_when_its_time_is_whoever_tidies() {
    let node = node(json!({"secret_id_ttl": "1m"})).await;
    let (secret, accessor) = secret_id(&node, json!({})).await;
    node.pass(59);
    assert!(matches!(log_in(&node, "rid", &secret).await, Got::Auth(_)));
    node.pass(1);
    assert_eq!(log_in(&node, "rid", &secret).await, refused(INVALID));
    assert_eq!(node.ask(Verb::Write, "role/r/secret-id/lookup", json!({ "secret_id": secret })).await, Got::Done, "nothing to show");
    let body = json!({ "secret_id_accessor": accessor });
    assert!(matches!(node.ask(Verb::Write, "role/r/secret-id-accessor/lookup", body).await, Got::Error(404, _)));
    let kept = node.records_of_mount();
    assert_eq!(node.ask(Verb::Write, "tidy/secret-id", Value::Null).await, Got::Done);
    assert_eq!(node.records_of_mount(), kept - 2, "the secret id and its accessor");
}

#[tokio::test]
async fn what_is_over_is_removed_by_itself_and_nothing_else_is() {
    let node = node(json!({})).await;
    let (good, _) = secret_id(&node, json!({})).await;
    let kept = node.records_of_mount();
    secret_id(&node, json!({"ttl": 5})).await;
    let own = json!({"secret_id": "own", "ttl": 5});
    node.ask(Verb::Write, "role/r/custom-secret-id", own.clone()).await;
    let body = json!({"secret_id": "own"});
    node.ask(Verb::Write, "role/r/secret-id/destroy", body).await;
    node.ask(Verb::Write, "role/r/custom-secret-id", json!({"secret_id": "own", "ttl": 60})).await;
    node.pass(5);
    // Nobody has removed the drawn one yet; the destroyed one's chore must not take its successor along.
    assert_eq!(node.records_of_mount(), kept + 4);
    node.do_chores().await;
    assert_eq!(node.records_of_mount(), kept + 2);
    assert!(matches!(log_in(&node, "rid", "own").await, Got::Auth(_)));
    node.pass(55);
    // Over, and made again before its chore was done.
    assert!(matches!(node.ask(Verb::Write, "role/r/custom-secret-id", own).await, Got::Data(_)));
    node.do_chores().await;
    assert!(matches!(log_in(&node, "rid", "own").await, Got::Auth(_)));
    node.pass(5);
    node.do_chores().await;
    assert_eq!(node.records_of_mount(), kept);
    assert!(matches!(log_in(&node, "rid", &good).await, Got::Auth(_)));
}

#[tokio::test]
async fn tidying_leaves_what_is_good() {
    let node = node(json!({})).await;
    let (good, _) = secret_id(&node, json!({})).await;
    secret_id(&node, json!({"ttl": 5})).await;
    node.pass(10);
    let kept = node.records_of_mount();
    node.ask(Verb::Write, "tidy/secret-id", Value::Null).await;
    assert_eq!(node.records_of_mount(), kept - 2);
    assert!(matches!(log_in(&node, "rid", &good).await, Got::Auth(_)));
    // Records of a role that is gone.
    let orphan = node.mount_root().join("secret-id/gone/00");
    let mut plan = Plan::new();
    crate::auth::put(&mut plan, orphan.clone(), &proto::stored::AppRoleSecretId::default());
    assert!(node.barrier.commit(&node.barrier.view(), &plan));
    node.ask(Verb::Write, "tidy/secret-id", Value::Null).await;
    assert!(!node.barrier.view().contains(&orphan).unwrap());
}

#[tokio::test]
async fn cve_2023_24999_no_role_reaches_another_roles_secret_ids() {
    let node = node(json!({})).await;
    node.ask(Verb::Write, "role/thief", json!({"role_id": "thief"})).await;
    let (secret, accessor) = secret_id(&node, json!({})).await;
    assert_eq!(log_in(&node, "thief", &secret).await, refused(INVALID));
    let forbidden = Got::Error(403, "invalid secret id accessor".into());
    for accessor in [accessor.as_str(), "none", "../r/x", "*"] {
        let body = json!({ "secret_id_accessor": accessor });
        assert_eq!(node.ask(Verb::Write, "role/thief/secret-id-accessor/destroy", body.clone()).await, forbidden, "{accessor}");
        assert_eq!(node.ask(Verb::Delete, "role/thief/secret-id-accessor/destroy", body.clone()).await, forbidden, "{accessor}");
        assert!(matches!(node.ask(Verb::Write, "role/thief/secret-id-accessor/lookup", body).await, Got::Error(404, _)));
    }
    assert_eq!(node.ask(Verb::Write, "role/thief/secret-id/destroy", json!({ "secret_id": secret })).await, Got::Done);
    assert!(matches!(log_in(&node, "rid", &secret).await, Got::Auth(_)), "the secret id is still there");
    assert_eq!(node.ask(Verb::Delete, "role/r/secret-id/destroy", json!({ "secret_id": secret })).await, Got::Done);
    assert_eq!(log_in(&node, "rid", &secret).await, refused(INVALID));
}

#[tokio::test]
async fn a_failed_login_tells_nothing_of_which_part_was_wrong_and_writes_nothing() {
    let node = node(json!({})).await;
    let (secret, _) = secret_id(&node, json!({})).await;
    let kept = node.records_of_mount();
    let long = "x".repeat(ID_BYTES_MAX + 1);
    for (role_id, secret_id) in
        [("none", secret.as_str()), ("rid", "wrong"), ("RID", &secret), ("none", "wrong"), (&long, "x"), ("rid", &long)]
    {
        assert_eq!(log_in(&node, role_id, secret_id).await, refused(INVALID));
    }
    for role_id in ["rid", "none"] {
        assert_eq!(log_in(&node, role_id, "").await, refused("missing secret_id"), "{role_id}");
    }
    assert_eq!(node.ask(Verb::Write, "login", json!({})).await, refused("missing role_id"));
    assert_eq!((node.records_of_mount(), node.tokens()), (kept, 0));
    for role_id in ["rid", "none"] {
        for _ in 0..5 {
            log_in(&node, role_id, "wrong").await;
        }
        assert_eq!(log_in(&node, role_id, &secret).await, denied(), "{role_id} is locked");
    }
}

#[tokio::test]
async fn addresses_bind_roles_secret_ids_and_tokens() {
    let node = node(json!({"secret_id_bound_cidrs": "10.0.0.0/8", "token_bound_cidrs": "10.0.0.0/8"})).await;
    for body in [json!({"cidr_list": "11.0.0.0/8"}), json!({"token_bound_cidrs": "0.0.0.0/0"}), json!({"cidr_list": "garbage"})] {
        assert!(matches!(node.ask(Verb::Write, "role/r/secret-id", body.clone()).await, Got::Error(400, _)), "{body}");
    }
    let (secret, _) = secret_id(&node, json!({"cidr_list": "10.1.0.0/16", "num_uses": 1})).await;
    let unauthorized =
        |address: &str, whose: &str| refused(&format!("source address \"{address}\" unauthorized by CIDR restrictions on the {whose}"));
    assert_eq!(log_in(node.from("127.0.0.1"), "rid", &secret).await, unauthorized("127.0.0.1", "role"));
    assert_eq!(log_in(node.from("10.2.0.1"), "rid", &secret).await, unauthorized("10.2.0.1", "secret ID"));
    assert!(matches!(log_in(node.from("10.1.0.1"), "rid", &secret).await, Got::Auth(_)), "its one use was not spent in vain");

    let open = json!({"role_id": "open", "bind_secret_id": false, "token_bound_cidrs": "10.0.0.0/8"});
    assert_eq!(node.ask(Verb::Write, "role/open", open).await, Got::Done);
    let body = json!({"role_id": "open"});
    assert_eq!(node.from("127.0.0.1").ask(Verb::Write, "login", body.clone()).await, denied());
    assert!(matches!(node.from("10.9.0.1").ask(Verb::Write, "login", body).await, Got::Auth(_)));
    assert!(matches!(node.ask(Verb::Write, "role/open/secret-id", json!({})).await, Got::Error(400, _)), "it needs none");
}

#[tokio::test]
async fn the_roles_bounds_hold_for_each_secret_id() {
    let node = node(json!({"secret_id_ttl": "1m", "secret_id_num_uses": 2})).await;
    for (body, fits) in [
        (json!({}), true),
        (json!({"ttl": 60, "num_uses": 2}), true),
        (json!({"ttl": 1, "num_uses": 1}), true),
        (json!({"ttl": 61}), false),
        (json!({"ttl": 0}), false),
        (json!({"num_uses": 3}), false),
        (json!({"num_uses": 0}), false),
        (json!({"ttl": -1}), false),
        (json!({"metadata": "[]"}), false),
        (json!({"metadata": {"k": "v".repeat(20_000)}}), false),
    ] {
        let got = node.ask(Verb::Write, "role/r/secret-id", body.clone()).await;
        assert_eq!(matches!(got, Got::Data(_)), fits, "{body} {got:?}");
    }
    assert!(matches!(node.ask(Verb::Write, "role/none/secret-id", json!({})).await, Got::Error(404, _)));
}

#[tokio::test]
async fn a_secret_id_may_be_brought_once() {
    let node = node(json!({})).await;
    let body = json!({"secret_id": "my-own", "ttl": 60});
    let got = node.ask(Verb::Write, "role/r/custom-secret-id", body.clone()).await.data();
    assert_eq!((&got["secret_id"], &got["secret_id_ttl"]), (&json!("my-own"), &json!(60)));
    assert!(matches!(log_in(&node, "rid", "my-own").await, Got::Auth(_)));
    assert_eq!(node.ask(Verb::Write, "role/r/custom-secret-id", body.clone()).await, refused("SecretID is already registered"));
    assert_eq!(node.ask(Verb::Write, "role/r/custom-secret-id", json!({})).await, refused("missing secret_id"));
    let kept = node.records_of_mount();
    node.pass(60);
    assert!(matches!(node.ask(Verb::Write, "role/r/custom-secret-id", body).await, Got::Data(_)), "the first is over");
    assert_eq!(node.records_of_mount(), kept);
}

#[tokio::test]
async fn the_text_of_a_secret_id_is_nowhere_in_the_records() {
    let node = node(json!({})).await;
    node.ask(Verb::Write, "role/r/custom-secret-id", json!({"secret_id": "canary-canary"})).await;
    let view = node.barrier.view();
    for name in view.names_below(&Name::root(), usize::MAX).unwrap() {
        // EXPOSE: a test looks for a canary.
        let value = view.read(&name).unwrap().value.unwrap();
        let holds = |bytes: &[u8]| bytes.windows(13).any(|window| window == b"canary-canary");
        assert!(!holds(value.expose()) && !holds(name.as_str().as_bytes()), "{}", name.as_str());
    }
}
