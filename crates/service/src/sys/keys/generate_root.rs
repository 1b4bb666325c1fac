//! `sys/generate-root/…` and `sys/generate-root-token/…`: a new root token, for a quorum of share holders.
//!
//! Always: the token is issued and the attempt ended in one transaction; it is told once, hidden by a one-time password that only who
//! started the attempt has, or encrypted to a key.

use barrier::{Act, AttemptStatus, CommitError, Plan, Proof, Step};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use crypto::Zeroizing;
use engine::AskError;
use engine::route::{Access, Field, FieldKind, Method, Route};
use prost::Message;
use proto::stored;
use recipients::Recipient;
use serde::Serialize;
use types::capability::Verb;

use super::{Entry, KEY, NONCE, NONCE_TO_END, SHARE, acting, authorised, barrier, cancelling, counted, is_told, method, of_act, route};
use crate::backend::{Asked, Handler};
use crate::body::Fields;
use crate::outcome::{Grant, Operation, Outcome, PlanError, Scope};
use crate::shares::encrypt_text;
use crate::token;

const ABOUT_ATTEMPT: &str = "A new root token, once a quorum of shares was entered.";
const ABOUT_UPDATE: &str = "The shares for the root token that is being generated.";

const ATTEMPT: &[Method<Handler>] = &[
    method(Verb::Read, "Shows how far it has come.", &[], status),
    method(
        Verb::Write,
        "Starts it. Without otp or a key a one-time password is drawn and told, this once.",
        &[
            Field::optional("otp", FieldKind::Text, "A one-time password to hide the token by, exactly as long as the token (otp_length)."),
            Field::optional("pgp_key", FieldKind::Text, "An OpenPGP key, in base64, to encrypt the token to."),
            Field::optional("recipient", FieldKind::Text, "In place of pgp_key: an OpenPGP key or an age recipient."),
            SHARE,
        ],
        start,
    ),
    method(Verb::Delete, "Cancels it.", &[SHARE, NONCE_TO_END], cancel),
];
const UPDATE: &[Method<Handler>] = &[method(Verb::Write, "Enters a share.", &[KEY, NONCE], update)];

/// What may be asked: by Vault's names, and by OpenBao's newer ones.
pub(super) const ROUTES: &[Route<Handler>] = &[
    route("generate-root/attempt", ABOUT_ATTEMPT, ATTEMPT, Access::SudoOrShare),
    route("generate-root-token/attempt", ABOUT_ATTEMPT, ATTEMPT, Access::SudoOrShare),
    route("generate-root/update", ABOUT_UPDATE, UPDATE, Access::Anyone),
    route("generate-root-token/update", ABOUT_UPDATE, UPDATE, Access::Anyone),
];

/// The state of an attempt. Confidential while it holds a password: no `Debug`.
#[derive(Serialize)]
struct Shown<'a> {
    nonce: String,
    started: bool,
    progress: usize,
    required: u8,
    complete: bool,
    encoded_token: &'a str,
    encoded_root_token: &'a str,
    pgp_fingerprint: &'a str,
    otp: &'a str,
    otp_length: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_by: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    holders_present: Option<Vec<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    holders_missing: Option<Vec<&'a str>>,
}

impl<'a> Shown<'a> {
    /// While none is under way.
    fn none(required: u8) -> Shown<'a> {
        Shown {
            nonce: String::new(),
            started: false,
            progress: 0,
            required,
            complete: false,
            encoded_token: "",
            encoded_root_token: "",
            pgp_fingerprint: "",
            otp: "",
            otp_length: token::SERVICE_TOKEN_CHARS,
            started_by: None,
            holders_present: None,
            holders_missing: None,
        }
    }

    /// `is_told`: with all that is known of people.
    fn of(status: &'a AttemptStatus, details: &'a stored::GenerateRootDetails, is_told: bool) -> Shown<'a> {
        let holders = |is_here: bool| {
            let fits = |number: u8| status.entered.contains(&number) == is_here;
            is_told.then(|| super::holders(&status.split, fits))
        };
        Shown {
            nonce: status.attempt.nonce.to_string(),
            started: true,
            progress: status.entered.len(),
            pgp_fingerprint: if is_told { &details.fingerprint } else { "" },
            started_by: is_told.then_some(status.attempt.started_by.as_str()),
            holders_present: holders(true),
            holders_missing: holders(false),
            ..Shown::none(status.needed)
        }
    }
}

