//! A step of a scenario: one command of `bao`, what it must say, what of its answer later steps use.
//!
//! Always: a step is the same whoever answers it; what differs between two servers by nature (tokens, ids, accessors) is kept
//! under a name, and written as `{name}` in later lines and in what is wanted.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::bao::{Bao, Output};
use crate::check::Want;

/// Whose token a step has if it names none.
const ROOT: &str = "root";
/// How long OpenBao may take to make a KV v2 mount usable after it was enabled.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(10);
const UPGRADE_POLL_INTERVAL: Duration = Duration::from_millis(50);
const UPGRADING: &str = "Upgrading from non-versioned to versioned data";

/// A line of a table, made by [`step`].
pub(crate) struct Step {
    /// A sentence, unique in its table.
    pub(crate) name: &'static str,
    /// Arguments of `bao`, divided by spaces; one in single quotes may have spaces.
    pub(crate) line: &'static str,
    /// Its exit code: 0 done, 1 wrong usage, 2 the server refused or has nothing.
    pub(crate) code: i32,
    /// All must hold.
    pub(crate) wants: &'static [Want],
    /// What it reads.
    stdin: &'static str,
    /// The kept token that it has; `""` for none.
    user: &'static str,
    /// What is kept, under which name: a JSON pointer into stdout, or `""` for all of it.
    keeps: &'static [(&'static str, &'static str)],
    /// How long to wait before it.
    after: Duration,
    /// Places whose values are arbitrary, and so never compared: random bytes, say.
    arbitrary: &'static [&'static str],
}

/// For tables: `bao LINE` must end with `code`.
pub(crate) const fn step(name: &'static str, line: &'static str, code: i32) -> Step {
    Step { name, line, code, wants: &[], stdin: "", user: ROOT, keeps: &[], after: Duration::ZERO, arbitrary: &[] }
}

impl Step {
    /// It must say all of this.
    pub(crate) const fn wants(mut self, wants: &'static [Want]) -> Step {
        self.wants = wants;
        self
    }

    /// It reads this.
    pub(crate) const fn stdin(mut self, text: &'static str) -> Step {
        self.stdin = text;
        self
    }

    /// With the token that was kept under this name; `""`: without one.
    pub(crate) const fn by(mut self, user: &'static str) -> Step {
        self.user = user;
        self
    }

    /// Keeps parts of stdout: name and JSON pointer; the pointer `""` is the whole text.
    pub(crate) const fn keep(mut self, keeps: &'static [(&'static str, &'static str)]) -> Step {
        self.keeps = keeps;
        self
    }

    /// Waits before it.
    pub(crate) const fn after(mut self, millis: u64) -> Step {
        self.after = Duration::from_millis(millis);
        self
    }

    /// What is at these places (see [`crate::compare`]) or below them is arbitrary.
    pub(crate) const fn arbitrary(mut self, places: &'static [&'static str]) -> Step {
        self.arbitrary = places;
        self
    }

    /// Whether nothing is to be learnt from a difference at this place.
    pub(crate) fn is_arbitrary(&self, place: &str) -> bool {
        self.arbitrary.iter().any(|known| place.strip_prefix(known).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
    }
}

/// Plays steps at one server, which may be a cluster: neighbouring steps then speak to different nodes.
pub(crate) struct Player {
    bao: Bao,
    kept: BTreeMap<&'static str, String>,
}

impl Player {
    /// With the token `root` and whatever else `given` names.
    pub(crate) fn new(bao: Bao, root: &str, given: &[(&'static str, String)]) -> Player {
        let kept = given.iter().cloned().chain([(ROOT, root.to_owned())]).collect();
        Player { bao, kept }
    }

    /// Runs the command. In what it said, kept values are replaced by their names.
    pub(crate) fn play(&mut self, step: &Step) -> Output {
        std::thread::sleep(step.after);
        let args: Vec<String> = words(step.line).iter().map(|word| self.fill(word)).collect();
        let token = if step.user.is_empty() { String::new() } else { self.fill(&format!("{{{}}}", step.user)) };
        let stdin = self.fill(step.stdin);
        let at = self.bao.turn();
        let deadline = Instant::now() + UPGRADE_TIMEOUT;
        let mut output = self.bao.run_as(at, &args, &token, &stdin);
        while output.stderr.contains(UPGRADING) && Instant::now() < deadline {
            std::thread::sleep(UPGRADE_POLL_INTERVAL);
            output = self.bao.run_as(at, &args, &token, &stdin);
        }
        for &(name, pointer) in step.keeps {
            // What is not there stays a name: the steps that need it then fail by themselves.
            let value = match pointer {
                "" => Some(output.stdout.trim().to_owned()),
                pointer => output.json().pointer(pointer).map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned)),
            };
            match value.filter(|value| !value.is_empty()) {
                Some(value) => self.kept.insert(name, value),
                None => self.kept.remove(name),
            };
        }
        output.rename(&self.kept);
        output
    }

    fn fill(&self, text: &str) -> String {
        self.kept.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
    }
}

/// Divides at spaces, but for those in single quotes; the quotes go.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    let last = |words: &mut Vec<String>, c| words.last_mut().expect("it starts with one").push(c);
    for c in line.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => last(&mut words, c),
        }
    }
    assert!(!quoted, "the table's {line:?} ends within quotes");
    words
}

#[test]
fn quotes_hold_words_together() {
    assert_eq!(words("a 'b c' d='e f' ''"), ["a", "b c", "d=e f", ""]);
}
