//! Metrics: what is counted, and how it is told – as Prometheus' text (version 0.0.4) and as Vault's JSON.
//!
//! Always: a name has one kind and one help text; names and labels are fixed in the code or made of a small set, so that no
//! client can make the list grow. Vault's own metrics bear Vault's names, with `vault_`, and Vault's units; others begin with
//! `conclave_`, or are Prometheus' standard ones of a process.
//! Knows nothing of what it counts.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::StatusCode;
use serde_json::{Map, Value, json};

/// The quantiles that a summary tells.
const QUANTILES: [f64; 3] = [0.5, 0.9, 0.99];
/// A summary's quantiles are of the last one to two of these: ten minutes, as Vault's.
const WINDOW: Duration = Duration::from_secs(300);
/// Buckets for each doubling: a quantile is at most 1/16 too high.
const BUCKETS_PER_DOUBLING: usize = 16;
/// From 1 µs to 2³² µs, more than an hour.
const DOUBLINGS: usize = 32;
const BUCKETS: usize = DOUBLINGS * BUCKETS_PER_DOUBLING;

/// Measures when asked.
type Source = Arc<dyn Fn(&mut Scrape) + Send + Sync>;

/// Every metric of a node. Clones share them.
#[derive(Clone, Default)]
pub struct Metrics(Arc<Shared>);

#[derive(Default)]
struct Shared {
    counters: Mutex<Vec<(&'static str, &'static str, Counter)>>,
    summaries: Mutex<Vec<(&'static str, &'static str, Summary)>>,
    sources: Mutex<Vec<Source>>,
    /// By the first digit of the status; 0 for none of 1 to 5.
    answers: [AtomicU64; 6],
}

/// A number that only grows. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// What it counted.
    pub(super) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How long something takes. Clones share it.
#[derive(Clone)]
pub struct Summary(Arc<Mutex<Durations>>);

struct Durations {
    count: u64,
    /// Milliseconds, as Vault's.
    sum: f64,
    squares: f64,
    least: f64,
    most: f64,
    /// Of the window that runs, and of the one before it.
    windows: [Box<[u32; BUCKETS]>; 2],
    window_began: Instant,
}

impl Default for Summary {
    fn default() -> Summary {
        let empty = || Box::new([0; BUCKETS]);
        Summary(Arc::new(Mutex::new(Durations {
            count: 0,
            sum: 0.0,
            squares: 0.0,
            least: f64::INFINITY,
            most: 0.0,
            windows: [empty(), empty()],
            window_began: Instant::now(),
        })))
    }
}

impl Summary {
    /// Counts one that took `elapsed`.
    pub fn record(&self, elapsed: Duration) {
        let milliseconds = elapsed.as_secs_f64() * 1000.0;
        let mut durations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        durations.turn(Instant::now());
        durations.count += 1;
        durations.sum += milliseconds;
        durations.squares += milliseconds * milliseconds;
        durations.least = durations.least.min(milliseconds);
        durations.most = durations.most.max(milliseconds);
        let slot = &mut durations.windows[0][bucket(elapsed)];
        *slot = slot.saturating_add(1);
    }

    fn measured(&self) -> Measured {
        let mut durations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        durations.turn(Instant::now());
        let quantiles = QUANTILES.map(|quantile| durations.quantile(quantile));
        let Durations { count, sum, squares, least, most, .. } = *durations;
        Measured { count, sum, squares, least: if count == 0 { 0.0 } else { least }, most, quantiles }
    }
}

impl Durations {
    /// Begins a new window when the running one has ended.
    fn turn(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.window_began);
        if age < WINDOW {
            return;
        }
        self.windows.swap(0, 1);
        self.windows[0].fill(0);
        if age >= WINDOW * 2 {
            self.windows[1].fill(0);
        }
        self.window_began = now;
    }

    /// In milliseconds; not a number where nothing was recorded lately, as Prometheus has it.
    fn quantile(&self, quantile: f64) -> f64 {
        let counts = || (0..BUCKETS).map(|at| u64::from(self.windows[0][at]) + u64::from(self.windows[1][at]));
        let total: u64 = counts().sum();
        if total == 0 {
            return f64::NAN;
        }
        let rank = ((total as f64 * quantile).ceil() as u64).max(1);
        let mut seen = 0;
        for (at, count) in counts().enumerate() {
            seen += count;
            if seen >= rank {
                return upper_bound_microseconds(at) / 1000.0;
            }
        }
        f64::NAN
    }
}

