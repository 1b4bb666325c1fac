//! `conclave operator snapshot`: the whole cluster as a file.
//!
//! Always: a file gets its name once it was checked whole; what is checked here needs no keys, and so cannot tell whether a file is this
//! cluster's own: that the cluster says (`verify -online`, `restore`).

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use client::{Client, Method};
use futures::Stream;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Map, Value, json};
use storage::container::{Container, Unpacker};
use storage::snapshot::SNAPSHOT_BYTES_MAX;
use storage::{FsDisk, SnapshotStore};
use tokio::sync::mpsc;

use super::super::Answer;
use crate::args::{Snapshot, SnapshotExtract, SnapshotRestore, SnapshotVerify};
use crate::fault::Fault;
use crate::files;
use crate::output::{Printer, field_rows, key_values, shown as shown_value, table};

const PATH: &str = "sys/storage/raft/snapshot";
const PATH_FORCE: &str = "sys/storage/raft/snapshot-force";
const PATH_VERIFY: &str = "sys/storage/raft/snapshot-verify";
const PATH_EXTRACT: &str = "sys/storage/raft/snapshot-extract";
const PATH_PROGRESS: &str = "sys/storage/raft/snapshot/progress";
/// Bytes that are read from a file at once.
const PIECE_BYTES: usize = 256 << 10;
/// Pieces that wait for the network.
const PIECES_MAX: usize = 4;
/// How long a drill may take.
const DRILL_MAX: std::time::Duration = std::time::Duration::from_secs(60 * 60);
/// Exit code of a file that is not whole.
const BROKEN: u8 = 2;

/// Runs one of them.
pub(super) async fn run(client: &Client, printer: &Printer, command: Snapshot) -> Result<(), Fault> {
    match command {
        Snapshot::Save(args) => save(client, printer, &args.file).await,
        Snapshot::Inspect(args) => inspect(printer, &args.file),
        Snapshot::Verify(args) => verify(client, printer, &args).await,
        Snapshot::Restore(args) => restore(client, printer, &args).await,
        Snapshot::Extract(args) => extract(client, printer, &args).await,
        Snapshot::Progress => progress(client, printer).await,
        Snapshot::Drill(args) => drill(client, printer, &args.name).await,
        Snapshot::Cancel => {
            let cancelled = client.request(Method::Delete, PATH_PROGRESS).send().await;
            cancelled.map_err(|error| Fault::from(error).during("cancel the restore"))?;
            printer.done("The restore is cancelled. Nothing was changed.")
        }
    }
}

async fn save(client: &Client, printer: &Printer, file: &Path) -> Result<(), Fault> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let io = |act: &'static str| move |error: io::Error| files::fault(act, file, &error);
    let mut temporary = tempfile::NamedTempFile::new_in(folder).map_err(io("write"))?;
    let bar = bar(None, "saved");
    let mut keep = |piece: &[u8]| {
        bar.inc(piece.len() as u64);
        temporary.write_all(piece)
    };
    let received = client.download(PATH, &mut keep).await;
    bar.finish_and_clear();
    received.map_err(|error| Fault::from(error).during("save a snapshot"))?;
    temporary.as_file().sync_all().map_err(io("write"))?;
    // Before it takes the place of an older one: a connection may break so that nobody notices.
    let container = unpack(temporary.path())?;
    temporary.persist(file).map_err(|error| files::fault("write", file, &error.error))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io("write"))?;
    let fields = shown(&container);
    printer.answer(&fields, &Value::Object(fields.clone()), || {
        format!("Saved to {}, and checked.\n\n{}", file.display(), key_values(&field_rows(&fields)))
    })
}

fn inspect(printer: &Printer, file: &Path) -> Result<(), Fault> {
    let fields = shown(&unpack(file)?);
    printer.answer(&fields, &Value::Object(fields.clone()), || key_values(&field_rows(&fields)))
}

