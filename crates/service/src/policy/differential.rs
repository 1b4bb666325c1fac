//! Differential test: the ACL and the oracle answer random questions about random policies alike.
//!
//! `CONCLAVE_POLICY_CASES=10000000 cargo test -p service --profile sim policy::differential` runs 10⁷ questions (the default is 10⁵);
//! `CONCLAVE_POLICY_SEED=N` begins at another seed. A failure prints its seed, policies and question.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Map, Value, json};
use types::{Path, Timestamp, Verb};

use super::acl::Acl;
use super::decision::{Decision, Question};
use super::oracle::{self, Ask, Stanza};
use super::text::Policy;

/// Questions in a normal test run.
const CASES_DEFAULT: u64 = 100_000;
/// Questions about one set of policies.
const QUESTIONS_PER_SET: u64 = 50;

/// Sebastiano Vigna's SplitMix64: every seed gives another stream, the same everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % sides as u64) as usize
    }

    fn one_in(&mut self, sides: usize) -> bool {
        self.roll(sides) == 0
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.roll(from.len())]
    }
}

const CAPABILITIES: [&str; 9] = ["create", "read", "update", "patch", "delete", "list", "scan", "sudo", "subscribe"];
const SEGMENTS: [&str; 9] = ["a", "b", "ab", "abc", "b+", "+b", "(a", "é", "z"];
const NAMES: [&str; 5] = ["x", "y", "Z", "limit", "*"];
const NAMESPACES: [&str; 3] = ["", "", "a/"];

