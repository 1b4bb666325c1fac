//! The picture: for each trial answers per second over time, writes and reads, and the longest answer of each moment; what was done as lines.

use std::fmt::Write as _;
use std::time::Duration;

use super::Trial;

const WIDTH: f64 = 860.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 20.0;
/// Of one trial: title, rates, latencies, and room between.
const TRIAL_HEIGHT: f64 = 330.0;
const RATES: (f64, f64) = (56.0, 130.0);
const LATENCIES: (f64, f64) = (206.0, 84.0);
/// One moment.
const BUCKET: Duration = Duration::from_millis(50);
/// The latency axis is logarithmic, between these.
const LATENCY_MS: (f64, f64) = (0.3, 3000.0);

struct Moment {
    writes: u32,
    reads: u32,
    failed: u32,
    longest: [Option<Duration>; 2],
}

/// An SVG that needs nothing else.
pub(super) fn draw(trials: &[Trial]) -> String {
    let height = TRIAL_HEIGHT * trials.len() as f64 + 30.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"system-ui, sans-serif\" font-size=\"12\" \
         role=\"img\" aria-label=\"Answers per second and the longest answer of each moment while a cluster is restarted node by node, and \
         when its leader is killed.\">\n<rect width=\"{WIDTH}\" height=\"{height}\" rx=\"10\" fill=\"#ffffff\"/>\n"
    );
    for (number, trial) in trials.iter().enumerate() {
        draw_trial(&mut svg, trial, TRIAL_HEIGHT * number as f64);
    }
    let y = height - 12.0;
    say(
        &mut svg,
        LEFT,
        y,
        "start",
        "#334155",
        11,
        &format!(
            "by `cargo run --release -p benches -- availability`; each moment is {} ms; a request counts with its retries",
            BUCKET.as_millis()
        ),
    );
    svg.push_str("</svg>\n");
    svg
}

fn draw_trial(svg: &mut String, trial: &Trial, top: f64) {
    let length = (trial.ended - trial.began).as_secs_f64();
    let x = |seconds: f64| LEFT + seconds / length * (WIDTH - LEFT - RIGHT);
    let moments = moments(trial);
    let rate = |count: u32| f64::from(count) / BUCKET.as_secs_f64();
    let most = moments.iter().map(|moment| rate(moment.writes.max(moment.reads))).fold(1.0, f64::max);
    let (rates_top, rates_height) = (top + RATES.0, RATES.1);
    let y = |value: f64| rates_top + rates_height - value / most * rates_height;
    say(svg, LEFT, top + 28.0, "start", "#0f172a", 15, trial.title);
    say(svg, WIDTH - RIGHT, top + 28.0, "end", "#334155", 11, &summary(trial));
    for (value, name) in [(0.0, "0".to_owned()), (most, format!("{most:.0}/s"))] {
        rule(svg, LEFT, y(value), WIDTH - RIGHT, y(value), "#e2e8f0");
        say(svg, LEFT - 6.0, y(value) + 4.0, "end", "#334155", 11, &name);
    }
    for (color, count) in [("#1d4ed8", (|moment: &Moment| moment.reads) as fn(&Moment) -> u32), ("#b45309", |moment| moment.writes)] {
        let points = moments.iter().enumerate().map(|(at, moment)| (x((at as f64 + 0.5) * BUCKET.as_secs_f64()), y(rate(count(moment)))));
        line(svg, points, color);
    }
    for (at, _) in moments.iter().enumerate().filter(|(_, moment)| moment.failed > 0) {
        let (x, y) = (x((at as f64 + 0.5) * BUCKET.as_secs_f64()), rates_top + 6.0);
        writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"#dc2626\"/>").expect(WRITES);
    }

    let (latency_top, latency_height) = (top + LATENCIES.0, LATENCIES.1);
    let log = |ms: f64| (ms.clamp(LATENCY_MS.0, LATENCY_MS.1) / LATENCY_MS.0).ln() / (LATENCY_MS.1 / LATENCY_MS.0).ln();
    let y = |ms: f64| latency_top + latency_height * (1.0 - log(ms));
    for (ms, name) in [(1.0, "1 ms"), (10.0, "10 ms"), (100.0, "100 ms"), (1000.0, "1 s")] {
        rule(svg, LEFT, y(ms), WIDTH - RIGHT, y(ms), "#e2e8f0");
        say(svg, LEFT - 6.0, y(ms) + 4.0, "end", "#334155", 11, name);
    }
    for (at, moment) in moments.iter().enumerate() {
        let x = x((at as f64 + 0.5) * BUCKET.as_secs_f64());
        for (longest, color) in moment.longest.iter().zip(["#b45309", "#1d4ed8"]) {
            if let Some(longest) = longest {
                let y = y(longest.as_secs_f64() * 1e3);
                writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"1.6\" fill=\"{color}\"/>").expect(WRITES);
            }
        }
    }
    for event in &trial.events {
        let x = x((event.at - trial.began).as_secs_f64());
        let is_end = !event.what.contains("serves");
        let color = if is_end { "#dc2626" } else { "#15803d" };
        rule(svg, x, rates_top - 8.0, x, latency_top + latency_height, color);
        say(svg, x + 3.0, if is_end { rates_top - 1.0 } else { rates_top + 11.0 }, "start", color, 10, &event.what);
    }
    let seconds = length as u64;
    for second in (0..=seconds).step_by(if seconds > 12 { 2 } else { 1 }) {
        say(svg, x(second as f64), latency_top + latency_height + 16.0, "middle", "#334155", 11, &format!("{second} s"));
    }
    say(svg, LEFT + 6.0, rates_top + rates_height + 14.0, "start", "#b45309", 11, "writes answered per second");
    say(svg, LEFT + 180.0, rates_top + rates_height + 14.0, "start", "#1d4ed8", 11, "reads answered per second");
    say(svg, WIDTH - RIGHT, latency_top - 4.0, "end", "#334155", 11, "the longest answer of each moment");
}

