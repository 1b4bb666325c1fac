//! Snapshots that are taken by themselves: `sys/storage/raft/snapshot-auto/…`, in the shape of Vault Enterprise's.
//!
//! Always: the node that leads takes them, into a folder of its own; a file has its name only once it is whole and durable; older ones go
//! only after a newer one is there; after each a drill shows that it could be restored. What went wrong is kept, and told by metrics.
//! Records: `core/snapshot-auto/config/<name>` and `core/snapshot-auto/status/<name>`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use barrier::{Barrier, Name, Plan};
use crypto::SecretBytes;
use engine::AskError;
use engine::route::{Access, Field, FieldKind, Method, Route};
use prost::Message;
use proto::stored;
use serde_json::{Value, json};
use storage::container::{Container, Unpacker};
use storage::disk::{Disk, DiskFile, OpenMode, TEMPORARY_SUFFIX};
use storage::snapshot::SNAPSHOT_BYTES_MAX;
use types::capability::Verb;
use types::{Revision, Timestamp};

use super::{barrier as barrier_of, chain};
use crate::backend::{Asked, Handler};
use crate::body::Fields;
use crate::outcome::{Operation, Outcome, PlanError, Scope, planned};
use crate::pipeline::Service;
use crate::records::Records;
use crate::request::{Answer, shown_time};

/// Schedules, at most.
const SCHEDULES_MAX: usize = 32;
/// Files of one schedule, at most.
const RETAIN_MAX: u64 = 10_000;
/// The longest name of a schedule, and of what files' names begin with, in bytes.
const NAME_BYTES_MAX: usize = 64;
const PATH_BYTES_MAX: usize = 1024;
/// How often the leader looks whether one is due, and every node how the schedules went.
const LOOK_PAUSE: Duration = Duration::from_secs(1);
/// After one in vain, the next comes after this, doubled with each, up to the interval.
const RETRY_FIRST: Duration = Duration::from_secs(10);
/// The longest account of a failure that is kept, in characters.
const ERROR_CHARS_MAX: usize = 400;
/// Bytes that are written or read at once.
const PIECE_BYTES: usize = 256 << 10;
const SUFFIX: &str = ".snap";
/// The folder of the scratch table's name; one schedule after another.
const SCRATCH: &str = "drill";

const NAME: Field = Field::required("name", FieldKind::Text, "The schedule's name.");

/// What may be asked.
pub(crate) static ROUTES: &[Route<Handler>] = &[
    Route {
        pattern: "storage/raft/snapshot-auto/config",
        about: "Snapshots that are taken by themselves.",
        parameters: &[],
        methods: &[Method { verb: Verb::List, summary: "Lists the schedules' names.", fields: &[], query: &[], handler: list }],
        access: Access::Sudo,
    },
    Route {
        pattern: "storage/raft/snapshot-auto/config/{name}",
        about: "One schedule: how often, into which folder of the node that leads, and how many files are kept.",
        parameters: &[NAME],
        methods: &[
            Method { verb: Verb::Read, summary: "Shows it.", fields: &[], query: &[], handler: read },
            Method {
                verb: Verb::Write,
                summary: "Sets it.",
                fields: &[
                    Field::required("interval", FieldKind::Duration, "How often a snapshot is taken; at least a second."),
                    Field::optional("retain", FieldKind::Integer, "How many files are kept; 1 when nothing is said."),
                    Field::required("path_prefix", FieldKind::Text, "The folder: an absolute path. It may be there already."),
                    Field::optional("file_prefix", FieldKind::Text, "How files' names begin; conclave-snapshot when nothing is said."),
                    Field::required("storage_type", FieldKind::Text, "local: no other one is available."),
                    Field::required("local_max_space", FieldKind::Integer, "Bytes that the files may take together."),
                    Field::optional(
                        "drill",
                        FieldKind::Boolean,
                        "Whether each is restored into a scratch state; true when nothing is said.",
                    ),
                ],
                query: &[],
                handler: write,
            },
            Method { verb: Verb::Delete, summary: "Ends it. Its files stay.", fields: &[], query: &[], handler: delete },
        ],
        access: Access::Sudo,
    },
    Route {
        pattern: "storage/raft/snapshot-auto/status/{name}",
        about: "How a schedule goes.",
        parameters: &[NAME],
        methods: &[Method {
            verb: Verb::Read,
            summary: "Shows the last snapshot, the last drill and the last error.",
            fields: &[],
            query: &[],
            handler: status,
        }],
        access: Access::Sudo,
    },
    Route {
        pattern: "storage/raft/snapshot-auto/drill/{name}",
        about: "A restore drill of a schedule's newest file, at the node that has it.",
        parameters: &[NAME],
        methods: &[Method {
            verb: Verb::Write,
            summary: "Restores it into a scratch state, and says what was found.",
            fields: &[],
            query: &[],
            handler: drill,
        }],
        access: Access::Sudo,
    },
];

