//! The processes that were started.
//!
//! Always: each is ended by its own id, asked first and killed after a deadline, and with this program at the latest.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// How long all of them may take to stop before they are killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);
/// How much of a trace is shown when something went wrong.
const TAIL_BYTES: u64 = 2048;

/// All that were started, in order.
#[derive(Default)]
pub(crate) struct Processes(Vec<Process>);

struct Process {
    name: String,
    child: Child,
    trace: PathBuf,
}

impl Processes {
    /// Starts `command`; what it traces on stderr goes to `trace`, and its stdout too when `stdout` is set (else nowhere:
    /// it may show a token). Returns its id.
    pub(crate) fn start(&mut self, name: &str, command: &mut Command, trace: &Path, stdout: bool) -> Result<u32> {
        let file =
            OpenOptions::new().create(true).append(true).mode(0o600).open(trace).with_context(|| format!("open {}", trace.display()))?;
        let out = if stdout { Stdio::from(file.try_clone().context("share the trace's file")?) } else { Stdio::null() };
        // The terminal's Ctrl-C is for us, who stop them in order.
        command.process_group(0).kill_on_drop(true).stdin(Stdio::null()).stdout(out).stderr(file);
        let child = command.spawn().with_context(|| format!("start {name}"))?;
        let id = child.id().expect("a child that was not waited for has an id");
        self.0.push(Process { name: name.to_owned(), child, trace: trace.to_owned() });
        Ok(id)
    }

    /// An error that shows the last words of the first process that has ended by itself.
    pub(crate) fn all_run(&mut self) -> Result<()> {
        for process in &mut self.0 {
            if let Some(status) = process.child.try_wait().with_context(|| format!("look at {}", process.name))? {
                anyhow::bail!("{} has ended: {status}; its last words:\n{}", process.name, tail(&process.trace));
            }
        }
        Ok(())
    }

    /// Sends `signal` to the process of this id and waits until it has ended. From then on it is none of ours.
    pub(crate) async fn end(&mut self, id: u32, signal: Signal) -> Result<()> {
        let at = self.0.iter().position(|process| process.child.id() == Some(id)).context("the process was started here")?;
        let mut process = self.0.remove(at);
        let pid = i32::try_from(id).ok().and_then(Pid::from_raw).context("a process id is above 0")?;
        kill_process(pid, signal).with_context(|| format!("signal {}", process.name))?;
        timeout(STOP_TIMEOUT, process.child.wait()).await.with_context(|| format!("{} does not end", process.name))??;
        Ok(())
    }

    /// Asks all to stop, waits for all within one deadline, and kills the rest.
    pub(crate) async fn stop(&mut self) {
        for process in &mut self.0 {
            // Our child, and not waited for as long as it has an id, so the id is still its own.
            if let Some(id) = process.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)) {
                let _ = kill_process(id, Signal::TERM);
            }
        }
        let all = async {
            for process in &mut self.0 {
                let _ = process.child.wait().await;
            }
        };
        if timeout(STOP_TIMEOUT, all).await.is_err() {
            for process in &mut self.0 {
                if matches!(process.child.try_wait(), Ok(None)) {
                    eprintln!("{} does not stop and is killed", process.name);
                    let _ = process.child.kill().await;
                }
            }
        }
        self.0.clear();
    }
}

/// The end of a trace; a note when it cannot be read.
fn tail(trace: &Path) -> String {
    let read = || {
        let mut file = File::open(trace)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        std::io::Result::Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_else(|error| format!("({}: {error})", trace.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alive(id: u32) -> bool {
        Path::new(&format!("/proc/{id}")).exists()
    }

    #[tokio::test]
    async fn what_was_started_is_ended_and_an_early_end_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let mut processes = Processes::default();
        let trace = folder.path().join("trace");
        let id = processes.start("sleeper", Command::new("sleep").arg("600"), &trace, true).unwrap();
        assert!(alive(id));
        processes.all_run().unwrap();
        processes.stop().await;
        assert!(!alive(id));

        let id = processes.start("talker", Command::new("sh").args(["-c", "echo no disk >&2; exit 3"]), &trace, true).unwrap();
        while processes.all_run().is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let told = processes.all_run().unwrap_err().to_string();
        assert!(told.contains("talker") && told.contains("no disk") && !alive(id), "{told}");
    }
}
