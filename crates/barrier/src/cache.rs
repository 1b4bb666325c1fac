//! Decoded records, each kept with the revision it was decoded from.
//!
//! Always: a reader compares the revision with its own view's, so nothing older or newer than the view is ever answered, and
//! nobody has to tell the cache of a change. Bounded; dropped, and so wiped as far as its values wipe themselves, with its owner.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use types::Revision;

use crate::name::Name;

/// One kind of record, decoded to `T`. Absent records are not kept: strangers could fill it with them.
pub struct Cache<T> {
    records_max: usize,
    kept: Mutex<Kept<T>>,
}

/// What was used lately, and what was before: when the first is full it takes the place of the second.
struct Kept<T> {
    young: HashMap<Name, Entry<T>>,
    old: HashMap<Name, Entry<T>>,
}

pub(crate) struct Entry<T> {
    pub(crate) key: Bytes,
    pub(crate) revision: Revision,
    pub(crate) value: Arc<T>,
}

impl<T> Clone for Entry<T> {
    fn clone(&self) -> Entry<T> {
        Entry { key: self.key.clone(), revision: self.revision, value: Arc::clone(&self.value) }
    }
}

/// A record as a view has it.
pub struct Cached<T> {
    /// [`Revision::ABSENT`] when there is none.
    pub revision: Revision,
    /// `None` when there is none.
    pub value: Option<Arc<T>>,
}

impl<T> Cache<T> {
    /// Keeps the `records_max` records that were used last, and at most as many again.
    pub fn new(records_max: usize) -> Cache<T> {
        Cache { records_max: records_max.max(1), kept: Mutex::new(Kept { young: HashMap::new(), old: HashMap::new() }) }
    }

    pub(crate) fn find(&self, name: &Name) -> Option<Entry<T>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = kept.young.get(name) {
            return Some(entry.clone());
        }
        let (name, entry) = kept.old.remove_entry(name)?;
        self.put(&mut kept, name, entry.clone());
        Some(entry)
    }

    pub(crate) fn keep(&self, name: Name, entry: Entry<T>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        self.put(&mut kept, name, entry);
    }

    fn put(&self, kept: &mut Kept<T>, name: Name, entry: Entry<T>) {
        if kept.young.len() >= self.records_max {
            kept.old = std::mem::take(&mut kept.young);
        }
        kept.young.insert(name, entry);
    }
}

#[cfg(test)]
mod tests {
    use crypto::SecretBytes;

    use super::*;
    use crate::plan::Plan;
    use crate::testing::MemoryBarrier;

    fn text(bytes: &[u8]) -> Option<String> {
        String::from_utf8(bytes.to_vec()).ok()
    }

    #[test]
    fn each_view_is_answered_from_its_own_state() {
        let barrier = MemoryBarrier::new(1);
        let cache = Cache::new(8);
        let name = Name::new("a/b");
        let write = |value: Option<&str>| {
            let mut plan = Plan::new();
            match value {
                Some(value) => plan.put(name.clone(), SecretBytes::from(value.as_bytes().to_vec())),
                None => plan.delete(name.clone()),
            }
            assert!(barrier.commit(&barrier.view(), &plan));
            barrier.view()
        };
        let read = |view: &crate::View| view.read_cached(&cache, &name, text).unwrap().value.map(|value| (*value).clone());
        let before = barrier.view();
        let first = write(Some("one"));
        let second = write(Some("two"));
        let gone = write(None);
        for _ in 0..2 {
            for (view, want) in [(&second, Some("two")), (&first, Some("one")), (&gone, None), (&before, None), (&first, Some("one"))] {
                assert_eq!(read(view).as_deref(), want);
            }
        }
    }

    #[test]
    fn it_keeps_what_is_used_and_no_more_than_it_may() {
        let cache = Cache::new(4);
        let entry = |value: usize| Entry { key: Bytes::new(), revision: Revision(1), value: Arc::new(value) };
        cache.keep(Name::new("used"), entry(0));
        for number in 1..100 {
            cache.keep(Name::new(&number.to_string()), entry(number));
            assert!(cache.find(&Name::new("used")).is_some(), "after {number} others");
        }
        let kept = cache.kept.lock().unwrap();
        assert!(kept.young.len() + kept.old.len() <= 8);
    }
}
