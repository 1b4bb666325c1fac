//! Permits: the proof that a request may be done, without which nothing is dispatched.
//!
//! Always: only [`Authority::permit`] makes one, and [`Permit::open`] for what is served to everybody. An authority holds for the records
//! that it was made from: the policies' texts are compared, by their revisions, each time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use types::capability::Capability;
use types::{Path, Timestamp, Verb};

use crate::outcome::PlanError;
use crate::policy::acl::Acl;
use crate::policy::decision::{Decision, Denial, Question};
use crate::policy::filter::ListFilter;
use crate::policy::text::Policy;
use crate::records::Records;
use crate::token::Caller;

/// Sets of policies that are kept compiled, at most.
const ACLS_KEPT_MAX: usize = 4_000;

/// Says that this may be done here.
pub struct Permit {
    caller: Option<Arc<Caller>>,
    path: Path,
    capability: Capability,
    /// The policies with the rule that allowed it. All are of the caller's namespace.
    granted_by: Vec<String>,
    /// For a list: the limit to use in place of the one that was asked for.
    limit: Option<u64>,
    /// For a list: which keys may be shown.
    list_filter: Option<ListFilter>,
}

impl Permit {
    /// For a route that is served to everybody, with or without a token.
    pub(crate) fn open(verb: Verb, path: Path) -> Permit {
        Permit { caller: None, path, capability: needed(verb, false), granted_by: Vec::new(), limit: None, list_filter: None }
    }

    /// For help, which everybody with a token may have.
    pub(crate) fn help(caller: &Arc<Caller>, path: Path) -> Permit {
        Permit { caller: Some(Arc::clone(caller)), ..Permit::open(Verb::Read, path) }
    }

    /// Who may; `None`: everybody.
    pub fn caller(&self) -> Option<&Arc<Caller>> {
        self.caller.as_ref()
    }

    /// Where, from the root namespace on.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What.
    pub fn capability(&self) -> Capability {
        self.capability
    }

    /// The policies with the rule that allowed it. All are of the caller's namespace.
    pub(crate) fn granted_by(&self) -> &[String] {
        &self.granted_by
    }

    /// For a list: the limit to use in place of the one that was asked for; 0 is no limit.
    pub(crate) fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// For a list: which keys may be shown.
    pub(crate) fn list_filter(&self) -> Option<&ListFilter> {
        self.list_filter.as_ref()
    }
}

/// The capability that a verb needs.
fn needed(verb: Verb, is_create: bool) -> Capability {
    match verb {
        Verb::Read => Capability::Read,
        Verb::Write if is_create => Capability::Create,
        Verb::Write => Capability::Update,
        Verb::Patch => Capability::Patch,
        Verb::Delete => Capability::Delete,
        Verb::List => Capability::List,
        Verb::Scan => Capability::Scan,
    }
}

/// A caller and all rules for it.
#[derive(Clone)]
pub(crate) struct Authority {
    acl: Arc<Acl>,
    caller: Arc<Caller>,
}

impl Authority {
    /// May the caller do this, and on which terms?
    pub(crate) fn permit<'a>(&'a self, question: &Question<'a>) -> Result<Permit, Denial<'a>> {
        let allowed = match self.acl.check(question) {
            Decision::Allowed(allowed) => allowed,
            Decision::Denied(denial) => return Err(denial),
        };
        let granted_by = match allowed.rule {
            Some(rule) => rule.policies().map(|(name, ..)| name.to_owned()).collect(),
            None => vec!["root".to_owned()],
        };
        Ok(Permit {
            caller: Some(Arc::clone(&self.caller)),
            path: question.path.clone(),
            capability: needed(question.verb, question.is_create == Some(true)),
            granted_by,
            limit: allowed.limit,
            list_filter: allowed.list_filter.cloned(),
        })
    }

    /// The rules.
    pub(crate) fn acl(&self) -> &Acl {
        &self.acl
    }
}

/// A set of policies, put together.
struct Kept {
    /// As they were; a policy that was not there is `None`.
    policies: Vec<Option<Arc<StoredPolicy>>>,
    acl: Arc<Acl>,
}

