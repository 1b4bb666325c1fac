//! From flags and environment to a [`Client`].

use std::env;
use std::path::PathBuf;

use client::{Builder, Client, SecretString};

use crate::args::Global;
use crate::fault::Fault;
use crate::files;

/// A command asks again less often than a service would: somebody waits for the error. `…_MAX_RETRIES` says otherwise.
const RETRIES_MAX: u32 = 2;
/// The largest token file that is read.
const TOKEN_FILE_BYTES_MAX: u64 = 16 * 1024;

/// The client that the flags, then the environment, then the token file describe.
pub(crate) fn client(global: &Global) -> Result<Client, Fault> {
    client_with(global, |builder| builder)
}

/// The same, with other settings than the environment's where `change` says so.
pub(crate) fn client_with(global: &Global, change: impl FnOnce(Builder) -> Builder) -> Result<Client, Fault> {
    let mut builder = Client::builder().retries_max(RETRIES_MAX).environment().map_err(client::BuildError::from)?;
    if !global.address.is_empty() {
        builder = builder.addresses(global.address.iter().cloned());
    }
    if let Some(file) = &global.ca_cert {
        builder = builder.ca_file(file);
    }
    if let Some(skip) = global.tls_skip_verify {
        builder = builder.dangerous_tls_skip_verify(skip);
    }
    if let Some(name) = &global.tls_server_name {
        builder = builder.tls_server_name(name);
    }
    if let Some(namespace) = &global.namespace {
        builder = builder.namespace(namespace);
    }
    let client = change(builder).build()?;
    if client.has_token() {
        return Ok(client);
    }
    Ok(client.with_token(stored_token()?))
}

/// The first of `CONCLAVE_`, `BAO_` and `VAULT_` with this suffix that is set and not empty.
pub(crate) fn variable(suffix: &str) -> Option<String> {
    ["CONCLAVE", "BAO", "VAULT"].iter().find_map(|prefix| env::var(format!("{prefix}_{suffix}")).ok().filter(|value| !value.is_empty()))
}

/// Where `login` keeps the token: `…_TOKEN_PATH`, or `~/.vault-token`, which Vault's clients read too. `None` without a home.
pub(crate) fn token_file() -> Option<PathBuf> {
    variable("TOKEN_PATH").map(PathBuf::from).or_else(|| env::home_dir().map(|home| home.join(".vault-token")))
}

/// The token that [`client()`] would use, as text: to be sought, never to be shown.
pub(crate) fn token_in_use() -> Result<Option<String>, Fault> {
    if let Some(token) = variable("TOKEN") {
        return Ok(Some(token));
    }
    // EXPOSE: it is wiped by who seeks it.
    Ok(stored_token()?.map(|token| token.expose().to_owned()))
}

fn stored_token() -> Result<Option<SecretString>, Fault> {
    let Some(file) = token_file() else { return Ok(None) };
    let Some(text) = files::read_text(&file, TOKEN_FILE_BYTES_MAX).map_err(|fault| fault.during("the kept token"))? else {
        return Ok(None);
    };
    let token = text.trim();
    Ok((!token.is_empty()).then(|| SecretString::from(token.to_owned())))
}
