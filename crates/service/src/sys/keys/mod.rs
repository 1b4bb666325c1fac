//! Acts on the cluster's keys: rotation of the keyring, rekey, a new root token, other seals, sealing itself.
//!
//! Always: an act that takes a quorum is started and cancelled by a token with sudo, or by who brings one of the cluster's shares; never by a
//! stranger. What changes the keys is carried out by the barrier in one batch; here is only what is asked and answered. A share goes to the
//! barrier and nowhere else; wrong ones are counted by the address they come from, so that nobody can keep a node busy with them.

mod generate_root;
mod rekey;
mod rotate;
mod seals;

use barrier::{AccessError, Act, ActError, AttemptStatus, Barrier, CommitError, ShareError, SplitStatus, ViewError};
use crypto::{SecretBytes, Share, Zeroizing};
use engine::AskError;
use engine::route::{Access, Field, FieldKind, Method, Route};
use futures::future::BoxFuture;
use serde::Deserialize;
use serde_json::{Value, json};
use types::Timestamp;
use types::capability::Verb;
use uuid::Uuid;

use crate::backend::{Asked, Handler};
use crate::body::Fields;
use crate::outcome::{Operation, Outcome, PlanError, Scope};
use crate::request::Answer;
use crate::token;

/// What may be asked.
pub(super) const TABLES: &[&[Route<Handler>]] = &[rotate::ROUTES, rekey::ROUTES, generate_root::ROUTES, seals::ROUTES];

/// What is told to who may not start or cancel an act.
pub(crate) const SUDO_OR_SHARE: &str = "permission denied (this takes a token whose policies grant sudo on this path or, in place of it, one of \
                                        the cluster's shares as 'share' in the body)";

const KEY: Field = Field::required("key", FieldKind::Text, "The share, hex or base64.");
const SHARE: Field =
    Field::optional("share", FieldKind::Text, "One of the cluster's shares, as proof in place of a token. It counts for nothing else.");
const NONCE: Field = Field::required("nonce", FieldKind::Text, "Which attempt the share is for.");
const NONCE_TO_END: Field = Field::optional("nonce", FieldKind::Text, "Which attempt; without it, whichever is under way.");

/// An operation that acts by itself, and leaves nothing to commit: so it is carried out once.
struct ActOperation<D> {
    data: D,
    run: Run<D>,
}

pub(super) type Run<D> = for<'a> fn(&'a D, &'a Scope<'a>) -> BoxFuture<'a, Result<Outcome, PlanError>>;

#[async_trait::async_trait]
impl<D: Send + Sync> Operation for ActOperation<D> {
    async fn plan(&self, scope: &Scope<'_>) -> Result<Outcome, PlanError> {
        (self.run)(&self.data, scope).await
    }
}

pub(super) fn acting<D: Send + Sync + 'static>(data: D, run: Run<D>) -> Result<Box<dyn Operation>, AskError> {
    Ok(Box::new(ActOperation { data, run }))
}

pub(super) const fn method(verb: Verb, summary: &'static str, fields: &'static [Field], handler: Handler) -> Method<Handler> {
    Method { verb, summary, fields, query: &[], handler }
}

pub(super) const fn route(
    pattern: &'static str,
    about: &'static str,
    methods: &'static [Method<Handler>],
    access: Access,
) -> Route<Handler> {
    Route { pattern, about, parameters: &[], methods, access }
}

/// The share that a body brings in place of a token.
fn brought_share(body: &SecretBytes) -> Option<Zeroizing<String>> {
    #[derive(Deserialize)]
    struct Brought {
        share: Option<String>,
        key: Option<String>,
    }
    // EXPOSE: the share is taken out; the copies are wiped.
    let Brought { share, key } = serde_json::from_slice(body.expose()).ok()?;
    let (share, key) = (share.map(Zeroizing::new), key.map(Zeroizing::new));
    share.or(key).filter(|share| !share.is_empty())
}

/// Whether a body brings a share in place of a token. It still has to be checked.
pub(crate) fn brings_share(body: &SecretBytes) -> bool {
    brought_share(body).is_some()
}

fn barrier<'a>(scope: &'a Scope<'_>) -> Result<&'a Barrier, PlanError> {
    scope.store.keys().ok_or_else(|| PlanError::Refused("this server has no keys that could be changed".into()))
}

