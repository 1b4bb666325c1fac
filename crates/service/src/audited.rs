//! What audit records show of a request, its caller and its answer: lends the parts of the pipeline's values to an [`Event`](crate::audit::Event).

use std::time::Duration;

use crypto::SecretBytes;
use types::{Timestamp, Verb};

use crate::audit::{Answered, Asked, Auth, GrantingPolicy, MountShown, PolicyResults, WrapInfo};
use crate::mount::Route;
use crate::namespace::Namespace;
use crate::permit::Permit;
use crate::request::{self, Answer, Refusal, Request};
use crate::token::Caller;

/// The policies that allowed it.
pub(crate) fn granting<'a>(permit: Option<&'a Permit>, caller: Option<&'a Caller>) -> Vec<GrantingPolicy<'a>> {
    let (Some(permit), Some(caller)) = (permit, caller) else { return Vec::new() };
    permit.granted_by().iter().map(|name| GrantingPolicy { name, namespace_id: &caller.namespace.id }).collect()
}

/// Who asks; of a caller whom nobody knows, only whether that is allowed.
pub(crate) fn asking<'a>(known: Option<&'a Caller>, results: PolicyResults<'a>) -> Auth<'a> {
    known.map_or(Auth { policy_results: Some(results), ..Auth::default() }, |known| caller(known, results))
}

fn caller<'a>(caller: &'a Caller, results: PolicyResults<'a>) -> Auth<'a> {
    let token = &*caller.token;
    Auth {
        // EXPOSE: its HMAC is shown.
        client_token: Some(caller.text.expose()),
        accessor: &token.accessor,
        display_name: &token.display_name,
        policies: caller.policies(),
        token_policies: caller.policies(),
        policy_results: Some(results),
        metadata: Some(&token.meta),
        remaining_uses: token.uses_left,
        token_type: if token.batch { "batch" } else { "service" },
        token_ttl: Duration::from_millis(token.ttl_ms),
        token_issue_time: Some(Timestamp(token.created_ms)),
        ..Auth::default()
    }
}

/// What is asked. The body is shown only of who may ask: what a stranger sends is not worth the work.
pub(crate) fn asked<'a>(
    request: &'a Request,
    caller: Option<&'a Caller>,
    permit: Option<&Permit>,
    namespace: &'a Namespace,
    namespace_path: &'a str,
    route: Option<&'a Route>,
) -> Asked<'a> {
    let operation = match (permit, request.verb) {
        (Some(permit), _) => permit.capability().as_str(),
        (None, Verb::Write) => "update",
        (None, verb) => verb.as_str(),
    };
    let mount = route.map(|route| MountShown {
        path: &route.mount.path,
        kind: &route.mount.kind,
        accessor: &route.mount.accessor,
        is_auth: route.mount.is_auth(),
        plain_request_keys: &route.mount.audit_non_hmac_request_keys,
        plain_response_keys: &route.mount.audit_non_hmac_response_keys,
    });
    Asked {
        mount,
        // EXPOSE: its HMAC is shown.
        client_token: request.token.as_ref().map(SecretBytes::expose),
        client_token_accessor: caller.map(|caller| caller.token.accessor.as_str()).unwrap_or_default(),
        namespace_id: &namespace.id,
        namespace_path,
        data: (caller.is_some() || permit.is_some()).then_some(&request.body),
        query: &request.query,
        remote: request.remote,
        wrap_ttl: request.wrap_ttl.unwrap_or_default(),
        headers: &request.headers,
        ..Asked::new(request.id, operation, request.path.as_str())
    }
}

/// What is told.
pub(crate) fn answered<'a>(outcome: &'a Result<Answer, Refusal>, warnings: &'a [String]) -> Answered<'a> {
    let nothing = Answered { warnings, ..Answered::default() };
    match outcome {
        Ok(Answer::Data(data) | Answer::Gone(data)) => Answered { data: Some(data), ..nothing },
        Ok(Answer::Leased(data, lease)) => Answered { data: Some(data), lease_id: &lease.id, ..nothing },
        Ok(Answer::Auth(auth)) => Answered { auth: Some(made(auth)), ..nothing },
        Ok(Answer::Wrapped(wrapped)) => Answered { wrap_info: Some(waiting(wrapped)), ..nothing },
        Ok(Answer::Raw(raw)) => Answered { data: Some(&raw.body), ..nothing },
        // Ciphertext without end.
        Ok(Answer::Stream(_)) => nothing,
        Ok(Answer::Done | Answer::Accepted | Answer::NotFound) | Err(_) => nothing,
    }
}

/// An answer that was wrapped.
fn waiting(wrapped: &request::Wrapped) -> WrapInfo<'_> {
    WrapInfo {
        ttl: wrapped.ttl,
        // EXPOSE: its HMAC is shown.
        token: wrapped.token.expose(),
        accessor: &wrapped.accessor,
        creation_time: wrapped.created,
        creation_path: &wrapped.path,
        wrapped_accessor: &wrapped.wrapped_accessor,
    }
}

/// A token that was made or renewed.
fn made(auth: &request::Auth) -> Auth<'_> {
    Auth {
        // EXPOSE: its HMAC is shown.
        client_token: Some(auth.client_token.expose()),
        accessor: &auth.accessor,
        policies: &auth.policies,
        token_policies: &auth.policies,
        metadata: Some(&auth.metadata),
        num_uses: auth.uses,
        token_type: if auth.is_batch { "batch" } else { "service" },
        token_ttl: auth.ttl,
        ..Auth::default()
    }
}