/// A policy with its name and namespace.
type Named = (String, Policy, &'static str);

/// Few segments, few names: so that patterns meet paths, and each other.
fn pattern(dice: &mut Dice) -> String {
    let mut path = String::new();
    for number in 0..=dice.roll(4) {
        if number > 0 {
            path.push('/');
        }
        path += if dice.one_in(3) { "+" } else { *dice.pick(&SEGMENTS) };
    }
    match dice.roll(6) {
        0 => path += "/",
        1 => path += "/*",
        2 if !path.ends_with('+') => path += "*",
        3 if !path.ends_with(['+', 'é']) => drop(path.pop()),
        _ => {}
    }
    if dice.one_in(60) { "*".to_owned() } else { path.replace("+*", "*") }
}

/// A path: often one that a pattern matches, or nearly.
fn path(dice: &mut Dice, patterns: &[String]) -> String {
    if !patterns.is_empty() && dice.one_in(2) {
        let pattern = dice.pick(patterns).clone();
        let segments: Vec<&str> = pattern.split('/').map(|segment| if segment == "+" { *dice.pick(&SEGMENTS) } else { segment }).collect();
        let met = segments.join("/").replace("*", dice.pick::<&str>(&["", "a", "a/b"]));
        return if dice.one_in(5) { met + *dice.pick(&["/", "/a", "b"]) } else { met };
    }
    let segments: Vec<&str> = (0..=dice.roll(4)).map(|_| *dice.pick(&SEGMENTS)).collect();
    let folder = if dice.one_in(4) { "/" } else { "" };
    if dice.one_in(100) { String::new() } else { segments.join("/") + folder }
}

fn value(dice: &mut Dice) -> Value {
    dice.pick(&[
        json!("a"),
        json!("b"),
        json!("ab"),
        json!("aba"),
        json!(""),
        json!("*"),
        json!(1),
        json!(2),
        json!(true),
        json!(["a"]),
        json!({"a": 1}),
    ])
    .clone()
}

fn wanted(dice: &mut Dice) -> Value {
    if dice.one_in(3) { dice.pick(&[json!("a*"), json!("*a"), json!("*b*"), json!("**"), json!("*")]).clone() } else { value(dice) }
}

fn list(dice: &mut Dice) -> Vec<(&'static str, Vec<Value>)> {
    let mut found: Vec<(&str, Vec<Value>)> = Vec::new();
    for _ in 0..dice.roll(3) {
        let name = *dice.pick(&NAMES);
        if found.iter().all(|(own, _)| *own != name) {
            found.push((name, (0..dice.roll(3)).map(|_| wanted(dice)).collect()));
        }
    }
    found
}

fn stanza(dice: &mut Dice, patterns: &mut Vec<String>) -> Stanza {
    // The same path again, in this policy or another, shows how rules merge.
    let again = !patterns.is_empty() && dice.one_in(3);
    let path = if again { dice.pick(patterns).clone() } else { pattern(dice) };
    patterns.push(path.clone());
    let mut stanza = Stanza { path, ..Stanza::default() };
    stanza.capabilities = CAPABILITIES.into_iter().filter(|_| dice.one_in(2)).collect();
    if dice.one_in(12) {
        stanza.capabilities = vec!["deny"];
        return stanza;
    }
    if dice.one_in(3) {
        stanza.allowed = list(dice);
    }
    if dice.one_in(4) {
        stanza.denied = list(dice);
    }
    if dice.one_in(5) {
        stanza.required = vec![*dice.pick(&["x", "Y", "limit"])];
    }
    if dice.one_in(6) {
        (stanza.wrap_min, stanza.wrap_max) = *dice.pick(&[(10, 0), (0, 20), (10, 20), (30, 30)]);
    }
    if dice.one_in(4) {
        stanza.page = 1 + dice.roll(5) as u64;
    }
    stanza
}

/// The text of a policy with these rules: as HCL, or as JSON.
fn print(stanzas: &[Stanza], as_json: bool) -> String {
    let table = |list: &[(&str, Vec<Value>)]| -> Value {
        list.iter().map(|(name, values)| ((*name).to_owned(), json!(values))).collect::<Map<_, _>>().into()
    };
    let rules = stanzas.iter().map(|stanza| {
        let mut rule = Map::new();
        rule.insert("capabilities".into(), json!(stanza.capabilities));
        if !stanza.allowed.is_empty() {
            rule.insert("allowed_parameters".into(), table(&stanza.allowed));
        }
        if !stanza.denied.is_empty() {
            rule.insert("denied_parameters".into(), table(&stanza.denied));
        }
        if !stanza.required.is_empty() {
            rule.insert("required_parameters".into(), json!(stanza.required));
        }
        for (key, seconds) in [("min_wrapping_ttl", stanza.wrap_min), ("max_wrapping_ttl", stanza.wrap_max)] {
            if seconds > 0 {
                rule.insert(key.into(), if seconds == 30 { json!("30s") } else { json!(seconds) });
            }
        }
        if stanza.page > 0 {
            rule.insert("pagination_limit".into(), json!(stanza.page));
        }
        (&stanza.path, Value::Object(rule))
    });
    if as_json {
        return json!({"path": rules.map(|(path, rule)| json!({path.as_str(): rule})).collect::<Vec<_>>()}).to_string();
    }
    rules.fold(String::new(), |mut text, (path, rule)| {
        writeln!(text, "path \"/{path}\" {{").unwrap();
        for (key, value) in rule.as_object().unwrap() {
            writeln!(text, "  {key} = {value}").unwrap();
        }
        text + "}\n"
    })
}

fn ask(dice: &mut Dice, patterns: &[String]) -> Ask {
    let verb = *dice.pick(Verb::ALL);
    let mut data = Map::new();
    for _ in 0..dice.roll(3) {
        data.insert((*dice.pick(&["x", "X", "y", "z", "other", "limit", "*"])).to_owned(), value(dice));
    }
    if dice.one_in(3) {
        data.insert(
            "limit".to_owned(),
            dice.pick(&[json!("3"), json!(3), json!("max"), json!("0"), json!(-1), json!("x"), json!("")]).clone(),
        );
    }
    Ask {
        path: Path::parse(&path(dice, patterns)).unwrap().as_str().to_owned(),
        verb,
        is_create: *dice.pick(&[None, Some(true), Some(false)]),
        is_sudo: dice.one_in(8),
        wrap: *dice.pick(&[None, Some(5), Some(10), Some(15), Some(30)]),
        data,
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text:?}")))
}

#[test]
fn acl_and_oracle_agree() {
    let cases = number("CONCLAVE_POLICY_CASES", CASES_DEFAULT);
    let first = number("CONCLAVE_POLICY_SEED", 1);
    let mut allowed = 0;
    for seed in first..first + cases.div_ceil(QUESTIONS_PER_SET) {
        allowed += compare(seed);
    }
    // Questions that are all denied would show nothing.
    assert!(allowed * 20 > cases, "{allowed} of {cases} allowed");
}

/// Asks about one set of policies. How many questions were allowed.
fn compare(seed: u64) -> u64 {
    let mut dice = Dice(seed);
    let mut stanzas = Vec::new();
    let mut patterns = Vec::new();
    let mut policies: Vec<Named> = Vec::new();
    let mut texts = String::new();
    for number in 0..=dice.roll(4) {
        let own: Vec<Stanza> = (0..dice.roll(6)).map(|_| stanza(&mut dice, &mut patterns)).collect();
        let namespace = *dice.pick(&NAMESPACES);
        let text = print(&own, dice.one_in(2));
        writeln!(texts, "# namespace {namespace:?}\n{text}").unwrap();
        let policy = Policy::parse(&text).unwrap_or_else(|error| panic!("seed {seed}: {error}\n{text}"));
        policies.push((format!("p{number}"), policy, namespace));
        stanzas.extend(own.into_iter().map(|stanza| Stanza { path: format!("{namespace}{}", stanza.path), ..stanza }));
    }
    let acl = Acl::compile(policies.iter().map(|(name, policy, namespace)| (name.as_str(), policy, *namespace)), Timestamp(0));
    let mut allowed = 0;
    for _ in 0..QUESTIONS_PER_SET {
        let ask = ask(&mut dice, &patterns);
        let path = Path::parse(&ask.path).unwrap();
        let question = Question {
            path: &path,
            verb: ask.verb,
            is_create: ask.is_create,
            is_sudo: ask.is_sudo,
            wrap_ttl: ask.wrap.map(Duration::from_secs),
            parameters: &ask.data,
        };
        let decision = acl.check(&question);
        let found = match &decision {
            Decision::Allowed(terms) => Some(terms.limit),
            Decision::Denied(_) => None,
        };
        let context = || format!("seed {seed}\n{texts}\n{ask:?}\n{decision:?}");
        assert_eq!(found, oracle::allows(&stanzas, &ask), "{}", context());
        assert_eq!(acl.capabilities(&path), oracle::capabilities(&stanzas, &ask.path), "{}", context());
        let rule = match &decision {
            Decision::Allowed(terms) => terms.rule,
            Decision::Denied(denial) => denial.rule,
        };
        let is_list = matches!(ask.verb, Verb::List | Verb::Scan);
        let spelled = if is_list { path.as_folder() } else { path.clone() };
        assert_eq!(rule.map(|rule| rule.pattern()), oracle::deciding(&stanzas, spelled.as_str(), is_list), "{}", context());
        allowed += u64::from(found.is_some());
        if found.is_none() && dice.one_in(40) {
            smallest_rule_is_enough(&policies, &acl, &stanzas, &ask, &question);
        }
    }
    allowed
}

/// With the smallest rule added, what was denied is allowed, and the path keeps every capability that it had.
fn smallest_rule_is_enough(policies: &[Named], acl: &Acl, stanzas: &[Stanza], ask: &Ask, question: &Question<'_>) {
    let Some(text) = acl.smallest_rule(question, "") else { return };
    let policy = Policy::parse(&text).unwrap();
    let [rule] = policy.rules() else { panic!("{text}") };
    let all = policies.iter().map(|(name, policy, namespace)| (name.as_str(), policy, *namespace));
    let acl = Acl::compile(all.chain([("new", &policy, "")]), Timestamp(0));
    assert!(acl.check(question).is_allowed(), "{ask:?}\n{text}");
    let bare = |path: &str, capabilities: Vec<&'static str>| Stanza { path: path.to_owned(), capabilities, ..Stanza::default() };
    let before: Vec<Stanza> = stanzas.iter().map(|stanza| bare(&stanza.path, stanza.capabilities.clone())).collect();
    let after: Vec<Stanza> = before.iter().cloned().chain([bare(&rule.path, rule.capabilities.names())]).collect();
    for verb in Verb::ALL {
        for is_create in [Some(true), Some(false)] {
            let other = Ask { verb: *verb, is_create, is_sudo: false, wrap: None, data: Map::new(), ..ask.clone() };
            assert!(oracle::allows(&before, &other).is_none() || oracle::allows(&after, &other).is_some(), "{other:?}\n{text}");
        }
    }
}
