//! Password policies: what generated passwords must have, and the generator.
//!
//! Always: each password that a policy allows is as likely as any other (but for the rounding of 64-bit floats), and is drawn in a time that the
//! policy bounds: nothing is drawn and thrown away. Passwords are wiped when dropped.
//! Knows nothing of what passwords are for.

use std::collections::BTreeMap;

use crypto::{Rng, Zeroizing};
use types::hcl::{Body, shown};

use super::mistake::{Block, Keys, PolicyError, Report};

/// The shortest password, in characters.
pub const LENGTH_MIN: usize = 4;
/// The longest password, in characters.
pub const LENGTH_MAX: usize = 100;
/// The most characters in a policy's rules together, each counted once.
pub const CHARACTERS_MAX: usize = 256;
/// The most rules in a policy.
pub const RULES_MAX: usize = 32;
/// The most numbers that a generator may have to compute: a few milliseconds' work, a few megabytes.
const STEPS_MAX: usize = 1 << 20;

/// What a generated password must have.
#[derive(Debug, Clone, PartialEq)]
pub struct PasswordPolicy {
    length: usize,
    /// How many characters of each rule there must be.
    minima: Vec<usize>,
    /// All characters, by the rules they are in.
    classes: Vec<Class>,
}

/// The characters that are in the same rules.
#[derive(Debug, Clone, PartialEq)]
struct Class {
    characters: Vec<char>,
    rules: Vec<usize>,
}

struct Rule {
    characters: Vec<char>,
    min: usize,
}

impl PasswordPolicy {
    /// Reads `length = N` and any number of `rule "charset" { charset = "…"  min-chars = N }`, in HCL or JSON.
    ///
    /// # Errors
    /// Everything that is wrong, at once: not HCL or JSON, unknown keys, no characters or ones that cannot be seen, a length out of range or too
    /// short for the rules, more rules than can be met in bounded time.
    pub fn parse(text: &str) -> Result<PasswordPolicy, PolicyError> {
        let report = Report::default();
        let body = report.read(text);
        let block = Block::open(&report, String::new(), 1, &body, Keys { once: &["length"], repeatable: &["rule"], refused: &[] });
        if !block.has("length") {
            block.wrong("length is missing (add length = 20)");
        }
        let length = block.integer("length").and_then(|length| match usize::try_from(length) {
            Ok(length) if (LENGTH_MIN..=LENGTH_MAX).contains(&length) => Some(length),
            _ => {
                block.mistake("length", format!("{length} is out of range (write {LENGTH_MIN} to {LENGTH_MAX})"));
                None
            }
        });
        let found = block.labelled("rule");
        if found.len() > RULES_MAX {
            block.wrong(format!("has {} rules (at most {RULES_MAX})", found.len()));
        }
        let rules: Vec<Rule> = found.into_iter().take(RULES_MAX).map(|(kind, line, body)| rule(&report, kind, line, body)).collect();
        let classes = classes(&rules);
        let characters: usize = classes.iter().map(|class| class.characters.len()).sum();
        if characters == 0 {
            block.wrong("has no characters to choose from (add rule \"charset\" { charset = \"abc…\" })");
        } else if characters > CHARACTERS_MAX {
            block.wrong(format!("has {characters} characters to choose from (at most {CHARACTERS_MAX})"));
        }
        let minima: Vec<usize> = rules.iter().map(|rule| rule.min).collect();
        let policy = PasswordPolicy { length: length.unwrap_or(LENGTH_MAX), minima, classes };
        policy.check_size(&block);
        report.finish(policy)
    }

    /// How many characters a password has.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Draws a password.
    pub fn generate(&self, rng: &dyn Rng) -> Zeroizing<String> {
        let odds = Odds::of(self);
        // A character is at most four bytes: the buffer never grows, so leaves no copy behind.
        let mut password = Zeroizing::new(String::with_capacity(self.length * 4));
        let mut state = odds.start();
        for left in (0..self.length).rev() {
            let weights: Vec<f64> = self.classes.iter().map(|class| odds.weight(class, state, left)).collect();
            let class = &self.classes[choose(&weights, rng)];
            password.push(class.characters[below(class.characters.len(), rng)]);
            state = odds.after(class, state);
        }
        password
    }

