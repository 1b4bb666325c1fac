//! The machine and the process, as Linux tells of them in `/proc`.
//!
//! Always: what the system does not tell, or tells in another form, is left out; nothing here fails, and no file is read
//! beyond [`FILE_BYTES_MAX`].

use std::fs::File;
use std::io::Read;

use rustix::param::{clock_ticks_per_second, page_size};
use serde_json::{Map, Value, json};

use super::metrics::Scrape;

/// The most that is read of one file.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Processors and file systems that are told of, at most.
const ITEMS_MAX: usize = 1024;

/// The text of a small file; empty when it cannot be read.
fn read(path: &str) -> String {
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes)) {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => String::new(),
    }
}

fn read_word(path: &str) -> String {
    read(path).trim().to_owned()
}

/// The machine's name.
pub(super) fn name() -> String {
    read_word("/proc/sys/kernel/hostname")
}

/// Everything, as `sys/host-info` shows it.
pub(super) fn info(now: &str) -> Value {
    json!({
        "timestamp": now,
        "host": host(),
        "cpu": processors(&read("/proc/cpuinfo")),
        "cpu_times": processor_times(&read("/proc/stat"), clock_ticks_per_second()),
        "memory": memory(&read("/proc/meminfo")),
        "disk": disks(&read("/proc/self/mounts")),
    })
}

fn host() -> Value {
    let release = read("/etc/os-release");
    let of_release = |key: &str| {
        let value = release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        value.unwrap_or_default().trim_matches('"').to_owned()
    };
    let uptime: f64 = read("/proc/uptime").split_whitespace().next().and_then(|seconds| seconds.parse().ok()).unwrap_or_default();
    let stat = read("/proc/stat");
    let boot_time: u64 = stat.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok()).unwrap_or_default();
    let processes = std::fs::read_dir("/proc").map_or(0, |entries| {
        let is_process = |name: &std::ffi::OsStr| name.to_str().is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
        entries.filter_map(Result::ok).filter(|entry| is_process(&entry.file_name())).count()
    });
    json!({
        "hostname": name(),
        "uptime": uptime as u64,
        "bootTime": boot_time,
        "procs": processes,
        "os": std::env::consts::OS,
        "platform": of_release("ID"),
        "platformFamily": of_release("ID_LIKE"),
        "platformVersion": of_release("VERSION_ID"),
        "kernelVersion": read_word("/proc/sys/kernel/osrelease"),
        "kernelArch": std::env::consts::ARCH,
    })
}

fn processors(cpuinfo: &str) -> Vec<Value> {
    let blocks = cpuinfo.split("\n\n").filter(|block| !block.trim().is_empty()).take(ITEMS_MAX);
    let fields = |block: &str| -> Map<String, Value> {
        let mut shown = Map::new();
        for (key, value) in block.lines().filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            let number = || value.split_whitespace().next().and_then(|word| word.parse::<f64>().ok());
            let (name, value) = match key.trim() {
                "processor" => ("cpu", number().map(|number| json!(number as u64))),
                "vendor_id" => ("vendorId", Some(json!(value))),
                "cpu family" => ("family", Some(json!(value))),
                "model" => ("model", Some(json!(value))),
                "model name" => ("modelName", Some(json!(value))),
                "stepping" => ("stepping", number().map(|number| json!(number as u64))),
                "cpu MHz" => ("mhz", number().map(|number| json!(number))),
                "cache size" => ("cacheSize", number().map(|number| json!(number as u64))),
                "physical id" => ("physicalId", Some(json!(value))),
                "core id" => ("coreId", Some(json!(value))),
                "microcode" => ("microcode", Some(json!(value))),
                "flags" => ("flags", Some(json!(value.split_whitespace().collect::<Vec<_>>()))),
                _ => continue,
            };
            if let Some(value) = value {
                shown.insert(name.to_owned(), value);
            }
        }
        shown
    };
    blocks.map(|block| Value::Object(fields(block))).collect()
}

/// Seconds that each processor has spent since the machine started, by what it did.
fn processor_times(stat: &str, ticks_per_second: u64) -> Vec<Value> {
    const KINDS: [&str; 10] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal", "guest", "guestNice"];
    let lines = stat.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu ")).take(ITEMS_MAX);
    let times = lines.filter_map(|line| {
        let mut words = line.split_whitespace();
        let mut shown = Map::new();
        shown.insert("cpu".to_owned(), json!(words.next()?));
        for (kind, ticks) in KINDS.into_iter().zip(words) {
            shown.insert(kind.to_owned(), json!(ticks.parse::<f64>().ok()? / ticks_per_second.max(1) as f64));
        }
        Some(Value::Object(shown))
    });
    times.collect()
}