/// The password in it is wiped with it.
struct Details(stored::GenerateRootDetails);

impl Drop for Details {
    fn drop(&mut self) {
        drop(Zeroizing::new(std::mem::take(&mut self.0.otp)));
    }
}

impl Details {
    fn of(attempt: &barrier::Attempt) -> Result<Details, PlanError> {
        stored::GenerateRootDetails::decode(attempt.details.as_slice()).map(Details).map_err(|_| PlanError::Malformed)
    }

    fn recipient(&self, started: types::Timestamp) -> Result<Option<Recipient>, PlanError> {
        if self.0.recipient.is_empty() {
            return Ok(None);
        }
        // A key that has expired meanwhile was good when it was given.
        Recipient::parse(&self.0.recipient, started)
            .map(Some)
            .map_err(|error| PlanError::Refused(format!("the token's recipient: {error}")))
    }
}

fn status(_asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    acting((), |(), scope| {
        Box::pin(async move {
            let barrier = barrier(scope)?;
            match barrier.attempt(Act::GenerateRoot).await.map_err(of_act)? {
                Some(status) => {
                    let details = Details::of(&status.attempt)?;
                    Ok(Outcome::data(&Shown::of(&status, &details.0, is_told(scope))))
                }
                None => Ok(Outcome::data(&Shown::none(barrier.seals().await.map_err(of_act)?.shamir.quorum.threshold()))),
            }
        })
    })
}

/// What hides the token.
enum Hide {
    /// A password, which is drawn when there is none.
    Password(Option<Zeroizing<String>>),
    /// An OpenPGP key.
    OpenPgp(String),
    /// An OpenPGP key or an age recipient.
    Recipient(String),
}

fn start(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let fields = Fields::of(asked.ask)?;
    let given = |name: &str| Ok::<_, AskError>(fields.secret(name)?.filter(|text| !text.is_empty()));
    let hide = match (given("otp")?, given("pgp_key")?, given("recipient")?) {
        (otp, None, None) => Hide::Password(otp),
        (None, Some(key), None) => Hide::OpenPgp(key.to_string()),
        (None, None, Some(key)) => Hide::Recipient(key.to_string()),
        _ => return Err(AskError::Invalid("give one of otp, pgp_key and recipient, or none of them".into())),
    };
    if let Hide::Password(Some(otp)) = &hide
        && otp.len() != token::SERVICE_TOKEN_CHARS
    {
        return Err(AskError::Invalid(format!("OTP string has incorrect length (it has to have {})", token::SERVICE_TOKEN_CHARS)));
    }
    acting(hide, |hide, scope| Box::pin(hide.start(scope)))
}

impl Hide {
    async fn start(&self, scope: &Scope<'_>) -> Result<Outcome, PlanError> {
        let barrier = barrier(scope)?;
        let who = authorised(scope, barrier).await?;
        let mut drawn = None;
        let refused = |error| PlanError::Refused(format!("the key to encrypt the token to: {error}"));
        let details = match self {
            Hide::Password(Some(otp)) => stored::GenerateRootDetails { otp: otp.to_string(), ..Default::default() },
            Hide::Password(None) => {
                let otp = drawn.insert(token::generate_text("", token::SERVICE_TOKEN_CHARS, "", scope.rng));
                stored::GenerateRootDetails { otp: otp.to_string(), ..Default::default() }
            }
            Hide::OpenPgp(key) | Hide::Recipient(key) => {
                let parsed = match self {
                    Hide::OpenPgp(_) => Recipient::openpgp(key.as_bytes(), scope.now),
                    _ => Recipient::parse(key.as_bytes(), scope.now),
                };
                let fingerprint = parsed.map_err(refused)?.fingerprint();
                stored::GenerateRootDetails { otp: String::new(), recipient: key.clone().into_bytes(), fingerprint }
            }
        };
        let details = Details(details);
        let status = barrier.start_attempt(Act::GenerateRoot, details.0.encode_to_vec(), &who).await.map_err(of_act)?;
        let otp = drawn.as_ref().map_or("", |otp| otp.as_str());
        Ok(Outcome::data(&Shown { otp, ..Shown::of(&status, &details.0, true) }))
    }
}

