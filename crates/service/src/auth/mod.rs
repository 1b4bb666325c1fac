//! Auth methods: who somebody is, by what they bring, and the token that they get for it.
//!
//! Each method is a table of routes over its mount's own records. All log in by one path, [`login`]: one normal form of names, limits
//! before any work, one text for whatever is wrong with the credentials, and a failure that costs what a success does.
//! A token that a method made is renewed only if the method agrees: [`renew_bounds`].

pub(crate) mod approle;
#[cfg(test)]
mod golden;
pub(crate) mod locked_users;
mod lockout;
mod login;
mod passwords;
#[cfg(test)]
mod scenarios;
#[cfg(test)]
mod testing;
pub(crate) mod token_parameters;
pub(crate) mod userpass;

use std::time::Duration;

use barrier::{Name, Plan, View};
use crypto::{Rng, SecretBytes};
use engine::AskError;
use engine::route::{Field, FieldKind};
use prost::Message;
use proto::stored;
use types::Revision;

use self::lockout::Lockouts;
use self::passwords::Passwords;
use crate::backend::Asked;
use crate::mount::Mount;
use crate::outcome::{Operation, Outcome, PlanError, Settings, planned};
use crate::records::Records;
use crate::ttl::Bounds;

/// What this node keeps of logins, in memory.
pub(crate) struct Logins {
    passwords: Passwords,
    /// Names whose failures cost a hash each.
    password_names: Lockouts,
    /// Names whose failures cost next to nothing: kept apart, so that they cannot drive the others out.
    role_names: Lockouts,
}

impl Logins {
    /// Nobody has tried.
    pub(crate) fn new(rng: &dyn Rng) -> Logins {
        Logins { passwords: Passwords::new(rng), password_names: Lockouts::default(), role_names: Lockouts::default() }
    }
}

/// How long a token may live on that is to be renewed, as the method of `mount`, which made it, says now: with nothing asked for. The plan
/// gets what this hangs on. Refused when its user or role is gone, or says something else of policies.
pub(crate) fn renew_bounds(
    records: &Records,
    settings: &Settings,
    mount: &Mount,
    token: &stored::Token,
    plan: &mut Plan,
) -> Result<Bounds, PlanError> {
    let (default, mount_max) = mount.lease_ttls(settings);
    let known = Bounds {
        asked: Duration::ZERO,
        default,
        mount_max,
        max: Duration::from_millis(token.max_ttl_ms),
        explicit_max: Duration::from_millis(token.explicit_max_ttl_ms),
        period: Duration::from_millis(token.period_ms),
    };
    let parameters = match mount.kind.as_str() {
        "userpass" => userpass::renewed(records, mount, token, plan)?,
        "approle" => approle::renewed(records, mount, token, plan)?,
        _ => return Ok(known),
    };
    let seconds = Duration::from_secs;
    Ok(Bounds {
        default: if parameters.ttl_s == 0 { default } else { seconds(parameters.ttl_s) },
        max: seconds(parameters.max_ttl_s),
        period: seconds(parameters.period_s),
        ..known
    })
}

/// A record and its revision.
fn read<M: Message + Default>(view: &View, name: &Name) -> Result<(Revision, Option<M>), PlanError> {
    let found = view.read(name)?;
    // EXPOSE: the record is decoded.
    let record = found.value.map(|value| M::decode(value.expose())).transpose().map_err(|_| PlanError::Malformed)?;
    Ok((found.revision, record))
}

/// Plans to write a record.
fn put(plan: &mut Plan, name: Name, record: &impl Message) {
    plan.put(name, SecretBytes::from(record.encode_to_vec()));
}

/// Query parameters of lists.
const LIST_QUERY: &[Field] = &[
    Field::optional("after", FieldKind::Text, "Only names behind this one."),
    Field::optional("limit", FieldKind::Integer, "So many names at most. Without it: all."),
];

/// Which part of a list is asked for.
#[derive(Clone)]
struct Page {
    after: String,
    limit: usize,
}

impl Page {
    fn of(asked: &Asked<'_>) -> Result<Page, AskError> {
        let limit = match asked.ask.query("limit").filter(|text| !text.is_empty()) {
            None => usize::MAX,
            // Vault's clients send 0 or -1 for "all".
            Some("0" | "-1") => usize::MAX,
            Some(text) => text.parse().map_err(|_| AskError::Invalid("limit must be a whole number, not negative".into()))?,
        };
        Ok(Page { after: asked.ask.query("after").unwrap_or_default().to_owned(), limit })
    }

    /// The names of the records in a folder.
    fn names(&self, view: &View, folder: &Name) -> Result<Vec<String>, PlanError> {
        let children = view.children(folder)?;
        let names = children.iter().filter(|child| !child.is_folder()).map(|child| child.as_str());
        Ok(names.filter(|name| *name > &*self.after).take(self.limit).map(str::to_owned).collect())
    }
}

/// Lists the names of the records in a folder of the mount.
fn list(asked: &Asked<'_>, folder: &'static str) -> Result<Box<dyn Operation>, AskError> {
    let page = Page::of(asked)?;
    Ok(planned(move |scope| Ok(Outcome::list(page.names(&scope.records.view, &scope.mount.root().join(folder))?))))
}