fn config_folder() -> Name {
    Name::new("core/snapshot-auto/config")
}

fn status_name(name: &str) -> Name {
    Name::new("core/snapshot-auto/status").join(name)
}

fn name_of(asked: &Asked<'_>) -> Result<String, AskError> {
    let name = asked.captures.text("name").to_owned();
    if name.len() > NAME_BYTES_MAX { Err(AskError::Invalid(format!("'name' is longer than {NAME_BYTES_MAX} bytes"))) } else { Ok(name) }
}

fn read_config(records: &Records, name: &str) -> Result<Option<stored::SnapshotSchedule>, PlanError> {
    let Some(value) = records.view.read(&config_folder().join(name))?.value else { return Ok(None) };
    // EXPOSE: the record is decoded.
    stored::SnapshotSchedule::decode(value.expose()).map(Some).map_err(|_| PlanError::Malformed)
}

fn read_status(records: &Records, name: &str) -> Result<(stored::SnapshotScheduleStatus, Revision), PlanError> {
    let found = records.view.read(&status_name(name))?;
    let Some(value) = found.value else { return Ok((stored::SnapshotScheduleStatus::default(), found.revision)) };
    // EXPOSE: the record is decoded.
    let status = stored::SnapshotScheduleStatus::decode(value.expose()).map_err(|_| PlanError::Malformed)?;
    Ok((status, found.revision))
}

fn names(records: &Records) -> Result<Vec<String>, PlanError> {
    Ok(records.view.children(&config_folder())?.iter().map(|child| child.as_str().to_owned()).collect())
}

fn configured(records: &Records, name: &str) -> Result<stored::SnapshotSchedule, PlanError> {
    read_config(records, name)?.ok_or_else(|| PlanError::NoSuch(format!("there is no schedule {name:?}")))
}

fn list(_asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    Ok(planned(|scope| Ok(Outcome::list(names(&scope.records)?))))
}

fn read(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let name = name_of(asked)?;
    Ok(planned(move |scope| {
        let Some(config) = read_config(&scope.records, &name)? else { return Ok(Outcome::answer(Answer::NotFound)) };
        Ok(Outcome::data(&json!({
            "interval": config.interval_s,
            "retain": config.retain,
            "path_prefix": config.path_prefix,
            "file_prefix": config.file_prefix,
            "storage_type": "local",
            "local_max_space": config.local_max_space,
            "drill": !config.without_drill,
        })))
    }))
}

