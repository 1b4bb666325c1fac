//! A restore drill: a backup is put into a scratch table and read with the cluster's keys, as a restore would, and nothing is replaced.
//!
//! Always: what it finds good, a restore now would find good too: every sum and count, the state hash, who made it, and every record and name
//! opens with the keyring. It runs on a thread for such work, and holds the keys for one record at a time.

use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use raft::ScratchTable;
use storage::container::{About, Container};

use crate::barrier::Barrier;
use crate::key::AREA_SEALED;
use crate::keyring::Keyring;
use crate::restore::{RestoreError, examine};
use crate::view::View;

/// What a drill found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drilled {
    /// Which snapshot.
    pub snapshot_id: String,
    /// When it was made, by its node's clock.
    pub saved: types::Timestamp,
    /// Records in all.
    pub records: u64,
    /// Records behind the barrier, of which each opened.
    pub opened: u64,
    /// Over the scratch table, and as the snapshot says.
    pub state_hash: String,
}

/// Why a snapshot could not be restored.
#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    /// It is not whole, or not this cluster's own.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// No scratch table.
    #[error("the scratch table")]
    Open(#[from] storage::table::OpenError),
    /// It cannot be put into a table.
    #[error("put it into a scratch table")]
    Replace(#[from] storage::table::ReplaceError),
    /// The table is not what the snapshot says.
    #[error("read the scratch table")]
    Read(#[from] storage::table::ReadError),
    /// Records do not open with this cluster's keys.
    #[error("{closed} of {records} records do not open with this cluster's keys")]
    Closed {
        /// How many.
        closed: u64,
        /// Of how many.
        records: u64,
    },
    /// The node was sealed meanwhile.
    #[error("the node was sealed meanwhile")]
    Sealed,
}

/// A backup of this cluster that is open beside it: its records as they were, with the keys of now.
pub struct Past {
    table: Arc<ScratchTable>,
    view: View,
    about: About,
}

impl Past {
    /// Every record as it was.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Of when it is.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// The scratch table that holds it; it goes when this is dropped.
    pub fn table(&self) -> &ScratchTable {
        &self.table
    }
}

impl Barrier {
    /// Puts a backup of this cluster into a scratch table called `name`, to be read. Blocks; for a thread for such work.
    pub fn open_past(&self, name: &str, container: Container) -> Result<Past, DrillError> {
        let Container { about, sums, sealed, mut state, .. } = container;
        if !self.knows_backup(&sums, &sealed).ok_or(DrillError::Sealed)? {
            return Err(RestoreError::NotAuthentic.into());
        }
        examine(&state)?;
        let table = Arc::new(self.scratch().table(name)?);
        table.table().replace(&mut state)?;
        let view = View::new(table.table().view()?, Arc::clone(self.keys()));
        Ok(Past { table, view, about })
    }

    /// Restores a backup into a scratch table called `name`, and looks at every record. Blocks; for a thread for such work.
    pub fn drill(&self, name: &str, container: Container) -> Result<Drilled, DrillError> {
        let Container { about, sums, sealed, mut state, .. } = container;
        if !self.knows_backup(&sums, &sealed).ok_or(DrillError::Sealed)? {
            return Err(RestoreError::NotAuthentic.into());
        }
        examine(&state)?;
        let scratch = self.scratch().table(name)?;
        scratch.table().replace(&mut state)?;
        let view = scratch.table().view()?;
        // Adds everything up anew, and compares.
        let found = view.verify()?;
        let (mut records, mut closed, mut is_sealed) = (0, 0, false);
        view.visit(Bound::Included(&[AREA_SEALED]), Bound::Excluded(&[AREA_SEALED + 1]), &mut |key, _, value| {
            records += 1;
            match self.with_keyring(|keyring| opens(keyring, key, value)) {
                Some(true) => {}
                Some(false) => closed += 1,
                None => is_sealed = true,
            }
            if is_sealed { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if is_sealed {
            return Err(DrillError::Sealed);
        }
        if closed > 0 {
            return Err(DrillError::Closed { closed, records });
        }
        let saved = types::Timestamp(about.saved_ms);
        Ok(Drilled { snapshot_id: about.id, saved, records: found.keys, opened: records, state_hash: found.hash.to_string() })
    }
}

/// Whether a record's name and value open.
fn opens(keyring: &Keyring, key: &[u8], value: &[u8]) -> bool {
    let mut at = 1;
    while at < key.len() {
        match keyring.open_child(key, at) {
            Ok(segment) => at = segment.end,
            Err(_) => return false,
        }
    }
    keyring.open_value(key, value).is_ok()
}
