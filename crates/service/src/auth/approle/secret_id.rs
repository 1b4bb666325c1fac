//! Secret ids: made, shown by themselves or by their accessor, destroyed.

use std::collections::BTreeMap;

use barrier::{Name, Plan};
use crypto::Zeroizing;
use engine::AskError;
use jiff::Timestamp as Rfc3339;
use proto::stored::chore::Task;
use proto::stored::{AppRole, AppRoleAccessor, AppRoleSecretId, EraseRecords};
use serde_json::{Value, json};
use types::{Revision, Timestamp};

use super::{FoundRole, accessors_folder, id_of, name_of, secret_id_record, secret_id_tag};
use crate::auth::login::LoginName;
use crate::auth::token_parameters::seconds;
use crate::auth::{Page, put, read};
use crate::backend::Asked;
use crate::body::Fields;
use crate::cidr;
use crate::due;
use crate::outcome::{Operation, Outcome, PlanError, Scope, planned};
use crate::request::Answer;

/// Members of the metadata of one secret id, at most.
const METADATA_MAX: usize = 64;
/// All their names and texts, in bytes.
const METADATA_BYTES_MAX: usize = 16 * 1024;

/// A secret id that was found. It may be over.
pub(super) struct FoundSecretId {
    pub(super) record: Name,
    pub(super) revision: Revision,
    pub(super) secret_id: AppRoleSecretId,
}

impl FoundSecretId {
    /// By its tag; `None` when the role has no such secret id.
    fn find(scope: &Scope<'_>, role: &AppRole, tag: &[u8]) -> Result<Option<FoundSecretId>, PlanError> {
        let record = secret_id_record(&scope.mount.root(), role, tag);
        let (revision, secret_id) = read::<AppRoleSecretId>(&scope.records.view, &record)?;
        Ok(secret_id.map(|secret_id| FoundSecretId { record, revision, secret_id }))
    }

    /// By its text; `None` when the role has no such secret id that is good now.
    pub(super) fn good(scope: &Scope<'_>, role: &AppRole, text: &str) -> Result<Option<FoundSecretId>, PlanError> {
        let found = FoundSecretId::find(scope, role, &secret_id_tag(&scope.records, role, text)?)?;
        Ok(found.filter(|found| is_good(&found.secret_id, scope.now)))
    }

    /// By its accessor, as above.
    fn by_accessor(scope: &Scope<'_>, role: &AppRole, accessor: &str) -> Result<Option<FoundSecretId>, PlanError> {
        let name = accessors_folder(&scope.mount.root(), role).join(&accessor_segment(accessor));
        let (_, stands_for) = read::<AppRoleAccessor>(&scope.records.view, &name)?;
        let Some(stands_for) = stands_for else { return Ok(None) };
        let found = FoundSecretId::find(scope, role, &stands_for.tag)?;
        Ok(found.filter(|found| is_good(&found.secret_id, scope.now)))
    }

    /// Plans its end.
    pub(super) fn destroy(&self, scope: &Scope<'_>, role: &AppRole, plan: &mut Plan) {
        erased(&scope.mount.root(), role, &self.record, &self.secret_id).names.iter().for_each(|name| plan.delete(Name::new(name)));
        if self.secret_id.expires_ms != 0 {
            due::remove(plan, Timestamp(self.secret_id.expires_ms), &due_id(&self.record));
        }
    }
}

/// The records of a secret id.
fn erased(root: &Name, role: &AppRole, record: &Name, secret_id: &AppRoleSecretId) -> EraseRecords {
    let accessor = accessors_folder(root, role).join(&secret_id.accessor);
    EraseRecords { names: [record, &accessor].map(|name| name.as_str().to_owned()).to_vec(), folders: Vec::new() }
}

/// How a secret id is named among what is due: by its tag.
fn due_id(record: &Name) -> String {
    format!("secret-id-{}", record.segments().last().unwrap_or_default())
}

/// An accessor is a UUID; what is none must not lead to another record.
fn accessor_segment(accessor: &str) -> String {
    accessor.chars().filter(|letter| letter.is_ascii_alphanumeric() || *letter == '-').collect()
}

/// Whether it can be used at `now`.
pub(super) fn is_good(secret_id: &AppRoleSecretId, now: Timestamp) -> bool {
    secret_id.expires_ms == 0 || now.0 < secret_id.expires_ms
}

/// A secret id to be made.
struct Make {
    role: LoginName,
    /// `None`: it is drawn.
    text: Option<Zeroizing<String>>,
    metadata: BTreeMap<String, String>,
    bound_cidrs: Vec<String>,
    token_bound_cidrs: Vec<String>,
    /// `None`: as the role says.
    uses: Option<u64>,
    ttl_s: Option<u64>,
}