/// Who starts or ends an act, on a route of [`Access::SudoOrShare`]: the holder of the share that came along, or the caller, of whom the
/// pipeline knows that it has sudo.
async fn authorised(scope: &Scope<'_>, barrier: &Barrier) -> Result<String, PlanError> {
    match brought_share(&scope.request.body) {
        Some(text) => {
            let share = parse_share(scope, "share", &text)?;
            let known = counted(scope, barrier.know_share(&share).await.map_err(ActError::Share))?;
            if known.is_next {
                return Err(PlanError::Forbidden("this share is not in force yet (use one of the old ones)".into()));
            }
            let name = if known.holder.is_empty() { String::new() } else { format!(", {}", known.holder) };
            Ok(format!("the holder of share {}{name}", known.number))
        }
        None if scope.authority.is_some() => caller_name(scope),
        None => Err(PlanError::Denied),
    }
}

/// The caller, as the journal and other operators are told.
fn caller_name(scope: &Scope<'_>) -> Result<String, PlanError> {
    let token = &scope.caller()?.token;
    Ok(format!("{} (accessor {})", token.display_name, token.accessor))
}

/// Reads a share, if its sender may enter one now.
fn parse_share(scope: &Scope<'_>, field: &str, text: &str) -> Result<Share, PlanError> {
    let from = scope.request.remote.map(|remote| remote.ip());
    scope.refused_shares.check(from, scope.now).map_err(|error| PlanError::TooMany(error.to_string()))?;
    Share::parse_text(text).map_err(|error| {
        scope.refused_shares.count(from, scope.now);
        PlanError::Refused(format!("'{field}' is no share: {error}"))
    })
}

/// Counts a share that was refused.
fn counted<T>(scope: &Scope<'_>, done: Result<T, ActError>) -> Result<T, PlanError> {
    if let Err(ActError::Share(error)) = &done
        && is_share_refused(error)
    {
        scope.refused_shares.count(scope.request.remote.map(|remote| remote.ip()), scope.now);
    }
    done.map_err(of_act)
}

/// Whether a share was refused for what it is, so that whoever sends many such is made to wait.
pub fn is_share_refused(error: &ShareError) -> bool {
    match error {
        ShareError::OtherCluster { .. }
        | ShareError::OtherSplit { .. }
        | ShareError::WrongSplit { .. }
        | ShareError::Repeated { .. }
        | ShareError::Malformed(_)
        | ShareError::Refused(_) => true,
        ShareError::NotInitialized
        | ShareError::Unseal(_)
        | ShareError::Keyring(_)
        | ShareError::UnknownPurpose
        | ShareError::SealedMeanwhile
        | ShareError::Record(_)
        | ShareError::NoCoordinator
        | ShareError::NotHandedOn => false,
    }
}

/// A share for an attempt, and which attempt.
struct Entry {
    key: Zeroizing<String>,
    nonce: Option<Uuid>,
}

impl Entry {
    fn of(fields: &Fields) -> Result<Entry, AskError> {
        let invalid = |text: &str| AskError::Invalid(text.into());
        let key = fields.secret("key")?.filter(|key| !key.is_empty());
        let key = key.ok_or_else(|| invalid("'key' must be specified in request body as JSON"))?;
        let nonce = fields.text("nonce")?.filter(|nonce| !nonce.is_empty()).ok_or_else(|| invalid("missing required field 'nonce'"))?;
        // A text that is no nonce is not the attempt's.
        Ok(Entry { key, nonce: nonce.parse().ok() })
    }

    fn parse(&self, scope: &Scope<'_>) -> Result<(Uuid, Share), PlanError> {
        let nonce = self.nonce.ok_or_else(|| of_act(ActError::OtherNonce))?;
        Ok((nonce, parse_share(scope, "key", &self.key)?))
    }
}

/// The nonce that an end names; `None` when it names none.
fn nonce_to_end(fields: &Fields) -> Result<Option<Uuid>, AskError> {
    match fields.text("nonce")?.filter(|nonce| !nonce.is_empty()) {
        None => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|_| AskError::Invalid(ActError::OtherNonce.to_string())),
    }
}

/// Cancels the attempt at `act`.
fn cancelling(asked: &Asked<'_>, act: Act) -> Result<Box<dyn Operation>, AskError> {
    acting((act, nonce_to_end(&Fields::of(asked.ask)?)?), |(act, nonce), scope| {
        Box::pin(async move {
            let barrier = barrier(scope)?;
            let who = authorised(scope, barrier).await?;
            barrier.cancel_attempt(*act, *nonce, &who).await.map_err(of_act)?;
            Ok(Outcome::answer(Answer::Done))
        })
    })
}

