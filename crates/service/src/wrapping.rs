//! Response wrapping: an answer is kept for whoever holds its token, who gets it once.
//!
//! Always: the answer, its token and whatever else the request writes are stored in one transaction, and so are taking the answer and
//! ending the token; so an answer is taken once, whichever nodes are asked at once and whenever one crashes. An answer lies in its token's
//! cubbyhole, and is erased with it.

use std::time::Duration;

use barrier::{Name, Plan, ViewError};
use crypto::SecretBytes;
use engine::AskError;
use engine::route::{Access, Method, Route};
use prost::Message;
use proto::stored;
use proto::stored::wrapped_answer::Answer as Kept;
use serde_json::value::RawValue;
use types::capability::Verb;
use types::{Revision, Timestamp};

use crate::auth;
use crate::backend::{Asked, Handler};
use crate::outcome::{Grant, Operation, Outcome, PlanError, Scope, planned};
use crate::policy::builtin::RESPONSE_WRAPPING;
use crate::records::{self, Records};
use crate::request::{Answer, Auth, Lease, Wrapped};
use crate::token::{self, Caller};

/// What every use of a token says that wraps nothing, or nothing any more.
pub(crate) const INVALID: &str = "wrapping token is not valid or does not exist";

/// What the holder of a wrapping token may ask of its cubbyhole, which is nothing like that of other tokens.
pub(crate) const CUBBYHOLE_ROUTES: &[Route<Handler>] = &[Route {
    pattern: "response",
    about: "The wrapped answer.",
    parameters: &[],
    methods: &[Method { verb: Verb::Read, summary: "Takes the answer, as text.", fields: &[], query: &[], handler: take_as_text }],
    access: Access::Token,
}];

/// Whether a token stands for a wrapped answer, and for nothing else.
pub(crate) fn is_wrapping_token(caller: &Caller) -> bool {
    matches!(caller.policies(), [policy] if policy == RESPONSE_WRAPPING)
}

/// Where the answer lies that a token stands for.
fn name(caller: &Caller) -> Name {
    records::cubbyhole_folder(&caller.namespace.id, &caller.tag).join("response")
}

/// Wraps an answer: plans to keep it, and makes its token. Warnings go with it. What is no secret is answered as it is.
pub(crate) fn wrap(
    scope: &Scope<'_>,
    answer: Answer,
    ttl: Duration,
    warnings: &mut Vec<String>,
    plan: &mut Plan,
) -> Result<Answer, PlanError> {
    let wrapped_accessor = match &answer {
        Answer::Auth(auth) => auth.accessor.clone(),
        // EXPOSE: the accessor of a secret id is looked for, so that it can be destroyed unseen.
        Answer::Data(data) if scope.mount.kind == "approle" => auth::approle::accessor_told(data.expose()),
        _ => String::new(),
    };
    let kept = match answer {
        Answer::Done | Answer::Accepted | Answer::NotFound | Answer::Wrapped(_) => return Ok(answer),
        Answer::Raw(_) | Answer::Stream(_) => {
            return Err(PlanError::Refused("this answer is not JSON and cannot be wrapped (leave out X-Vault-Wrap-TTL)".into()));
        }
        // EXPOSE: the answer goes into its record.
        Answer::Data(data) => Kept::Data(data.expose().to_vec()),
        // EXPOSE: as above.
        Answer::Gone(data) => Kept::Gone(data.expose().to_vec()),
        Answer::Leased(data, lease) => Kept::Leased(stored::WrappedLeased {
            // EXPOSE: as above.
            data: data.expose().to_vec(),
            lease_id: lease.id,
            duration_ms: millis(lease.duration),
            renewable: lease.renewable,
        }),
        Answer::Auth(auth) => Kept::Auth(stored::WrappedAuth {
            // EXPOSE: as above.
            client_token: auth.client_token.expose().to_vec(),
            accessor: auth.accessor,
            policies: auth.policies,
            metadata: auth.metadata.into_iter().collect(),
            ttl_ms: millis(auth.ttl),
            renewable: auth.renewable,
            batch: auth.is_batch,
            orphan: auth.orphan,
            uses: auth.uses,
        }),
    };
    let record = stored::WrappedAnswer {
        created_ms: scope.now.0,
        ttl_ms: millis(ttl),
        path: scope.request.path.as_str().to_owned(),
        warnings: std::mem::take(warnings),
        answer: Some(kept),
    };
    keep(scope, &record, wrapped_accessor, plan)
}

