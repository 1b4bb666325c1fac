//! The method `userpass`: users with passwords.
//!
//! Always: a password is kept as an Argon2id hash only; a login costs one hash of the password, whether or not there is such a user
//! (one of an older cost costs that, and is made anew when its user logs in).
//!
//! | record of the mount | what |
//! |---|---|
//! | `user/<name>` | a user |
//! | `unlock/<tag>` | when a name was unlocked |

use std::collections::BTreeMap;
use std::sync::Arc;

use barrier::{Name, Plan};
use crypto::{Zeroizing, password};
use engine::AskError;
use engine::route::{Access, Field, FieldKind, Method, Route};
use proto::stored::{Token, TokenParameters, UserpassUser};
use serde_json::{Map, Value};
use types::Revision;
use types::capability::Verb;

use super::login::{Admitted, Attempt, LoginName, admit};
use super::passwords::Password;
use super::token_parameters::{Change, OldName, normal_policies, show, with_token_fields};
use super::{LIST_QUERY, put, read};
use crate::backend::{Asked, Handler};
use crate::body::Fields;
use crate::mount::Mount;
use crate::outcome::{Operation, Outcome, PlanError, Scope, planned};
use crate::records::Records;
use crate::request::Answer;

/// Names of parameters that older clients use.
const OLD_NAMES: &[OldName] =
    &[("policies", "token_policies"), ("ttl", "token_ttl"), ("max_ttl", "token_max_ttl"), ("bound_cidrs", "token_bound_cidrs")];
const USERNAME: Field = Field::required("username", FieldKind::Text, "The user's name. Case does not matter.");
const PASSWORD: Field = Field::optional("password", FieldKind::Text, "The password, up to 1024 bytes. A new user needs one.");
const POLICIES: Field = Field::optional("policies", FieldKind::List, "An old name of token_policies.");

/// What may be asked of the method.
pub(crate) static ROUTES: &[Route<Handler>] = &[
    Route {
        pattern: "users",
        about: "The users of this mount.",
        parameters: &[],
        methods: &[Method { verb: Verb::List, summary: "Lists their names.", fields: &[], query: LIST_QUERY, handler: list }],
        access: Access::Token,
    },
    Route {
        pattern: "users/{username}",
        about: "One user: its password and what its tokens are.",
        parameters: &[USERNAME],
        methods: &[
            Method { verb: Verb::Read, summary: "Shows the user, without its password.", fields: &[], query: &[], handler: read_user },
            Method {
                verb: Verb::Write,
                summary: "Makes the user, or changes what is named.",
                fields: with_token_fields![
                    PASSWORD,
                    POLICIES,
                    Field::optional("ttl", FieldKind::Duration, "An old name of token_ttl."),
                    Field::optional("max_ttl", FieldKind::Duration, "An old name of token_max_ttl."),
                    Field::optional("bound_cidrs", FieldKind::List, "An old name of token_bound_cidrs."),
                ],
                query: &[],
                handler: write_user,
            },
            Method {
                verb: Verb::Delete,
                summary: "Deletes the user. Its tokens live on until they end, and are not renewed.",
                fields: &[],
                query: &[],
                handler: delete_user,
            },
        ],
        access: Access::Token,
    },
    Route {
        pattern: "users/{username}/password",
        about: "A user's password.",
        parameters: &[USERNAME],
        methods: &[Method {
            verb: Verb::Write,
            summary: "Sets another password.",
            fields: &[Field::required("password", FieldKind::Text, "The new password, up to 1024 bytes.")],
            query: &[],
            handler: write_password,
        }],
        access: Access::Token,
    },
    Route {
        pattern: "users/{username}/policies",
        about: "The policies of a user's tokens.",
        parameters: &[USERNAME],
        methods: &[Method {
            verb: Verb::Write,
            summary: "Sets the policies of tokens to come.",
            fields: &[super::token_parameters::TOKEN_POLICIES, POLICIES],
            query: &[],
            handler: write_policies,
        }],
        access: Access::Token,
    },
    Route {
        pattern: "login/{username}",
        about: "Logging in with name and password.",
        parameters: &[USERNAME],
        methods: &[Method {
            verb: Verb::Write,
            summary: "Answers a token for the user.",
            fields: &[Field::required("password", FieldKind::Text, "The user's password.")],
            query: &[],
            handler: login,
        }],
        access: Access::Anyone,
    },
];