fn write(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let name = name_of(asked)?;
    let fields = Fields::of(asked.ask)?;
    let invalid = |text: String| AskError::Invalid(text);
    let kind = fields.required_text("storage_type")?;
    if kind != "local" {
        return Err(invalid(format!("storage_type {kind:?} is not available: use \"local\", and copy the files from the nodes' folders")));
    }
    let interval = fields.duration("interval")?.unwrap_or_default();
    if interval < Duration::from_secs(1) {
        return Err(invalid("'interval' must be at least a second".into()));
    }
    let retain = fields.integer("retain")?.unwrap_or(1);
    if !(1..=RETAIN_MAX).contains(&retain) {
        return Err(invalid(format!("'retain' must be 1 to {RETAIN_MAX}")));
    }
    let path_prefix = fields.required_text("path_prefix")?.to_owned();
    let is_plain = Path::new(&path_prefix).is_absolute()
        && path_prefix.len() <= PATH_BYTES_MAX
        && !path_prefix.chars().any(char::is_control)
        && !path_prefix.split('/').any(|part| part == "..");
    if !is_plain {
        return Err(invalid("'path_prefix' must be the absolute path of a folder, without ..".into()));
    }
    let file_prefix = fields.text("file_prefix")?.filter(|text| !text.is_empty()).unwrap_or("conclave-snapshot").to_owned();
    let is_name = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) && !text.starts_with('.');
    if !is_name(&file_prefix) || file_prefix.len() > NAME_BYTES_MAX {
        return Err(invalid("'file_prefix' must be letters, digits, dots, dashes and underscores, and not begin with a dot".into()));
    }
    let local_max_space = fields.integer("local_max_space")?.filter(|bytes| *bytes > 0);
    let local_max_space = local_max_space.ok_or_else(|| invalid("'local_max_space' must be given, in bytes".into()))?;
    let without_drill = fields.boolean("drill")? == Some(false);
    let interval_s = interval.as_secs();
    Ok(planned(move |scope| {
        let known = names(&scope.records)?;
        if known.len() >= SCHEDULES_MAX && !known.contains(&name) {
            return Err(PlanError::Refused(format!("there are {SCHEDULES_MAX} schedules, and no more are taken")));
        }
        for other in known.iter().filter(|other| **other != name) {
            let other_config = configured(&scope.records, other)?;
            if other_config.path_prefix == path_prefix && other_config.file_prefix == file_prefix {
                return Err(PlanError::Refused(format!(
                    "the schedule {other:?} writes files of the same names: choose another folder or file_prefix"
                )));
            }
        }
        let config = stored::SnapshotSchedule {
            interval_s,
            retain,
            path_prefix: path_prefix.clone(),
            file_prefix: file_prefix.clone(),
            local_max_space,
            without_drill,
            changed_ms: scope.now.0,
        };
        let mut plan = Plan::new();
        plan.put(config_folder().join(&name), SecretBytes::from(config.encode_to_vec()));
        Ok(Outcome::written(plan, Answer::Done))
    }))
}

fn delete(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let name = name_of(asked)?;
    Ok(planned(move |_| {
        let mut plan = Plan::new();
        plan.delete(config_folder().join(&name));
        plan.delete(status_name(&name));
        Ok(Outcome::written(plan, Answer::Done))
    }))
}

fn status(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    let name = name_of(asked)?;
    Ok(planned(move |scope| {
        let config = configured(&scope.records, &name)?;
        let (status, _) = read_status(&scope.records, &name)?;
        let time = |ms: u64| if ms == 0 { Value::Null } else { shown_time(Timestamp(ms)).into() };
        let next = if status.next_start_ms == 0 { next_start(&config, &status) } else { status.next_start_ms };
        let url = if status.last_file.is_empty() { String::new() } else { format!("file://{}", status.last_file) };
        Ok(Outcome::data(&json!({
            "consecutive_errors": status.consecutive_errors,
            "last_snapshot_start": time(status.last_start_ms),
            "last_snapshot_end": time(status.last_end_ms),
            "last_snapshot_error": status.last_error,
            "last_snapshot_url": url,
            "next_snapshot_start": time(next),
            "node_id": status.last_node,
            "last_restorable_snapshot": time(status.restorable_saved_ms),
            "last_drill": time(status.drill_ms),
            "last_drill_error": status.drill_error,
            "last_drill_records": status.drill_records,
            "last_drill_state_hash": status.drill_state_hash,
        })))
    }))
}

struct Drill(String);

