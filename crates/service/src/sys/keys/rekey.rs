//! `sys/rekey/…` and `sys/rotate/root/…`: new shares, of a new key.
//!
//! Always: the new shares have to come back before they are in force, whatever is asked, and until then the old ones open the cluster as
//! well. Where shares have recipients, only their encryptions are told or kept.

use barrier::{Act, AttemptStatus, Name, Plan, Proof, Step, Verified};
use crypto::SecretBytes;
use engine::AskError;
use engine::route::{Access, Field, FieldKind, Method, Route};
use prost::Message;
use proto::stored;
use serde::Serialize;
use serde_json::{Map, Value, json};
use types::capability::Verb;
use uuid::Uuid;

use super::{
    Entry, KEY, NONCE, NONCE_TO_END, SHARE, acting, authorised, barrier, cancelling, counted, is_told, method, nonce_to_end, of_act, route,
    tell_people,
};
use crate::backend::{Asked, Handler};
use crate::body::Fields;
use crate::outcome::{Operation, Outcome, PlanError, Scope};
use crate::request::Answer;
use crate::shares::{ShareOrder, ShareRequest, ShareRequestError, ShownShares};

const ABOUT_INIT: &str = "New shares, of a new key. Once a quorum of the old ones was entered the new ones are told; they are in force when a \
                          quorum of them has come back.";
const ABOUT_UPDATE: &str = "The old shares, for a rekey that is under way.";
const ABOUT_VERIFY: &str = "The new shares of a rekey, which have to come back before they are in force. Until then the old ones open the \
                            cluster, too.";
const ABOUT_BACKUP: &str = "The encrypted shares of a rekey that asked to keep them.";
const ABOUT_RECOVERY: &str = "Recovery keys, which a cluster that is opened by shares does not have.";

const INIT: &[Method<Handler>] = &[
    method(Verb::Read, "Shows how far the rekey has come.", &[], status),
    method(
        Verb::Write,
        "Starts a rekey.",
        &[
            Field::required("secret_shares", FieldKind::Integer, "How many shares, 1 to 255."),
            Field::required("secret_threshold", FieldKind::Integer, "How many of them open the cluster."),
            Field::optional("holders", FieldKind::List, "Names of those who are to have the shares, one for each."),
            Field::optional("pgp_keys", FieldKind::List, "OpenPGP keys to encrypt the shares to, in base64, one for each."),
            Field::optional("recipients", FieldKind::List, "In place of pgp_keys: OpenPGP keys or age recipients, one for each."),
            Field::optional("backup", FieldKind::Boolean, "Keeps the encrypted shares until they are deleted."),
            Field::optional("require_verification", FieldKind::Boolean, "The new shares always have to come back, whatever is said here."),
            SHARE,
        ],
        start,
    ),
    method(Verb::Delete, "Cancels it: new shares that were told open nothing any more.", &[SHARE, NONCE_TO_END], cancel),
];
const UPDATE: &[Method<Handler>] = &[method(Verb::Write, "Enters an old share.", &[KEY, NONCE], update)];
const VERIFY: &[Method<Handler>] = &[
    method(Verb::Read, "Shows how many of the new shares have come back.", &[], verify_status),
    method(Verb::Write, "Enters a new share.", &[KEY, NONCE], verify),
    method(Verb::Delete, "Throws the new shares that have come back away, and asks for them again.", &[SHARE, NONCE_TO_END], restart),
];
const BACKUP: &[Method<Handler>] =
    &[method(Verb::Read, "Shows the encrypted shares.", &[], read_backup), method(Verb::Delete, "Deletes them.", &[], delete_backup)];
const RECOVERY: &[Method<Handler>] = &[
    method(Verb::Read, "Is refused.", &[], no_recovery_keys),
    method(Verb::Write, "Is refused.", &[], no_recovery_keys),
    method(Verb::Delete, "Is refused.", &[], no_recovery_keys),
];