    fn check_size(&self, block: &Block<'_>) {
        let most = self.minima.iter().copied().max().unwrap_or(0);
        if most > self.length {
            block.wrong(format!("a rule wants {most} characters, but the length is {} (lower min-chars, or raise length)", self.length));
            return;
        }
        let states = self.minima.iter().try_fold(1_usize, |states, min| states.checked_mul(min + 1));
        let steps = states.and_then(|states| states.checked_mul(self.length + 1)?.checked_mul(self.classes.len().max(1)));
        if steps.is_none_or(|steps| steps > STEPS_MAX) {
            block.wrong("its rules together need too much work to meet (use fewer rules, or lower min-chars)");
            return;
        }
        let odds = Odds::of(self);
        if !self.classes.is_empty() && odds.logs[self.length][odds.start()] == f64::NEG_INFINITY {
            block.wrong(format!("no password of {} characters meets all its rules (lower min-chars, or raise length)", self.length));
        }
    }
}

fn rule(report: &Report, kind: &str, line: usize, body: &Body) -> Rule {
    let place = format!("rule {}", shown(kind));
    if kind != "charset" {
        report.mistake(line, &place, "is no kind of rule (write rule \"charset\")");
        return Rule { characters: Vec::new(), min: 0 };
    }
    let block = Block::open(report, place, line, body, Keys { once: &["charset", "min-chars"], repeatable: &[], refused: &[] });
    if !block.has("charset") {
        block.wrong("charset is missing (add charset = \"abc…\")");
    }
    let mut characters: Vec<char> = block.text("charset").unwrap_or_default().chars().collect();
    if let Some(hidden) = characters.iter().find(|character| !is_visible(**character)) {
        block.mistake("charset", format!("U+{:04X} cannot be seen (leave it out)", u32::from(*hidden)));
    }
    characters.sort_unstable();
    characters.dedup();
    let min = block.integer("min-chars").map_or(0, |min| match usize::try_from(min) {
        Ok(min) if min <= LENGTH_MAX => min,
        _ => {
            block.mistake("min-chars", format!("{min} is out of range (write 0 to {LENGTH_MAX})"));
            0
        }
    });
    if block.has("charset") && characters.is_empty() && min > 0 {
        block.mistake("charset", "is empty, but min-chars asks for some of it");
    }
    Rule { characters, min }
}

/// Whether a person can see and type it: no control or format character, no white space but the plain one.
fn is_visible(character: char) -> bool {
    let is_format = matches!(u32::from(character),
        0xad | 0x61c | 0x180e | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f | 0xe000..=0xf8ff | 0xfe00..=0xfe0f | 0xfeff | 0xfff0..=0xfffb | 0xfffe..=0xffff | 0xe_0000..);
    character == ' ' || !(character.is_control() || character.is_whitespace() || is_format)
}

/// All characters, each once, by the rules they are in.
fn classes(rules: &[Rule]) -> Vec<Class> {
    let mut memberships: BTreeMap<char, Vec<usize>> = BTreeMap::new();
    for (number, rule) in rules.iter().enumerate() {
        for character in &rule.characters {
            memberships.entry(*character).or_default().push(number);
        }
    }
    let mut classes: BTreeMap<Vec<usize>, Vec<char>> = BTreeMap::new();
    for (character, rules) in memberships {
        classes.entry(rules).or_default().push(character);
    }
    classes.into_iter().map(|(rules, characters)| Class { characters, rules }).collect()
}

/// For each number of characters left and each state (how many of each rule are still wanted): the natural logarithm of how many endings meet
/// the rules. Logarithms, since the counts themselves are beyond any float's range.
struct Odds<'a> {
    policy: &'a PasswordPolicy,
    logs: Vec<Vec<f64>>,
}