fn summary(trial: &Trial) -> String {
    let gap = |writes| trial.samples.longest_gap(writes, trial.disturbed).as_secs_f64() * 1e3;
    let (writes, reads) = (trial.samples.of(true), trial.samples.of(false));
    format!(
        "{} requests, {} failed; longest without a write {:.0} ms, without a read {:.0} ms",
        writes.asked + reads.asked,
        writes.failed + reads.failed,
        gap(true),
        gap(false)
    )
}

/// Answers by the moment at which they came.
fn moments(trial: &Trial) -> Vec<Moment> {
    let count = ((trial.ended - trial.began).as_secs_f64() / BUCKET.as_secs_f64()).ceil() as usize;
    let mut moments: Vec<Moment> = (0..count.max(1)).map(|_| Moment { writes: 0, reads: 0, failed: 0, longest: [None; 2] }).collect();
    for sample in &trial.samples.0 {
        let came = (sample.began + sample.took).saturating_duration_since(trial.began);
        let Some(moment) = moments.get_mut((came.as_secs_f64() / BUCKET.as_secs_f64()) as usize) else { continue };
        match (&sample.failure, sample.is_write) {
            (Some(_), _) => moment.failed += 1,
            (None, true) => moment.writes += 1,
            (None, false) => moment.reads += 1,
        }
        let longest = &mut moment.longest[usize::from(!sample.is_write)];
        *longest = (*longest).max(Some(sample.took));
    }
    moments
}

const WRITES: &str = "writing to a String cannot fail";

fn line(svg: &mut String, points: impl Iterator<Item = (f64, f64)>, color: &str) {
    let points: Vec<String> = points.map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    writeln!(svg, "<polyline points=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"1.3\"/>", points.join(" ")).expect(WRITES);
}

fn rule(svg: &mut String, x1: f64, y1: f64, x2: f64, y2: f64, color: &str) {
    writeln!(svg, "<path d=\"M{x1:.1} {y1:.1} L{x2:.1} {y2:.1}\" stroke=\"{color}\" stroke-width=\"1\"/>").expect(WRITES);
}

fn say(svg: &mut String, x: f64, y: f64, anchor: &str, color: &str, size: u32, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" fill=\"{color}\" font-size=\"{size}\">{text}</text>")
        .expect(WRITES);
}
