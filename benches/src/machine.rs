//! What the machine itself can do, and what processes cost: the limits beside which the figures are to be read.
//!
//! Always: reads `/proc`; where there is none, a cost is zero and shown as unknown.

use std::fs::OpenOptions;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::ceiling;

const WRITE_BYTES: usize = 4096;
const MESSAGE_BYTES: usize = 256;

/// The machine's limits.
#[derive(Serialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) processors: usize,
    /// How many processes wanted to run in the last minute, on average, before we began.
    pub(crate) load_before: Option<f64>,
    pub(crate) kernel: String,
    pub(crate) filesystem: Option<String>,
    /// Append 4 KiB, then fdatasync.
    pub(crate) append_sync_seconds: Percentiles,
    /// 256 bytes there and back over loopback TCP, between two threads that block.
    pub(crate) loopback_seconds: Percentiles,
    /// What the load generator reaches against a server that does nothing.
    pub(crate) ceilings: Vec<ceiling::Ceiling>,
}

/// Of a latency, in seconds.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct Percentiles {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Percentiles {
    pub(crate) fn of(nanoseconds: &Histogram<u64>) -> Percentiles {
        let at = |quantile| nanoseconds.value_at_quantile(quantile) as f64 / 1e9;
        Percentiles { p50: at(0.50), p90: at(0.90), p99: at(0.99), max: at(1.0) }
    }
}

/// Measures all but the load generator's ceiling, each limit for as long as `probe`; `folder` is on the disk that matters.
pub(crate) fn measure(folder: &Path, probe: Duration) -> Result<Machine> {
    Ok(Machine {
        processor: processor(),
        processors: std::thread::available_parallelism().map_or(0, usize::from),
        load_before: proc_text("/proc/loadavg").and_then(|text| text.split(' ').next()?.parse().ok()),
        kernel: proc_text("/proc/sys/kernel/osrelease").map_or("-".to_owned(), |text| text.trim().to_owned()),
        filesystem: filesystem(folder),
        append_sync_seconds: append_sync(folder, probe)?,
        loopback_seconds: loopback(probe)?,
        ceilings: Vec::new(),
    })
}

fn append_sync(folder: &Path, probe: Duration) -> Result<Percentiles> {
    let path = folder.join("probe");
    let mut file = OpenOptions::new().create_new(true).append(true).open(&path).with_context(|| format!("create {}", path.display()))?;
    let block = [0xA5_u8; WRITE_BYTES];
    let percentiles = repeat(probe, || {
        file.write_all(&block).context("append to the probe")?;
        file.sync_data().context("sync the probe")
    })?;
    std::fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
    Ok(percentiles)
}

fn loopback(probe: Duration) -> Result<Percentiles> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen on loopback")?;
    let mut near = TcpStream::connect(listener.local_addr().context("a listener has an address")?).context("connect over loopback")?;
    let (mut far, _) = listener.accept().context("accept over loopback")?;
    near.set_nodelay(true).and(far.set_nodelay(true)).context("set TCP_NODELAY")?;
    let echo = move || {
        let mut message = [0; MESSAGE_BYTES];
        while far.read_exact(&mut message).is_ok() && far.write_all(&message).is_ok() {}
    };
    let echo = std::thread::Builder::new().name("echo".to_owned()).spawn(echo).context("start a thread")?;
    let mut message = [0; MESSAGE_BYTES];
    let percentiles = repeat(probe, || {
        near.write_all(&message).context("send over loopback")?;
        near.read_exact(&mut message).context("receive over loopback")
    })?;
    drop(near);
    drop(echo.join());
    Ok(percentiles)
}

fn repeat(probe: Duration, mut act: impl FnMut() -> Result<()>) -> Result<Percentiles> {
    let mut latencies = Histogram::new(3).context("make a histogram")?;
    let begin = Instant::now();
    while begin.elapsed() < probe {
        let start = Instant::now();
        act()?;
        latencies.record(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)).context("record a latency")?;
    }
    Ok(Percentiles::of(&latencies))
}

fn processor() -> String {
    let model = proc_text("/proc/cpuinfo").and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(": ")?.1.to_owned())
    });
    model.unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

/// The type of the file system with the longest mount point above `folder`.
fn filesystem(folder: &Path) -> Option<String> {
    let folder = folder.canonicalize().ok()?;
    let mounts = proc_text("/proc/self/mounts")?;
    let mounts = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        Some((words.next()?, words.next()?))
    });
    mounts.filter(|(point, _)| folder.starts_with(point)).max_by_key(|(point, _)| point.len()).map(|(_, kind)| kind.to_owned())
}

/// Processor time that processes have used.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ProcessorTime(Duration);

impl ProcessorTime {
    pub(crate) fn since(self, earlier: ProcessorTime) -> ProcessorTime {
        ProcessorTime(self.0.saturating_sub(earlier.0))
    }

    /// Scaled from the time that really passed to the window that was meant.
    pub(crate) fn over(self, window: Duration, really: Duration) -> ProcessorTime {
        ProcessorTime(self.0.mul_f64(window.as_secs_f64() / really.as_secs_f64().max(f64::EPSILON)))
    }

    pub(crate) fn seconds(self) -> f64 {
        self.0.as_secs_f64()
    }
}

/// What `processes` have used so far, in user and kernel mode.
pub(crate) fn processor_time(processes: &[u32]) -> ProcessorTime {
    let ticks: u64 = processes.iter().filter_map(|id| ticks(&proc_text(&format!("/proc/{id}/stat"))?)).sum();
    ProcessorTime(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// utime + stime of proc(5)'s stat, the 14th and 15th fields; the second one, a name, may hold spaces and brackets.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

/// Resident memory of `processes`, in bytes.
pub(crate) fn resident_bytes(processes: &[u32]) -> u64 {
    let kilobytes = |id: &u32| {
        let status = proc_text(&format!("/proc/{id}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    };
    processes.iter().filter_map(kilobytes).sum::<u64>() * 1024
}

/// Processor time that this thread has used so far.
pub(crate) fn own_thread_time() -> Duration {
    let nanoseconds = proc_text("/proc/thread-self/schedstat").and_then(|text| text.split(' ').next()?.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or(0))
}

fn proc_text(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_found_behind_strange_names() {
        let stat = "7 (a) R (b) S 1 2 3 4 5 6 7 8 9 10 30 12 0 0 20 0";
        assert_eq!(ticks(stat), Some(42));
        assert_eq!(ticks("7 (a) S 1 2"), None);
    }

    #[test]
    fn this_process_costs_something() {
        let begin = Instant::now();
        let before = own_thread_time();
        while begin.elapsed() < Duration::from_millis(50) {
            std::hint::spin_loop();
        }
        assert!(own_thread_time() > before);
        assert!(processor_time(&[std::process::id()]).seconds() > 0.0);
        assert!(resident_bytes(&[std::process::id()]) > 100_000);
    }

    #[test]
    fn limits_are_measured() {
        let folder = tempfile::tempdir().unwrap();
        let machine = measure(folder.path(), Duration::from_millis(50)).unwrap();
        for percentiles in [machine.append_sync_seconds, machine.loopback_seconds] {
            assert!(percentiles.p50 > 0.0 && percentiles.p50 <= percentiles.p99);
        }
        assert!(machine.filesystem.is_some());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the probe is removed");
    }
}