impl<'a> Odds<'a> {
    fn of(policy: &'a PasswordPolicy) -> Odds<'a> {
        let states: usize = policy.minima.iter().map(|min| min + 1).product();
        let mut first = vec![f64::NEG_INFINITY; states];
        first[0] = 0.0;
        let mut odds = Odds { policy, logs: vec![first] };
        for left in 0..policy.length {
            let next = (0..states).map(|state| {
                let logs: Vec<f64> = policy.classes.iter().map(|class| odds.log(class, state, left)).collect();
                let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                if most == f64::NEG_INFINITY { most } else { most + logs.iter().map(|log| (log - most).exp()).sum::<f64>().ln() }
            });
            let next = next.collect();
            odds.logs.push(next);
        }
        odds
    }

    /// All rules wanting all of their characters.
    fn start(&self) -> usize {
        self.policy.minima.iter().fold(0, |state, min| state * (min + 1) + min)
    }

    /// The state after a character of `class`. States are numbers in a mixed base: one digit for each rule.
    fn after(&self, class: &Class, state: usize) -> usize {
        let (mut rest, mut place, mut next) = (state, 1, state);
        for (rule, min) in self.policy.minima.iter().enumerate().rev() {
            if !rest.is_multiple_of(min + 1) && class.rules.contains(&rule) {
                next -= place;
            }
            rest /= min + 1;
            place *= min + 1;
        }
        next
    }

    fn log(&self, class: &Class, state: usize, left: usize) -> f64 {
        (class.characters.len() as f64).ln() + self.logs[left][self.after(class, state)]
    }

    /// The share of the endings that begin with a character of `class`, when `left` are left after it.
    fn weight(&self, class: &Class, state: usize, left: usize) -> f64 {
        (self.log(class, state, left) - self.logs[left + 1][state]).exp()
    }
}

/// Draws a place with the odds of its weight; never one whose weight is zero.
fn choose(weights: &[f64], rng: &dyn Rng) -> usize {
    let mut bytes = Zeroizing::new([0; 8]);
    rng.fill(&mut *bytes);
    let share = (u64::from_le_bytes(*bytes) >> 11) as f64 / (1_u64 << 53) as f64;
    let mut point = share * weights.iter().sum::<f64>();
    let mut last = 0;
    for (place, weight) in weights.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
        last = place;
        point -= weight;
        if point < 0.0 {
            break;
        }
    }
    last
}