/// What may be asked: by Vault's names, and by OpenBao's newer ones.
pub(super) const ROUTES: &[Route<Handler>] = &[
    route("rekey/init", ABOUT_INIT, INIT, Access::SudoOrShare),
    route("rotate/root/init", ABOUT_INIT, INIT, Access::SudoOrShare),
    route("rekey/update", ABOUT_UPDATE, UPDATE, Access::Anyone),
    route("rotate/root/update", ABOUT_UPDATE, UPDATE, Access::Anyone),
    route("rekey/verify", ABOUT_VERIFY, VERIFY, Access::SudoOrShare),
    route("rotate/root/verify", ABOUT_VERIFY, VERIFY, Access::SudoOrShare),
    route("rekey/backup", ABOUT_BACKUP, BACKUP, Access::Sudo),
    route("rotate/root/backup", ABOUT_BACKUP, BACKUP, Access::Sudo),
    route("rekey-recovery-key/init", ABOUT_RECOVERY, RECOVERY, Access::Sudo),
    route("rekey-recovery-key/update", ABOUT_RECOVERY, RECOVERY, Access::Sudo),
    route("rekey-recovery-key/verify", ABOUT_RECOVERY, RECOVERY, Access::Sudo),
    route("rekey/recovery-key-backup", ABOUT_RECOVERY, RECOVERY, Access::Sudo),
    route("rotate/recovery/init", ABOUT_RECOVERY, RECOVERY, Access::Sudo),
    route("rotate/recovery/update", ABOUT_RECOVERY, RECOVERY, Access::Sudo),
    route("rotate/recovery/verify", ABOUT_RECOVERY, RECOVERY, Access::Sudo),
    route("rotate/recovery/backup", ABOUT_RECOVERY, RECOVERY, Access::Sudo),
];

fn backup_name() -> Name {
    Name::new("core/rekey-backup")
}

fn no_recovery_keys(_asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    Err(AskError::Invalid("recovery keys are not supported (the cluster is opened by its shares: use sys/rekey or sys/rotate/root)".into()))
}

fn request_error(error: &ShareRequestError) -> PlanError {
    PlanError::Refused(error.to_string())
}

fn details_of(attempt: &barrier::Attempt) -> Result<stored::RekeyDetails, PlanError> {
    stored::RekeyDetails::decode(attempt.details.as_slice()).map_err(|_| PlanError::Malformed)
}

/// A rekey that is asked for.
struct Start {
    request: ShareRequest,
    backup: bool,
    /// Whether the caller counts on there being no verification.
    is_unverified: bool,
}

fn start(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let fields = Fields::of(asked.ask)?;
    let number = |name: &str| fields.integer(name)?.ok_or_else(|| AskError::Invalid(format!("{name} is missing")));
    let request = ShareRequest {
        shares: number("secret_shares")?,
        threshold: number("secret_threshold")?,
        holders: fields.list("holders")?.unwrap_or_default(),
        pgp_keys: fields.list("pgp_keys")?.unwrap_or_default(),
        recipients: fields.list("recipients")?.unwrap_or_default(),
    };
    let backup = fields.boolean("backup")?.unwrap_or_default();
    if backup && request.keys().is_empty() {
        let text = "cannot request a backup of the new keys without providing PGP keys for encryption (or other recipients)";
        return Err(AskError::Invalid(text.into()));
    }
    let is_unverified = fields.boolean("require_verification")? == Some(false);
    acting(Start { request, backup, is_unverified }, |start, scope| Box::pin(start.run(scope)))
}

impl Start {
    async fn run(&self, scope: &Scope<'_>) -> Result<Outcome, PlanError> {
        let barrier = barrier(scope)?;
        let who = authorised(scope, barrier).await?;
        let order = self.request.check(scope.now).map_err(|error| request_error(&error))?;
        let status = barrier.start_attempt(Act::Rekey, self.details(&order).encode_to_vec(), &who).await.map_err(of_act)?;
        let mut outcome = Outcome::data(&shown(&status, true)?);
        if self.is_unverified {
            outcome.warnings.push("the new shares are in force only when a quorum of them has come back (sys/rekey/verify)".into());
        }
        Ok(outcome)
    }

    fn details(&self, order: &ShareOrder) -> stored::RekeyDetails {
        let fingerprints = order.fingerprints().unwrap_or_default();
        let recipient = |at: usize| stored::ShareRecipient {
            name: self.request.holders.get(at).cloned().unwrap_or_default(),
            key: self.request.keys().get(at).map(|key| key.clone().into_bytes()).unwrap_or_default(),
            fingerprint: fingerprints.get(at).cloned().unwrap_or_default(),
        };
        let quorum = order.split().quorum();
        let named = if self.request.holders.is_empty() && fingerprints.is_empty() { 0 } else { usize::from(quorum.shares()) };
        stored::RekeyDetails {
            shares: quorum.shares().into(),
            threshold: quorum.threshold().into(),
            recipients: (0..named).map(recipient).collect(),
            backup: self.backup,
        }
    }
}