#[async_trait::async_trait]
impl Operation for Drill {
    async fn plan(&self, scope: &Scope<'_>) -> Result<Outcome, PlanError> {
        configured(&scope.records, &self.0)?;
        let (mut status, revision) = read_status(&scope.records, &self.0)?;
        if status.last_file.is_empty() {
            return Err(PlanError::NoSuch("this schedule has made no snapshot yet".into()));
        }
        let barrier = barrier_of(scope)?;
        if status.last_node != barrier.node_id().as_str() {
            return Err(PlanError::Refused(format!("the newest file is at node {}: ask that one", status.last_node)));
        }
        let _one = scope
            .snapshots
            .drilling
            .try_lock()
            .map_err(|_| PlanError::Unavailable("a drill is under way at this node: try again".into()))?;
        drilled(barrier, PathBuf::from(&status.last_file), scope.now, &mut status).await;
        let mut plan = Plan::new();
        plan.expect(status_name(&self.0), revision);
        plan.put(status_name(&self.0), SecretBytes::from(status.encode_to_vec()));
        let shown = json!({
            "file": status.last_file,
            "node_id": status.last_node,
            "restorable": status.drill_error.is_empty(),
            "error": status.drill_error,
            "records": status.drill_records,
            "state_hash": status.drill_state_hash,
        });
        Ok(Outcome::written(plan, Answer::Data(engine::json(&shown))))
    }
}

fn drill(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    Ok(Box::new(Drill(name_of(asked)?)))
}

/// When the next one is due.
fn next_start(config: &stored::SnapshotSchedule, status: &stored::SnapshotScheduleStatus) -> u64 {
    let interval = config.interval_s.saturating_mul(1000);
    let begun = status.last_start_ms;
    if begun == 0 || config.changed_ms > begun {
        return config.changed_ms;
    }
    if status.consecutive_errors == 0 {
        return begun.saturating_add(interval);
    }
    let doubled = (RETRY_FIRST.as_millis() as u64).saturating_mul(1 << (status.consecutive_errors - 1).min(20));
    begun.saturating_add(doubled.min(interval))
}

/// How all schedules went, for metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SnapshotFigures {
    /// When the newest scheduled snapshot was made; 0: there is none.
    pub saved: Timestamp,
    /// When the newest one was made that a drill has found good; 0: there is none.
    pub restorable: Timestamp,
    /// Attempts in vain since the last good one, of all schedules together.
    pub failing: u64,
}

/// What is kept of the schedules on this node.
#[derive(Default)]
pub(crate) struct Figures(Mutex<SnapshotFigures>);

impl Figures {
    pub(crate) fn get(&self) -> SnapshotFigures {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, figures: SnapshotFigures) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = figures;
    }
}

