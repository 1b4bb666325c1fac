//! `sys/remount`: moving a mount, with all that it holds.
//!
//! Always: a move is one transaction. Every record stays where it is, since records are named by the mount's uuid; only the tables change.

use barrier::Plan;
use crypto::SecretBytes;
use engine::AskError;
use engine::route::{Access, Field, FieldKind, Method, Route};
use prost::Message;
use proto::stored;
use serde_json::json;
use types::Path;
use types::capability::Verb;

use super::mounts::{check_path, expect_no_namespace};
use super::namespaces::descend;
use crate::backend::{Asked, Handler};
use crate::body::Fields;
use crate::mount::{Mount, MountTable};
use crate::outcome::{Operation, Outcome, PlanError, Scope, planned};
use crate::records;
use crate::request::Answer;

/// Moves of one namespace whose outcome can be asked for: the last ones.
const MOVES_KEPT_MAX: usize = 64;

/// What may be asked of moves.
pub(super) const ROUTES: &[Route<Handler>] = &[
    Route {
        pattern: "remount",
        about: "The move of a mount. Its leases, tokens of an auth method that stays in its namespace, and its settings move with it.",
        parameters: &[],
        methods: &[Method {
            verb: Verb::Write,
            summary: "Moves a mount, at once.",
            fields: &[
                Field::required("from", FieldKind::Text, "Where it is mounted; it may lie in a namespace inside this one."),
                Field::required("to", FieldKind::Text, "Where it is to be mounted; as above."),
            ],
            query: &[],
            handler: remount,
        }],
        access: Access::Sudo,
    },
    Route {
        pattern: "remount/status/{migration_id}",
        about: "What became of a move.",
        parameters: &[Field::required("migration_id", FieldKind::Text, "The id that the move was answered with.")],
        methods: &[Method { verb: Verb::Read, summary: "Shows the move.", fields: &[], query: &[], handler: status }],
        access: Access::Token,
    },
];

/// One end of a move: a path below the request's namespace, with a slash at its end.
fn end(fields: &Fields, name: &str) -> Result<Path, AskError> {
    let missing = || AskError::Invalid("both 'from' and 'to' path must be specified as a string".into());
    let text = fields.text(name)?.filter(|text| !text.is_empty()).ok_or_else(missing)?;
    let path = Path::parse(text).map_err(|error| AskError::Invalid(format!("{name}: {error}")))?;
    if path.is_root() { Err(missing()) } else { Ok(path.as_folder()) }
}

fn remount(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let fields = Fields::of(asked.ask)?;
    let (from, to) = (end(&fields, "from")?, end(&fields, "to")?);
    Ok(planned(move |scope| {
        let mut plan = Plan::new();
        move_mount(scope, &from, &to, &mut plan)?;
        let id = uuid::Builder::from_random_bytes(crypto::rng::generate_bytes(scope.rng)).into_uuid().to_string();
        keep(scope, stored::Move { id: id.clone(), from: from.as_str().to_owned(), to: to.as_str().to_owned() }, &mut plan)?;
        Ok(Outcome::written(plan, Answer::Data(engine::json(&json!({ "migration_id": id })))))
    }))
}

fn move_mount(scope: &Scope<'_>, from: &Path, to: &Path, plan: &mut Plan) -> Result<(), PlanError> {
    let refused = |text: String| Err(PlanError::Refused(text));
    let (source, from_path) = descend(scope, from)?;
    let (target, to_path) = descend(scope, to)?;
    let (from_path, to_path) = (from_path.as_str(), to_path.as_str());
    if ["sys/", "cubbyhole/", "identity/", "auth/token/"].contains(&from_path) {
        return refused(format!("cannot remount {from_path:?}"));
    }
    let view = &scope.records.view;
    let Some((left, mount)) = MountTable::load(view, &source.id)?.without(from_path) else {
        return refused(format!("no matching mount at {from_path:?}"));
    };
    match (mount.is_auth(), to_path.strip_prefix("auth/")) {
        (true, None) => return refused(format!("cannot remount auth mount to non-auth mount {to_path:?}")),
        (true, Some("" | "token/")) => return refused(format!("cannot remount to destination {to_path}")),
        (true, Some(_)) => check_path(to_path).map_err(PlanError::Refused)?,
        (false, _) if to_path.is_empty() => return refused(format!("path already in use at {:?}: it is a namespace", to.as_str())),
        (false, Some(_)) => return refused(format!("cannot remount to destination {to_path}")),
        (false, _) if check_path(to_path).is_err() => return refused(format!("cannot remount to destination {to_path}")),
        (false, _) => {}
    }
    let is_same = source.id == target.id;
    let table = if is_same { MountTable::load(view, &source.id)? } else { MountTable::load(view, &target.id)? };
    if let Some(other) = table.conflict(to_path) {
        return refused(format!("path already in use at {:?}", other.path));
    }
    expect_no_namespace(scope, &target, to_path, plan)?;
    let moved = Mount { path: to_path.to_owned(), ..Mount::clone(&mount) };
    if is_same {
        left.with(moved).map_err(PlanError::Refused)?.store(&source.id, plan);
    } else {
        left.store(&source.id, plan);
        table.with(moved).map_err(PlanError::Refused)?.store(&target.id, plan);
    }
    Ok(())
}

fn moves_name(scope: &Scope<'_>) -> barrier::Name {
    records::of_namespace(&scope.namespace.id).join("moves")
}

fn moves(scope: &Scope<'_>) -> Result<(Vec<stored::Move>, types::Revision), PlanError> {
    let found = scope.records.view.read(&moves_name(scope))?;
    // EXPOSE: the record is decoded.
    let moves = found.value.map(|value| stored::Moves::decode(value.expose()).map_err(|_| PlanError::Malformed)).transpose()?;
    Ok((moves.unwrap_or_default().moves, found.revision))
}

fn keep(scope: &Scope<'_>, made: stored::Move, plan: &mut Plan) -> Result<(), PlanError> {
    let (mut moves, revision) = moves(scope)?;
    moves.push(made);
    let surplus = moves.len().saturating_sub(MOVES_KEPT_MAX);
    moves.drain(..surplus);
    plan.expect(moves_name(scope), revision);
    plan.put(moves_name(scope), SecretBytes::from(stored::Moves { moves }.encode_to_vec()));
    Ok(())
}

fn status(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let id = asked.captures.text("migration_id").to_owned();
    Ok(planned(move |scope| match moves(scope)?.0.into_iter().find(|made| made.id == id) {
        Some(made) => Ok(Outcome::data(&json!({
            "migration_id": made.id,
            "migration_info": { "source_mount": made.from, "target_mount": made.to, "status": "success" },
        }))),
        None => Ok(Outcome::answer(Answer::NotFound)),
    }))
}
