//! `benches timing`: whether time tells a secret. Two classes of inputs, measured in random order; can the times tell the classes apart?
//!
//! Always: each check stands beside a control that must be told apart, so that a figure of nothing means something; nothing is asserted,
//! since a machine with other work to do tells classes apart that are alike: figures are for people (docs/testing.md).
//! Method: Reparaz, Balasch, Verbauwhede, "Dude, is my code constant time?" (DATE 2017); for logins, Kolmogorov and Smirnov's test.

mod checks;
mod login;
mod statistics;

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use crypto::{OsRng, Rng as _};

use crate::args::Timing;
use crate::process::Processes;
use statistics::Cropped;

/// Above this, the times of two classes of one million inputs are told apart beyond doubt; from half of it on, look closer.
const T_CERTAIN: f64 = 10.0;
const T_SUSPECT: f64 = 4.5;
/// Measurements that decide where times are cropped, before any counts.
const CALIBRATION: usize = 2_000;

/// One question: two classes of inputs for one operation.
struct Check {
    name: &'static str,
    classes: [&'static str; 2],
    /// Whether the classes must be told apart.
    is_control: bool,
    /// How often the operation runs in one measurement: more than the clock's own steps.
    repetitions: u32,
    subject: Box<dyn Subject>,
}

/// An operation and its inputs.
trait Subject {
    /// Puts an input of this class and number where the operation finds it.
    fn prepare(&mut self, class: usize, input: usize);
    /// Does it once.
    fn run(&self);
}

/// Runs every check, prints a line for each.
pub(crate) async fn run(args: &Timing, folder: &Path, processes: &mut Processes) -> Result<()> {
    crate::print(&format!(
        "|t| over {} measurements, the largest of {} croppings; from {T_SUSPECT} on look closer, from {T_CERTAIN} on the classes are told apart\n\n\
         {:<34} {:<46} {:>9} {:>8}\n",
        args.measurements,
        statistics::CROPPINGS,
        "operation",
        "classes",
        "ns",
        "|t|",
    ))?;
    for mut check in checks::all() {
        let (nanoseconds, t) = measure(&mut check, args.measurements as usize);
        let said = match (check.is_control, t) {
            (true, t) if t >= T_CERTAIN => "told apart, as it must be",
            (true, _) => "NOT told apart: this machine or this run is too noisy to say anything",
            (false, t) if t >= T_CERTAIN => "TOLD APART",
            (false, t) if t >= T_SUSPECT => "suspicious: measure again, and longer",
            (false, _) => "not told apart",
        };
        let classes = check.classes.join(" / ");
        crate::print(&format!("{:<34} {classes:<46} {nanoseconds:>9.0} {t:>8.1}  {said}\n", check.name))?;
    }
    if args.logins > 0 {
        login::run(args, folder, processes).await?;
    }
    Ok(())
}

/// The mean time of one operation, and how well the classes are told apart.
fn measure(check: &mut Check, measurements: usize) -> (f64, f64) {
    let mut order = Order::new();
    let mut once = |order: &mut Order| {
        let (class, input) = (order.class(), order.input());
        check.subject.prepare(class, input);
        let begin = Instant::now();
        for _ in 0..check.repetitions {
            check.subject.run();
        }
        (class, begin.elapsed().as_nanos() as f64 / f64::from(check.repetitions))
    };
    let calibration: Vec<f64> = (0..CALIBRATION).map(|_| once(&mut order).1).collect();
    let mut cropped = Cropped::new(calibration);
    for _ in 0..measurements {
        let (class, nanoseconds) = once(&mut order);
        cropped.add(class, nanoseconds);
    }
    (cropped.mean(), cropped.t_max())
}

/// Which class and which input comes next: drawn from the system in blocks.
struct Order {
    drawn: [u8; 4096],
    used: usize,
}

impl Order {
    fn new() -> Order {
        Order { drawn: [0; 4096], used: 4096 }
    }

    fn next(&mut self) -> usize {
        if self.used == self.drawn.len() {
            OsRng::new().fill(&mut self.drawn);
            self.used = 0;
        }
        self.used += 1;
        usize::from(self.drawn[self.used - 1])
    }

    /// 0 or 1.
    fn class(&mut self) -> usize {
        self.next() & 1
    }

    /// Below [`checks::INPUTS`].
    fn input(&mut self) -> usize {
        self.next() % checks::INPUTS
    }
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use super::*;

    #[test]
    fn classes_that_differ_are_told_apart_and_others_are_not() {
        struct Work(usize, usize);
        impl Subject for Work {
            fn prepare(&mut self, class: usize, _: usize) {
                self.1 = 300 + class * self.0;
            }

            fn run(&self) {
                black_box((0..self.1).fold(1_u64, |sum, round| black_box(sum.wrapping_mul(3) ^ round as u64)));
            }
        }
        let check = |slower: usize| {
            let subject = Box::new(Work(slower, 0));
            let mut check = Check { name: "", classes: ["", ""], is_control: true, repetitions: 1, subject };
            measure(&mut check, 20_000).1
        };
        let (alike, different) = (check(0), check(60));
        assert!(different > 10.0 && different > 2.0 * alike, "{alike}, {different}");
    }
}
