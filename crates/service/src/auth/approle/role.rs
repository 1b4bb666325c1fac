//! Roles: made, changed, shown, deleted.

use barrier::Plan;
use engine::AskError;
use proto::stored::chore::Task;
use proto::stored::{AppRole, AppRoleName, EraseRecords};
use serde_json::{Map, Value, json};
use types::Revision;

use super::{FoundRole, ID_BYTES_MAX, OLD_NAMES, accessors_folder, id_of, name_of, role_id_record, role_record, secret_ids_folder};
use crate::auth::login::LoginName;
use crate::auth::token_parameters::{self, seconds};
use crate::auth::{put, read};
use crate::backend::Asked;
use crate::body::Fields;
use crate::cidr;
use crate::due;
use crate::outcome::{Operation, Outcome, PlanError, Scope, planned};
use crate::request::Answer;

/// What a body says of a role. What it does not name stays as it is.
#[derive(Default)]
pub(super) struct Change {
    role_id: Option<String>,
    bind_secret_id: Option<bool>,
    secret_id_bound_cidrs: Option<Vec<String>>,
    secret_id_uses: Option<u64>,
    secret_id_ttl_s: Option<u64>,
    local_secret_ids: Option<bool>,
    token: token_parameters::Change,
}

impl Change {
    pub(super) fn parse(fields: &Fields) -> Result<Change, AskError> {
        let cidrs_name = if fields.has("secret_id_bound_cidrs") { "secret_id_bound_cidrs" } else { "bound_cidr_list" };
        let role_id = fields.text("role_id")?.filter(|text| !text.is_empty());
        if role_id.is_some_and(|text| text.len() > ID_BYTES_MAX) {
            return Err(AskError::Invalid(format!("role_id is longer than {ID_BYTES_MAX} bytes")));
        }
        Ok(Change {
            role_id: role_id.map(str::to_owned),
            bind_secret_id: fields.boolean("bind_secret_id")?,
            secret_id_bound_cidrs: fields.list(cidrs_name)?.map(|texts| cidr::parse_with_prefix(cidrs_name, &texts)).transpose()?,
            secret_id_uses: fields.integer("secret_id_num_uses")?,
            secret_id_ttl_s: seconds(fields, "secret_id_ttl")?,
            local_secret_ids: fields.boolean("local_secret_ids")?,
            token: token_parameters::Change::parse(fields, OLD_NAMES)?,
        })
    }

    /// Plans the role as it is changed; `found` is how it was, `None`: there was none.
    pub(super) fn plan(&self, scope: &Scope<'_>, name: &LoginName, found: Option<FoundRole>) -> Result<Plan, PlanError> {
        let draw_uuid = || uuid::Builder::from_random_bytes(crypto::rng::generate_bytes(scope.rng)).into_uuid().to_string();
        let is_new = found.is_none();
        let FoundRole { record, revision, mut role } = found.unwrap_or_else(|| FoundRole {
            record: role_record(&scope.mount.root(), name.as_str()),
            revision: Revision::ABSENT,
            role: AppRole { id: draw_uuid(), bind_secret_id: true, ..AppRole::default() },
        });
        let old_role_id = role.role_id.clone();
        match &self.role_id {
            Some(role_id) => role.role_id.clone_from(role_id),
            None if is_new => role.role_id = draw_uuid(),
            None => {}
        }
        if self.local_secret_ids.is_some_and(|local| !is_new && local != role.local_secret_ids) {
            return Err(PlanError::Refused("local_secret_ids can only be modified during role creation".into()));
        }
        role.local_secret_ids = self.local_secret_ids.unwrap_or(role.local_secret_ids);
        role.bind_secret_id = self.bind_secret_id.unwrap_or(role.bind_secret_id);
        if let Some(cidrs) = &self.secret_id_bound_cidrs {
            role.secret_id_bound_cidrs.clone_from(cidrs);
        }
        role.secret_id_uses = self.secret_id_uses.unwrap_or(role.secret_id_uses);
        role.secret_id_ttl_s = self.secret_id_ttl_s.unwrap_or(role.secret_id_ttl_s);
        let token = role.token.get_or_insert_default();
        self.token.apply(token)?;
        if !role.bind_secret_id && role.secret_id_bound_cidrs.is_empty() && token.bound_cidrs.is_empty() {
            return Err(PlanError::Refused("at least one constraint should be enabled on the role".into()));
        }

        let mut plan = Plan::new();
        if role.role_id != old_role_id {
            move_role_id(scope, &old_role_id, &role.role_id, name, &mut plan)?;
        }
        plan.expect(record.clone(), revision);
        put(&mut plan, record, &role);
        Ok(plan)
    }
}

