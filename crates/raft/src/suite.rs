//! Openraft's own storage tests over our log, table and snapshots.

use std::sync::Arc;

use openraft::StorageError;
use openraft::errors::ErrorSource;
use openraft::testing::log::{StoreBuilder, Suite};
use storage::feature_level::{FEATURE_LEVELS, LevelRecord};
use storage::table::RedbTableOptions;
use storage::{Batch, Disk, FsDisk, Log, LogOptions, MemoryDisk, MemoryTable, RedbTable, SnapshotStore, Table, TableView};

use crate::config::TypeConfig;
use crate::log_store::LogStore;
use crate::machine::{Level, Machine, Observer};
use crate::snapshots::Snapshots;
use crate::watch;

struct Deaf;

impl Observer for Deaf {
    fn applied(&self, _batch: &Batch) {}
    fn replaced(&self, _table: &dyn TableView) {}
}

#[derive(Clone, Copy)]
enum Kind {
    Memory,
    Redb,
}

impl StoreBuilder<TypeConfig, LogStore, Machine, Option<tempfile::TempDir>> for Kind {
    async fn build(&self) -> Result<(Option<tempfile::TempDir>, LogStore, Machine), StorageError<TypeConfig>> {
        fn failed(error: impl std::fmt::Display) -> StorageError<TypeConfig> {
            StorageError::read(ErrorSource::from_string(error.to_string()))
        }
        let (folder, path, disk): (_, _, Arc<dyn Disk>) = match self {
            Kind::Memory => (None, "/data".into(), Arc::new(MemoryDisk::new())),
            Kind::Redb => {
                let folder = tempfile::tempdir().map_err(failed)?;
                let path = folder.path().to_owned();
                (Some(folder), path, Arc::new(FsDisk))
            }
        };
        disk.create_dir_all(&path).map_err(failed)?;
        let (log, flusher) = Log::open(Arc::clone(&disk), &path.join("log"), LogOptions::default()).map_err(failed)?;
        std::thread::spawn(move || flusher.run());
        let table: Arc<dyn Table> = match self {
            Kind::Memory => Arc::new(MemoryTable::new()),
            Kind::Redb => {
                Arc::new(RedbTable::open(Arc::clone(&disk), &path.join("table.redb"), RedbTableOptions::default()).map_err(failed)?)
            }
        };
        let snapshots = Arc::new(Snapshots::new(SnapshotStore::open(disk, &path.join("snapshots")).map_err(failed)?));
        let (applied, _) = watch::channel(None);
        let level = Level { known: FEATURE_LEVELS, record: watch::channel(LevelRecord::first()).0 };
        let machine = Machine::open(table, snapshots, Arc::new(Deaf), applied, level, crate::check::Notes::new(), None).map_err(failed)?;
        Ok((folder, LogStore::new(log), machine))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn openraft_suite_passes_in_memory() {
    Suite::<TypeConfig, LogStore, Machine, Kind, _>::test_all(Kind::Memory).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn openraft_suite_passes_on_redb() {
    Suite::<TypeConfig, LogStore, Machine, Kind, _>::test_all(Kind::Redb).await.unwrap();
}
