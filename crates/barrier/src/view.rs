//! A view: records in plaintext, as they were at one applied state, below one name.

use std::ops::{Bound, ControlFlow};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use crypto::{MacKey, SecretBytes};
use storage::table::ReadError;
use storage::{Batch, Expectation, TableView, Write};
use types::Revision;

use crate::cache::{Cache, Cached, Entry};
use crate::key;
use crate::keyring::{Keyring, ValueError};
use crate::keys::Keys;
use crate::name::Name;
use crate::plan::{Plan, SealedKey};

/// Names that one listing may return, at most.
pub const CHILDREN_MAX: usize = 1_000_000;

/// Why a record cannot be had. Holds no names.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// The barrier was sealed meanwhile.
    #[error("sealed")]
    Sealed,
    /// The record does not open: damage, or a forgery.
    #[error("a record does not open")]
    Value(#[source] ValueError),
    /// A name does not open: damage, or a forgery.
    #[error("a name does not open")]
    Name(#[source] crypto::OpenError),
    /// The record opened, and makes no sense.
    #[error("a stored record is malformed")]
    Malformed,
    /// The folder holds more than [`CHILDREN_MAX`] names.
    #[error("more than {CHILDREN_MAX} names in one folder")]
    TooMany,
    /// The table cannot be read.
    #[error("read the table")]
    Table(#[from] ReadError),
}

/// A record as it was found.
pub struct Found {
    /// [`Revision::ABSENT`] when there is none.
    pub revision: Revision,
    /// `None` when there is none.
    pub value: Option<SecretBytes>,
}

/// A name in a folder: its segment, and a slash after it when other records lie below it. A record and a folder of the same
/// name are two children.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Child(String);

impl Child {
    /// The segment, with a slash at the end of a folder's.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether other records lie below it.
    pub fn is_folder(&self) -> bool {
        self.0.ends_with('/')
    }
}

/// Records below one name at one applied state. Cheap to clone; every read fails with `Sealed` once the barrier is sealed.
#[derive(Clone)]
pub struct View {
    table: Arc<dyn TableView>,
    keys: Arc<Keys>,
    root: Name,
    /// What was read so far, where somebody asked for that.
    noted: Option<Arc<Mutex<Vec<Expectation>>>>,
}

impl View {
    pub(crate) fn new(table: Arc<dyn TableView>, keys: Arc<Keys>) -> View {
        View { table, keys, root: Name::root(), noted: None }
    }

    /// The records in clear as well, sealed as they are.
    pub(crate) fn table(&self) -> &dyn TableView {
        &*self.table
    }

    /// The same state, seen from `name` below this view's root.
    #[must_use]
    pub fn below(&self, name: &Name) -> View {
        View { root: self.root.join(name.as_str()), ..self.clone() }
    }

    /// The same state, seen by who notes which records are read by name and at which revision, for [`View::expect_noted`]. Names that are
    /// listed are not noted.
    #[must_use]
    pub fn noting(&self) -> View {
        View { noted: Some(Arc::default()), ..self.clone() }
    }

    /// Lets `plan` hold only if every record that this view has noted is still as it was read.
    pub fn expect_noted(&self, plan: &mut Plan) {
        if let Some(noted) = &self.noted {
            plan.noted.append(&mut noted.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    fn note(&self, key: &Bytes, revision: Revision) {
        if let Some(noted) = &self.noted {
            noted.lock().unwrap_or_else(PoisonError::into_inner).push(Expectation { key: key.clone(), revision });
        }
    }

    /// Reads one record.
    pub fn read(&self, name: &Name) -> Result<Found, ViewError> {
        self.with(|keyring| {
            let key = keyring.seal_name(&self.root.join(name.as_str()));
            let cell = self.table.get(&key)?;
            self.note(&key, cell.as_ref().map_or(Revision::ABSENT, |cell| cell.revision));
            let Some(cell) = cell else {
                return Ok(Found { revision: Revision::ABSENT, value: None });
            };
            let value = keyring.open_value(&key, &cell.value).map_err(unopened)?;
            Ok(Found { revision: cell.revision, value: Some(value) })
        })
    }

    /// Reads one record through `cache`: decoded once for each revision. `decode` answers `None` for what makes no sense.
    ///
    /// The answer is that of this view, whatever the cache has seen before.
    pub fn read_cached<T>(&self, cache: &Cache<T>, name: &Name, decode: impl FnOnce(&[u8]) -> Option<T>) -> Result<Cached<T>, ViewError> {
        self.with(|keyring| {
            let name = self.root.join(name.as_str());
            let known = cache.find(&name);
            let key = known.as_ref().map_or_else(|| keyring.seal_name(&name), |known| known.key.clone());
            let Some(cell) = self.table.get(&key)? else {
                return Ok(Cached { revision: Revision::ABSENT, value: None });
            };
            if let Some(known) = known
                && known.revision == cell.revision
            {
                return Ok(Cached { revision: known.revision, value: Some(known.value) });
            }
            let opened = keyring.open_value(&key, &cell.value).map_err(unopened)?;
            // EXPOSE: the record is decoded.
            let value = Arc::new(decode(opened.expose()).ok_or(ViewError::Malformed)?);
            cache.keep(name, Entry { key, revision: cell.revision, value: Arc::clone(&value) });
            Ok(Cached { revision: cell.revision, value: Some(value) })
        })
    }

    /// The storage keys of at most `limit` records below `name`, at any depth, `name` itself not among them. In no order that
    /// means anything: for deleting what is there.
    pub fn keys_below(&self, name: &Name, limit: usize) -> Result<Vec<SealedKey>, ViewError> {
        self.with(|keyring| {
            let prefix = keyring.seal_name(&self.root.join(name.as_str()));
            let end = key::after_prefix(&prefix);
            let end = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            let cells = self.table.scan(Bound::Excluded(&prefix), end, limit)?;
            Ok(cells.into_iter().map(|(key, _)| SealedKey(key)).collect())
        })
    }

    /// At most `limit` records below `name`, at any depth: their names from `name` on, in no order that means anything.
    pub fn names_below(&self, name: &Name, limit: usize) -> Result<Vec<Name>, ViewError> {
        self.names_below_after(name, None, limit)
    }

    /// As [`View::names_below`], those that follow `after` in the order in which that answers: to go on where the last answer ended, also in
    /// another view, and also if `after` is gone since.
    pub fn names_below_after(&self, name: &Name, after: Option<&Name>, limit: usize) -> Result<Vec<Name>, ViewError> {
        self.with(|keyring| {
            let folder = self.root.join(name.as_str());
            let prefix = keyring.seal_name(&folder);
            let end = key::after_prefix(&prefix);
            let end = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            let from = after.map_or_else(|| prefix.clone(), |after| keyring.seal_name(&folder.join(after.as_str())));
            let mut names = Vec::new();
            let mut failed = None;
            if limit == 0 {
                return Ok(names);
            }
            self.table.visit(Bound::Excluded(&from), end, &mut |key, _, _| {
                match open_name(keyring, key, prefix.len()) {
                    Ok(name) => names.push(name),
                    Err(error) => failed = Some(error),
                }
                if failed.is_some() || names.len() == limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
            failed.map_or(Ok(names), Err)
        })
    }

    /// The seal epoch's record at this state: a batch that expects it is void once the cluster was sealed.
    pub(crate) fn epoch_expectation(&self) -> Result<Expectation, ReadError> {
        let key = crate::records::epoch_key();
        let revision = self.table.get(&key)?.map_or(Revision::ABSENT, |cell| cell.revision);
        Ok(Expectation { key, revision })
    }

    /// Whether there is a record of this name. Cheaper than [`View::read`]: the value stays sealed.
    pub fn contains(&self, name: &Name) -> Result<bool, ViewError> {
        self.with(|keyring| {
            let key = keyring.seal_name(&self.root.join(name.as_str()));
            let cell = self.table.get(&key)?;
            self.note(&key, cell.as_ref().map_or(Revision::ABSENT, |cell| cell.revision));
            Ok(cell.is_some())
        })
    }

    /// The names directly below `name`, sorted by their text.
    pub fn children(&self, name: &Name) -> Result<Vec<Child>, ViewError> {
        self.with(|keyring| {
            let prefix = keyring.seal_name(&self.root.join(name.as_str()));
            let end = key::after_prefix(&prefix);
            let end = end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            let mut children = Vec::new();
            // The record of `name` itself is not its own child.
            let mut from = Bound::Excluded(prefix.clone());
            loop {
                let mut skip_to = None;
                let mut failed = None;
                self.table.visit(from.as_ref().map(|key| &key[..]), end, &mut |key, _, _| {
                    match child(keyring, key, prefix.len()) {
                        Ok((_, _)) if children.len() == CHILDREN_MAX => failed = Some(ViewError::TooMany),
                        Ok((child, segment_end)) => {
                            // A folder shows once: what else lies below it is skipped by seeking, not by reading.
                            if child.is_folder() {
                                skip_to = Some(key::after_prefix(&key[..segment_end]));
                            }
                            children.push(child);
                        }
                        Err(error) => failed = Some(error),
                    }
                    if skip_to.is_some() || failed.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                })?;
                if let Some(error) = failed {
                    return Err(error);
                }
                match skip_to {
                    None | Some(None) => break,
                    Some(Some(next)) => from = Bound::Included(next),
                }
            }
            children.sort_unstable();
            Ok(children)
        })
    }

    /// How a token is stored and looked up; `None` when sealed.
    pub fn token_tag(&self, token: &[u8]) -> Option<[u8; 32]> {
        self.keys.with(|keyring| keyring.token_tag(token))
    }

    /// Borrows the keyring for one call; `None` when sealed.
    pub fn with_keyring<T>(&self, act: impl FnOnce(&Keyring) -> T) -> Option<T> {
        self.keys.with(act)
    }

    /// How a secret string shows in the audit records of a device; `None` when sealed.
    pub fn audit_key(&self, device: &str) -> Option<MacKey> {
        self.keys.with(|keyring| keyring.audit_key(device))
    }

    /// Seals a plan made from this view: what it expects and what it writes, as the state machine takes it.
    pub fn seal(&self, plan: &Plan, rng: &dyn crypto::Rng) -> Result<Batch, ViewError> {
        self.with(|keyring| Ok(seal_plan(keyring, &self.root, plan, rng)))
    }

    /// As [`View::seal`], within what this node may encrypt; `None`, and nothing is encrypted, when that is used up.
    pub(crate) fn seal_claimed(&self, plan: &Plan, rng: &dyn crypto::Rng) -> Result<Option<Batch>, ViewError> {
        self.with(|keyring| Ok(keyring.claim(plan.encryptions()).then(|| seal_plan(keyring, &self.root, plan, rng))))
    }

    fn with<T>(&self, act: impl FnOnce(&Keyring) -> Result<T, ViewError>) -> Result<T, ViewError> {
        self.keys.with(act).ok_or(ViewError::Sealed)?
    }
}

/// A value under a key that this node has not got yet (a rekey and then a rotation came while no peer could be asked) is as closed to it as
/// if the node were sealed. Every other fault is one of the record.
fn unopened(error: ValueError) -> ViewError {
    match error {
        ValueError::KeyVersion(_) => ViewError::Sealed,
        ValueError::Sealed(_) | ValueError::Format(_) => ViewError::Value(error),
    }
}

/// The whole name behind the first `prefix` bytes of `key`.
fn open_name(keyring: &Keyring, key: &[u8], prefix: usize) -> Result<Name, ViewError> {
    let mut name = Name::root();
    let mut at = prefix;
    while at < key.len() {
        let segment = keyring.open_child(key, at).map_err(ViewError::Name)?;
        // EXPOSE: names go to the caller of this view.
        name = name.join(&String::from_utf8_lossy(segment.name.expose()));
        at = segment.end;
    }
    Ok(name)
}

fn child(keyring: &Keyring, key: &[u8], prefix: usize) -> Result<(Child, usize), ViewError> {
    let segment = keyring.open_child(key, prefix).map_err(ViewError::Name)?;
    // EXPOSE: a listing shows names.
    let mut text = String::from_utf8_lossy(segment.name.expose()).into_owned();
    if !segment.is_leaf {
        text.push('/');
    }
    Ok((Child(text), segment.end))
}

pub(crate) fn seal_plan(keyring: &Keyring, root: &Name, plan: &Plan, rng: &dyn crypto::Rng) -> Batch {
    let mut expectations: Vec<Expectation> = plan
        .expectations
        .iter()
        .map(|(name, revision)| Expectation { key: keyring.seal_name(&root.join(name.as_str())), revision: *revision })
        .collect();
    expectations.extend(plan.noted.iter().cloned());
    let writes = plan
        .writes
        .iter()
        .map(|(name, value)| {
            let key = keyring.seal_name(&root.join(name.as_str()));
            // EXPOSE: the value goes into its record, encrypted.
            let value = value.as_ref().map(|value| keyring.seal_value(&key, value.expose(), rng).into());
            Write { key, value }
        })
        .chain(plan.erased.iter().map(|key| Write { key: key.0.clone(), value: None }))
        .collect();
    Batch { expectations, writes }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::MemoryBarrier;

    #[test]
    fn a_plan_that_expects_what_was_noted_is_void_once_any_of_it_has_changed() {
        let put = |plan: &mut Plan, name: &str| plan.put(Name::new(name), SecretBytes::from(vec![1]));
        for (changed, holds) in [("a/read", false), ("a/sought", false), ("a/other", true)] {
            let barrier = MemoryBarrier::new(1);
            let mut before = Plan::new();
            put(&mut before, "a/read");
            assert!(barrier.commit(&barrier.view(), &before));

            let view = barrier.view().below(&Name::new("a")).noting();
            assert!(view.read(&Name::new("read")).is_ok_and(|found| found.value.is_some()));
            assert!(view.contains(&Name::new("sought")).is_ok_and(|is_there| !is_there));
            let mut plan = Plan::new();
            put(&mut plan, "b");
            view.expect_noted(&mut plan);

            let mut meanwhile = Plan::new();
            put(&mut meanwhile, changed);
            assert!(barrier.commit(&barrier.view(), &meanwhile));
            assert_eq!(barrier.commit(&barrier.view(), &plan), holds, "{changed}");
        }
    }
}