async fn verify(client: &Client, printer: &Printer, args: &SnapshotVerify) -> Result<(), Fault> {
    let file = &args.file.file;
    let container = unpack(file)?;
    let mut fields = shown(&container);
    fields.insert("whole".into(), true.into());
    if args.online {
        let body = json!({ "sums": hex::encode(&container.sums), "sealed": hex::encode(&container.sealed) });
        let answer = client.request(Method::Post, PATH_VERIFY).body(&body).idempotent().send().await;
        let answer = Answer::required(&answer.map_err(|error| Fault::from(error).during("ask the cluster"))?)?;
        let is_own = answer.data.get("authentic").and_then(Value::as_bool) == Some(true);
        fields.insert("authentic".into(), is_own.into());
        if !is_own {
            let fault = Fault::server("the file is whole, but the cluster's keyring does not authenticate it").with_code(BROKEN);
            return Err(fault.cure("it is another cluster's, was changed, or is of a history that ended with a restore"));
        }
    }
    printer.answer(&fields, &Value::Object(fields.clone()), || {
        let asked =
            if args.online { "It is this cluster's own, unchanged." } else { "Whose it is, only a cluster's keys can tell (-online)." };
        format!("Every byte is as its sums say. {asked}\n\n{}", key_values(&field_rows(&fields)))
    })
}

async fn restore(client: &Client, printer: &Printer, args: &SnapshotRestore) -> Result<(), Fault> {
    let file = &args.file.file;
    let length = std::fs::metadata(file).map_err(|error| files::fault("read", file, &error))?.len();
    let bar = bar(Some(length), "sent");
    let path = if args.force { PATH_FORCE } else { PATH };
    let body = client.upload(path, &[], || pieces(file, bar.clone())).await;
    bar.finish_and_clear();
    body.map_err(|error| Fault::from(error).during("restore"))?;
    printer.done(if args.force {
        "Restored. If the snapshot was another cluster's, every node is sealed now: open it with that cluster's shares (conclave operator unseal)."
    } else {
        "Restored. The cluster is as the snapshot has it; tokens that were made later are no longer good."
    })
}

async fn progress(client: &Client, printer: &Printer) -> Result<(), Fault> {
    let answer = client.request(Method::Get, PATH_PROGRESS).send().await.map_err(|error| Fault::from(error).during("progress"))?;
    let Answer { data, whole, .. } = Answer::required(&answer)?;
    printer.answer(&data, &whole, || key_values(&field_rows(&data)))
}

async fn extract(client: &Client, printer: &Printer, args: &SnapshotExtract) -> Result<(), Fault> {
    let file = &args.file.file;
    let length = std::fs::metadata(file).map_err(|error| files::fault("read", file, &error))?.len();
    let mut query = vec![("from", args.path.clone())];
    query.extend(args.to.clone().map(|to| ("to", to)));
    query.extend(args.version.map(|version| ("version", version.to_string())));
    query.extend((!args.preview).then(|| ("apply", "true".to_owned())));
    query.extend(args.overwrite.then(|| ("overwrite", "true".to_owned())));
    let bar = bar(Some(length), "sent");
    let body = client.upload(PATH_EXTRACT, &query, || pieces(file, bar.clone())).await;
    bar.finish_and_clear();
    let body = body.map_err(|error| Fault::from(error).during("extract"))?;
    let whole: Value = serde_json::from_slice(&body).map_err(|_| Fault::server("the server's answer is no JSON"))?;
    let data = whole.get("data").and_then(Value::as_object).cloned().unwrap_or_default();
    printer.answer(&data, &whole, || {
        let secrets = data.get("secrets").and_then(Value::as_array);
        let row = |secret: &Value| {
            let text = |name: &str| secret.get(name).map_or_else(|| "n/a".to_owned(), shown_value);
            let metadata = secret.get("metadata").filter(|metadata| metadata.is_object());
            let inside = |name: &str| metadata.and_then(|metadata| metadata.get(name)).map_or_else(|| "n/a".to_owned(), shown_value);
            let newest = if args.version.is_some() { inside("version") } else { inside("current_version") };
            let time = if args.version.is_some() { inside("created_time") } else { inside("updated_time") };
            [text("from"), text("to"), text("replaced"), newest, time]
        };
        let rows: Vec<[String; 5]> = secrets.into_iter().flatten().map(row).collect();
        let said = if args.preview { "Nothing was written. Without -preview this would be:" } else { "Written:" };
        format!("{said}\n\n{}", table(["From", "To", "Replaces", "Version", "Time"], &rows))
    })
}