/// What is said of a wrong name and of a wrong password.
const INVALID: &str = "invalid username or password";

fn user_name(root: &Name, name: &str) -> Name {
    root.join("user").join(name)
}

fn name_of(asked: &Asked<'_>) -> Result<LoginName, AskError> {
    LoginName::parse(asked.captures.text("username")).map_err(|error| AskError::Invalid(error.to_string()))
}

/// The password of a body; `None` when there is none.
fn password_of(fields: &Fields) -> Result<Option<Password>, AskError> {
    if fields.has("password_hash") {
        let cure = "password_hash is not taken (send password: it is kept as a hash)";
        return Err(AskError::Invalid(cure.into()));
    }
    match fields.secret("password")? {
        Some(password) if password.is_empty() => Err(AskError::Invalid("missing password".into())),
        Some(password) if password.len() > password::PASSWORD_BYTES_MAX => {
            Err(AskError::Invalid(format!("password is longer than {} bytes", password::PASSWORD_BYTES_MAX)))
        }
        password => Ok(password.map(Arc::new)),
    }
}

fn list(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    super::list(asked, "user")
}

fn read_user(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let name = name_of(asked)?;
    Ok(planned(move |scope| {
        let (_, user) = read::<UserpassUser>(&scope.records.view, &user_name(&scope.mount.root(), name.as_str()))?;
        let Some(user) = user else { return Ok(Outcome::answer(Answer::NotFound)) };
        let mut shown = Map::new();
        show(&user.token.unwrap_or_default(), OLD_NAMES, &mut shown);
        Ok(Outcome::data(&Value::Object(shown)))
    }))
}

fn delete_user(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let name = name_of(asked)?;
    Ok(planned(move |scope| {
        let mut plan = Plan::new();
        plan.delete(user_name(&scope.mount.root(), name.as_str()));
        Ok(Outcome::written(plan, Answer::Done))
    }))
}

/// What may be written where there is no user yet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    /// It is made.
    Make,
    /// That is an error.
    Refuse,
}

struct Write {
    name: LoginName,
    password: Option<Password>,
    change: Change,
    missing: Missing,
}

#[async_trait::async_trait]
impl Operation for Write {
    fn is_create(&self, scope: &Scope<'_>) -> Result<Option<bool>, PlanError> {
        match self.missing {
            Missing::Make => Ok(Some(!scope.records.view.contains(&user_name(&scope.mount.root(), self.name.as_str()))?)),
            Missing::Refuse => Ok(None),
        }
    }

    async fn plan(&self, scope: &Scope<'_>) -> Result<Outcome, PlanError> {
        let record = user_name(&scope.mount.root(), self.name.as_str());
        let (revision, user) = read::<UserpassUser>(&scope.records.view, &record)?;
        let mut user = match (user, self.missing) {
            (Some(user), _) => user,
            (None, Missing::Make) if self.password.is_some() => {
                UserpassUser { id: hex::encode(crypto::rng::generate_bytes::<16>(scope.rng)), ..UserpassUser::default() }
            }
            (None, Missing::Make) => return Err(PlanError::Refused("missing password".into())),
            (None, Missing::Refuse) => return Err(PlanError::Refused("username does not exist".into())),
        };
        self.change.apply(user.token.get_or_insert_default())?;
        if let Some(password) = &self.password {
            user.password_hash = scope.logins.passwords.hash(password, scope.rng).await?;
        }
        let mut plan = Plan::new();
        plan.expect(record.clone(), revision);
        put(&mut plan, record, &user);
        Ok(Outcome::written(plan, Answer::Done))
    }
}

fn write_user(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let fields = Fields::of(asked.ask)?;
    let change = Change::parse(&fields, OLD_NAMES)?;
    let (name, password) = (name_of(asked)?, password_of(&fields)?);
    Ok(Box::new(Write { name, password, change, missing: Missing::Make }))
}

fn write_password(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let fields = Fields::of(asked.ask)?;
    let password = password_of(&fields)?.ok_or_else(|| AskError::Invalid("missing password".into()))?;
    let (name, change) = (name_of(asked)?, Change::default());
    Ok(Box::new(Write { name, password: Some(password), change, missing: Missing::Refuse }))
}

