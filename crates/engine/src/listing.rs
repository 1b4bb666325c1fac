//! Lists: the names in a folder, and all names below it, page by page.
//!
//! Always: sorted by bytes, so that `after` a page's last name the next page begins, whatever was written or deleted in between.
//! At most [`SCAN_NAMES_MAX`] names in one answer.

use barrier::{Name, View};

use crate::body::query_integer;
use crate::route::{Field, FieldKind};
use crate::{Ask, AskError, PlanError, Reply};

/// Names that one recursive list may hold: as many as a folder may.
pub const SCAN_NAMES_MAX: usize = barrier::CHILDREN_MAX;

/// The query parameters of a list.
pub(crate) const PAGE_FIELDS: &[Field] = &[
    Field::optional("after", FieldKind::Text, "Lists only names after this one, which need not be there."),
    Field::optional("limit", FieldKind::Integer, "Lists at most so many names. Without it, or with a number below 1: all."),
];

/// Which part of a list is asked for.
#[derive(Default)]
pub(crate) struct Page {
    /// Only names after this one.
    after: String,
    /// At most so many; `None`: all.
    limit: Option<usize>,
}

impl Page {
    pub(crate) fn parse(ask: &Ask) -> Result<Page, AskError> {
        let limit = query_integer(ask, "limit")?;
        let after = ask.query("after").unwrap_or_default().to_owned();
        Ok(Page { after, limit: usize::try_from(limit).ok().filter(|&limit| limit > 0) })
    }

    /// The first `limit` names.
    pub(crate) fn first(limit: usize) -> Page {
        Page { after: String::new(), limit: Some(limit) }
    }

    /// The names in a folder; those of folders end in a slash.
    pub(crate) fn children(&self, view: &View, folder: &Name) -> Result<Vec<String>, PlanError> {
        let children = view.children(folder)?;
        let names = children.iter().map(|child| child.as_str()).filter(|name| *name > self.after.as_str());
        Ok(names.take(self.limit.unwrap_or(usize::MAX)).map(str::to_owned).collect())
    }

    /// The names of all records below a folder, from it on.
    pub(crate) fn descendants(&self, view: &View, folder: &Name) -> Result<Vec<String>, PlanError> {
        let mut names = Vec::new();
        // One more than is allowed tells that there are too many.
        let limit = self.limit.unwrap_or(usize::MAX).min(SCAN_NAMES_MAX + 1);
        self.descend(view, folder, "", limit, &mut names)?;
        if names.len() > SCAN_NAMES_MAX {
            let text = format!("there are more than {SCAN_NAMES_MAX} names (ask for fewer with limit, and go on with after)");
            return Err(PlanError::Refused(text));
        }
        Ok(names)
    }

    fn descend(&self, view: &View, folder: &Name, prefix: &str, limit: usize, names: &mut Vec<String>) -> Result<(), PlanError> {
        // A folder's slash sorts it to where its records' names belong, so that what is found in this order is sorted.
        for child in view.children(folder)? {
            if names.len() >= limit {
                break;
            }
            let name = format!("{prefix}{}", child.as_str());
            if !child.is_folder() {
                if name > self.after {
                    names.push(name);
                }
            } else if name > self.after || self.after.starts_with(&name) {
                self.descend(view, &folder.join(child.as_str()), &name, limit, names)?;
            }
        }
        Ok(())
    }
}

/// A list; none at all is nothing there.
pub(crate) fn reply(names: Vec<String>) -> Reply {
    if names.is_empty() { Reply::NotFound } else { Reply::List(names) }
}

#[cfg(test)]
mod tests {
    use barrier::Plan;
    use barrier::testing::MemoryBarrier;
    use crypto::SecretBytes;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn pages_put_together_are_the_whole(
            paths in prop::collection::btree_set("[a ./0]{1}([a ./0]{0,3}[a.0])?", 0..20),
            limit in 1_usize..5,
        ) {
            let paths: std::collections::BTreeSet<String> =
                paths.iter().map(|path| Name::new(path).as_str().to_owned()).filter(|path| !path.is_empty()).collect();
            let barrier = MemoryBarrier::new(3);
            let mut plan = Plan::new();
            for path in &paths {
                plan.put(Name::new("x").join(path), SecretBytes::from(vec![1]));
            }
            prop_assert!(plan.is_empty() || barrier.commit(&barrier.view(), &plan));
            let (view, folder) = (barrier.view(), Name::new("x"));
            let whole = Page::default().descendants(&view, &folder).unwrap();
            prop_assert_eq!(&whole, &paths.iter().cloned().collect::<Vec<_>>());
            let mut pages = Vec::new();
            loop {
                let after = pages.last().cloned().unwrap_or_default();
                let page = Page { after, limit: Some(limit) }.descendants(&view, &folder).unwrap();
                prop_assert!(page.len() <= limit);
                if page.is_empty() {
                    break;
                }
                pages.extend(page);
            }
            prop_assert_eq!(pages, whole);
        }
    }
}