async fn drill(client: &Client, printer: &Printer, name: &str) -> Result<(), Fault> {
    let path = format!("sys/storage/raft/snapshot-auto/drill/{name}");
    let answer = client.request(Method::Post, &path).idempotent().within(Some(DRILL_MAX)).send().await;
    let Answer { data, whole, .. } = Answer::required(&answer.map_err(|error| Fault::from(error).during("drill"))?)?;
    printer.answer(&data, &whole, || key_values(&field_rows(&data)))?;
    if data.get("restorable").and_then(Value::as_bool) == Some(true) {
        return Ok(());
    }
    let reason = data.get("error").and_then(Value::as_str).unwrap_or("no reason was told");
    Err(Fault::server(format!("the snapshot could not be restored: {reason}")).with_code(BROKEN))
}

/// Reads a file in a thread of its own, ahead of the network.
fn pieces(file: &Path, bar: ProgressBar) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
    let (sender, receiver) = mpsc::channel(PIECES_MAX);
    let file = file.to_owned();
    bar.set_position(0);
    tokio::task::spawn_blocking(move || {
        let read = || -> io::Result<()> {
            let mut file = File::open(&file)?;
            loop {
                let mut piece = vec![0; PIECE_BYTES];
                let length = file.read(&mut piece)?;
                piece.truncate(length);
                if length == 0 || sender.blocking_send(Ok(piece.into())).is_err() {
                    return Ok(());
                }
                bar.inc(length as u64);
            }
        };
        if let Err(error) = read() {
            // Whoever reads has gone if this cannot be told.
            drop(sender.blocking_send(Err(error)));
        }
    });
    futures::stream::unfold(receiver, |mut receiver| async move { receiver.recv().await.map(|piece| (piece, receiver)) })
}

/// Checks a file whole. Its state lies in a temporary folder while this lives.
fn unpack(file: &Path) -> Result<Container, Fault> {
    let io = |error: io::Error| files::fault("read", file, &error);
    let mut opened = File::open(file).map_err(io)?;
    let folder = tempfile::tempdir().map_err(|error| Fault::local(format!("make a temporary folder: {error}")))?;
    let store = SnapshotStore::open(Arc::new(FsDisk), folder.path()).map_err(|error| Fault::local(error.to_string()))?;
    let broken = |error: storage::container::ContainerError| {
        let mut text = error.to_string();
        if let Some(cause) = std::error::Error::source(&error) {
            text = format!("{text}: {cause}");
        }
        Fault::local(format!("{}: {text}", file.display())).with_code(BROKEN).cure("keep it, and use another one")
    };
    let mut unpacker = Unpacker::new(SNAPSHOT_BYTES_MAX, Box::new(|bytes| store.receive(bytes)));
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        match opened.read(&mut piece).map_err(io)? {
            0 => return unpacker.finish().map_err(broken),
            length => unpacker.write(&piece[..length]).map_err(broken)?,
        }
    }
}

fn shown(container: &Container) -> Map<String, Value> {
    let (about, info) = (&container.about, container.state.info());
    let time = i64::try_from(about.saved_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok()).unwrap_or_default();
    let position = info.applied.position;
    let fields = json!({
        "id": about.id,
        "cluster_name": about.cluster_name,
        "cluster_id": about.cluster_id,
        "saved": time.to_string(),
        "saved_by": about.node_id,
        "version": about.software,
        "index": position.map_or(0, |position| position.index.0),
        "term": position.map_or(0, |position| position.term.0),
        "records": info.applied.keys,
        "bytes": info.applied.bytes,
        "state_bytes": info.file_bytes,
        "state_hash": info.applied.hash.to_string(),
        "members": about.members.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>(),
    });
    match fields {
        Value::Object(fields) => fields,
        _ => unreachable!("an object was made"),
    }
}

fn bar(length: Option<u64>, done: &'static str) -> ProgressBar {
    let template = if length.is_some() { "{bytes} of {total_bytes} {msg}, {eta} left" } else { "{bytes} {msg}, {bytes_per_sec}" };
    let bar = length.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    bar.with_style(ProgressStyle::with_template(template).expect("the template is right")).with_message(done)
}