impl Make {
    fn parse(asked: &Asked<'_>, fields: &Fields, text: Option<Zeroizing<String>>) -> Result<Make, AskError> {
        let blocks = |name: &str| fields.list(name)?.map_or(Ok(Vec::new()), |texts| cidr::parse_with_prefix(name, &texts));
        let metadata = fields.map("metadata")?.unwrap_or_default();
        let bytes: usize = metadata.iter().map(|(name, text)| name.len() + text.len()).sum();
        if metadata.len() > METADATA_MAX || bytes > METADATA_BYTES_MAX {
            return Err(AskError::Invalid(format!("metadata has more than {METADATA_MAX} members or {METADATA_BYTES_MAX} bytes")));
        }
        Ok(Make {
            role: name_of(asked)?,
            text,
            metadata,
            bound_cidrs: blocks("cidr_list")?,
            token_bound_cidrs: blocks("token_bound_cidrs")?,
            uses: fields.integer("num_uses")?,
            ttl_s: seconds(fields, "ttl")?,
        })
    }

    fn plan(&self, scope: &Scope<'_>) -> Result<Outcome, PlanError> {
        let refused = |text: &str| PlanError::Refused(text.into());
        let found = FoundRole::existing(scope, &self.role)?;
        let role = &found.role;
        if !role.bind_secret_id {
            return Err(refused("bind_secret_id is not set on the role"));
        }
        // Of the role's bounds none can be left: 0, no bound, is more than any.
        let within = |asked: u64, bound: u64| bound == 0 || (asked != 0 && asked <= bound);
        let (uses, ttl_s) = (self.uses.unwrap_or(role.secret_id_uses), self.ttl_s.unwrap_or(role.secret_id_ttl_s));
        if !within(uses, role.secret_id_uses) {
            return Err(refused("num_uses cannot be higher than the role's secret_id_num_uses"));
        }
        if !within(ttl_s, role.secret_id_ttl_s) {
            return Err(refused("ttl cannot be longer than the role's secret_id_ttl"));
        }
        let role_token_cidrs = role.token.as_ref().map(|token| token.bound_cidrs.as_slice()).unwrap_or_default();
        if !cidr::are_within(&self.bound_cidrs, &role.secret_id_bound_cidrs) {
            return Err(refused("cidr_list must lie within the role's secret_id_bound_cidrs"));
        }
        if !cidr::are_within(&self.token_bound_cidrs, role_token_cidrs) {
            return Err(refused("token_bound_cidrs must lie within the role's token_bound_cidrs"));
        }

        let draw_uuid = || uuid::Builder::from_random_bytes(crypto::rng::generate_bytes(scope.rng)).into_uuid().to_string();
        let text = self.text.clone().unwrap_or_else(|| Zeroizing::new(draw_uuid()));
        let tag = secret_id_tag(&scope.records, role, &text)?;
        let root = scope.mount.root();
        let record = secret_id_record(&root, role, &tag);
        let known = FoundSecretId::find(scope, role, &tag)?;
        if known.as_ref().is_some_and(|known| is_good(&known.secret_id, scope.now)) {
            return Err(refused("SecretID is already registered"));
        }
        let mut plan = Plan::new();
        let revision = known.as_ref().map_or(Revision::ABSENT, |known| known.revision);
        if let Some(known) = known {
            // It is over, and its records have not been removed yet.
            known.destroy(scope, role, &mut plan);
        }
        // As Vault: a life beyond the mount's bound ends there.
        let (_, mount_max) = scope.mount.lease_ttls(scope.settings);
        let life_s = ttl_s.min(mount_max.as_secs());
        let secret_id = AppRoleSecretId {
            accessor: draw_uuid(),
            created_ms: scope.now.0,
            updated_ms: scope.now.0,
            expires_ms: if ttl_s == 0 { 0 } else { scope.now.0.saturating_add(life_s.saturating_mul(1000)) },
            ttl_s: life_s,
            uses_left: uses,
            metadata: self.metadata.clone(),
            bound_cidrs: self.bound_cidrs.clone(),
            token_bound_cidrs: self.token_bound_cidrs.clone(),
        };
        found.expect(&mut plan);
        plan.expect(record.clone(), revision);
        if secret_id.expires_ms != 0 {
            let erase = Task::EraseRecords(erased(&root, role, &record, &secret_id));
            due::put(&mut plan, Timestamp(secret_id.expires_ms), &due_id(&record), erase);
        }
        put(&mut plan, record, &secret_id);
        put(&mut plan, accessors_folder(&root, role).join(&secret_id.accessor), &AppRoleAccessor { tag: tag.to_vec() });
        let answer = engine::json(&json!({
            "secret_id": *text,
            "secret_id_accessor": secret_id.accessor,
            "secret_id_num_uses": uses,
            "secret_id_ttl": life_s,
        }));
        Ok(Outcome::written(plan, Answer::Data(answer)))
    }
}