/// What was asked for when the attempt was started.
fn order_of(details: &stored::RekeyDetails, started: types::Timestamp) -> Result<ShareOrder, PlanError> {
    let keys = details.recipients.iter().filter(|recipient| !recipient.key.is_empty());
    let request = ShareRequest {
        shares: details.shares.into(),
        threshold: details.threshold.into(),
        holders: details.recipients.iter().map(|recipient| recipient.name.clone()).collect(),
        pgp_keys: Vec::new(),
        recipients: keys.map(|recipient| String::from_utf8_lossy(&recipient.key).into_owned()).collect(),
    };
    // A key that has expired meanwhile was good when it was given.
    request.check(started).map_err(|error| request_error(&error))
}

fn fingerprints(details: &stored::RekeyDetails) -> Option<Vec<&str>> {
    let fingerprints: Vec<&str> = details.recipients.iter().map(|recipient| recipient.fingerprint.as_str()).collect();
    (!fingerprints.is_empty() && fingerprints.iter().all(|fingerprint| !fingerprint.is_empty())).then_some(fingerprints)
}

fn nonce_text(nonce: Option<Uuid>) -> String {
    nonce.map(|nonce| nonce.to_string()).unwrap_or_default()
}

/// The state of a rekey; `is_told`: with all that is known of people.
fn shown(status: &AttemptStatus, is_told: bool) -> Result<Value, PlanError> {
    let details = details_of(&status.attempt)?;
    let mut shown = json!({
        "nonce": status.attempt.nonce.to_string(),
        "started": true,
        "t": details.threshold,
        "n": details.shares,
        "progress": status.entered.len(),
        "required": status.split.quorum.threshold(),
        "pgp_fingerprints": if is_told { fingerprints(&details) } else { None },
        "backup": details.backup,
        "verification_required": true,
        "verification_nonce": nonce_text(status.attempt.verification_nonce),
    });
    if is_told {
        tell_people(&mut shown, status);
    }
    Ok(shown)
}

fn status(_asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    acting((), |(), scope| Box::pin(show_status(scope)))
}

async fn show_status(scope: &Scope<'_>) -> Result<Outcome, PlanError> {
    let barrier = barrier(scope)?;
    if let Some(status) = barrier.attempt(Act::Rekey).await.map_err(of_act)? {
        return Ok(Outcome::data(&shown(&status, is_told(scope))?));
    }
    let seals = barrier.seals().await.map_err(of_act)?;
    Ok(Outcome::data(&json!({
        "nonce": "",
        "started": false,
        "t": 0,
        "n": 0,
        "progress": 0,
        "required": seals.shamir.quorum.threshold(),
        "pgp_fingerprints": null,
        "backup": false,
        "verification_required": false,
        "verification_nonce": "",
    })))
}

fn cancel(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    cancelling(asked, Act::Rekey)
}

fn update(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    acting(Entry::of(&Fields::of(asked.ask)?)?, |entry, scope| Box::pin(enter(entry, scope)))
}

async fn enter(entry: &Entry, scope: &Scope<'_>) -> Result<Outcome, PlanError> {
    let barrier = barrier(scope)?;
    let (nonce, share) = entry.parse(scope)?;
    match counted(scope, barrier.enter_share_for(Act::Rekey, nonce, share).await)? {
        Step::Waiting(status) => Ok(Outcome::data(&shown(&status, true)?)),
        Step::Proven(proof) => finish(scope, &proof).await,
    }
}

/// The new shares, told once. Confidential: no `Debug`.
#[derive(Serialize)]
struct Finished<'a> {
    nonce: String,
    complete: bool,
    keys: Vec<&'a str>,
    keys_base64: Vec<&'a str>,
    pgp_fingerprints: Option<Vec<String>>,
    holders: Vec<&'a str>,
    backup: bool,
    verification_required: bool,
    verification_nonce: String,
}

