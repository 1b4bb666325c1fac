//! Logins through the whole service: mounts, policies, wrapping and renewal with them.

use serde_json::{Value, json};
use types::Verb;

use crate::request::Refusal;
use crate::testing::{Asking, World, shown};

async fn world() -> World {
    let world = World::new(3);
    for kind in ["userpass", "approle"] {
        assert_eq!(world.ask(Verb::Write, &format!("sys/auth/{kind}"), json!({ "type": kind })).await, Ok(Value::Null));
    }
    let policy = json!({"policy": "path \"auth/userpass/users/*\" { capabilities = [\"read\"] }"});
    world.ask(Verb::Write, "sys/policies/acl/reader", policy).await.unwrap();
    let user = json!({"password": "pw", "token_policies": "reader", "token_ttl": "1h"});
    world.ask(Verb::Write, "auth/userpass/users/bob", user).await.unwrap();
    world.ask(Verb::Write, "auth/approle/role/app", json!({"role_id": "app", "token_policies": "reader"})).await.unwrap();
    world
}

/// Asks without a token.
async fn ask_as_nobody(world: &World, path: &str, body: Value) -> Result<Value, Refusal> {
    let response = world.send(Asking { token: None, ..world.asking(Verb::Write, path, body) }).await;
    response.outcome.map(|answer| shown(&answer))
}

