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
use tokio::sync::Mutex;
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
    /// The password's hash, once it is made: planning again does not make it again.
    hash: Mutex<Option<String>>,
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
            let mut hash = self.hash.lock().await;
            user.password_hash = match &*hash {
                Some(hash) => hash.clone(),
                None => hash.insert(scope.logins.passwords.hash(password, scope.rng).await?).clone(),
            };
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
    Ok(Box::new(Write { name, password, change, missing: Missing::Make, hash: Mutex::default() }))
}

fn write_password(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let fields = Fields::of(asked.ask)?;
    let password = password_of(&fields)?.ok_or_else(|| AskError::Invalid("missing password".into()))?;
    let (name, change) = (name_of(asked)?, Change::default());
    Ok(Box::new(Write { name, password: Some(password), change, missing: Missing::Refuse, hash: Mutex::default() }))
}

fn write_policies(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let fields = Fields::of(asked.ask)?;
    let named = ["token_policies", "policies"].into_iter().filter_map(|name| Some((name.to_owned(), fields.value(name)?.clone())));
    let named: Map<String, Value> = named.collect();
    if named.is_empty() {
        return Err(AskError::Invalid("missing token_policies".into()));
    }
    let change = Change::parse(&Fields::from_object(named), OLD_NAMES)?;
    Ok(Box::new(Write { name: name_of(asked)?, password: None, change, missing: Missing::Refuse, hash: Mutex::default() }))
}

/// What a password came to against a hash.
struct Verified {
    against: Option<String>,
    matched: bool,
    /// The hash to keep instead.
    renewed: Option<String>,
}

struct Login {
    name: LoginName,
    password: Password,
    /// Planning again does not hash again, unless the user has another password by now.
    verified: Mutex<Option<Verified>>,
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
    Ok(Box::new(Login { name, password: Arc::new(password), verified: Mutex::default() }))
}

impl Login {
    /// Verifies the password against the user's hash. Answers the hash to keep instead, if the user's is outdated.
    async fn verify(&self, scope: &Scope<'_>, attempt: &Attempt<'_>, kept: Option<&str>) -> Result<Option<String>, PlanError> {
        let mut verified = self.verified.lock().await;
        if let Some(known) = verified.as_ref().filter(|known| known.against.as_deref() == kept) {
            return if known.matched { Ok(known.renewed.clone()) } else { Err(attempt.failed()) };
        }
        let passwords = &scope.logins.passwords;
        let matched = passwords.verify(&self.password, kept).await?;
        let against = kept.map(str::to_owned);
        if !matched {
            *verified = Some(Verified { against, matched, renewed: None });
            return Err(attempt.failed());
        }
        attempt.succeeded()?;
        let renewed = match kept {
            // When there is no time for it now, there will be at the next login.
            Some(kept) if password::is_outdated(kept) => passwords.hash(&self.password, scope.rng).await.ok(),
            _ => None,
        };
        *verified = Some(Verified { against, matched, renewed: renewed.clone() });
        Ok(renewed)
    }
}

#[async_trait::async_trait]
impl Operation for Login {
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
