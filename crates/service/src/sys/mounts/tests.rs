//! Mounts: what is refused, what settings do, and mounts through the whole service.

use crypto::{SecretBytes, SeededRng};
use engine::Ask;

use super::*;
use crate::backend::Backend;
use crate::request::Refusal;
use crate::testing::{Asking, World, shown as shown_answer};

fn parse(path: &str, body: &str) -> Result<(), String> {
    let path = Path::parse(path).unwrap();
    let ask = Ask { verb: Verb::Write, path, body: SecretBytes::from(body.as_bytes().to_vec()), query: Vec::new() };
    let parsed = Backend::Own(&crate::sys::ROUTES).parse(ask, &SeededRng::dangerous_from_seed(1));
    parsed.map(drop).map_err(|error| error.to_string())
}

#[test]
fn what_cannot_be_done_is_refused_and_not_ignored() {
    let kv = |more: &str| format!(r#"{{"type": "kv", "options": {{"version": "2"}}{more}}}"#);
    // As `bao secrets enable` and hvac send it.
    let all_empty = r#", "local": false, "seal_wrap": false, "external_entropy_access": false, "plugin_version": "",
        "config": {"default_lease_ttl": "0s", "max_lease_ttl": 0, "force_no_cache": false, "options": null}"#;
    assert_eq!(parse("mounts/a", &kv(all_empty)), Ok(()));
    assert_eq!(parse("mounts/a", &kv(r#", "config": {"default_lease_ttl": "1h", "max_lease_ttl": "2h"}"#)), Ok(()));
    assert_eq!(parse("mounts/a/b/c", r#"{"type": "kv-v2", "config": {"listing_visibility": "unauth"}}"#), Ok(()));
    for (path, body, names) in [
        ("mounts/a", kv(r#", "local": true"#), "local"),
        ("mounts/a", kv(r#", "seal_wrap": true"#), "seal_wrap"),
        ("mounts/a", kv(r#", "config": {"max_lease_ttl": "soon"}"#), "max_lease_ttl"),
        ("mounts/a", kv(r#", "config": {"listing_visibility": "all"}"#), "listing_visibility"),
        ("mounts/a", kv(r#", "config": {"token_type": "batch"}"#), "auth mounts"),
        ("mounts/a", kv(r#", "config": {"user_lockout_config": {"lockout_threshold": 3}}"#), "not allowed"),
        ("mounts/a", kv(r#", "config": {"colour": "red"}"#), "colour"),
        ("mounts/a", kv(r#", "plugin_version": "v1""#), "plugin_version"),
        ("mounts/a/tune/b", kv(""), "tune"),
        ("mounts/a", r#"{"type": "nope"}"#.into(), "plugin not found in the catalog: nope"),
        ("mounts/a", r#"{"type": "cubbyhole"}"#.into(), "not mountable"),
        ("mounts/a", r#"{"type": "kv", "options": {"version": "3"}}"#.into(), "version \"3\""),
        ("mounts/a", "{}".into(), "type"),
        ("mounts/sys", kv(""), "cannot mount"),
        ("mounts/auth/x", kv(""), "cannot mount"),
        ("mounts/identity/x", kv(""), "cannot mount"),
        ("auth/a", r#"{"type": "kv"}"#.into(), "plugin not found in the catalog: kv"),
        ("auth/a", r#"{"type": "system"}"#.into(), "plugin not found in the catalog: system"),
        ("auth/a", r#"{"type": "token"}"#.into(), "cannot be instantiated"),
        ("mounts/sys/tune", r#"{"description": "x"}"#.into(), "cannot tune parameter description of sys/"),
        ("mounts/a/tune", r#"{"default_lease_ttl": "soon"}"#.into(), "default_lease_ttl"),
        ("mounts/a/tune", r#"{"token_type": "zz"}"#.into(), "token_type"),
        ("mounts/a/tune", r#"{"plugin_version": "v1"}"#.into(), "plugin_version"),
    ] {
        let refusal = parse(path, &body).unwrap_err();
        assert!(refusal.contains(names), "{path} {body}: {refusal}");
    }
}

fn mount(path: &str, kind: &str) -> Mount {
    Mount::make(path, kind, "", BTreeMap::new(), &SeededRng::dangerous_from_seed(2))
}

#[test]
fn tuning_changes_what_it_names_and_nothing_else() {
    let tune = |mount: &mut Mount, body: Value| {
        let fields = Fields::from_object(body.as_object().unwrap().clone());
        Tuning::of(&fields, Source::Body).map_err(|error| error.to_string()).and_then(|tuning| tuning.apply(mount))
    };
    let mut auth = mount("auth/up/", "userpass");
    let all = json!({
        "default_lease_ttl": "1h", "max_lease_ttl": 7200, "description": "d", "listing_visibility": "unauth", "token_type": "batch",
        "force_no_cache": true, "audit_non_hmac_request_keys": "a,b", "audit_non_hmac_response_keys": ["c"], "passthrough_request_headers": ["X-A"],
        "allowed_response_headers": ["X-B"], "user_lockout_config": {"lockout_threshold": "3", "lockout_duration": "5m", "lockout_disable": true},
    });
    tune(&mut auth, all).unwrap();
    let settings = Settings::default();
    let want = json!({
        "default_lease_ttl": 3600, "max_lease_ttl": 7200, "description": "d", "listing_visibility": "unauth", "token_type": "batch",
        "audit_non_hmac_request_keys": ["a", "b"], "audit_non_hmac_response_keys": ["c"], "passthrough_request_headers": ["X-A"],
        "allowed_response_headers": ["X-B"], "user_lockout_threshold": 3, "user_lockout_duration": 300, "user_lockout_disable": true,
        "user_lockout_counter_reset_duration": 0, "force_no_cache": true,
    });
    assert_eq!(tuning(&auth, &settings), want);
    // As the CLI sends what is not to be changed.
    tune(&mut auth, json!({"default_lease_ttl": "", "max_lease_ttl": "", "force_no_cache": false, "options": null})).unwrap();
    assert_eq!(tuning(&auth, &settings), want);
    tune(
        &mut auth,
        json!({"default_lease_ttl": "system", "audit_non_hmac_request_keys": [], "user_lockout_config": {"lockout_threshold": 9}}),
    )
    .unwrap();
    let mut want = want;
    want["default_lease_ttl"] = json!(7200);
    want.as_object_mut().unwrap().remove("audit_non_hmac_request_keys");
    want["user_lockout_threshold"] = json!(9);
    assert_eq!(tuning(&auth, &settings), want);
    assert!(tune(&mut mount("auth/token/", "token"), json!({"token_type": "batch"})).is_err());
    assert!(tune(&mut mount("secret/", "kv"), json!({"token_type": "batch"})).is_err());
    assert!(tune(&mut mount("secret/", "kv"), json!({"user_lockout_config": {"lockout_disable": true}})).is_err());
}

#[test]
fn lease_times_fit_each_other_and_the_system() {
    let settings = Settings::default();
    for (default, max, fits) in [(0, 0, true), (1, 2, true), (3, 2, false), (9_999_999, 0, false), (9_999_998, 9_999_999, true)] {
        let mount = Mount { lease_ttl_default_s: default, lease_ttl_max_s: max, ..mount("a/", "kv") };
        assert_eq!(check_lease_ttls(&mount, &settings).is_ok(), fits, "{default} {max}");
    }
}

fn refused(text: &str) -> Result<Value, Refusal> {
    Err(Refusal::Refused(text.into()))
}

#[tokio::test]
async fn cve_2026_42186_what_is_unmounted_is_gone_at_once_and_leaves_nothing() {
    let world = World::new(1);
    let before = world.records();
    world.ask(Verb::Write, "sys/mounts/kv", json!({ "type": "kv-v2" })).await.unwrap();
    for number in 0..1_200 {
        world.ask(Verb::Write, &format!("kv/data/s{number}"), json!({ "data": { "x": "y" } })).await.unwrap();
    }
    assert_eq!(world.ask(Verb::Delete, "sys/mounts/kv", Value::Null).await, Ok(Value::Null));
    assert!(world.ask(Verb::Read, "kv/data/s1", Value::Null).await.is_err());
    // One that comes to the same place has nothing of the old one, and keeps what it is given.
    world.ask(Verb::Write, "sys/mounts/kv", json!({ "type": "kv-v2" })).await.unwrap();
    assert_eq!(world.ask(Verb::Read, "kv/data/s1", Value::Null).await, Ok(json!("none")));
    world.ask(Verb::Write, "kv/data/new", json!({ "data": {} })).await.unwrap();
    world.do_chores().await;
    assert!(world.ask(Verb::Read, "kv/data/new", Value::Null).await.is_ok());
    world.ask(Verb::Delete, "sys/mounts/kv", Value::Null).await.unwrap();
    assert_eq!(world.ask(Verb::Delete, "sys/mounts/kv", Value::Null).await, Ok(Value::Null), "one that is not there stays so");
    world.do_chores().await;
    assert_eq!(world.records().keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
}

#[tokio::test]
async fn tokens_of_a_method_that_is_unmounted_end_with_it_and_those_of_its_successor_do_not() {
    let world = World::new(2);
    let before = world.records();
    let login = || async {
        let user = json!({ "password": "pass-word-1" });
        world.ask(Verb::Write, "sys/auth/up", json!({ "type": "userpass" })).await.unwrap();
        world.ask(Verb::Write, "auth/up/users/bob", user.clone()).await.unwrap();
        let made = world.ask(Verb::Write, "auth/up/login/bob", user).await.unwrap();
        made["auth"]["client_token"].as_str().unwrap().to_owned()
    };
    let look = |token: String| {
        let world = &world;
        async move { world.ask_as(&token, Verb::Read, "auth/token/lookup-self", Value::Null).await.map(drop) }
    };
    let old = login().await;
    assert_eq!(look(old.clone()).await, Ok(()));
    world.ask(Verb::Delete, "sys/auth/up", Value::Null).await.unwrap();
    assert_eq!(look(old.clone()).await, Err(Refusal::Denied));
    let new = login().await;
    world.do_chores().await;
    assert_eq!((look(old).await, look(new.clone()).await), (Err(Refusal::Denied), Ok(())));
    world.ask(Verb::Delete, "sys/auth/up", Value::Null).await.unwrap();
    for _ in 0..3 {
        world.do_chores().await;
    }
    assert_eq!(look(new).await, Err(Refusal::Denied));
    assert_eq!(world.records().keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
}

#[tokio::test]
async fn a_mount_of_kv_version_1_becomes_one_of_version_2() {
    let world = World::new(3);
    world.ask(Verb::Write, "sys/mounts/kv", json!({ "type": "kv" })).await.unwrap();
    world.ask(Verb::Write, "kv/x", json!({ "n": 1 })).await.unwrap();
    for (version, why) in [("3", "invalid version provided: 3"), ("two", "invalid version provided: two")] {
        let body = json!({ "options": { "version": version } });
        assert_eq!(world.ask(Verb::Write, "sys/mounts/kv/tune", body).await, refused(why));
    }
    let tune = json!({ "options": { "version": "2" } });
    world.ask(Verb::Write, "sys/mounts/kv/tune", tune.clone()).await.unwrap();
    for _ in 0..3 {
        world.do_chores().await;
    }
    assert_eq!(world.ask(Verb::Read, "kv/data/x", Value::Null).await.unwrap()["data"], json!({ "n": 1 }));
    assert_eq!(world.ask(Verb::Read, "sys/mounts/kv", Value::Null).await.unwrap()["options"], json!({ "version": "2" }));
    assert_eq!(world.ask(Verb::Write, "sys/mounts/kv/tune", tune).await, Ok(Value::Null), "as it is");
    let back = json!({ "options": { "version": "1" } });
    assert_eq!(world.ask(Verb::Write, "sys/mounts/kv/tune", back).await, refused("cannot downgrade mount from version 2"));
}

#[tokio::test]
async fn a_client_sees_the_mounts_below_which_it_may_do_anything() {
    let world = World::new(4);
    for (path, body) in [
        ("sys/mounts/open", json!({ "type": "kv", "config": { "listing_visibility": "unauth" }, "description": "d" })),
        ("sys/mounts/mine", json!({ "type": "kv-v2" })),
        ("sys/mounts/other", json!({ "type": "kv-v2" })),
        ("sys/auth/up", json!({ "type": "userpass", "config": { "listing_visibility": "unauth" } })),
        ("sys/policies/acl/p", json!({ "policy": "path \"mine/data/app/*\" { capabilities = [\"read\"] }" })),
    ] {
        world.ask(Verb::Write, path, body).await.unwrap();
    }
    let made = world.ask(Verb::Write, "auth/token/create", json!({ "policies": ["p"], "no_default_policy": true })).await.unwrap();
    let token = made["auth"]["client_token"].as_str().unwrap();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let seen = world.ask_as(token, Verb::Read, "sys/internal/ui/mounts", Value::Null).await.unwrap();
    assert_eq!((keys(&seen["secret"]), keys(&seen["auth"])), (vec!["mine/".to_owned(), "open/".into()], vec!["up/".into()]));
    assert!(seen["secret"]["mine/"]["uuid"].is_string());
    let stranger = Asking { token: None, ..world.asking(Verb::Read, "sys/internal/ui/mounts", Value::Null) };
    let seen = shown_answer(&world.send(stranger).await.outcome.unwrap());
    assert_eq!(seen["secret"], json!({ "open/": { "type": "kv", "description": "d", "options": null } }));
    assert_eq!(keys(&seen["auth"]), ["up/"]);
    let look = |token: Option<&str>, path: &str| {
        let (world, path) = (&world, format!("sys/internal/ui/mounts/{path}"));
        let token = token.map(str::to_owned);
        async move {
            world.send(Asking { token, ..world.asking(Verb::Read, &path, Value::Null) }).await.outcome.map(|answer| shown_answer(&answer))
        }
    };
    let mine = look(Some(token), "mine/data/app/x").await.unwrap();
    assert_eq!((&mine["path"], &mine["type"], &mine["options"]), (&json!("mine/"), &json!("kv"), &json!({ "version": "2" })));
    for path in ["other", "none", "sys/mounts"] {
        assert!(matches!(look(Some(token), path).await, Err(Refusal::Forbidden(_))), "{path}");
    }
    assert_eq!(look(None, "mine").await, Err(Refusal::Denied));
    assert_eq!(look(Some(&world.root_token), "auth/up").await.unwrap()["path"], "up/");
}

#[tokio::test]
async fn an_upgraded_mount_is_version_2_at_once_and_serves_when_all_is_converted() {
    let world = World::new(7);
    world.ask(Verb::Write, "sys/mounts/kv", json!({"type": "generic"})).await.unwrap();
    world.ask(Verb::Write, "kv/a", json!({"x": "1"})).await.unwrap();
    let tuned = world.send(world.asking(Verb::Write, "sys/mounts/kv/tune", json!({"options": {"version": "2"}}))).await;
    assert!(tuned.outcome.is_ok() && tuned.warnings[0].starts_with("Upgrading mount"));
    let shown = world.ask(Verb::Read, "sys/internal/ui/mounts/kv/a", Value::Null).await.unwrap();
    assert_eq!(shown["options"], json!({"version": "2"}));
    for (verb, path, body) in
        [(Verb::Read, "kv/data/a", Value::Null), (Verb::Write, "kv/data/b", json!({"data": {}})), (Verb::Write, "kv/b", json!({"x": "2"}))]
    {
        let refusal = world.ask(verb, path, body).await.unwrap_err().to_string();
        assert!(refusal.starts_with("Upgrading from non-versioned to versioned data"), "{path}: {refusal}");
    }
    world.do_chores().await;
    let secret = world.ask(Verb::Read, "kv/data/a", Value::Null).await.unwrap();
    assert_eq!((&secret["data"], &secret["metadata"]["version"]), (&json!({"x": "1"}), &json!(1)));
    let back = world.ask(Verb::Write, "sys/mounts/kv/tune", json!({"options": {"version": "1"}})).await;
    assert_eq!(back, Err(Refusal::Refused("cannot downgrade mount from version 2".into())));
}

#[tokio::test]
async fn what_means_nothing_is_ignored_and_told_by_its_name_where_there_is_an_answer() {
    let world = World::new(8);
    let ask = |path: &str, body: Value| world.send(world.asking(Verb::Write, path, body));
    // Clients wait for a 204 here.
    let done = ask("sys/mounts/kv", json!({"type": "kv", "mount_point": "kv", "colour": "canary"})).await;
    assert!(matches!(done.outcome, Ok(Answer::Done)) && done.warnings.is_empty());
    let made = ask("auth/token/create", json!({"policies": ["default"], "colour": "canary", "b": 1, "ttl": "1h"})).await;
    assert!(made.outcome.is_ok());
    assert_eq!(made.warnings, ["Endpoint ignored these unrecognized parameters: [b colour]"]);
    // A route that declares no field takes any.
    let wrapped = ask("sys/wrapping/wrap", json!({"colour": "canary"})).await;
    assert!(wrapped.warnings.is_empty());
}

#[tokio::test]
async fn a_secrets_mount_never_comes_to_lie_among_auth_methods() {
    let world = World::new(9);
    world.ask(Verb::Write, "sys/mounts/kv", json!({"type": "kv"})).await.unwrap();
    let moved = world.ask(Verb::Write, "sys/remount", json!({"from": "kv", "to": "auth/kv"})).await;
    assert_eq!(moved, Err(Refusal::Refused("cannot remount to destination auth/kv/".into())));
}