fn token_of(answer: &Value) -> String {
    answer["auth"]["client_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn who_logs_in_may_what_the_policies_say_and_renews_while_the_user_is_there() {
    let world = world().await;
    let token = token_of(&ask_as_nobody(&world, "auth/userpass/login/bob", json!({"password": "pw"})).await.unwrap());
    assert!(world.ask_as(&token, Verb::Read, "auth/userpass/users/bob", Value::Null).await.is_ok());
    assert_eq!(world.ask_as(&token, Verb::Delete, "auth/userpass/users/bob", Value::Null).await, Err(Refusal::Denied));
    let shown = world.ask_as(&token, Verb::Read, "auth/token/lookup-self", Value::Null).await.unwrap();
    for (member, want) in [
        ("display_name", json!("userpass-bob")),
        ("path", json!("auth/userpass/login/bob")),
        ("meta", json!({"username": "bob"})),
        ("policies", json!(["default", "reader"])),
    ] {
        assert_eq!(shown[member], want, "{member}");
    }
    let renewed = world.ask_as(&token, Verb::Write, "auth/token/renew-self", json!({})).await.unwrap();
    assert_eq!(renewed["auth"]["lease_duration"], json!(3600));
    world.ask(Verb::Write, "auth/userpass/users/bob", json!({"token_max_ttl": "10m", "token_ttl": "5m"})).await.unwrap();
    let renewed = world.ask_as(&token, Verb::Write, "auth/token/renew-self", json!({})).await.unwrap();
    assert_eq!(renewed["auth"]["lease_duration"], json!(300));
    world.ask(Verb::Delete, "auth/userpass/users/bob", Value::Null).await.unwrap();
    assert!(matches!(world.ask_as(&token, Verb::Write, "auth/token/renew-self", json!({})).await, Err(Refusal::Refused(_))));
}

#[tokio::test]
async fn only_logins_are_served_to_strangers() {
    let world = world().await;
    for (path, body) in [
        ("auth/userpass/users/bob", json!({"password": "x"})),
        ("auth/userpass/users/bob/password", json!({"password": "x"})),
        ("auth/approle/role/app/secret-id", json!({})),
        ("auth/approle/role/app/custom-secret-id", json!({"secret_id": "x"})),
        ("auth/approle/tidy/secret-id", json!({})),
        ("auth/approle/login/lookahead", json!({})),
        ("sys/locked-users/x/unlock/bob", json!({})),
    ] {
        assert_eq!(ask_as_nobody(&world, path, body).await, Err(Refusal::Denied), "{path}");
    }
}

#[tokio::test]
async fn a_wrapped_secret_id_is_unwrapped_once_and_logs_in() {
    let world = world().await;
    let asking = Asking { wrap_ttl_s: 60, ..world.asking(Verb::Write, "auth/approle/role/app/secret-id", json!({"num_uses": 1})) };
    let wrapped = world.send(asking).await;
    let (wrapping_token, accessor) = match wrapped.outcome {
        Ok(crate::request::Answer::Wrapped(wrapped)) => {
            // EXPOSE: a test unwraps.
            (String::from_utf8_lossy(wrapped.token.expose()).into_owned(), wrapped.wrapped_accessor)
        }
        other => panic!("not wrapped: {:?}", other.map(|answer| shown(&answer))),
    };
    let unwrapped = world.ask_as(&wrapping_token, Verb::Write, "sys/wrapping/unwrap", json!({})).await.unwrap();
    assert!(world.ask_as(&wrapping_token, Verb::Write, "sys/wrapping/unwrap", json!({})).await.is_err(), "once");
    let told = unwrapped["data"]["secret_id_accessor"].as_str().or(unwrapped["secret_id_accessor"].as_str());
    assert_eq!(told, Some(accessor.as_str()), "who hands it on can destroy it unseen");
    let secret_id = unwrapped["data"]["secret_id"].as_str().or(unwrapped["secret_id"].as_str()).unwrap().to_owned();
    let body = json!({"role_id": "app", "secret_id": secret_id});
    assert!(ask_as_nobody(&world, "auth/approle/login", body.clone()).await.is_ok());
    assert_eq!(
        ask_as_nobody(&world, "auth/approle/login", body).await,
        Err(Refusal::Refused("invalid role or secret ID".into())),
        "used up"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn many_at_once_spend_no_use_twice() {
    const USES: usize = 5;
    let world = std::sync::Arc::new(world().await);
    let made = world.ask(Verb::Write, "auth/approle/role/app/secret-id", json!({ "num_uses": USES })).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..USES * 3 {
        let (world, body) = (std::sync::Arc::clone(&world), json!({"role_id": "app", "secret_id": made["secret_id"]}));
        tasks.spawn(async move { ask_as_nobody(&world, "auth/approle/login", body).await.is_ok() });
    }
    let done = tasks.join_all().await;
    assert_eq!(done.into_iter().filter(|done| *done).count(), USES);
}

#[tokio::test]
async fn a_mounts_settings_hold_for_its_logins() {
    let world = world().await;
    let tuning = json!({"token_type": "batch", "user_lockout_config": {"lockout_threshold": 1, "lockout_duration": "1m"}});
    world.ask(Verb::Write, "sys/auth/userpass/tune", tuning).await.unwrap();
    let log_in = |password: &'static str| ask_as_nobody(&world, "auth/userpass/login/bob", json!({ "password": password }));
    assert_eq!(log_in("pw").await.unwrap()["auth"]["token_type"], json!("batch"));
    assert_eq!(log_in("wrong").await, Err(Refusal::Refused("invalid username or password".into())));
    assert_eq!(log_in("pw").await, Err(Refusal::Denied));
    world.pass(60);
    assert!(log_in("pw").await.is_ok());
    world.ask(Verb::Write, "sys/auth/userpass/tune", json!({"user_lockout_config": {"lockout_disable": true}})).await.unwrap();
    for _ in 0..3 {
        assert_eq!(log_in("wrong").await, Err(Refusal::Refused("invalid username or password".into())));
    }
}

#[tokio::test]
async fn a_disabled_method_lets_nobody_in_and_its_tokens_end() {
    let world = world().await;
    let token = token_of(&ask_as_nobody(&world, "auth/userpass/login/bob", json!({"password": "pw"})).await.unwrap());
    world.ask(Verb::Delete, "sys/auth/userpass", Value::Null).await.unwrap();
    assert!(world.ask_as(&token, Verb::Read, "auth/token/lookup-self", Value::Null).await.is_err());
    assert!(ask_as_nobody(&world, "auth/userpass/login/bob", json!({"password": "pw"})).await.is_err());
    world.ask(Verb::Write, "sys/auth/userpass", json!({"type": "userpass"})).await.unwrap();
    assert!(ask_as_nobody(&world, "auth/userpass/login/bob", json!({"password": "pw"})).await.is_err(), "another mount, without its users");
}