/// The bucket of a duration: its doubling, then a sixteenth of that.
fn bucket(elapsed: Duration) -> usize {
    let microseconds = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX).clamp(1, (1 << DOUBLINGS) - 1);
    let doubling = microseconds.ilog2() as usize;
    let within = ((microseconds as u128 * BUCKETS_PER_DOUBLING as u128) >> doubling) as usize - BUCKETS_PER_DOUBLING;
    doubling * BUCKETS_PER_DOUBLING + within
}

fn upper_bound_microseconds(bucket: usize) -> f64 {
    let (doubling, within) = (bucket / BUCKETS_PER_DOUBLING, bucket % BUCKETS_PER_DOUBLING);
    2f64.powi(doubling as i32) * (1.0 + (within + 1) as f64 / BUCKETS_PER_DOUBLING as f64)
}

/// What a summary tells.
#[derive(Debug, Clone, Copy)]
struct Measured {
    count: u64,
    sum: f64,
    squares: f64,
    least: f64,
    most: f64,
    quantiles: [f64; 3],
}

impl Metrics {
    /// A counter of that name from now on; the one that has it already, if any. `help`: a sentence.
    pub fn counter(&self, name: &'static str, help: &'static str) -> Counter {
        let mut counters = self.0.counters.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, _, counter)) = counters.iter().find(|(known, _, _)| *known == name) {
            return counter.clone();
        }
        let counter = Counter::default();
        counters.push((name, help, counter.clone()));
        counter
    }

    /// A summary of that name from now on, in milliseconds as Vault's; the one that has it already, if any.
    pub fn summary(&self, name: &'static str, help: &'static str) -> Summary {
        let mut summaries = self.0.summaries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, _, summary)) = summaries.iter().find(|(known, _, _)| *known == name) {
            return summary.clone();
        }
        let summary = Summary::default();
        summaries.push((name, help, summary.clone()));
        summary
    }

    /// Has `source` measure at each scrape. It must not block.
    pub fn add_source(&self, source: impl Fn(&mut Scrape) + Send + Sync + 'static) {
        self.0.sources.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::new(source));
    }

    /// Counts an answer by its status.
    pub(crate) fn answered(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100);
        self.0.answers[if class <= 5 { class } else { 0 }].fetch_add(1, Ordering::Relaxed);
    }

    /// Everything as it is now.
    pub fn scrape(&self) -> Scrape {
        let mut scrape = Scrape::default();
        for (name, help, counter) in self.0.counters.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            scrape.counter(name, help, &[], counter.0.load(Ordering::Relaxed));
        }
        for (name, help, summary) in self.0.summaries.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            scrape.add(name, help, Kind::Summary, &[], Reading::Summary(summary.measured()));
        }
        for (class, label) in ["other", "1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().enumerate() {
            let count = self.0.answers[class].load(Ordering::Relaxed);
            scrape.counter("conclave_http_responses_total", "Answers by the class of their status.", &[("class", label)], count);
        }
        let sources: Vec<Source> = self.0.sources.lock().unwrap_or_else(PoisonError::into_inner).clone();
        sources.iter().for_each(|source| source(&mut scrape));
        scrape
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Summary,
}

enum Reading {
    Number(f64),
    Summary(Measured),
}

struct Family {
    help: &'static str,
    kind: Kind,
    /// By their labels as Prometheus writes them.
    readings: BTreeMap<String, Labelled>,
}

