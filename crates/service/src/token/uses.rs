//! Tokens that may be used a limited number of times.
//!
//! Always: a use is spent by a commit of its own before anything is done, so that no two requests anywhere share one. The last use
//! removes the token's records; the request that spent it goes on, and may still read what the token kept for itself.

use std::sync::Arc;
use std::time::Duration;

use barrier::Plan;
use crypto::SecretBytes;
use prost::Message;
use proto::stored;
use types::{Revision, Timestamp};

use super::{Caller, issue, revoke};
use crate::records;

/// How long what hangs on a token that is used up stays for the request that used it up: longer than a request may take by default (90 s).
const LAST_REQUEST_MAX: Duration = Duration::from_secs(120);

/// Plans one use of a limited token: what to commit, and what the caller's token is then.
pub(crate) fn spend(caller: &Caller, now: Timestamp) -> (Plan, stored::Token) {
    let mut plan = Plan::new();
    caller.expect(&mut plan);
    let spent = stored::Token { uses_left: caller.token.uses_left.saturating_sub(1), ..(*caller.token).clone() };
    if spent.uses_left == 0 {
        issue::erase(&caller.token, &caller.namespace.id, &caller.tag, &mut plan);
        let later = Timestamp(now.0.saturating_add(u64::try_from(LAST_REQUEST_MAX.as_millis()).unwrap_or(u64::MAX)));
        revoke::plan_cleaning(&caller.reference(), later, &mut plan);
    } else {
        plan.put(records::token_name(&caller.namespace.id, &caller.tag), SecretBytes::from(spent.encode_to_vec()));
    }
    (plan, spent)
}

impl Caller {
    /// The caller after a use was spent by a commit that gave its record this revision.
    pub(crate) fn after_use(&self, spent: stored::Token, revision: Revision) -> Caller {
        let own = records::token_name(&self.namespace.id, &self.tag);
        let revision = if spent.uses_left == 0 { Revision::ABSENT } else { revision };
        let grounds = std::iter::once((own, revision)).chain(self.grounds.iter().skip(1).cloned()).collect();
        let (text, tag, namespace) = (super::copied(&self.text), self.tag, Arc::clone(&self.namespace));
        Caller { text, tag, namespace, token: Arc::new(spent), grounds }
    }
}