/// Bytes.
fn memory(meminfo: &str) -> Value {
    let field = |name: &str| -> Option<u64> {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
    };
    let names = [
        ("total", "MemTotal"),
        ("available", "MemAvailable"),
        ("free", "MemFree"),
        ("active", "Active"),
        ("inactive", "Inactive"),
        ("buffers", "Buffers"),
        ("cached", "Cached"),
        ("shared", "Shmem"),
        ("slab", "Slab"),
        ("swapTotal", "SwapTotal"),
        ("swapFree", "SwapFree"),
        ("dirty", "Dirty"),
        ("mapped", "Mapped"),
    ];
    let mut shown: Map<String, Value> =
        names.into_iter().filter_map(|(shown, name)| Some((shown.to_owned(), json!(field(name)?)))).collect();
    if let (Some(total), Some(available)) = (field("MemTotal"), field("MemAvailable")) {
        let used = total.saturating_sub(available);
        shown.insert("used".to_owned(), json!(used));
        shown.insert("usedPercent".to_owned(), json!(used as f64 * 100.0 / total.max(1) as f64));
    }
    Value::Object(shown)
}

/// The file systems that lie on a device.
fn disks(mounts: &str) -> Vec<Value> {
    let devices = mounts.lines().filter(|line| line.starts_with('/')).take(ITEMS_MAX);
    let shown = devices.filter_map(|line| {
        let mut words = line.split_whitespace();
        let (device, path, kind) = (words.next()?, words.next()?, words.next()?);
        let path = path.replace("\\040", " ");
        let stat = rustix::fs::statvfs(path.as_str()).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        let used = stat.f_blocks.saturating_sub(stat.f_bfree);
        let percent = |part: u64, whole: u64| part as f64 * 100.0 / whole.max(1) as f64;
        Some(json!({
            "device": device,
            "path": path,
            "fstype": kind,
            "total": bytes(stat.f_blocks),
            "free": bytes(stat.f_bavail),
            "used": bytes(used),
            "usedPercent": percent(used, used + stat.f_bavail),
            "inodesTotal": stat.f_files,
            "inodesFree": stat.f_ffree,
            "inodesUsed": stat.f_files.saturating_sub(stat.f_ffree),
            "inodesUsedPercent": percent(stat.f_files.saturating_sub(stat.f_ffree), stat.f_files),
        }))
    });
    shown.collect()
}

/// Prometheus' standard metrics of a process.
pub(super) fn measure_process(scrape: &mut Scrape) {
    let stat = read("/proc/self/stat");
    // The name may hold spaces and brackets; what follows its last bracket does not.
    let fields: Vec<u64> = match stat.rsplit_once(')') {
        Some((_, rest)) => rest.split_whitespace().skip(1).map(|word| word.parse().unwrap_or_default()).collect(),
        None => return,
    };
    // proc_pid_stat(5): after the state, field 4 is the first; utime is 14, stime 15, threads 20, vsize 23, rss 24.
    let field = |number: usize| fields.get(number - 4).copied().unwrap_or_default();
    let seconds = (field(14) + field(15)) as f64 / clock_ticks_per_second().max(1) as f64;
    scrape.seconds("process_cpu_seconds_total", "Processor time that the process has used, in seconds.", seconds);
    scrape.gauge("process_threads", "Threads of the process.", &[], field(20) as f64);
    scrape.gauge("process_virtual_memory_bytes", "Address space of the process.", &[], field(23) as f64);
    let resident = field(24).saturating_mul(page_size() as u64);
    scrape.gauge("process_resident_memory_bytes", "Memory that the process holds.", &[], resident as f64);
    if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
        scrape.gauge("process_open_fds", "Open files of the process.", &[], entries.count() as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_told_of_as_vault_does() {
        let info = info("now");
        assert_eq!(info["timestamp"], "now");
        assert!(!info["host"]["hostname"].as_str().unwrap().is_empty());
        assert!(info["memory"]["total"].as_u64().unwrap() > 0);
        assert!(info["host"]["procs"].as_u64().unwrap() > 0);
        assert!(!info["cpu_times"].as_array().unwrap().is_empty());
    }

    #[test]
    fn what_proc_says_is_read() {
        let cpu = processors("processor\t: 3\nmodel name\t: X 9\ncpu MHz\t\t: 2000.5\nflags\t\t: a b\n\nprocessor\t: 4\n");
        assert_eq!(cpu, [json!({"cpu": 3, "modelName": "X 9", "mhz": 2000.5, "flags": ["a", "b"]}), json!({"cpu": 4})]);
        let times = processor_times("cpu  9 9\ncpu0 100 0 50\nintr 1\n", 100);
        assert_eq!(times, [json!({"cpu": "cpu0", "user": 1.0, "nice": 0.0, "system": 0.5})]);
        let memory = memory("MemTotal: 4 kB\nMemAvailable:  1 kB\n");
        assert_eq!(memory, json!({"total": 4096, "available": 1024, "used": 3072, "usedPercent": 75.0}));
        assert_eq!(disks("proc /proc proc rw 0 0\n/none /does/not/exist ext4 rw 0 0\n"), Vec::<Value>::new());
    }

    #[test]
    fn the_process_is_measured() {
        let mut scrape = Scrape::default();
        measure_process(&mut scrape);
        let text = scrape.to_prometheus();
        for name in ["process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds", "process_threads"] {
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
            assert!(value.is_some_and(|value| value >= 0.0), "{name}: {text}");
        }
    }
}