impl Service {
    /// Takes the snapshots that are due, whenever this node leads; never ends. May be dropped at any time: a file that is half written then has
    /// no name, and goes with the next one.
    pub async fn run_snapshots(&self) {
        loop {
            if let Err(error) = self.snapshot_round().await {
                tracing::debug!(%error, "look at the schedules of snapshots");
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }

    async fn snapshot_round(&self) -> Result<(), PlanError> {
        let Some(barrier) = self.store().keys() else { return Ok(()) };
        let records = self.fresh().await.map_err(|refusal| PlanError::Unavailable(refusal.to_string()))?;
        let mut figures = SnapshotFigures::default();
        for name in names(&records)? {
            let (Some(config), (mut status, revision)) = (read_config(&records, &name)?, read_status(&records, &name)?) else { continue };
            let now = self.clock().now();
            if self.store().leads() && next_start(&config, &status) <= now.0 {
                let _one = self.snapshots().drilling.lock().await;
                take(barrier, &config, now, &mut status).await;
                status.last_end_ms = self.clock().now().0;
                status.next_start_ms = 0;
                status.next_start_ms = next_start(&config, &status);
                if !config.without_drill && status.consecutive_errors == 0 {
                    drilled(barrier, PathBuf::from(&status.last_file), self.clock().now(), &mut status).await;
                }
                let mut plan = Plan::new();
                // Another one may have been told to end it meanwhile.
                plan.expect(status_name(&name), revision);
                plan.put(status_name(&name), SecretBytes::from(status.encode_to_vec()));
                let view = self.fresh().await.map_err(|refusal| PlanError::Unavailable(refusal.to_string()))?.view;
                if let Err(error) = self.store().commit(&view, &plan).await {
                    tracing::warn!(%error, schedule = name, "write down how a scheduled snapshot went");
                }
            }
            figures.saved = figures.saved.max(Timestamp(status.last_saved_ms));
            figures.restorable = figures.restorable.max(Timestamp(status.restorable_saved_ms));
            figures.failing += status.consecutive_errors + u64::from(!status.drill_error.is_empty());
        }
        self.snapshots().figures.set(figures);
        Ok(())
    }
}

/// Takes a snapshot, and writes down how it went.
async fn take(barrier: &Barrier, config: &stored::SnapshotSchedule, now: Timestamp, status: &mut stored::SnapshotScheduleStatus) {
    status.last_start_ms = now.0;
    let saved = async {
        let backup = barrier.backup().await.map_err(|error| error.to_string())?;
        let saved_ms = backup.about().saved_ms;
        let (disk, config) = (barrier.disk(), config.clone());
        let writing = barrier.run_blocking(move || write_file(&*disk, &config, &backup));
        let file = writing.await.map_err(|_| "the node is stopping".to_owned())??;
        Ok::<_, String>((file, saved_ms))
    };
    match saved.await {
        Ok((file, saved_ms)) => {
            tracing::info!(file, "took a scheduled snapshot");
            (status.consecutive_errors, status.last_saved_ms) = (0, saved_ms);
            status.last_error.clear();
            status.last_file = file;
            status.last_node = barrier.node_id().to_string();
        }
        Err(error) => {
            tracing::error!(error, "a scheduled snapshot was not taken");
            status.consecutive_errors = status.consecutive_errors.saturating_add(1);
            status.last_error = error.chars().take(ERROR_CHARS_MAX).collect();
        }
    }
}

/// Tries whether a file could be restored, and writes down what was found.
async fn drilled(barrier: &Barrier, file: PathBuf, now: Timestamp, status: &mut stored::SnapshotScheduleStatus) {
    status.drill_ms = now.0;
    let (drilling, shown) = (barrier.clone(), file.display().to_string());
    let tried = barrier.run_blocking(move || {
        let container = read_file(&drilling, &file)?;
        drilling.drill(SCRATCH, container).map_err(|error| chain(&error))
    });
    let tried = tried.await.unwrap_or_else(|_| Err("the node is stopping".into()));
    match tried {
        Ok(drilled) => {
            tracing::info!(file = shown, records = drilled.records, "a snapshot was restored into a scratch state");
            status.drill_error.clear();
            status.restorable_saved_ms = status.restorable_saved_ms.max(drilled.saved.0);
            status.drill_records = drilled.records;
            status.drill_state_hash = drilled.state_hash;
        }
        Err(error) => {
            tracing::error!(file = shown, error, "A SNAPSHOT COULD NOT BE RESTORED");
            status.drill_error = error.chars().take(ERROR_CHARS_MAX).collect();
        }
    }
}

/// Files of a schedule in its folder, oldest first: names sort as times do.
fn files_of(disk: &dyn Disk, folder: &Path, config: &stored::SnapshotSchedule) -> io::Result<Vec<String>> {
    let begins = format!("{}-", config.file_prefix);
    let is_time = |text: &str| text.len() == STAMP_BYTES && text.bytes().all(|byte| byte.is_ascii_digit() || b"TZ.".contains(&byte));
    let is_own = |name: &String| name.strip_prefix(&begins).and_then(|rest| rest.strip_suffix(SUFFIX)).is_some_and(is_time);
    Ok(disk.list(folder)?.into_iter().filter(is_own).collect())
}

/// `20261124T161500.123Z`: sorts as time does.
fn stamp(at: u64) -> String {
    let time = shown_time(Timestamp(at - at % 1000));
    let digits: String = time.chars().filter(|letter| letter.is_ascii_digit() || *letter == 'T').collect();
    format!("{digits}.{:03}Z", at % 1000)
}

const STAMP_BYTES: usize = 20;

fn write_file(disk: &dyn Disk, config: &stored::SnapshotSchedule, backup: &barrier::Backup) -> Result<String, String> {
    let folder = Path::new(&config.path_prefix);
    let told = |act: &str, path: &Path, error: &dyn std::fmt::Display| format!("{act} {}: {error}", path.display());
    let is_there = disk.exists(folder).map_err(|error| told("look for", folder, &error))?;
    if !is_there {
        // One that is there keeps the rights that its owner has given it.
        disk.create_dir_all(folder).map_err(|error| told("make", folder, &error))?;
    }
    let listed = |error: io::Error| told("list", folder, &error);
    for left in disk
        .list(folder)
        .map_err(listed)?
        .into_iter()
        .filter(|name| name.starts_with(&config.file_prefix) && name.ends_with(TEMPORARY_SUFFIX))
    {
        disk.remove(&folder.join(left)).map_err(listed)?;
    }
    let known = files_of(disk, folder, config).map_err(listed)?;
    let length = |name: &String| disk.open(&folder.join(name), OpenMode::Read).and_then(|file| file.len());
    let used: u64 = known.iter().map(length).sum::<io::Result<u64>>().map_err(listed)?;
    let needed = backup.size_bytes().map_err(|error| error.to_string())?;
    if used.saturating_add(needed) > config.local_max_space {
        return Err(format!("local_max_space is {} bytes: {used} are used, and the snapshot needs up to {needed}", config.local_max_space));
    }
    let free = disk.free_bytes(folder).map_err(|error| told("look at", folder, &error))?;
    if needed > free {
        return Err(format!("{} has room for {free} bytes, and the snapshot needs up to {needed}", folder.display()));
    }
    let path = folder.join(format!("{}-{}{SUFFIX}", config.file_prefix, stamp(backup.about().saved_ms)));
    let temporary = PathBuf::from(format!("{}{TEMPORARY_SUFFIX}", path.display()));
    let written = (|| {
        let file = disk.open(&temporary, OpenMode::Create)?;
        let mut out = Out { file: Arc::clone(&file), at: 0, piece: Vec::with_capacity(PIECE_BYTES) };
        backup.write(&mut out).map_err(|error| io::Error::other(chain(&error)))?;
        out.flush()?;
        file.sync_data()?;
        disk.rename(&temporary, &path)?;
        disk.sync_dir(folder)
    })();
    if let Err(error) = written {
        // The next one clears it away, should this not work.
        drop(disk.remove(&temporary));
        return Err(told("write", &path, &error));
    }
    // The new one counts.
    let keep = usize::try_from(config.retain).unwrap_or(usize::MAX).saturating_sub(1);
    let pruned = known.iter().take(known.len().saturating_sub(keep)).try_for_each(|old| disk.remove(&folder.join(old)));
    pruned.and_then(|()| disk.sync_dir(folder)).map_err(|error| told("remove an old snapshot in", folder, &error))?;
    Ok(path.display().to_string())
}

fn read_file(barrier: &Barrier, path: &Path) -> Result<Container, String> {
    let told = |error: &dyn std::error::Error| format!("{}: {}", path.display(), chain(error));
    let file = barrier.disk().open(path, OpenMode::Read).map_err(|error| told(&error))?;
    let scratch = barrier.scratch();
    let mut unpacker = Unpacker::new(SNAPSHOT_BYTES_MAX, Box::new(move |bytes| scratch.receive(bytes)));
    let (mut piece, mut at) = (vec![0; PIECE_BYTES], 0);
    loop {
        match file.read_at(&mut piece, at).map_err(|error| told(&error))? {
            0 => return unpacker.finish().map_err(|error| told(&error)),
            length => {
                at += length as u64;
                unpacker.write(&piece[..length]).map_err(|error| told(&error))?;
            }
        }
    }
}

/// Appends to a file, in pieces.
struct Out {
    file: Arc<dyn DiskFile>,
    at: u64,
    piece: Vec<u8>,
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PIECE_BYTES - self.piece.len());
        self.piece.extend_from_slice(&bytes[..taken]);
        if self.piece.len() == PIECE_BYTES {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_at(&self.piece, self.at)?;
        self.at += self.piece.len() as u64;
        self.piece.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Refusal;
    use crate::testing::World;

    #[test]
    fn the_table_is_well_formed() {
        assert_eq!(engine::route::check(ROUTES), Vec::<String>::new());
    }

    #[test]
    fn files_names_sort_as_times_do() {
        assert_eq!(stamp(1_795_537_189_327), "20261124T161949.327Z");
        let stamps: Vec<String> = [0, 1, 999, 1000, 86_400_000, 1_795_537_189_327].into_iter().map(stamp).collect();
        assert!(stamps.windows(2).all(|pair| pair[0] < pair[1]) && stamps.iter().all(|stamp| stamp.len() == STAMP_BYTES), "{stamps:?}");
    }

    #[test]
    fn the_next_is_due_after_the_interval_and_sooner_after_a_failure() {
        let config = stored::SnapshotSchedule { interval_s: 3600, changed_ms: 1_000, ..Default::default() };
        let next = |last_start_ms, consecutive_errors| {
            next_start(&config, &stored::SnapshotScheduleStatus { last_start_ms, consecutive_errors, ..Default::default() })
        };
        for (begun, errors, want) in [
            (0, 0, 1_000),
            (500, 0, 1_000),
            (5_000, 0, 3_605_000),
            (5_000, 1, 15_000),
            (5_000, 2, 25_000),
            (5_000, 3, 45_000),
            (5_000, 60, 3_605_000),
        ] {
            assert_eq!(next(begun, errors), want, "{begun} {errors}");
        }
    }

    #[tokio::test]
    async fn a_schedule_is_what_was_set_and_nothing_else_is_taken() {
        let world = World::new(1);
        let path = "sys/storage/raft/snapshot-auto/config/daily";
        let good =
            json!({ "interval": "24h", "path_prefix": "/backups", "storage_type": "local", "local_max_space": 1_000_000, "retain": 7 });
        for (name, value) in [
            ("interval", json!("0s")),
            ("path_prefix", json!("backups")),
            ("path_prefix", json!("/backups/../etc")),
            ("storage_type", json!("aws-s3")),
            ("local_max_space", json!(0)),
            ("retain", json!(0)),
            ("file_prefix", json!("../x")),
            ("file_prefix", json!(".x")),
        ] {
            let mut bad = good.clone();
            bad[name] = value.clone();
            let asked = world.ask(Verb::Write, path, bad).await;
            assert!(matches!(asked, Err(Refusal::Ask(AskError::Invalid(_)))), "{name} {value}: {asked:?}");
        }
        assert_eq!(world.ask(Verb::Write, path, good.clone()).await, Ok(Value::Null));
        let read = world.ask(Verb::Read, path, Value::Null).await.unwrap();
        let want = json!({ "interval": 86_400, "retain": 7, "path_prefix": "/backups", "file_prefix": "conclave-snapshot", "storage_type": "local",
            "local_max_space": 1_000_000, "drill": true });
        assert_eq!(read, want);
        let twice = world.ask(Verb::Write, "sys/storage/raft/snapshot-auto/config/other", good).await;
        assert!(matches!(twice, Err(Refusal::Refused(_))), "{twice:?}");
        let status = world.ask(Verb::Read, "sys/storage/raft/snapshot-auto/status/daily", Value::Null).await.unwrap();
        assert_eq!((status["consecutive_errors"].clone(), status["last_snapshot_end"].clone()), (json!(0), Value::Null));
        assert_eq!(world.ask(Verb::Delete, path, Value::Null).await, Ok(Value::Null));
        assert!(world.ask(Verb::Read, "sys/storage/raft/snapshot-auto/status/daily", Value::Null).await.is_err());
    }
}