fn write_policies(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let fields = Fields::of(asked.ask)?;
    let named = ["token_policies", "policies"].into_iter().filter_map(|name| Some((name.to_owned(), fields.value(name)?.clone())));
    let named: Map<String, Value> = named.collect();
    if named.is_empty() {
        return Err(AskError::Invalid("missing token_policies".into()));
    }
    let change = Change::parse(&Fields::from_object(named), OLD_NAMES)?;
    Ok(Box::new(Write { name: name_of(asked)?, password: None, change, missing: Missing::Refuse }))
}

struct Login {
    name: LoginName,
    password: Password,
}

fn login(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let fields = Fields::of(asked.ask)?;
    let password: Zeroizing<String> =
        fields.secret("password")?.filter(|text| !text.is_empty()).ok_or_else(|| AskError::Invalid("missing password".into()))?;
    let name = LoginName::parse(asked.captures.text("username"));
    let (Ok(name), true) = (name, password.len() <= password::PASSWORD_BYTES_MAX) else {
        // Nobody has such a name or password: no work is done to say so.
        return Ok(planned(|_| Err(PlanError::Refused(INVALID.into()))));
    };
    Ok(Box::new(Login { name, password: Arc::new(password) }))
}

impl Login {
    /// Verifies the password against the user's hash. Answers the hash to keep instead, if the user's is outdated.
    async fn verify(&self, scope: &Scope<'_>, attempt: &Attempt<'_>, kept: Option<&str>) -> Result<Option<String>, PlanError> {
        let passwords = &scope.logins.passwords;
        if !passwords.verify(&self.password, kept).await? {
            return Err(attempt.failed());
        }
        attempt.succeeded()?;
        match kept {
            // When there is no time for it now, there will be at the next login.
            Some(kept) if password::is_outdated(kept) => Ok(passwords.hash(&self.password, scope.rng).await.ok()),
            _ => Ok(None),
        }
    }
}

#[async_trait::async_trait]
impl Operation for Login {
    /// Each writes a token of its own; a hash made while others wait for their turn would keep them waiting.
    fn takes_turns(&self) -> bool {
        false
    }

    async fn plan(&self, scope: &Scope<'_>) -> Result<Outcome, PlanError> {
        let attempt = Attempt::begin(scope, &scope.logins.password_names, self.name.as_str(), INVALID)?;
        let record = user_name(&scope.mount.root(), self.name.as_str());
        let (revision, user) = read::<UserpassUser>(&scope.records.view, &record)?;
        let renewed = self.verify(scope, &attempt, user.as_ref().map(|user| user.password_hash.as_str())).await?;
        let Some(mut user) = user else { return Err(attempt.failed()) };

        let parameters = user.token.clone().unwrap_or_default();
        let name = self.name.as_str().to_owned();
        let reply = admit(
            scope,
            Admitted {
                display_name: self.name.as_str(),
                parameters: &parameters,
                bound_cidrs: &[],
                meta: BTreeMap::from([("username".into(), name.clone())]),
                internal: BTreeMap::from([("username".into(), name), ("user_id".into(), user.id.clone())]),
            },
        )?;
        let mut plan = Plan::new();
        plan.expect(record.clone(), revision);
        if let Some(hash) = renewed {
            user.password_hash = hash;
            put(&mut plan, record, &user);
        }
        Ok(Outcome { plan, reply, warnings: Vec::new() })
    }
}

