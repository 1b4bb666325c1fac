//! `sys/seals/…`: what opens the cluster, and other static seals; `sys/seal`: closing it.

use barrier::{Act, AttemptStatus, HolderStatus, SplitStatus, Step};
use engine::AskError;
use engine::route::{Access, Field, FieldKind, Method, Route};
use prost::Message;
use proto::stored;
use serde_json::{Value, json};
use types::capability::Verb;

use super::{
    Entry, KEY, NONCE, NONCE_TO_END, SHARE, acting, authorised, barrier, caller_name, cancelling, counted, is_told, method, of_act, route,
    shown_time, tell_people,
};
use crate::backend::{Asked, Handler};
use crate::body::Fields;
use crate::outcome::{Operation, Outcome, PlanError, Scope};
use crate::request::Answer;

/// The longest id of a static key, in bytes.
const KEY_ID_BYTES_MAX: usize = 128;

const ATTEMPT: &[Method<Handler>] = &[
    method(Verb::Read, "Shows how far the change has come.", &[], attempt),
    method(
        Verb::Write,
        "Starts a change.",
        &[
            Field::required("change", FieldKind::Text, "add or remove."),
            Field::required("key_id", FieldKind::Text, "The static key, as the configuration of the node that is asked last calls it."),
            SHARE,
        ],
        start,
    ),
    method(Verb::Delete, "Cancels it.", &[SHARE, NONCE_TO_END], cancel),
];

/// What may be asked.
pub(super) const ROUTES: &[Route<Handler>] = &[
    route(
        "seal",
        "Whether the cluster is sealed.",
        &[method(
            Verb::Write,
            "Seals every node.",
            &[
                Field::optional("node", FieldKind::Text, "Seals this node only; it must be the one that is asked."),
                Field::optional("report", FieldKind::Boolean, "Waits for the other nodes, and answers which of them have confirmed."),
            ],
            seal,
        )],
        Access::Sudo,
    ),
    route(
        "seals",
        "What opens the cluster: shares, and who holds them; static keys of nodes' configurations.",
        &[method(Verb::Read, "Shows them.", &[], seals)],
        Access::Token,
    ),
    route(
        "seals/attempt",
        "Other static seals: one is added or removed, once a quorum of shares was entered.",
        ATTEMPT,
        Access::SudoOrShare,
    ),
    route(
        "seals/update",
        "The shares for a change of the seals.",
        &[method(Verb::Write, "Enters a share.", &[KEY, NONCE], update)],
        Access::Anyone,
    ),
];

struct Seal {
    node: Option<String>,
    report: bool,
}

fn seal(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let fields = Fields::of(asked.ask)?;
    let node = fields.text("node")?.filter(|node| !node.is_empty()).map(str::to_owned);
    let report = fields.boolean("report")?.unwrap_or_default();
    if node.is_some() && report {
        return Err(AskError::Invalid("report is about all nodes (leave it or node out)".into()));
    }
    acting(Seal { node, report }, |seal, scope| Box::pin(seal.run(scope)))
}

impl Seal {
    async fn run(&self, scope: &Scope<'_>) -> Result<Outcome, PlanError> {
        if let Some(node) = &self.node {
            return seal_one(scope, node).await;
        }
        let nodes = scope.store.seal(&caller_name(scope)?).await.map_err(PlanError::Refused)?;
        if !self.report {
            return Ok(Outcome::answer(Answer::Done));
        }
        let shown = |node: &barrier::SealedNode| json!({ "node_id": node.node_id.to_string(), "confirmed": node.confirmed });
        Ok(Outcome::data(&json!({ "nodes": nodes.iter().map(shown).collect::<Vec<_>>() })))
    }
}

/// Seals the node that is asked. Of another one it tells the address: a node closes itself, and needs nobody to pass that on.
async fn seal_one(scope: &Scope<'_>, node: &str) -> Result<Outcome, PlanError> {
    let barrier = barrier(scope)?;
    let this = barrier.peer_status().node_id;
    if node == this {
        barrier.seal_this_node(&caller_name(scope)?).await;
        return Ok(Outcome::answer(Answer::Done));
    }
    let members = scope.store.members(scope.now).await;
    let member = members.nodes.iter().find(|member| member.node_id == node);
    let text = match member {
        Some(member) => format!("this is node {this}: ask {node} itself, at {}", member.api_address),
        None => {
            let ids: Vec<&str> = members.nodes.iter().map(|member| member.node_id.as_str()).collect();
            format!("no node is called {node:?} (the members are {})", ids.join(", "))
        }
    };
    Err(PlanError::Refused(text))
}

