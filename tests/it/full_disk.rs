//! Disks that fill up (reference F11). Needs root, to mount small ones; without it the tests say so and pass over.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use client::Error;
use serde_json::json;
use tests::{Cluster, eventually, fields};

/// Room for a node's files and the reserve (64 MiB) that it keeps free.
const DISK_BYTES: usize = 100 << 20;
const RESERVE_BYTES: u64 = 64 << 20;
/// How soon a node must see that its disk is full, or has room again.
const NOTICE_MAX: Duration = Duration::from_secs(10);

/// A small file system in memory; unmounted on drop.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` when this process may not mount, which is said.
    fn mount(folder: PathBuf) -> Option<SmallDisk> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: mounting a small disk needs root (run the tests as root, or in .ci/run)");
            return None;
        }
        fs::create_dir_all(&folder).unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={DISK_BYTES}"), "conclave-test"]).arg(&folder).status();
        if !mounted.as_ref().is_ok_and(|status| status.success()) {
            eprintln!("SKIPPED: this machine does not let root mount a tmpfs (in a container: --cap-add SYS_ADMIN): {mounted:?}");
            return None;
        }
        Some(SmallDisk(folder))
    }

    /// Writes zeroes until there is room for nothing more.
    fn fill(&self) {
        let mut file = OpenOptions::new().create(true).append(true).open(self.ballast()).unwrap();
        for size in [1 << 20, 1 << 12, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }

    /// Writes zeroes until half of a node's reserve is left.
    fn fill_into_the_reserve(&self) {
        let mut file = OpenOptions::new().create(true).append(true).open(self.ballast()).unwrap();
        let free = || rustix::fs::statvfs(&self.0).map(|room| room.f_bavail * room.f_frsize).unwrap();
        while free() > RESERVE_BYTES / 2 {
            file.write_all(&vec![0; 1 << 20]).unwrap();
        }
    }

    fn free(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn full_disks_stop_writes_only_and_room_brings_them_back() {
    let mounts = tempfile::tempdir().unwrap();
    let disks: Option<Vec<SmallDisk>> = (0..3).map(|at| SmallDisk::mount(mounts.path().join(at.to_string()))).collect();
    let Some(disks) = disks else { return };
    let builder = (0..3).fold(Cluster::builder(), |builder, at| builder.data_dir(at, &mounts.path().join(at.to_string()).join("data")));
    let mut cluster = builder.open().await;
    let client = cluster.client();
    client.kv("secret").put("app", fields(json!({"x": "before"})), None).await.unwrap();

    // All of them.
    disks.iter().for_each(SmallDisk::fill_into_the_reserve);
    for at in 0..3 {
        let node = cluster.client_at(at);
        let full = eventually("a write is refused", NOTICE_MAX, async || {
            match node.kv("secret").put("full", fields(json!({"x": 1})), None).await {
                Err(error) if error.status() == Some(507) => Ok(error),
                Err(error) => Err(error.to_string()),
                Ok(_) => Err("it was written".to_owned()),
            }
        })
        .await;
        assert!(full.to_string().contains("the disk is almost full; nothing was written"), "{full}");
        let read = node.kv("secret").get("app").await.unwrap_or_else(|error| panic!("reads go on: {error}"));
        assert_eq!(read.data.unwrap().expose()["x"], json!("before"));
    }
    let versions = client.kv("secret").get("full").await.map(|secret| secret.version.number).unwrap_or(0);
    // That is what the reserve is for: an operator can still seal, and open.
    client.sys().seal().await.unwrap_or_else(|error| panic!("seal with full disks: {error}"));
    cluster.await_sealed(&[0, 1, 2], true, NOTICE_MAX).await;
    cluster.unseal_everywhere().await;
    cluster.assert_sound();

    // Now to the last byte: still nobody dies, and reads go on.
    disks.iter().for_each(SmallDisk::fill);
    for at in 0..3 {
        let node = cluster.client_at(at);
        let refused = node.kv("secret").put("full", fields(json!({"x": 1})), None).await.expect_err("there is no room");
        assert_eq!(refused.status(), Some(507), "{refused}");
        node.kv("secret").get("app").await.unwrap_or_else(|error| panic!("reads go on: {error}"));
    }
    cluster.assert_sound();

    disks.iter().for_each(SmallDisk::free);
    let freed = Instant::now();
    eventually("a write is taken", NOTICE_MAX, async || client.kv("secret").put("app", fields(json!({"x": "after"})), None).await).await;
    println!("writes went on {:?} after there was room", freed.elapsed());
    let now = client.kv("secret").get("full").await.map(|secret| secret.version.number).unwrap_or(0);
    assert_eq!(now, versions, "what was refused was not written later");

    // Only a follower: the others go on. Only the leader: its writes are refused, or another leads.
    let leader = cluster.leader().await;
    for (what, at) in [("a follower", (leader + 1) % 3), ("the leader", leader)] {
        disks[at].fill_into_the_reserve();
        let mut acknowledged = 0;
        let until = Instant::now() + Duration::from_secs(3);
        while Instant::now() < until {
            match client.kv("secret").put("partly", fields(json!({"x": acknowledged})), None).await {
                Ok(_) => acknowledged += 1,
                Err(error) => assert!(error.status() == Some(507) || matches!(error, Error::Indeterminate { .. }), "{what}: {error}"),
            }
        }
        println!("with the disk of {what} full, {acknowledged} writes were acknowledged in 3 s");
        assert!(acknowledged > 0 || what == "the leader", "{what} alone stops nothing");
        client.kv("secret").get("app").await.unwrap_or_else(|error| panic!("{what}: reads go on: {error}"));
        cluster.assert_sound();
        disks[at].free();
        let again = async || client.kv("secret").put("partly", fields(json!({"x": "again"})), None).await;
        eventually("a write is taken", NOTICE_MAX, again).await;
    }
    for at in 0..3 {
        cluster.await_caught_up(at, NOTICE_MAX).await;
        let read = cluster.client_at(at).kv("secret").get("app").await.unwrap();
        assert_eq!(read.data.unwrap().expose()["x"], json!("after"));
    }
    cluster.assert_sound();
    drop(cluster);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_audit_disk_stops_answers_until_there_is_room() {
    let mounts = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(mounts.path().join("audit")) else { return };
    let mut cluster = Cluster::builder().nodes(1).open().await;
    let client = cluster.client();
    let file: &Path = &disk.0.join("audit.log");
    client.sys().audit_enable("file", "file", &[("file_path", file.to_str().unwrap())]).await.unwrap();
    client.kv("secret").put("app", fields(json!({"x": "before"})), None).await.unwrap();
    disk.fill();
    // What is left of the file's last page may take a few more records.
    let answered = async || match client.kv("secret").get("app").await {
        Err(error) => Ok(error),
        Ok(_) => Err("a secret was told"),
    };
    eventually("there is no room for a record", NOTICE_MAX, answered).await;
    for _ in 0..3 {
        let read = client.kv("secret").get("app").await.err().expect("without a record there is no answer");
        assert_eq!(read.status(), Some(500), "{read}");
        let write = client.kv("secret").put("app", fields(json!({"x": "unrecorded"})), None).await;
        assert_eq!(write.expect_err("without a record nothing changes").status(), Some(500));
    }
    disk.free();
    let secret = eventually("requests are answered again", NOTICE_MAX, async || client.kv("secret").get("app").await).await;
    assert_eq!((secret.version.number, secret.data.unwrap().expose()["x"].clone()), (1, json!("before")));
    // Whatever the full disk has cut off, a record begins on a line of its own.
    let text = fs::read_to_string(file).unwrap();
    let last = text.lines().last().unwrap_or_default();
    assert!(serde_json::from_str::<serde_json::Value>(last).is_ok(), "the record after the gap cannot be read: {last}");
    cluster.assert_sound();
}