struct Labelled {
    labels: Vec<(&'static str, String)>,
    reading: Reading,
}

/// Everything at one moment.
#[derive(Default)]
pub struct Scrape(BTreeMap<&'static str, Family>);

impl Scrape {
    /// A number that goes up and down.
    pub fn gauge(&mut self, name: &'static str, help: &'static str, labels: &[(&'static str, &str)], value: f64) {
        self.add(name, help, Kind::Gauge, labels, Reading::Number(value));
    }

    /// A number that only grows while the process runs.
    pub fn counter(&mut self, name: &'static str, help: &'static str, labels: &[(&'static str, &str)], value: u64) {
        self.add(name, help, Kind::Counter, labels, Reading::Number(value as f64));
    }

    /// A counter of seconds.
    pub(super) fn seconds(&mut self, name: &'static str, help: &'static str, value: f64) {
        self.add(name, help, Kind::Counter, &[], Reading::Number(value));
    }

    fn add(&mut self, name: &'static str, help: &'static str, kind: Kind, labels: &[(&'static str, &str)], reading: Reading) {
        debug_assert!(is_name(name) && labels.iter().all(|(label, _)| is_name(label)), "{name}");
        let family = self.0.entry(name).or_insert_with(|| Family { help, kind, readings: BTreeMap::new() });
        debug_assert_eq!(family.kind, kind, "{name} has one kind");
        let written = labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escape(value))).collect::<Vec<_>>().join(",");
        let labels = labels.iter().map(|(label, value)| (*label, (*value).to_owned())).collect();
        family.readings.insert(written, Labelled { labels, reading });
    }

    /// The text format of Prometheus, version 0.0.4.
    pub fn to_prometheus(&self) -> String {
        let mut text = String::new();
        for (name, family) in &self.0 {
            let kind = match family.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Summary => "summary",
            };
            let mut line = |line: std::fmt::Arguments<'_>| writeln!(text, "{line}").expect("writing to a String cannot fail");
            line(format_args!("# HELP {name} {}", family.help));
            line(format_args!("# TYPE {name} {kind}"));
            for (labels, Labelled { reading, .. }) in &family.readings {
                let braces = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
                match reading {
                    Reading::Number(value) => line(format_args!("{name}{braces} {}", number(*value))),
                    Reading::Summary(measured) => {
                        let comma = if labels.is_empty() { "" } else { "," };
                        for (quantile, value) in QUANTILES.iter().zip(measured.quantiles) {
                            line(format_args!("{name}{{{labels}{comma}quantile=\"{quantile}\"}} {}", number(value)));
                        }
                        line(format_args!("{name}_sum{braces} {}", number(measured.sum)));
                        line(format_args!("{name}_count{braces} {}", measured.count));
                    }
                }
            }
        }
        text
    }

    /// Vault's own form. `Count`, `Sum` and the like are since the process started, `uptime` ago, and `Rate` is by second since then.
    pub fn to_json(&self, now: &str, uptime: Duration) -> Value {
        let (mut counters, mut gauges, mut samples) = (Vec::new(), Vec::new(), Vec::new());
        let seconds = uptime.as_secs_f64().max(1.0);
        for (name, family) in &self.0 {
            for Labelled { labels, reading } in family.readings.values() {
                let labels: Map<String, Value> = labels.iter().map(|(label, value)| ((*label).to_owned(), json!(value))).collect();
                match (family.kind, reading) {
                    (Kind::Gauge, Reading::Number(value)) => gauges.push(json!({ "Name": name, "Value": value, "Labels": labels })),
                    (_, Reading::Number(value)) => counters.push(sample(name, labels, *value, *value, seconds, None)),
                    (_, Reading::Summary(measured)) => {
                        samples.push(sample(name, labels, measured.count as f64, measured.sum, seconds, Some(measured)));
                    }
                }
            }
        }
        json!({ "Timestamp": now, "Gauges": gauges, "Points": [], "Counters": counters, "Samples": samples })
    }
}

fn sample(name: &str, labels: Map<String, Value>, count: f64, sum: f64, seconds: f64, measured: Option<&Measured>) -> Value {
    let mean = if count > 0.0 { sum / count } else { 0.0 };
    let deviation = measured.map_or(0.0, |measured| {
        // Of the whole, not of a sample of it; rounding must not make the variance negative.
        let variance = if count > 0.0 { measured.squares / count - mean * mean } else { 0.0 };
        variance.max(0.0).sqrt()
    });
    json!({
        "Name": name,
        "Count": count as u64,
        "Rate": sum / seconds,
        "Sum": sum,
        "Min": measured.map_or(0.0, |measured| measured.least),
        "Max": measured.map_or(0.0, |measured| measured.most),
        "Mean": mean,
        "Stddev": deviation,
        "Labels": labels,
    })
}

fn is_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// A label's value as Prometheus writes it.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn number(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() }
    } else {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prometheus_reads_what_is_told() {
        let metrics = Metrics::default();
        metrics.counter("conclave_b_total", "Counts.").add(2);
        metrics.counter("conclave_b_total", "Counts.").add(1);
        metrics.add_source(|scrape| {
            scrape.gauge("conclave_a", "Is.", &[("k", "a\"\\\nb")], 0.5);
            scrape.gauge("conclave_a", "Is.", &[("k", "c")], f64::NAN);
        });
        metrics.answered(StatusCode::NOT_FOUND);
        let text = metrics.scrape().to_prometheus();
        for line in [
            "# HELP conclave_a Is.",
            "# TYPE conclave_a gauge",
            "conclave_a{k=\"a\\\"\\\\\\nb\"} 0.5",
            "conclave_a{k=\"c\"} NaN",
            "# TYPE conclave_b_total counter",
            "conclave_b_total 3",
            "conclave_http_responses_total{class=\"4xx\"} 1",
        ] {
            assert_eq!(text.lines().filter(|found| *found == line).count(), 1, "{line} in {text}");
        }
        assert!(text.ends_with('\n'));
    }

    #[test]
    fn a_summary_tells_what_was_recorded() {
        let metrics = Metrics::default();
        let summary = metrics.summary("vault_x", "Takes.");
        assert!(metrics.scrape().to_prometheus().contains("vault_x{quantile=\"0.5\"} NaN\n"));
        for milliseconds in 1..=100 {
            summary.record(Duration::from_millis(milliseconds));
        }
        let measured = summary.measured();
        for (value, want) in measured.quantiles.into_iter().zip([50.0, 90.0, 99.0]) {
            assert!((want..=want * (1.0 + 1.0 / 15.0)).contains(&value), "{value} for {want}");
        }
        let text = metrics.scrape().to_prometheus();
        assert!(text.contains("vault_x_count 100\n") && text.contains("vault_x_sum 5050\n"), "{text}");
        let json = metrics.scrape().to_json("now", Duration::from_secs(10));
        let sample = &json["Samples"][0];
        assert_eq!((sample["Count"].as_u64(), sample["Min"].as_f64(), sample["Max"].as_f64()), (Some(100), Some(1.0), Some(100.0)));
        assert_eq!(sample["Mean"], 50.5);
        assert!((sample["Stddev"].as_f64().unwrap() - 28.866).abs() < 0.01);
        assert_eq!(sample["Rate"], 505.0);
    }

    #[test]
    fn quantiles_forget_what_is_long_past() {
        let summary = Summary::default();
        summary.record(Duration::from_secs(9));
        let mut durations = summary.0.lock().unwrap();
        let began = durations.window_began;
        durations.turn(began + WINDOW);
        assert!(durations.quantile(0.5) > 8000.0, "the window before counts");
        durations.turn(began + WINDOW * 2);
        assert!(durations.quantile(0.5).is_nan());
    }

    #[test]
    fn every_duration_has_its_bucket() {
        for microseconds in [0, 1, 2, 3, 15, 16, 17, 1000, 4_294_967_295, 4_294_967_296, u64::MAX] {
            let at = bucket(Duration::from_micros(microseconds));
            assert!(at < BUCKETS, "{microseconds}");
            let clamped = microseconds.clamp(1, (1 << DOUBLINGS) - 1) as f64;
            assert!(upper_bound_microseconds(at) > clamped, "{microseconds}");
            assert!(at == 0 || upper_bound_microseconds(at - 1) <= clamped + 1.0, "{microseconds}");
        }
    }
}