/// Draws a number below `count`. Its odds are even to one part in 2⁵⁶, as `count` is at most 256.
fn below(count: usize, rng: &dyn Rng) -> usize {
    let mut bytes = Zeroizing::new([0; 8]);
    rng.fill(&mut *bytes);
    ((u128::from(u64::from_le_bytes(*bytes)) * count as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use crypto::{OsRng, SeededRng};
    use proptest::prelude::*;

    use super::*;

    fn policy(text: &str) -> PasswordPolicy {
        PasswordPolicy::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    const USUAL: &str = r#"
length = 20
rule "charset" { charset = "abcdefghijklmnopqrstuvwxyz" min-chars = 1 }
rule "charset" { charset = "ABCDEFGHIJKLMNOPQRSTUVWXYZ" min-chars = 2 }
rule "charset" { charset = "0123456789" min-chars = 3 }
rule "charset" { charset = "!@#$%^&*${}" min-chars = 1 }
"#;

    #[test]
    fn passwords_meet_every_rule() {
        let policy = policy(USUAL);
        let rng = OsRng::new();
        for _ in 0..200 {
            let password = policy.generate(&rng);
            let count = |test: fn(&char) -> bool| password.chars().filter(test).count();
            assert_eq!(password.chars().count(), 20);
            assert!(count(char::is_ascii_lowercase) >= 1);
            assert!(count(char::is_ascii_uppercase) >= 2);
            assert!(count(char::is_ascii_digit) >= 3);
            assert!(count(char::is_ascii_punctuation) >= 1);
            assert!(password.chars().all(|c| c.is_ascii_alphanumeric() || "!@#$%^&*${}".contains(c)));
        }
    }

    /// Every password that the policy allows comes up, each about as often.
    #[test]
    fn each_password_is_as_likely_as_the_others() {
        for (text, want) in [
            (r#"length = 4 rule "charset" { charset = "ab" min-chars = 1 } rule "charset" { charset = "c" min-chars = 1 }"#, 64),
            // Rules that share characters.
            (r#"length = 4 rule "charset" { charset = "abc" min-chars = 3 } rule "charset" { charset = "cd" min-chars = 2 }"#, 0),
            (r#"length = 4 rule "charset" { charset = "abc" }"#, 81),
        ] {
            let policy = policy(text);
            let allowed: Vec<String> = (0..4_usize.pow(4))
                .map(|number| (0..4).map(|place| ['a', 'b', 'c', 'd'][number / 4_usize.pow(place) % 4]).collect::<String>())
                .filter(|password| {
                    let characters = || policy.classes.iter().flat_map(|class| class.characters.iter().map(move |c| (*c, &class.rules)));
                    let rules_of = |c: char| characters().find(|(own, _)| *own == c).map(|(_, rules)| rules);
                    password.chars().all(|c| rules_of(c).is_some())
                        && policy.minima.iter().enumerate().all(|(rule, min)| {
                            password.chars().filter(|c| rules_of(*c).is_some_and(|rules| rules.contains(&rule))).count() >= *min
                        })
                })
                .collect();
            if want > 0 {
                // 3⁴ less those without c and those without a or b: 81 - 16 - 1.
                assert_eq!(allowed.len(), want, "{text}");
            }
            let rng = SeededRng::dangerous_from_seed(3);
            let draws = allowed.len() * 400;
            let mut counts: HashMap<String, f64> = HashMap::new();
            for _ in 0..draws {
                *counts.entry(policy.generate(&rng).to_string()).or_default() += 1.0;
            }
            assert_eq!(counts.len(), allowed.len(), "{text}");
            assert!(allowed.iter().all(|password| counts.contains_key(password)));
            let chi_squared: f64 = counts.values().map(|count| (count - 400.0).powi(2) / 400.0).sum();
            let freedom = allowed.len() as f64 - 1.0;
            // Five standard deviations of the statistic; the seed is fixed, so this passes always or never.
            assert!(chi_squared < freedom + 5.0 * (2.0 * freedom).sqrt(), "{text}: {chi_squared} for {freedom}");
        }
    }

    #[test]
    fn even_one_password_in_a_googol_is_found() {
        let policy = policy(
            r#"length = 100
            rule "charset" { charset = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ" }
            rule "charset" { charset = "!" min-chars = 100 }"#,
        );
        assert_eq!(*policy.generate(&OsRng::new()), "!".repeat(100));
    }

    #[test]
    fn each_mistake_is_named_with_its_cure() {
        for (text, want) in [
            (
                "",
                "line 1: length is missing (add length = 20)\nline 1: has no characters to choose from (add rule \"charset\" { charset = \"abc…\" })",
            ),
            ("length = 3 rule \"charset\" { charset = \"a\" }", "line 1: length: 3 is out of range (write 4 to 100)"),
            ("length = 101 rule \"charset\" { charset = \"a\" }", "line 1: length: 101 is out of range (write 4 to 100)"),
            ("length = true rule \"charset\" { charset = \"a\" }", "line 1: length: true is a truth value (write a whole number)"),
            (
                "length = 4\nrule \"regex\" { charset = \"a\" }\nrule \"charset\" { charset = \"a\" }",
                "line 2: rule \"regex\": is no kind of rule (write rule \"charset\")",
            ),
            (
                "length = 4\nrule \"charset\" { charset = \"a\" min_chars = 1 }",
                "line 2: rule \"charset\": unknown key \"min_chars\" (did you mean min-chars?)",
            ),
            (
                "length = 4\nrule \"charset\" { charset = \"a\\n\" }",
                "line 2: rule \"charset\": charset: U+000A cannot be seen (leave it out)",
            ),
            (
                "length = 4\nrule \"charset\" { charset = \"a\" min-chars = -1 }",
                "line 2: rule \"charset\": min-chars: -1 is out of range (write 0 to 100)",
            ),
            (
                "length = 4\nrule \"charset\" { charset = \"a\" min-chars = 5 }",
                "line 1: a rule wants 5 characters, but the length is 4 (lower min-chars, or raise length)",
            ),
            (
                "length = 4\nrule \"charset\" { charset = \"a\" min-chars = 3 }\nrule \"charset\" { charset = \"b\" min-chars = 2 }",
                "line 1: no password of 4 characters meets all its rules (lower min-chars, or raise length)",
            ),
            (
                "length = 4\nrule { charset = \"a\" }",
                "line 2: rule: the block has no label (write rule \"…\" { … })\nline 1: has no characters to choose from (add rule \"charset\" { charset = \"abc…\" })",
            ),
        ] {
            let found = PasswordPolicy::parse(text).map_err(|error| error.to_string()).map(|_| ());
            let mut want: Vec<&str> = want.lines().collect();
            want.sort_by_key(|line| line[5..6].parse::<u32>().unwrap());
            assert_eq!(found, Err(want.join("\n")), "{text}");
        }
        let many = format!("length = 100\n{}", "rule \"charset\" { charset = \"a\" min-chars = 50 }\n".repeat(5));
        assert!(PasswordPolicy::parse(&many).unwrap_err().to_string().contains("too much work"));
        let json = r#"{"length": 8, "rule": [{"charset": {"charset": "ab", "min-chars": 1}}, {"charset": {"charset": "cd"}}]}"#;
        assert_eq!(policy(json).length(), 8);
        assert_eq!(policy(json).classes.len(), 2);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(length|rule|charset|min-chars|\"charset\"|[ =0-9{}\"a-z\n-]){0,40}", other in any::<String>()) {
            for text in [&text, &other] {
                if let Ok(policy) = PasswordPolicy::parse(text) {
                    prop_assert_eq!(policy.generate(&SeededRng::dangerous_from_seed(1)).chars().count(), policy.length());
                }
            }
        }
    }
}