/// Plans to keep a wrapped answer, under a token of its own.
fn keep(scope: &Scope<'_>, record: &stored::WrappedAnswer, wrapped_accessor: String, plan: &mut Plan) -> Result<Answer, PlanError> {
    let ttl = Duration::from_millis(record.ttl_ms);
    let grant = Grant {
        policies: vec![RESPONSE_WRAPPING.into()],
        no_default_policy: true,
        display_name: "token".into(),
        ttl,
        explicit_max_ttl: ttl,
        uses: 1,
        path: record.path.clone(),
        is_of_no_mount: true,
        ..Grant::default()
    };
    let auth = token::issue(scope, &grant, plan, &mut Vec::new())?;
    // EXPOSE: the token's record is named by its keyed hash.
    let tag = scope.records.view.token_tag(auth.client_token.expose()).ok_or(ViewError::Sealed)?;
    let mut bytes = Vec::with_capacity(record.encoded_len());
    record.encode(&mut bytes).expect("there is room for it");
    plan.put(records::cubbyhole_folder(&scope.namespace.id, &tag).join("response"), SecretBytes::from(bytes));
    Ok(Answer::Wrapped(Box::new(Wrapped {
        token: auth.client_token,
        accessor: auth.accessor,
        ttl,
        created: Timestamp(record.created_ms),
        path: record.path.clone(),
        wrapped_accessor,
    })))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A wrapped answer and its token.
pub(crate) struct Found {
    caller: Caller,
    revision: Revision,
    pub(crate) record: stored::WrappedAnswer,
}

/// Finds the answer that a token stands for; `None` when it stands for none (any more).
pub(crate) fn find(records: &Records, text: &SecretBytes, now: Timestamp) -> Result<Option<Found>, PlanError> {
    let Some(caller) = token::find(records, text, now)?.filter(is_wrapping_token) else { return Ok(None) };
    let found = records.view.read(&name(&caller))?;
    let Some(value) = found.value else { return Ok(None) };
    // EXPOSE: the record is decoded.
    let record = stored::WrappedAnswer::decode(value.expose()).map_err(|_| PlanError::Malformed)?;
    Ok(Some(Found { caller, revision: found.revision, record }))
}

impl Found {
    /// Plans that nobody takes the answer again.
    pub(crate) fn spend(&self, now: Timestamp, plan: &mut Plan) {
        self.caller.expect(plan);
        plan.expect(name(&self.caller), self.revision);
        plan.delete(name(&self.caller));
        token::end(&self.caller.token, &self.caller.reference(), false, now, plan);
    }

    /// Plans to wrap the same answer again, under another token, for as long as it was wrapped.
    pub(crate) fn rewrap(mut self, scope: &Scope<'_>, plan: &mut Plan) -> Result<Answer, PlanError> {
        self.spend(scope.now, plan);
        self.record.created_ms = scope.now.0;
        let wrapped_accessor = match &self.record.answer {
            Some(Kept::Auth(auth)) => auth.accessor.clone(),
            _ => String::new(),
        };
        keep(scope, &self.record, wrapped_accessor, plan)
    }

    /// The answer as it was.
    pub(crate) fn answer(&mut self) -> Result<Answer, PlanError> {
        Ok(match self.record.answer.take().ok_or(PlanError::Malformed)? {
            Kept::Data(data) => Answer::Data(SecretBytes::from(data)),
            Kept::Gone(data) => Answer::Gone(SecretBytes::from(data)),
            Kept::Leased(leased) => Answer::Leased(
                SecretBytes::from(leased.data),
                Lease { id: leased.lease_id, duration: Duration::from_millis(leased.duration_ms), renewable: leased.renewable },
            ),
            Kept::Auth(auth) => Answer::Auth(Box::new(Auth {
                client_token: SecretBytes::from(auth.client_token),
                accessor: auth.accessor,
                policies: auth.policies,
                metadata: auth.metadata.into_iter().collect(),
                ttl: Duration::from_millis(auth.ttl_ms),
                renewable: auth.renewable,
                is_batch: auth.batch,
                orphan: auth.orphan,
                uses: auth.uses,
            })),
        })
    }
}

fn take_as_text(_asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    #[derive(serde::Serialize)]
    struct Envelope<'a> {
        request_id: String,
        lease_id: &'a str,
        renewable: bool,
        lease_duration: u64,
        data: Option<&'a RawValue>,
        wrap_info: Option<()>,
        warnings: Option<&'a [String]>,
        auth: Option<&'a RawValue>,
    }
    Ok(planned(|scope| {
        let mut found = find(&scope.records, &scope.caller()?.text, scope.now)?.ok_or(PlanError::Denied)?;
        let mut plan = Plan::new();
        found.spend(scope.now, &mut plan);
        let answer = found.answer()?;
        let nothing = Lease { id: String::new(), duration: Duration::ZERO, renewable: false };
        let (data, auth, lease) = match answer {
            Answer::Data(data) | Answer::Gone(data) => (Some(data), None, nothing),
            Answer::Leased(data, lease) => (Some(data), None, lease),
            Answer::Auth(auth) => (None, Some(auth.json()), nothing),
            Answer::Raw(_) | Answer::Stream(_) | Answer::Done | Answer::Accepted | Answer::NotFound | Answer::Wrapped(_) => {
                return Err(PlanError::Malformed);
            }
        };
        // EXPOSE: the answer goes to who holds its token.
        let raw = |part: &Option<SecretBytes>| part.as_ref().map(|part| serde_json::from_slice::<Box<RawValue>>(part.expose())).transpose();
        let (data, auth) = (raw(&data).map_err(|_| PlanError::Malformed)?, raw(&auth).map_err(|_| PlanError::Malformed)?);
        let warnings = &found.record.warnings;
        let envelope = engine::json(&Envelope {
            request_id: scope.request.id.to_string(),
            lease_id: &lease.id,
            renewable: lease.renewable,
            lease_duration: lease.duration.as_secs(),
            data: data.as_deref(),
            wrap_info: None,
            warnings: if warnings.is_empty() { None } else { Some(warnings) },
            auth: auth.as_deref(),
        });
        // EXPOSE: as above.
        let text = std::str::from_utf8(envelope.expose()).map_err(|_| PlanError::Malformed)?;
        let mut outcome = Outcome::written(plan, Answer::Data(engine::json(&serde_json::json!({ "response": text }))));
        outcome.warnings.push(
            "Reading from 'cubbyhole/response' is deprecated. Please use sys/wrapping/unwrap to unwrap responses, as it provides additional \
             security checks and other benefits."
                .into(),
        );
        Ok(outcome)
    }))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use types::Verb;

    use super::*;
    use crate::request::Refusal;
    use crate::testing::{Asking, World, shown};

    fn invalid() -> Result<Value, Refusal> {
        Err(Refusal::Refused(INVALID.into()))
    }

    async fn wrapped(world: &World, asking: Asking) -> Value {
        let response = world.send(Asking { wrap_ttl_s: 60, ..asking }).await;
        shown(&response.outcome.unwrap())["wrap_info"].clone()
    }

    async fn wrap(world: &World, body: Value) -> String {
        let info = wrapped(world, world.asking(Verb::Write, "sys/wrapping/wrap", body)).await;
        info["token"].as_str().unwrap().to_owned()
    }

    #[tokio::test]
    async fn an_answer_is_taken_once_and_leaves_nothing() {
        let world = World::new(1);
        let before = world.records();
        let body = json!({ "a": 1.50, "b": { "c": [null, "x"] } });
        for way in ["header", "body", "cubbyhole"] {
            let token = wrap(&world, body.clone()).await;
            let taken = match way {
                "header" => world.ask_as(&token, Verb::Write, "sys/wrapping/unwrap", Value::Null).await.unwrap(),
                "body" => world.ask(Verb::Write, "sys/wrapping/unwrap", json!({ "token": token })).await.unwrap(),
                _ => {
                    let text = world.ask_as(&token, Verb::Read, "cubbyhole/response", Value::Null).await.unwrap();
                    serde_json::from_str::<Value>(text["response"].as_str().unwrap()).unwrap()["data"].clone()
                }
            };
            assert_eq!(taken, body, "{way}");
            assert_eq!(world.records(), before, "{way}");
            assert_eq!(world.ask_as(&token, Verb::Write, "sys/wrapping/unwrap", Value::Null).await, invalid());
            assert_eq!(world.ask(Verb::Write, "sys/wrapping/unwrap", json!({ "token": token })).await, invalid());
            assert_eq!(world.ask(Verb::Write, "sys/wrapping/lookup", json!({ "token": token })).await, invalid());
            assert_eq!(world.ask_as(&token, Verb::Read, "cubbyhole/response", Value::Null).await, Err(Refusal::Denied));
        }
    }

    #[tokio::test]
    async fn of_many_who_take_an_answer_at_once_one_gets_it() {
        let world = World::new(2);
        for round in 0..8 {
            let token = wrap(&world, json!({ "round": round })).await;
            let takers = (0..8).map(|taker| {
                let (world, token) = (&world, &token);
                async move {
                    match taker % 3 {
                        0 => world.ask_as(token, Verb::Write, "sys/wrapping/unwrap", Value::Null).await,
                        1 => world.ask(Verb::Write, "sys/wrapping/unwrap", json!({ "token": token })).await,
                        _ => world.ask_as(token, Verb::Write, "sys/wrapping/unwrap", json!({ "token": token })).await,
                    }
                }
            });
            let outcomes = futures::future::join_all(takers).await;
            assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
        }
    }

    #[tokio::test]
    async fn it_stands_for_nothing_else_and_ends_in_time() {
        let world = World::new(3);
        let token = wrap(&world, json!({ "a": 1 })).await;
        let look = |token: String| {
            let world = &world;
            async move { world.ask_as(&token, Verb::Read, "sys/wrapping/lookup", Value::Null).await }
        };
        let want = json!({ "creation_path": "sys/wrapping/wrap", "creation_time": "2026-11-24T09:00:00Z", "creation_ttl": 60 });
        for _ in 0..3 {
            assert_eq!(look(token.clone()).await, Ok(want.clone()), "looking spends nothing");
        }
        for (verb, path) in [
            (Verb::Read, "sys/mounts"),
            (Verb::Write, "sys/wrapping/rewrap"),
            (Verb::Read, "cubbyhole/other"),
            (Verb::Write, "cubbyhole/response"),
        ] {
            let other = wrap(&world, json!({ "a": 1 })).await;
            assert!(world.ask_as(&other, verb, path, Value::Null).await.is_err(), "{verb} {path}");
        }
        assert_eq!(world.ask(Verb::Write, "sys/wrapping/unwrap", json!({ "token": world.root_token })).await, invalid());
        assert_eq!(world.ask(Verb::Write, "sys/wrapping/unwrap", Value::Null).await, invalid());
        world.pass(59);
        assert!(look(token.clone()).await.is_ok());
        world.pass(1);
        assert_eq!(look(token.clone()).await, invalid());
        assert_eq!(world.ask_as(&token, Verb::Write, "sys/wrapping/unwrap", Value::Null).await, invalid());
        world.pass(600);
        for _ in 0..3 {
            world.do_chores().await;
        }
        let left = world.records();
        assert!(!left.keys().any(|name| name.contains("/cubbyhole/") || name.starts_with("core/due")), "{:?}", left.keys());
    }

    #[tokio::test]
    async fn tokens_and_warnings_are_wrapped_whole() {
        let world = World::new(4);
        let info =
            wrapped(&world, world.asking(Verb::Write, "auth/token/create", json!({ "policies": ["default"], "ttl": "9999h" }))).await;
        let unwrapping =
            Asking { token: Some(info["token"].as_str().unwrap().into()), ..world.asking(Verb::Write, "sys/wrapping/unwrap", Value::Null) };
        let response = world.send(unwrapping).await;
        assert!(response.warnings.iter().any(|warning| warning.contains("TTL")), "{:?}", response.warnings);
        let auth = shown(&response.outcome.unwrap())["auth"].clone();
        assert_eq!((&auth["policies"], &auth["accessor"]), (&json!(["default"]), &info["wrapped_accessor"]));
        let token = auth["client_token"].as_str().unwrap();
        assert_eq!(world.ask_as(token, Verb::Read, "auth/token/lookup-self", Value::Null).await.unwrap()["id"], token);
    }

    #[tokio::test]
    async fn it_is_passed_on_under_another_token() {
        let world = World::new(5);
        let token = wrap(&world, json!({ "a": 1 })).await;
        world.pass(30);
        let again = world.ask(Verb::Write, "sys/wrapping/rewrap", json!({ "token": token })).await.unwrap()["wrap_info"].clone();
        assert_eq!((&again["ttl"], &again["creation_path"]), (&json!(60), &json!("sys/wrapping/wrap")));
        assert_eq!(world.ask_as(&token, Verb::Write, "sys/wrapping/unwrap", Value::Null).await, invalid());
        world.pass(59);
        let again = again["token"].as_str().unwrap();
        assert_eq!(world.ask_as(again, Verb::Write, "sys/wrapping/unwrap", Value::Null).await, Ok(json!({ "a": 1 })));
    }

    #[tokio::test]
    async fn what_is_no_secret_is_not_wrapped_and_strangers_wrap_nothing() {
        let world = World::new(6);
        let send = |asking: Asking| {
            let world = &world;
            async move { world.send(Asking { wrap_ttl_s: 60, ..asking }).await.outcome.map(|answer| shown(&answer)) }
        };
        assert_eq!(send(world.asking(Verb::Write, "sys/mounts/kv", json!({ "type": "kv" }))).await, Ok(Value::Null));
        assert_eq!(send(world.asking(Verb::Read, "kv/none", Value::Null)).await, Ok(json!("none")));
        assert!(send(world.asking(Verb::Write, "sys/mounts/kv", json!({ "type": "kv" }))).await.is_err());
        let before = world.records();
        let stranger = Asking { token: None, ..world.asking(Verb::Read, "sys/internal/ui/mounts", Value::Null) };
        assert!(matches!(send(stranger).await, Err(Refusal::Refused(_))));
        assert_eq!(
            world.ask(Verb::Write, "sys/wrapping/wrap", json!({ "a": 1 })).await.map(drop).unwrap_err().to_string().split(' ').next(),
            Some("endpoint")
        );
        assert_eq!(world.records(), before);
    }

    #[tokio::test]
    async fn who_holds_it_need_not_know_its_namespace() {
        let world = World::new(7);
        world.ask(Verb::Write, "sys/namespaces/a", Value::Null).await.unwrap();
        world.ask(Verb::Write, "sys/namespaces/b", Value::Null).await.unwrap();
        for namespace in ["", "a", "b"] {
            let asking = Asking { namespace: "a", ..world.asking(Verb::Write, "sys/wrapping/wrap", json!({ "x": 1 })) };
            let info = wrapped(&world, asking).await;
            let token = info["token"].as_str().unwrap();
            assert!(token.contains('.') && token.rsplit('.').next().unwrap().len() == 6, "{token}");
            assert_eq!(
                world.ask_in(namespace, token, Verb::Write, "sys/wrapping/unwrap", Value::Null).await,
                Ok(json!({ "x": 1 })),
                "{namespace}"
            );
        }
    }
}