fn cancel(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    cancelling(asked, Act::GenerateRoot)
}

fn update(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    acting(Entry::of(&Fields::of(asked.ask)?)?, |entry, scope| {
        Box::pin(async move {
            let (nonce, share) = entry.parse(scope)?;
            match counted(scope, barrier(scope)?.enter_share_for(Act::GenerateRoot, nonce, share).await)? {
                Step::Waiting(status) => {
                    let details = Details::of(&status.attempt)?;
                    Ok(Outcome::data(&Shown::of(&status, &details.0, true)))
                }
                Step::Proven(proof) => finish(scope, &proof).await,
            }
        })
    })
}

/// Issues the token and ends the attempt, both or neither. Committed here, and not by the pipeline: a plan may be made several times, and
/// the shares were entered once.
async fn finish(scope: &Scope<'_>, proof: &Proof) -> Result<Outcome, PlanError> {
    let details = Details::of(proof.attempt())?;
    let recipient = details.recipient(proof.attempt().started)?;
    let barrier = barrier(scope)?;
    let required = barrier.seals().await.map_err(of_act)?.shamir.quorum.threshold();
    let grant = Grant {
        policies: vec!["root".into()],
        no_default_policy: true,
        display_name: "root".into(),
        path: "auth/token/root".into(),
        is_eternal: true,
        is_of_no_mount: true,
        ..Grant::default()
    };
    let (mut plan, mut warnings) = (Plan::new(), Vec::new());
    proof.spend(&mut plan);
    let auth = token::issue(scope, &grant, &mut plan, &mut warnings)?;
    scope.store.commit(&scope.records.view, &plan).await.map_err(|error| match error {
        CommitError::Conflict => PlanError::Refused("the attempt was cancelled or finished by somebody else meanwhile: start again".into()),
        error => PlanError::Commit(error),
    })?;
    barrier.note_completed(proof);
    tracing::info!(nonce = %proof.attempt().nonce, accessor = auth.accessor, "a root token was generated");
    // EXPOSE: the token is hidden before it is told.
    let text = auth.client_token.expose();
    let encoded = match recipient {
        Some(recipient) => encrypt_text(std::str::from_utf8(text).unwrap_or_default(), &recipient, scope.rng),
        None => hidden(text, details.0.otp.as_bytes()),
    };
    // OpenBao's newer path does not know the older name.
    let is_old_path = scope.request.path.starts_with(["sys", "generate-root"]);
    let mut outcome = Outcome::data(&Shown {
        nonce: proof.attempt().nonce.to_string(),
        started: true,
        progress: required.into(),
        complete: true,
        encoded_token: &encoded,
        encoded_root_token: if is_old_path { &encoded } else { "" },
        pgp_fingerprint: &details.0.fingerprint,
        ..Shown::none(required)
    });
    outcome.warnings = warnings;
    Ok(outcome)
}

/// A token under a one-time password of its length, as Vault's clients decode it: exclusive or, in base64 without padding.
fn hidden(token: &[u8], otp: &[u8]) -> String {
    assert_eq!(token.len(), otp.len(), "the password was checked to be as long as the token");
    let mixed = Zeroizing::new(token.iter().zip(otp).map(|(a, b)| a ^ b).collect::<Vec<u8>>());
    STANDARD_NO_PAD.encode(mixed.as_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From OpenBao 2.7.2: `operator generate-root -decode` gives the token back.
    #[test]
    fn a_hidden_token_is_decoded_as_vaults_clients_do() {
        let (token, otp) = (b"s.vfJSOUiQq8AyUwH18VKJLTow", b"OZc7ob3tmXs2hes0uWkYTqDvLG");
        let encoded = hidden(token, otp);
        let decoded: Vec<u8> = STANDARD_NO_PAD.decode(&encoded).unwrap().iter().zip(otp).map(|(a, b)| a ^ b).collect();
        assert_eq!(decoded, token);
        assert!(!encoded.ends_with('='));
    }
}