/// The accessor of the secret id that an answer of this method tells; empty when it tells none.
pub(crate) fn accessor_told(answer: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Told {
        secret_id: Option<serde::de::IgnoredAny>,
        #[serde(default)]
        secret_id_accessor: String,
    }
    serde_json::from_slice::<Told>(answer)
        .ok()
        .filter(|told| told.secret_id.is_some())
        .map(|told| told.secret_id_accessor)
        .unwrap_or_default()
}

pub(super) fn generate(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let make = Make::parse(asked, &Fields::of(asked.ask)?, None)?;
    Ok(planned(move |scope| make.plan(scope)))
}

pub(super) fn take(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let fields = Fields::of(asked.ask)?;
    let text = Zeroizing::new(id_of(&fields, "secret_id")?.to_owned());
    let make = Make::parse(asked, &fields, Some(text))?;
    Ok(planned(move |scope| make.plan(scope)))
}

pub(super) fn list_accessors(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let (name, page) = (name_of(asked)?, Page::of(asked)?);
    Ok(planned(move |scope| {
        let found = FoundRole::existing(scope, &name)?;
        let folder = accessors_folder(&scope.mount.root(), &found.role);
        Ok(Outcome::list(page.names(&scope.records.view, &folder)?))
    }))
}

/// All that may be told of a secret id.
fn shown(secret_id: &AppRoleSecretId) -> Value {
    let time = |ms: u64| i64::try_from(ms).ok().and_then(|ms| Rfc3339::from_millisecond(ms).ok()).unwrap_or_default().to_string();
    json!({
        "cidr_list": secret_id.bound_cidrs,
        "creation_time": time(secret_id.created_ms),
        // Go's zero time, which Vault's clients know to mean: never.
        "expiration_time": if secret_id.expires_ms == 0 { "0001-01-01T00:00:00Z".to_owned() } else { time(secret_id.expires_ms) },
        "last_updated_time": time(secret_id.updated_ms),
        "metadata": secret_id.metadata,
        "secret_id_accessor": secret_id.accessor,
        "secret_id_num_uses": secret_id.uses_left,
        "secret_id_ttl": secret_id.ttl_s,
        "token_bound_cidrs": secret_id.token_bound_cidrs,
    })
}

pub(super) fn look_up(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let fields = Fields::of(asked.ask)?;
    let (name, text) = (name_of(asked)?, Zeroizing::new(id_of(&fields, "secret_id")?.to_owned()));
    Ok(planned(move |scope| {
        let role = FoundRole::existing(scope, &name)?.role;
        Ok(match FoundSecretId::good(scope, &role, &text)? {
            Some(found) => Outcome::data(&shown(&found.secret_id)),
            // As Vault: nothing to show is no error here.
            None => Outcome::answer(Answer::Done),
        })
    }))
}

pub(super) fn look_up_accessor(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let fields = Fields::of(asked.ask)?;
    let (name, accessor) = (name_of(asked)?, id_of(&fields, "secret_id_accessor")?.to_owned());
    Ok(planned(move |scope| {
        let role = FoundRole::existing(scope, &name)?.role;
        match FoundSecretId::by_accessor(scope, &role, &accessor)? {
            Some(found) => Ok(Outcome::data(&shown(&found.secret_id))),
            None => Err(PlanError::NoSuch("failed to find accessor entry for secret_id_accessor".into())),
        }
    }))
}

pub(super) fn destroy(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let fields = Fields::of(asked.ask)?;
    let (name, text) = (name_of(asked)?, Zeroizing::new(id_of(&fields, "secret_id")?.to_owned()));
    Ok(planned(move |scope| {
        let role = FoundRole::existing(scope, &name)?.role;
        let tag = secret_id_tag(&scope.records, &role, &text)?;
        let mut plan = Plan::new();
        if let Some(found) = FoundSecretId::find(scope, &role, &tag)? {
            found.destroy(scope, &role, &mut plan);
        }
        Ok(Outcome::written(plan, Answer::Done))
    }))
}

pub(super) fn destroy_accessor(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let fields = Fields::of(asked.ask)?;
    let (name, accessor) = (name_of(asked)?, id_of(&fields, "secret_id_accessor")?.to_owned());
    Ok(planned(move |scope| {
        let role = FoundRole::existing(scope, &name)?.role;
        let Some(found) = FoundSecretId::by_accessor(scope, &role, &accessor)? else {
            // The same whether there is none, or it is another role's.
            return Err(PlanError::Forbidden("invalid secret id accessor".into()));
        };
        let mut plan = Plan::new();
        found.destroy(scope, &role, &mut plan);
        Ok(Outcome::written(plan, Answer::Done))
    }))
}