async fn finish(scope: &Scope<'_>, proof: &Proof) -> Result<Outcome, PlanError> {
    let barrier = barrier(scope)?;
    let details = details_of(proof.attempt())?;
    let order = order_of(&details, proof.attempt().started)?;
    let nonce = proof.attempt().nonce.to_string();
    let mut messages = None;
    let keep = |shares: &[crypto::Share]| {
        let mut plan = Plan::new();
        messages = order.encrypt(shares, scope.rng);
        if let (true, Some(messages)) = (details.backup, &messages) {
            let share = |(recipient, message): (&stored::ShareRecipient, &Vec<u8>)| stored::EncryptedShare {
                fingerprint: recipient.fingerprint.clone(),
                message: message.clone(),
            };
            let shares = details.recipients.iter().zip(messages).map(share).collect();
            let backup = stored::SharesBackup { nonce: nonce.clone(), shares };
            plan.put(backup_name(), SecretBytes::from(backup.encode_to_vec()));
        }
        plan
    };
    let new = barrier.rekey_with(proof, order.split(), keep).await.map_err(of_act)?;
    let told = messages.as_deref().map_or_else(|| order.show(&new.shares, scope.rng), ShownShares::of_messages);
    Ok(Outcome::data(&Finished {
        nonce,
        complete: true,
        keys: told.keys.iter().map(|key| key.as_str()).collect(),
        keys_base64: told.keys_base64.iter().map(|key| key.as_str()).collect(),
        pgp_fingerprints: order.fingerprints(),
        holders: details.recipients.iter().map(|recipient| recipient.name.as_str()).collect(),
        backup: details.backup,
        verification_required: true,
        verification_nonce: new.verification_nonce.to_string(),
    }))
}

fn shown_verification(status: &AttemptStatus, is_told: bool) -> Result<Value, PlanError> {
    let details = details_of(&status.attempt)?;
    let nonce = status.attempt.verification_nonce.ok_or_else(|| of_act(barrier::ActError::NotVerifying))?;
    let mut shown = json!({
        "nonce": nonce.to_string(),
        "started": true,
        "t": details.threshold,
        "n": details.shares,
        "progress": status.entered.len(),
    });
    if is_told {
        tell_people(&mut shown, status);
    }
    Ok(shown)
}

fn verify_status(_asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    acting((), |(), scope| {
        Box::pin(async move {
            let status = barrier(scope)?.attempt(Act::Rekey).await.map_err(of_act)?;
            let status = status.ok_or_else(|| PlanError::Refused("no rekey configuration found".into()))?;
            Ok(Outcome::data(&shown_verification(&status, is_told(scope))?))
        })
    })
}

fn verify(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    acting(Entry::of(&Fields::of(asked.ask)?)?, |entry, scope| {
        Box::pin(async move {
            let (nonce, share) = entry.parse(scope)?;
            match counted(scope, barrier(scope)?.verify_share_of_rekey(nonce, share).await)? {
                Verified::Waiting(status) => Ok(Outcome::data(&shown_verification(&status, true)?)),
                Verified::InForce => Ok(Outcome::data(&json!({ "nonce": nonce.to_string(), "complete": true }))),
            }
        })
    })
}

fn restart(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    acting(nonce_to_end(&Fields::of(asked.ask)?)?, |nonce, scope| {
        Box::pin(async move {
            let barrier = barrier(scope)?;
            authorised(scope, barrier).await?;
            let status = barrier.restart_verification(*nonce).await.map_err(of_act)?;
            Ok(Outcome::data(&shown_verification(&status, true)?))
        })
    })
}

fn read_backup(_asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    Ok(crate::outcome::planned(|scope| {
        let Some(value) = scope.records.view.read(&backup_name())?.value else {
            return Err(PlanError::Refused("no backed-up keys found".into()));
        };
        // EXPOSE: the shares in it are encrypted to their holders.
        let backup = stored::SharesBackup::decode(value.expose()).map_err(|_| PlanError::Malformed)?;
        let by_fingerprint = |encode: fn(&[u8]) -> String| {
            let mut shares: Map<String, Value> = Map::new();
            for share in &backup.shares {
                let messages = shares.entry(share.fingerprint.clone()).or_insert_with(|| json!([]));
                messages.as_array_mut().into_iter().for_each(|messages| messages.push(json!(encode(&share.message))));
            }
            shares
        };
        Ok(Outcome::data(&json!({
            "nonce": backup.nonce,
            "keys": by_fingerprint(|message| hex::encode(message)),
            "keys_base64": by_fingerprint(|message| {
                use base64::Engine as _;
                base64::engine::general_purpose::STANDARD.encode(message)
            }),
        })))
    }))
}

fn delete_backup(_asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    Ok(crate::outcome::planned(|scope| {
        let mut plan = Plan::new();
        let found = scope.records.view.read(&backup_name())?;
        if found.value.is_some() {
            plan.expect(backup_name(), found.revision);
            plan.delete(backup_name());
        }
        Ok(Outcome::written(plan, Answer::Done))
    }))
}
