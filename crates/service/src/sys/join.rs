//! `sys/storage/raft/join-token`: tokens by which nodes join. What a node does with one is not here: it works without a token of the API.

use std::time::Duration;

use barrier::identity::{self, JOIN_TOKEN_TTL_MAX, JoinTokenStatus, NewJoinToken};
use engine::AskError;
use engine::route::{Access, Field, FieldKind, Method, Route};
use serde_json::{Value, json};
use types::NodeId;
use types::capability::Verb;

use crate::backend::{Asked, Handler};
use crate::body::Fields;
use crate::outcome::{Operation, Outcome, PlanError, planned};
use crate::request::{Answer, shown_time};

/// How long a token lives where nobody says otherwise.
const TTL_DEFAULT: Duration = Duration::from_secs(3600);

const ID: Field = Field::required("id", FieldKind::Text, "The token's id, as it is listed: no secret.");

/// What may be asked.
pub(crate) static ROUTES: &[Route<Handler>] = &[
    Route {
        pattern: "storage/raft/join-token",
        about: "Tokens by which new nodes join the cluster, each once.",
        parameters: &[],
        methods: &[
            Method {
                verb: Verb::Write,
                summary: "Makes one. It is shown here and never again.",
                fields: &[
                    Field::optional("node_id", FieldKind::Text, "The node that it is for; any new one when nothing is said."),
                    Field::optional("ttl", FieldKind::Duration, "How long it is good: 1 h when nothing is said, at most 30 days."),
                    Field::optional("non_voter", FieldKind::Boolean, "The node is not to become a voter."),
                ],
                query: &[],
                handler: create,
            },
            Method { verb: Verb::List, summary: "Lists their ids, and what is known of them.", fields: &[], query: &[], handler: list },
        ],
        access: Access::Sudo,
    },
    Route {
        pattern: "storage/raft/join-token/{id}",
        about: "One token by which a new node joins the cluster.",
        parameters: &[ID],
        methods: &[
            Method { verb: Verb::Read, summary: "Shows what is known of it.", fields: &[], query: &[], handler: read },
            Method { verb: Verb::Delete, summary: "Ends it.", fields: &[], query: &[], handler: revoke },
        ],
        access: Access::Sudo,
    },
];

fn shown(token: &JoinTokenStatus) -> Value {
    json!({
        "id": token.id,
        "node_id": token.node_id,
        "non_voter": token.non_voter,
        "created_by": token.created_by,
        "creation_time": shown_time(token.created),
        "expire_time": shown_time(token.expires),
        "used_by": token.used_by,
    })
}

fn create(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let fields = Fields::of(asked.ask)?;
    let node_id = fields.text("node_id")?.filter(|text| !text.is_empty());
    let node_id = node_id.map(NodeId::parse).transpose().map_err(|error| AskError::Invalid(format!("node_id: {error}")))?;
    let ttl = fields.duration("ttl")?.filter(|ttl| !ttl.is_zero()).unwrap_or(TTL_DEFAULT);
    if ttl > JOIN_TOKEN_TTL_MAX {
        let text = format!("ttl is longer than {}, the longest that a join token lives", types::duration::print(JOIN_TOKEN_TTL_MAX));
        return Err(AskError::Invalid(text));
    }
    let non_voter = fields.boolean("non_voter")?.unwrap_or(false);
    Ok(planned(move |scope| {
        let created_by = scope.caller()?.token.display_name.clone();
        let order = NewJoinToken { node_id: node_id.clone(), ttl, non_voter, created_by };
        let Some((token, plan)) = identity::plan_join_token(&scope.records.view, &order, scope.now, scope.rng)? else {
            return Err(PlanError::Refused("there are too many join tokens: end some (`conclave operator join-token -list`)".into()));
        };
        let expires = types::Timestamp(scope.now.0.saturating_add(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)));
        // The answer is the only place that ever shows it.
        let answer = json!({
            "join_token": token.text().as_str(),
            "id": token.id(),
            "node_id": order.node_id.as_ref().map(NodeId::as_str),
            "non_voter": non_voter,
            "expire_time": shown_time(expires),
        });
        Ok(Outcome::written(plan, Answer::Data(engine::json(&answer))))
    }))
}

fn list(_asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    Ok(planned(|scope| {
        let tokens = identity::join_tokens(&scope.records.view)?;
        if tokens.is_empty() {
            return Ok(Outcome::answer(Answer::NotFound));
        }
        let keys: Vec<&str> = tokens.iter().map(|token| token.id.as_str()).collect();
        let info: serde_json::Map<String, Value> = tokens.iter().map(|token| (token.id.clone(), shown(token))).collect();
        Ok(Outcome::data(&json!({ "keys": keys, "key_info": info })))
    }))
}

fn read(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let id = asked.captures.text("id").to_owned();
    Ok(planned(move |scope| {
        let tokens = identity::join_tokens(&scope.records.view)?;
        Ok(match tokens.iter().find(|token| token.id == id) {
            Some(token) => Outcome::data(&shown(token)),
            None => Outcome::answer(Answer::NotFound),
        })
    }))
}

fn revoke(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let id = asked.captures.text("id").to_owned();
    Ok(planned(move |scope| match identity::revoke_join_token(&scope.records.view, &id)? {
        Some(plan) => Ok(Outcome::written(plan, Answer::Done)),
        None => Err(PlanError::NoSuch("there is no such join token (`conclave operator join-token -list` lists them)".into())),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Refusal;
    use crate::testing::World;

    #[test]
    fn the_table_is_well_formed() {
        assert_eq!(engine::route::check(ROUTES), Vec::<String>::new());
    }

    #[tokio::test]
    async fn tokens_are_made_listed_and_ended() {
        let world = World::new(1);
        let path = "sys/storage/raft/join-token";
        assert_eq!(world.ask(Verb::List, path, Value::Null).await, Ok(json!("none")));
        for bad in [json!({ "node_id": "N 1" }), json!({ "ttl": "31d" }), json!({ "ttl": "soon" })] {
            let asked = world.ask(Verb::Write, path, bad.clone()).await;
            assert!(matches!(asked, Err(Refusal::Ask(AskError::Invalid(_)))), "{bad}");
        }
        let made = world.ask(Verb::Write, path, json!({ "node_id": "n2", "ttl": "10m", "non_voter": true })).await.unwrap();
        let text = made["join_token"].as_str().unwrap();
        let token = identity::JoinToken::parse(text).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(made["id"], token.id());
        let listed = world.ask(Verb::List, path, Value::Null).await.unwrap();
        assert_eq!(listed["keys"], json!([token.id()]));
        assert_eq!(listed["key_info"][token.id()]["node_id"], "n2");
        assert!(!listed.to_string().contains(&text[20..60]), "a list shows no secret");
        let one = format!("{path}/{}", token.id());
        assert_eq!(world.ask(Verb::Read, &one, Value::Null).await.unwrap()["used_by"], Value::Null);
        assert_eq!(world.ask(Verb::Delete, &one, Value::Null).await, Ok(Value::Null));
        assert!(matches!(world.ask(Verb::Delete, &one, Value::Null).await, Err(Refusal::NoSuch(_))));
        assert!(matches!(world.ask(Verb::Delete, &format!("{path}/zz"), Value::Null).await, Err(Refusal::NoSuch(_))));
    }
}