fn internal(error: &dyn std::error::Error) -> PlanError {
    let chain: Vec<String> = std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect();
    tracing::error!(error = chain.join(": "), "an act on the keys failed");
    PlanError::Malformed
}

fn of_act(error: ActError) -> PlanError {
    match error {
        ActError::Share(error) => of_share(&error),
        ActError::Access(AccessError::Sealed) => PlanError::View(ViewError::Sealed),
        ActError::Access(error) => PlanError::Commit(error.into()),
        ActError::View(error) => PlanError::View(error),
        ActError::NoLeader => PlanError::Commit(CommitError::NoLeader),
        ActError::DiskFull => PlanError::Commit(CommitError::DiskFull),
        ActError::FeatureLevel(error) => PlanError::Commit(CommitError::FeatureLevel(error)),
        ActError::Indeterminate(why) => PlanError::Commit(CommitError::Indeterminate(why)),
        ActError::Keyring(_) | ActError::Record(_) => internal(&error),
        ActError::UnderWay { .. }
        | ActError::NotUnderWay { .. }
        | ActError::OtherNonce
        | ActError::Verifying
        | ActError::NotVerifying
        | ActError::Stale(_)
        | ActError::NoStaticKey { .. }
        | ActError::UnknownStaticKey { .. }
        | ActError::TooManySeals
        | ActError::DetailsTooLarge
        | ActError::Conflict => PlanError::Refused(error.to_string()),
    }
}

fn of_share(error: &ShareError) -> PlanError {
    match error {
        ShareError::NotInitialized
        | ShareError::OtherCluster { .. }
        | ShareError::OtherSplit { .. }
        | ShareError::WrongSplit { .. }
        | ShareError::Repeated { .. }
        | ShareError::Malformed(_)
        | ShareError::UnknownPurpose
        | ShareError::SealedMeanwhile
        | ShareError::Refused(_) => PlanError::Refused(error.to_string()),
        ShareError::NoCoordinator | ShareError::NotHandedOn => PlanError::Unavailable(error.to_string()),
        ShareError::Unseal(_) | ShareError::Keyring(_) | ShareError::Record(_) => internal(error),
    }
}

fn shown_time(at: Timestamp) -> String {
    token::time(at.0)
}

/// Whether the caller may see who takes part: with a token of the root namespace, to which the keys belong.
fn is_told(scope: &Scope<'_>) -> bool {
    scope.caller.as_ref().is_some_and(|caller| caller.namespace.is_root())
}

/// Adds who started an attempt and who has come: for who has a token or has just brought a share, not for strangers.
fn tell_people(shown: &mut Value, status: &AttemptStatus) {
    let split = match (&status.attempt.verification_nonce, &status.next) {
        (Some(_), Some(next)) => next,
        _ => &status.split,
    };
    shown["started_by"] = json!(status.attempt.started_by);
    shown["started_time"] = json!(shown_time(status.attempt.started));
    shown["holders_present"] = json!(holders(split, |number| status.entered.contains(&number)));
    shown["holders_missing"] = json!(holders(split, |number| !status.entered.contains(&number)));
}

/// The names of those holders whose number fits; the nameless are left out.
fn holders(split: &SplitStatus, fits: impl Fn(u8) -> bool) -> Vec<&str> {
    let numbered = (1..=u8::MAX).zip(&split.holders);
    numbered.filter(|(number, known)| fits(*number) && !known.holder.name.is_empty()).map(|(_, known)| known.holder.name.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_in_the_body_is_found_and_nothing_else_is_taken_for_one() {
        for (body, found) in [
            (r#"{"share":"AA"}"#, Some("AA")),
            (r#"{"key":"BB","nonce":"n"}"#, Some("BB")),
            (r#"{"share":"AA","key":"BB"}"#, Some("AA")),
            (r#"{"share":""}"#, None),
            (r#"{"share":null,"secret_shares":5}"#, None),
            (r#"{"share":["AA"]}"#, None),
            (r#"{"share":"AA","share":"BB"}"#, None),
            ("", None),
            ("{", None),
        ] {
            let brought = brought_share(&SecretBytes::from(body.as_bytes().to_vec()));
            assert_eq!(brought.as_deref().map(String::as_str), found, "{body}");
        }
    }
}