/// Plans that `new` leads to the role, and `old`, unless empty, does not any more.
fn move_role_id(scope: &Scope<'_>, old: &str, new: &str, name: &LoginName, plan: &mut Plan) -> Result<(), PlanError> {
    let record = role_id_record(&scope.records, &scope.mount, new)?;
    if scope.records.view.contains(&record)? {
        return Err(PlanError::Refused("role_id already in use".into()));
    }
    if !old.is_empty() {
        plan.delete(role_id_record(&scope.records, &scope.mount, old)?);
    }
    plan.expect(record.clone(), Revision::ABSENT);
    put(plan, record, &AppRoleName { name: name.as_str().to_owned() });
    Ok(())
}

/// All that is shown of a role.
pub(super) fn shown(role: &AppRole) -> Map<String, Value> {
    let cidrs = if role.secret_id_bound_cidrs.is_empty() { Value::Null } else { json!(role.secret_id_bound_cidrs) };
    let shown = [
        ("bind_secret_id", json!(role.bind_secret_id)),
        ("local_secret_ids", json!(role.local_secret_ids)),
        ("secret_id_bound_cidrs", cidrs),
        ("secret_id_num_uses", json!(role.secret_id_uses)),
        ("secret_id_ttl", json!(role.secret_id_ttl_s)),
    ];
    let mut shown: Map<String, Value> = shown.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    token_parameters::show(&role.token.clone().unwrap_or_default(), OLD_NAMES, &mut shown);
    shown
}

pub(super) fn list_roles(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    crate::auth::list(asked, "role")
}

pub(super) fn read_role(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let name = name_of(asked)?;
    Ok(planned(move |scope| {
        Ok(match FoundRole::find(scope, &name)? {
            Some(found) => Outcome::data(&Value::Object(shown(&found.role))),
            None => Outcome::answer(Answer::NotFound),
        })
    }))
}

struct Write {
    name: LoginName,
    change: Change,
}

#[async_trait::async_trait]
impl Operation for Write {
    fn is_create(&self, scope: &Scope<'_>) -> Result<Option<bool>, PlanError> {
        Ok(Some(!scope.records.view.contains(&role_record(&scope.mount.root(), self.name.as_str()))?))
    }

    async fn plan(&self, scope: &Scope<'_>) -> Result<Outcome, PlanError> {
        let found = FoundRole::find(scope, &self.name)?;
        Ok(Outcome::written(self.change.plan(scope, &self.name, found)?, Answer::Done))
    }
}

pub(super) fn write_role(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let change = Change::parse(&Fields::of(asked.ask)?)?;
    Ok(Box::new(Write { name: name_of(asked)?, change }))
}

pub(super) fn delete_role(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let name = name_of(asked)?;
    Ok(planned(move |scope| {
        let Some(found) = FoundRole::find(scope, &name)? else { return Ok(Outcome::answer(Answer::Done)) };
        let root = scope.mount.root();
        let mut plan = Plan::new();
        found.expect(&mut plan);
        // They mean nothing any more; their records go as time permits.
        let folders = [secret_ids_folder(&root, &found.role), accessors_folder(&root, &found.role)];
        let erase = EraseRecords { names: Vec::new(), folders: folders.iter().map(|folder| folder.as_str().to_owned()).collect() };
        due::put_now(&mut plan, scope.now, &format!("role-{}", found.role.id), Task::EraseRecords(erase));
        plan.delete(role_id_record(&scope.records, &scope.mount, &found.role.role_id)?);
        plan.delete(found.record);
        Ok(Outcome::written(plan, Answer::Done))
    }))
}

pub(super) fn read_role_id(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let name = name_of(asked)?;
    Ok(planned(move |scope| {
        Ok(match FoundRole::find(scope, &name)? {
            Some(found) => Outcome::data(&json!({ "role_id": found.role.role_id })),
            None => Outcome::answer(Answer::NotFound),
        })
    }))
}

pub(super) fn write_role_id(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let fields = Fields::of(asked.ask)?;
    let change = Change { role_id: Some(id_of(&fields, "role_id")?.to_owned()), ..Change::default() };
    let name = name_of(asked)?;
    Ok(planned(move |scope| {
        let found = FoundRole::existing(scope, &name)?;
        Ok(Outcome::written(change.plan(scope, &name, Some(found))?, Answer::Done))
    }))
}

/// The role that has this role id, and its name; `None` when there is none.
pub(super) fn by_role_id(scope: &Scope<'_>, role_id: &str) -> Result<Option<(LoginName, FoundRole)>, PlanError> {
    let record = role_id_record(&scope.records, &scope.mount, role_id)?;
    let (_, named) = read::<AppRoleName>(&scope.records.view, &record)?;
    let Some(named) = named else { return Ok(None) };
    let name = LoginName::parse(&named.name).map_err(|_| PlanError::Malformed)?;
    let found = FoundRole::find(scope, &name)?.filter(|found| found.role.role_id == role_id);
    Ok(found.map(|found| (name, found)))
}