/// A policy's text, and what it says.
pub(crate) struct StoredPolicy {
    /// Byte for byte as it was written.
    pub(crate) text: String,
    /// What it says.
    pub(crate) policy: Policy,
}

/// Compiled sets of policies, by namespace and names.
#[derive(Default)]
pub(crate) struct Acls {
    kept: Mutex<HashMap<(String, Vec<String>), Kept>>,
}

impl Acls {
    /// The rules for the caller at these records.
    pub(crate) fn authority(&self, records: &Records, caller: &Arc<Caller>, now: Timestamp) -> Result<Authority, PlanError> {
        let acl = self.compiled(records, &caller.namespace, caller.policies(), now)?;
        Ok(Authority { acl, caller: Arc::clone(caller) })
    }

    /// The rules of a set of policies of one namespace.
    pub(crate) fn compiled(
        &self,
        records: &Records,
        namespace: &crate::namespace::Namespace,
        names: &[String],
        now: Timestamp,
    ) -> Result<Arc<Acl>, PlanError> {
        let policies = names.iter().map(|name| records.policy(&namespace.id, name)).collect::<Result<Vec<_>, _>>()?;
        let key = (namespace.id.clone(), names.to_vec());
        let same = |left: &Option<Arc<StoredPolicy>>, right: &Option<Arc<StoredPolicy>>| match (left, right) {
            (Some(left), Some(right)) => Arc::ptr_eq(left, right),
            (None, None) => true,
            _ => false,
        };
        if let Some(kept) = self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(&key)
            && kept.policies.iter().zip(&policies).all(|(left, right)| same(left, right))
            && kept.acl.expires().is_none_or(|expires| now < expires)
        {
            return Ok(Arc::clone(&kept.acl));
        }
        let nothing = Policy::default();
        let path = namespace.shown_path();
        let sources = names.iter().zip(&policies).map(|(name, policy)| {
            let policy = policy.as_ref().map_or(&nothing, |policy| &policy.policy);
            (name.as_str(), policy, path.as_str())
        });
        let acl = Arc::new(Acl::compile(sources, now));
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= ACLS_KEPT_MAX {
            kept.clear();
        }
        kept.insert(key, Kept { policies, acl: Arc::clone(&acl) });
        Ok(acl)
    }
}

#[cfg(test)]
mod tests {
    use barrier::Plan;
    use barrier::testing::MemoryBarrier;
    use crypto::SecretBytes;
    use proto::stored;

    use super::*;
    use crate::namespace::Namespace;
    use crate::records::{self, Caches};

    #[test]
    fn an_authority_is_that_of_its_records() {
        let barrier = MemoryBarrier::new(1);
        let (caches, acls) = (Arc::new(Caches::default()), Acls::default());
        let token = stored::Token { policies: vec!["app".into(), "root ".into()], ..Default::default() };
        let text = SecretBytes::from(Vec::new());
        let caller = Arc::new(Caller { text, tag: [0; 32], namespace: Namespace::root(), token: Arc::new(token), grounds: Vec::new() });
        let path = Path::parse("secret/data/x").unwrap();
        let may = |verb| {
            let records = Records::new(barrier.view(), Arc::clone(&caches));
            let authority = acls.authority(&records, &caller, Timestamp(0)).unwrap();
            authority.permit(&Question::new(&path, verb)).is_ok()
        };
        let write = |text: Option<&str>| {
            let mut plan = Plan::new();
            match text {
                Some(text) => {
                    let record = stored::Policy { text: text.into() };
                    plan.put(records::policy_name("root", "app"), SecretBytes::from(prost::Message::encode_to_vec(&record)));
                }
                None => plan.delete(records::policy_name("root", "app")),
            }
            assert!(barrier.commit(&barrier.view(), &plan));
        };
        assert!(!may(Verb::Read), "a policy that is not there grants nothing");
        write(Some(r#"path "secret/*" { capabilities = ["read"] }"#));
        assert!(may(Verb::Read) && !may(Verb::Write));
        write(Some(r#"path "secret/*" { capabilities = ["update"] }"#));
        assert!(!may(Verb::Read) && may(Verb::Write));
        write(None);
        assert!(!may(Verb::Read) && !may(Verb::Write));
    }
}
