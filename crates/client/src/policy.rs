//! Who may do what: why a request was denied, and who could do it.

use serde::{Deserialize, Serialize};

use crate::{Client, Error, Method, Sys};

/// A denied request, as [`Sys::explain`] tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denial {
    /// The request's id.
    pub request_id: String,
    /// RFC 3339.
    pub time: String,
    /// The namespace of the request; `""` or ends with `/`.
    pub namespace: String,
    /// What was asked for, from the root namespace on.
    pub path: String,
    /// `read`, `list`, `create`, `update`, `patch`, `delete`.
    pub operation: String,
    /// Of the token that asked.
    #[serde(default)]
    pub accessor: Option<String>,
    /// Of the token that asked.
    pub policies: Vec<String>,
    /// In words.
    pub reason: String,
    /// Which rule decided; `None`: no rule was about this path.
    pub rule: Option<DenyingRule>,
    /// Whether the policies, as they are now, allow it.
    pub allowed_now: bool,
    /// The smallest rule that would allow it, in a policy's language.
    pub smallest_rule: Option<String>,
}

/// The rule of [`Denial`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DenyingRule {
    /// The path of the rule, as it is written.
    pub path: String,
    /// Which policies hold it.
    pub policies: Vec<String>,
}

/// Who can do something somewhere, as [`Sys::who_can`] tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhoCan {
    /// The path that was asked about.
    pub path: String,
    /// The capability that was asked about.
    pub capability: String,
    /// The namespace's policies that grant it.
    pub policies: Vec<GrantingPolicy>,
    /// The namespace's tokens that have it; the first thousand.
    pub tokens: Vec<GrantingToken>,
    /// How many tokens have it.
    pub token_count: u64,
}

/// A policy of [`WhoCan`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantingPolicy {
    /// Its name.
    pub name: String,
    /// The paths of its rules that grant the capability somewhere.
    pub rules: Vec<String>,
}

/// A token of [`WhoCan`], without its text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantingToken {
    /// By which it can be looked up and revoked.
    pub accessor: String,
    /// Whose it is.
    pub display_name: String,
    /// Where it was made: `auth/userpass/login/ann`.
    pub path: String,
    /// Its policies.
    pub policies: Vec<String>,
}

impl Sys<'_> {
    /// Which policies grant `capability` (`"read"`) on `path`, and which tokens have it. Needs `sudo`.
    pub async fn who_can(&self, path: &str, capability: &str) -> Result<WhoCan, Error> {
        #[derive(Serialize)]
        struct Body<'a> {
            path: &'a str,
            capability: &'a str,
        }
        let request = self.client.request(Method::Post, "sys/policies/who-can").body(&Body { path, capability });
        request.idempotent().send().await?.data()
    }

    /// Why a request was denied, by its id (see [`Refusal::request_id`](crate::Refusal::request_id)). Only the node that denied it knows, and
    /// it keeps its newest denials only: every known node is asked in turn, then those that the cluster names. Needs `sudo`.
    pub async fn explain(&self, request_id: &str) -> Result<Denial, Error> {
        let path = format!("sys/policies/explain/{request_id}");
        let known = self.client.addresses();
        let mut last = None;
        for address in &known {
            match explain_at(self.client, address, &path).await {
                Ok(denial) => return Ok(denial),
                Err(error) => last = worse(last, error),
            }
        }
        if self.client.pinned.is_none() && last.as_ref().is_some_and(Error::is_not_found) {
            // Where members cannot be learned, those that are known have answered.
            let learned = self.client.discover().await.unwrap_or_default();
            for address in learned.iter().filter(|address| !known.contains(address)) {
                match explain_at(self.client, address, &path).await {
                    Ok(denial) => return Ok(denial),
                    Err(error) => last = worse(last, error),
                }
            }
        }
        Err(last.unwrap_or_else(|| Error::Unavailable { ask: format!("GET /v1/{path}"), tried: Vec::new() }))
    }
}

/// The error to tell: one that is more than "not known here" hides none that is.
fn worse(last: Option<Error>, error: Error) -> Option<Error> {
    match last {
        Some(last) if error.is_not_found() => Some(last),
        _ => Some(error),
    }
}

async fn explain_at(client: &Client, address: &str, path: &str) -> Result<Denial, Error> {
    let client = client.at(address).map_err(|error| Error::Input { reason: error.to_string() })?;
    client.request(Method::Get, path).send().await?.data()
}
