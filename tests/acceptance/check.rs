//! One check: a command, its exit code, and what it must say. And the tally of many.

use serde_json::Value;

use crate::bao::Output;
use crate::compare::same_number;

/// A line of a table of checks.
pub(crate) struct Check {
    /// A sentence, unique in its table.
    pub(crate) name: &'static str,
    /// Arguments of `bao`, divided by spaces.
    pub(crate) line: &'static str,
    /// Its exit code: 0 done, 1 wrong usage, 2 the server refused or has nothing.
    pub(crate) code: i32,
    /// All must hold.
    pub(crate) wants: &'static [Want],
}

/// For tables: one line a check.
pub(crate) const fn check(name: &'static str, line: &'static str, code: i32, wants: &'static [Want]) -> Check {
    Check { name, line, code, wants }
}

/// What a command must say.
#[derive(Clone, Copy)]
pub(crate) enum Want {
    /// Stdout is this, but for white space around it.
    Stdout(&'static str),
    /// Stdout holds this.
    Says(&'static str),
    /// Stderr holds this.
    Warns(&'static str),
    /// Stdout is JSON, with this JSON at this pointer (RFC 6901).
    Json(&'static str, &'static str),
    /// Stdout is JSON, with nothing at this pointer.
    Absent(&'static str),
}

/// The text with each run of blanks as one space; lines stay lines.
fn one_space(text: &str) -> String {
    let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    lines.collect::<Vec<_>>().join("\n")
}

impl Want {
    /// `None`, or what is wrong.
    fn mistake(self, output: &Output) -> Option<String> {
        let stdout = output.stdout.trim();
        match self {
            Want::Stdout(text) => (stdout != text).then(|| format!("stdout is not {text:?}")),
            // A table's columns are as wide as its longest row, and which rows there are changes while a cluster starts.
            Want::Says(text) => (!one_space(stdout).contains(&one_space(text))).then(|| format!("stdout does not say {text:?}")),
            Want::Warns(text) => (!output.stderr.contains(text)).then(|| format!("stderr does not say {text:?}")),
            Want::Json(pointer, text) => {
                let want: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("the table's {text:?} is no JSON: {error}"));
                let found = output.json();
                let found = found.pointer(pointer);
                // A lifetime has begun to run down when it is seen.
                let holds = found == Some(&want) || found.is_some_and(|found| same_number(found, &want));
                (!holds).then(|| format!("{pointer:?} is not {text}"))
            }
            Want::Absent(pointer) => output.json().pointer(pointer).map(|found| format!("{pointer:?} is {found}")),
        }
    }
}

/// `None`, or what is wrong with an answer.
fn mistake(output: &Output, code: i32, wants: &[Want]) -> Option<String> {
    let mut mistakes: Vec<String> = wants.iter().filter_map(|want| want.mistake(output)).collect();
    if output.code != Some(code) {
        mistakes.insert(0, format!("the exit code is not {code}"));
    }
    (!mistakes.is_empty()).then(|| format!("{}\n{output}", mistakes.join("; ")))
}

/// Checks that passed, and those that did not.
#[derive(Default)]
pub(crate) struct Tally {
    passed: u32,
    failed: Vec<String>,
}

impl Tally {
    /// Judges an answer; prints one line.
    pub(crate) fn judge(&mut self, name: &str, output: &Output, code: i32, wants: &[Want]) {
        self.note(name, mistake(output, code, wants));
    }

    /// As [`Tally::judge`], but only a mistake counts: for what is no check of its own.
    pub(crate) fn expect(&mut self, name: &str, output: &Output, code: i32, wants: &[Want]) {
        if let Some(mistake) = mistake(output, code, wants) {
            self.note(name, Some(mistake));
        }
    }

    /// Counts a check whose mistake, if it has one, is known.
    pub(crate) fn note(&mut self, name: &str, mistake: Option<String>) {
        match mistake {
            None => {
                println!("ok      {name}");
                self.passed += 1;
            }
            Some(mistake) => {
                println!("FAILED  {name}: {mistake}");
                self.failed.push(format!("{name}: {mistake}"));
            }
        }
    }

    /// Prints the sum. Panics if there are fewer than `least` checks, or one has failed.
    pub(crate) fn finish(self, least: u32) {
        println!("{} passed, {} failed", self.passed, self.failed.len());
        assert!(self.failed.is_empty(), "{} failed:\n{}", self.failed.len(), self.failed.join("\n"));
        assert!(self.passed >= least, "only {} checks ran, of {least} or more", self.passed);
    }
}