/// What the user of a token says of its renewal.
pub(super) fn renewed(records: &Records, mount: &Mount, token: &Token, plan: &mut Plan) -> Result<TokenParameters, PlanError> {
    let name = token.internal.get("username").ok_or(PlanError::Malformed)?;
    let record = user_name(&mount.root(), name);
    let (revision, user): (Revision, Option<UserpassUser>) = read(&records.view, &record)?;
    let user = user.filter(|user| token.internal.get("user_id") == Some(&user.id));
    let parameters = user.ok_or_else(|| PlanError::Refused("user does not exist any more, not renewing".into()))?.token.unwrap_or_default();
    let without_default = |policies: &[String]| {
        let mut policies = normal_policies(policies);
        policies.retain(|policy| policy != "default");
        policies
    };
    if without_default(&parameters.policies) != without_default(&token.policies) {
        return Err(PlanError::Refused("policies have changed, not renewing".into()));
    }
    plan.expect(record, revision);
    Ok(parameters)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use serde_json::json;
    use types::Timestamp;

    use super::*;
    use crate::auth::testing::{Got, Node, denied, refused};

    #[test]
    fn the_table_is_well_formed() {
        assert_eq!(engine::route::check(ROUTES), Vec::<String>::new());
    }

    async fn node() -> Node {
        let node = Node::new("userpass");
        let body = json!({"password": "pw", "policies": "A,b", "ttl": "1h", "token_max_ttl": "2h"});
        assert_eq!(node.ask(Verb::Write, "users/Bob", body).await, Got::Done);
        node
    }

    async fn log_in(node: &Node, name: &str, password: &str) -> Got {
        node.ask(Verb::Write, &format!("login/{name}"), json!({ "password": password })).await
    }

    #[tokio::test]
    async fn users_are_made_shown_listed_changed_and_deleted() {
        let node = node().await;
        let shown = node.ask(Verb::Read, "users/BOB", Value::Null).await.data();
        for (member, want) in [
            ("policies", json!(["a", "b"])),
            ("token_policies", json!(["a", "b"])),
            ("ttl", json!(3600)),
            ("token_ttl", json!(3600)),
            ("token_max_ttl", json!(7200)),
            ("max_ttl", Value::Null),
            ("token_type", json!("default")),
        ] {
            assert_eq!(shown[member], want, "{member}");
        }
        assert!(!shown.to_string().contains("argon2"), "no hash is shown");
        assert_eq!(node.ask(Verb::List, "users", Value::Null).await.data(), json!({"keys": ["bob"]}));
        assert_eq!(node.ask(Verb::Write, "users/bob/policies", json!({"token_policies": "x"})).await, Got::Done);
        assert_eq!(node.ask(Verb::Read, "users/bob", Value::Null).await.data()["token_policies"], json!(["x"]));
        assert!(matches!(log_in(&node, "bob", "pw").await, Got::Auth(_)), "the password is as it was");
        assert_eq!(node.ask(Verb::Write, "users/bob/password", json!({"password": "other"})).await, Got::Done);
        assert_eq!(log_in(&node, "bob", "pw").await, refused(INVALID));
        assert!(matches!(log_in(&node, "bob", "other").await, Got::Auth(_)));
        for _ in 0..2 {
            assert_eq!(node.ask(Verb::Delete, "users/bob", Value::Null).await, Got::Done);
        }
        assert_eq!(node.ask(Verb::Read, "users/bob", Value::Null).await, Got::NotFound);
        assert_eq!(node.ask(Verb::List, "users", Value::Null).await, Got::NotFound);
        assert_eq!(node.records_of_mount(), 0);
    }

    #[tokio::test]
    async fn what_cannot_be_written_is_refused_and_nothing_is_written() {
        let node = Node::new("userpass");
        let long = "x".repeat(password::PASSWORD_BYTES_MAX + 1);
        for (path, body) in [
            ("users/new", json!({})),
            ("users/new", json!({"password": ""})),
            ("users/new", json!({"password": long})),
            ("users/new", json!({"password": "x", "password_hash": "$2a$10$abc"})),
            ("users/new", json!({"password": "x", "token_type": "batch", "token_period": 5})),
            ("users/a b", json!({"password": "x"})),
            ("users/-a", json!({"password": "x"})),
            ("users/none/password", json!({"password": "x"})),
            ("users/none/password", json!({})),
            ("users/none/policies", json!({"policies": "x"})),
            ("users/none/policies", json!({})),
        ] {
            assert!(matches!(node.ask(Verb::Write, path, body.clone()).await, Got::Error(400, _)), "{path} {body}");
        }
        assert_eq!(node.records_of_mount(), 0);
    }

    #[tokio::test]
    async fn a_login_gives_the_users_token() {
        let node = node().await;
        let auth = log_in(&node, "BOB", "pw").await.auth();
        for (member, want) in [
            ("policies", json!(["a", "b", "default"])),
            ("metadata", json!({"username": "bob"})),
            ("lease_duration", json!(3600)),
            ("renewable", json!(true)),
            ("orphan", json!(true)),
            ("token_type", json!("service")),
        ] {
            assert_eq!(auth[member], want, "{member}");
        }
        node.ask(Verb::Write, "users/bob", json!({"token_policies": "ROOT"})).await;
        assert_eq!(log_in(&node, "bob", "pw").await, refused("auth methods cannot create root tokens"));
        node.ask(Verb::Write, "users/bob", json!({"token_policies": "a", "token_bound_cidrs": "10.0.0.0/8"})).await;
        assert_eq!(log_in(&node, "bob", "pw").await, denied());
        assert!(matches!(log_in(node.from("10.1.1.1"), "bob", "pw").await, Got::Auth(_)));
    }

    #[tokio::test]
    async fn whatever_is_wrong_the_answer_is_the_same_and_costs_one_hash_and_no_write() {
        let node = node().await;
        let computed = || node.logins.passwords.computed.load(Ordering::Relaxed);
        let revision = |node: &Node| node.barrier.view().read(&Name::new("ns/root/mounts")).unwrap().revision;
        let before = revision(&node);
        // CVE-2025-6010, CVE-2025-6011 (54999): who is not there costs as much as who is. CVE-2023-3462: no text tells them apart.
        for name in ["bob", "nobody"] {
            let start = computed();
            assert_eq!(log_in(&node, name, "wrong").await, refused(INVALID), "{name}");
            assert_eq!(computed() - start, 1, "{name}");
        }
        // Neither of these is a name or a password that anybody could have.
        let (long_name, long) = ("x".repeat(200), "x".repeat(2000));
        for (name, password) in [("b ob", "pw"), ("b\u{f6}b", "pw"), (&*long_name, "pw"), ("bob", &*long)] {
            let start = computed();
            assert_eq!(log_in(&node, name, password).await, refused(INVALID));
            assert_eq!(computed(), start, "no work");
        }
        assert_eq!(log_in(&node, "bob", "").await, refused("missing password"));
        // CVE-2026-46405: no failed login makes a token.
        assert_eq!((node.tokens(), revision(&node)), (0, before));
    }

    #[tokio::test]
    async fn cve_2025_6004_no_spelling_of_a_name_escapes_its_lock() {
        let node = node().await;
        for name in ["bob", "BOB", "Bob", "bOb", "boB"] {
            assert_eq!(log_in(&node, name, "wrong").await, refused(INVALID), "{name}");
        }
        let computed = node.logins.passwords.computed.load(Ordering::Relaxed);
        for name in ["bob", "BOB", "bob/"] {
            assert!(!matches!(log_in(&node, name, "pw").await, Got::Auth(_)), "{name}");
        }
        assert_eq!(log_in(&node, "bob", "pw").await, denied());
        assert_eq!(node.logins.passwords.computed.load(Ordering::Relaxed), computed, "no work is done for a locked name");
        // CVE-2025-6013: blanks are no part of a name, so they make no other one.
        assert_eq!(log_in(&node, "bob ", "pw").await, refused(INVALID));
        node.pass(15 * 60);
        assert!(matches!(log_in(&node, "bob", "pw").await, Got::Auth(_)), "the lock has ended");
    }

    #[tokio::test]
    async fn a_user_that_is_not_there_is_locked_like_one_that_is() {
        let node = node().await;
        for name in ["bob", "nobody"] {
            for _ in 0..5 {
                assert_eq!(log_in(&node, name, "wrong").await, refused(INVALID));
            }
            assert_eq!(log_in(&node, name, "wrong").await, denied(), "{name}");
        }
        assert_eq!(node.ask_sys(Verb::Read, "locked-users").await.data()["total"], json!(2));
    }

    #[tokio::test]
    async fn a_success_forgets_failures_and_an_operator_unlocks() {
        let node = node().await;
        for _ in 0..2 {
            for _ in 0..4 {
                log_in(&node, "bob", "wrong").await;
            }
            assert!(matches!(log_in(&node, "bob", "pw").await, Got::Auth(_)));
        }
        for _ in 0..6 {
            log_in(&node, "bob", "wrong").await;
        }
        let shown = node.ask_sys(Verb::Read, "locked-users").await.data();
        let mount = json!({"mount_accessor": node.accessor(), "counts": 1, "alias_identifiers": ["bob"]});
        let want = json!([{"namespace_id": "root", "namespace_path": "", "counts": 1, "mount_accessors": [mount]}]);
        assert_eq!(shown, json!({"by_namespace": want, "total": 1}));
        assert_eq!(node.ask_sys(Verb::Write, &format!("locked-users/{}/unlock/BOB", node.accessor())).await, Got::Done);
        assert_eq!(node.ask_sys(Verb::Read, "locked-users").await.data()["total"], json!(0));
        assert!(matches!(log_in(&node, "bob", "pw").await, Got::Auth(_)));
        assert!(matches!(node.ask_sys(Verb::Write, "locked-users/none/unlock/bob").await, Got::Error(404, _)));
    }

    #[tokio::test]
    async fn tries_at_once_tell_no_more_than_tries_in_turn() {
        let node = node().await;
        let tries = (0..20).map(|number| {
            let node = &node;
            async move { log_in(node, "bob", if number == 19 { "pw" } else { "wrong" }).await }
        });
        let got = at_once(tries.collect()).await;
        let told = got.iter().filter(|got| **got != denied()).count();
        assert!(told <= 5, "{told} tries told something: {got:?}");
    }

    /// All of them at once, on one thread.
    async fn at_once<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
        let mut futures: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
        std::future::poll_fn(|context| {
            for (future, output) in &mut futures {
                if output.is_none()
                    && let std::task::Poll::Ready(ready) = future.as_mut().poll(context)
                {
                    *output = Some(ready);
                }
            }
            if futures.iter().all(|(_, output)| output.is_some()) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
        futures.into_iter().map(|(_, output)| output.unwrap()).collect()
    }

    #[tokio::test]
    async fn a_user_that_changed_meanwhile_gives_no_token() {
        let node = node().await;
        let pending = node.begin("login/bob", json!({"password": "pw"})).await;
        assert_eq!(node.ask(Verb::Delete, "users/bob", Value::Null).await, Got::Done);
        assert_eq!(node.carry_out(pending), None);
        assert_eq!(node.tokens(), 0);
    }

    #[tokio::test]
    async fn a_hash_of_a_lower_cost_is_made_anew_at_login() {
        let node = node().await;
        let record = user_name(&node.mount_root(), "bob");
        let user = |node: &Node| read::<UserpassUser>(&node.barrier.view(), &record).unwrap().1.unwrap();
        // "password" at 64 KiB and 1 pass, made by the reference implementation (argon2-cffi).
        let old = "$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHRzYWx0c2FsdA$Wb9DOLKUgwlL5fjad9tfCPU0SBAo0PEY/evJRhwtUR0".to_owned();
        let mut plan = Plan::new();
        put(&mut plan, record.clone(), &UserpassUser { password_hash: old, ..user(&node) });
        assert!(node.barrier.commit(&node.barrier.view(), &plan));
        assert!(password::is_outdated(&user(&node).password_hash));
        assert_eq!(log_in(&node, "bob", "wrong").await, refused(INVALID));
        assert!(password::is_outdated(&user(&node).password_hash), "a failed login writes nothing");
        assert!(matches!(log_in(&node, "bob", "password").await, Got::Auth(_)));
        assert!(!password::is_outdated(&user(&node).password_hash));
        assert!(matches!(log_in(&node, "bob", "password").await, Got::Auth(_)));
    }

    #[tokio::test]
    async fn cve_2026_115356_a_token_is_renewed_as_its_user_says_now() {
        let node = node().await;
        let auth = log_in(&node, "bob", "pw").await.auth();
        let bounds = node.renew(&auth).unwrap();
        let seconds = std::time::Duration::from_secs;
        assert_eq!((bounds.default, bounds.max, bounds.period), (seconds(3600), seconds(7200), seconds(0)));
        let life = crate::ttl::grant(&bounds, Timestamp(0), Timestamp(0)).unwrap();
        assert_eq!(life.ttl, seconds(3600));

        node.ask(Verb::Write, "users/bob", json!({"token_policies": "a,b,default", "token_ttl": 60, "token_max_ttl": 600})).await;
        let bounds = node.renew(&auth).unwrap();
        assert_eq!((bounds.default, bounds.max), (seconds(60), seconds(600)));
        node.ask(Verb::Write, "users/bob/policies", json!({"token_policies": "a"})).await;
        assert_eq!(node.renew(&auth).unwrap_err(), "policies have changed, not renewing");
        node.ask(Verb::Delete, "users/bob", Value::Null).await;
        assert!(node.renew(&auth).unwrap_err().contains("does not exist"));
        node.ask(Verb::Write, "users/bob", json!({"password": "pw", "token_policies": "a,b"})).await;
        assert!(node.renew(&auth).unwrap_err().contains("does not exist"), "another user of the same name");
    }
}