fn seals(_asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    acting((), |(), scope| {
        Box::pin(async move {
            let seals = barrier(scope)?.seals().await.map_err(of_act)?;
            let static_seals: Vec<Value> =
                seals.static_seals.iter().map(|seal| json!({ "key_id": seal.key_id, "created_time": shown_time(seal.created) })).collect();
            Ok(Outcome::data(&json!({
                "shamir": shown_split(&seals.shamir),
                "next": seals.next.as_ref().map(shown_split),
                "static": static_seals,
            })))
        })
    })
}

fn shown_split(split: &SplitStatus) -> Value {
    let holder = |(number, known): (usize, &HolderStatus)| {
        json!({
            "number": number,
            "name": known.holder.name,
            "recipient": known.holder.recipient,
            "last_verified_time": known.last_verified.map(shown_time),
        })
    };
    json!({
        "id": split.id,
        "created_time": shown_time(split.created),
        "threshold": split.quorum.threshold(),
        "shares": split.quorum.shares(),
        "holders": (1..).zip(&split.holders).map(holder).collect::<Vec<_>>(),
    })
}

fn details_of(attempt: &barrier::Attempt) -> Result<stored::SealChange, PlanError> {
    stored::SealChange::decode(attempt.details.as_slice()).map_err(|_| PlanError::Malformed)
}

fn change_text(change: &stored::SealChange) -> &'static str {
    if change.remove { "remove" } else { "add" }
}

fn shown(status: &AttemptStatus, is_told: bool) -> Result<Value, PlanError> {
    let change = details_of(&status.attempt)?;
    let mut shown = json!({
        "nonce": status.attempt.nonce.to_string(),
        "started": true,
        "complete": false,
        "change": change_text(&change),
        "key_id": if is_told { change.key_id.as_str() } else { "" },
        "progress": status.entered.len(),
        "required": status.needed,
    });
    if is_told {
        tell_people(&mut shown, status);
    }
    Ok(shown)
}

fn attempt(_asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    acting((), |(), scope| {
        Box::pin(async move {
            let barrier = barrier(scope)?;
            if let Some(status) = barrier.attempt(Act::Seals).await.map_err(of_act)? {
                return Ok(Outcome::data(&shown(&status, is_told(scope))?));
            }
            let required = barrier.seals().await.map_err(of_act)?.shamir.quorum.threshold();
            Ok(Outcome::data(&json!({
                "nonce": "",
                "started": false,
                "complete": false,
                "change": "",
                "key_id": "",
                "progress": 0,
                "required": required,
            })))
        })
    })
}

fn start(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let fields = Fields::of(asked.ask)?;
    let remove = match fields.required_text("change")? {
        "add" => false,
        "remove" => true,
        _ => return Err(AskError::Invalid("change must be add or remove".into())),
    };
    let key_id = fields.required_text("key_id")?.to_owned();
    if key_id.len() > KEY_ID_BYTES_MAX {
        return Err(AskError::Invalid(format!("key_id is longer than {KEY_ID_BYTES_MAX} bytes")));
    }
    acting(stored::SealChange { key_id, remove }, |change, scope| {
        Box::pin(async move {
            let barrier = barrier(scope)?;
            let who = authorised(scope, barrier).await?;
            let status = barrier.start_attempt(Act::Seals, change.encode_to_vec(), &who).await.map_err(of_act)?;
            Ok(Outcome::data(&shown(&status, true)?))
        })
    })
}

fn cancel(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    cancelling(asked, Act::Seals)
}

fn update(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    acting(Entry::of(&Fields::of(asked.ask)?)?, |entry, scope| Box::pin(enter(entry, scope)))
}

async fn enter(entry: &Entry, scope: &Scope<'_>) -> Result<Outcome, PlanError> {
    let barrier = barrier(scope)?;
    let (nonce, share) = entry.parse(scope)?;
    let proof = match counted(scope, barrier.enter_share_for(Act::Seals, nonce, share).await)? {
        Step::Waiting(status) => return Ok(Outcome::data(&shown(&status, true)?)),
        Step::Proven(proof) => proof,
    };
    let change = details_of(proof.attempt())?;
    let done = match change.remove {
        true => barrier.remove_static_seal(&proof, &change.key_id).await,
        false => barrier.add_static_seal(&proof, &change.key_id).await,
    };
    done.map_err(of_act)?;
    Ok(Outcome::data(&json!({
        "nonce": nonce.to_string(),
        "started": true,
        "complete": true,
        "change": change_text(&change),
        "key_id": change.key_id,
    })))
}
