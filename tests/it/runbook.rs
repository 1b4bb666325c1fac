//! `docs/operate/ceremony.md` shows what the commands say: it is played on a real cluster, at a terminal.
//!
//! `CONCLAVE_WRITE_EXPECTED=1` writes the output into the page anew, to be read before it is committed.

use std::path::PathBuf;
use std::time::Duration;

use tests::{Cluster, Command, Keys, eventually};

const OPEN_MAX: Duration = Duration::from_secs(20);
const COLUMNS: u16 = 80;
const SHARE_CHARS: usize = 52;

/// The page, and how far it was read.
struct Page {
    text: String,
    at: usize,
    writes: bool,
}

impl Page {
    fn open() -> Page {
        let text = std::fs::read_to_string(Page::file()).unwrap();
        Page { text, at: 0, writes: std::env::var_os("CONCLAVE_WRITE_EXPECTED").is_some() }
    }

    fn file() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/operate/ceremony.md")
    }

    /// The next block of a command shows this.
    fn shows(&mut self, command: &str, output: &str) {
        let head = format!("```console\n$ conclave {command}\n");
        let begin = self.text[self.at..].find(&head).unwrap_or_else(|| panic!("the page has no (further) block of: {command}"));
        let begin = self.at + begin + head.len();
        let end = begin + self.text[begin..].find("```\n").expect("a block ends");
        let echoed = output.lines().find(|line| line.contains("(not shown") && line.contains("(a share)"));
        assert_eq!(echoed, None, "what is typed unseen is seen");
        let output = format!("{}\n", output.trim_end());
        if self.writes {
            self.text.replace_range(begin..end, &output);
            self.at = begin + output.len();
            return;
        }
        assert_eq!(self.text[begin..end], output, "the page says something else of: {command}");
        self.at = end;
    }

    fn close(self) {
        if self.writes {
            std::fs::write(Page::file(), self.text).unwrap();
        }
    }
}

/// A stand-in for what differs from run to run, and for what is secret.
fn stand_in(word: &str) -> Option<String> {
    let digits = |text: &str, len: usize| text.len() == len && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_date = word.len() >= 10 && word.is_char_boundary(10) && {
        let parts: Vec<&str> = word[..10].split('-').collect();
        parts.len() == 3 && digits(parts[0], 4) && digits(parts[1], 2) && digits(parts[2], 2)
    };
    let is_uuid = word.len() == 36 && word.split('-').map(str::len).eq([8, 4, 4, 4, 12]);
    let is_share = word.len() == SHARE_CHARS && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte));
    let is_hash = word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    match word {
        _ if is_uuid => Some("5c3f0d9e-4a52-4a77-9f3c-0f8e6f3d2b1a".to_owned()),
        _ if is_date && word.len() > 10 => Some("2026-11-24T12:00:00Z".to_owned()),
        _ if is_date => Some("2026-11-24".to_owned()),
        _ if is_share => Some("AgHyBskA… (a share)".to_owned()),
        _ if is_hash => Some("6c4f0867…".to_owned()),
        _ if word.starts_with("hvs.") => Some("hvs.…".to_owned()),
        _ => None,
    }
}

/// As the page has it: without what clears the screen, and with stand-ins.
fn normal(shown: &str, known: &[(String, &str)]) -> String {
    let mut text = shown.to_owned();
    for code in ["\u{1b}[2J\u{1b}[3J\u{1b}[H", "\u{1b}[2J", "\u{1b}[3J", "\u{1b}[H"] {
        text = text.replace(code, "\n");
    }
    for (value, stand_in) in known {
        text = text.replace(value.as_str(), stand_in);
    }
    let word = |word: &str| stand_in(word).unwrap_or_else(|| word.to_owned());
    let line = |line: &str| line.split(' ').map(word).collect::<Vec<_>>().join(" ").trim_end().to_owned();
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_runbook_shows_what_the_commands_say() {
    let mut cluster = Cluster::builder().cluster_name("production").start().await;
    cluster.leader().await;
    let mut page = Page::open();
    let mut known: Vec<(String, &str)> = Vec::new();
    for (node, stand_in) in cluster.nodes.iter().zip(["https://node1:8200", "https://node2:8200", "https://node3:8200"]) {
        known.push((node.api_address(), stand_in));
    }
    for (node, stand_in) in cluster.nodes.iter().zip(["https://node1:8201", "https://node2:8201", "https://node3:8201"]) {
        known.push((node.cluster_address(), stand_in));
    }
    known.push((cluster.nodes[0].data_dir.display().to_string(), "DATA"));

    let at = |cluster: &Cluster, node: usize, args: &str| Command::new(args).env("CONCLAVE_ADDR", cluster.nodes[node].api_address());
    // Types each answer when its prompt is there.
    let play = |command: Command, answers: &[(&str, &str)]| {
        let mut terminal = command.at_terminal(COLUMNS);
        for (prompt, answer) in answers {
            terminal.wait_for(prompt);
            terminal.type_line(answer);
        }
        let (code, shown) = terminal.end();
        assert_eq!(code, Some(0), "{shown}");
        shown
    };

    let init = "operator init -key-shares=3 -key-threshold=2 -holders=Ada,Grace,Alan";
    let shown = play(at(&cluster, 0, init), &[]);
    let after = |before: &str| shown.split_once(before).and_then(|(_, rest)| rest.lines().next()).unwrap().trim().to_owned();
    let shares = ["Ada", "Grace", "Alan"].map(|name| after(&format!("({name}):")));
    let root_token = after("Initial Root Token:");
    cluster.set_keys(Keys { shares: shares.to_vec(), root_token: root_token.clone() });
    page.shows(init, &normal(&shown, &known));
    let with_token = |cluster: &Cluster, node: usize, args: &str| at(cluster, node, args).env("CONCLAVE_TOKEN", &root_token);

    let unseal = "operator unseal";
    let key = "Unseal key (not shown): ";
    let open = async |cluster: &Cluster, shares: &[&str]| {
        let mut shown = Vec::new();
        for (node, share) in shares.iter().enumerate() {
            shown.push(play(at(cluster, node, unseal), &[(key, share)]));
        }
        cluster.await_sealed(&[0, 1, 2], false, OPEN_MAX).await;
        shown
    };
    for shown in open(&cluster, &[&shares[0], &shares[1]]).await {
        page.shows(unseal, &normal(&shown, &known));
    }
    // Who leads, and how far the log is, differs from run to run.
    let leader = cluster.leader().await;
    let shown = play(at(&cluster, leader, "status"), &[]);
    let indexes: Vec<&str> = shown.lines().filter(|line| line.contains("Index")).collect();
    let steady: Vec<&str> = shown.lines().filter(|line| !indexes.contains(line)).collect();
    let mut leading = known.clone();
    leading.insert(0, (cluster.nodes[leader].api_address(), "https://node1:8200"));
    leading.insert(0, (cluster.nodes[leader].cluster_address(), "https://node1:8201"));
    page.shows("status", &normal(&steady.join("\n"), &leading));

    let verify = "operator verify-share";
    page.shows(verify, &normal(&play(at(&cluster, 2, verify), &[("Share (not shown): ", &shares[2])]), &known));
    eventually("all three shares are known to be right", OPEN_MAX, async || {
        let output = with_token(&cluster, 0, "operator shares -strict").run();
        if output.code == Some(0) { Ok(()) } else { Err(output.stderr) }
    })
    .await;
    page.shows("operator shares", &normal(&play(with_token(&cluster, 0, "operator shares"), &[]), &known));
    page.shows("operator seal", &normal(&play(with_token(&cluster, 0, "operator seal"), &[]), &known));
    cluster.await_sealed(&[0, 1, 2], true, OPEN_MAX).await;
    open(&cluster, &[&shares[2], &shares[0]]).await;
    page.shows("operator seals list", &normal(&play(with_token(&cluster, 0, "operator seals list"), &[]), &known));

    let rekey = "operator rekey -remove-holder=Alan -add-holder=Emmy";
    let mut terminal = with_token(&cluster, 0, rekey).at_terminal(COLUMNS);
    terminal.wait_for("Start? [y/N] ");
    terminal.type_line("y");
    for share in &shares[..2] {
        terminal.wait_for("Next old share (not shown; nothing: leave): ");
        terminal.type_line(share);
    }
    let mut new = Vec::new();
    for _ in &shares {
        terminal.wait_for("Return shows the share: ");
        terminal.type_line("");
        let shown = terminal.wait_for("Return clears the screen: ");
        new.push(shown.lines().find(|line| line.len() == SHARE_CHARS).unwrap().to_owned());
        terminal.type_line("");
    }
    for share in &new[1..] {
        terminal.wait_for("Next new share (not shown; nothing: leave): ");
        terminal.type_line(share);
    }
    let (code, shown) = terminal.end();
    assert_eq!(code, Some(0), "{shown}");
    page.shows(rekey, &normal(&shown, &known));

    let start = "operator generate-root -init -share=-";
    let shown = play(at(&cluster, 0, start), &[("One of the cluster's shares, as proof (not shown): ", &new[0])]);
    let otp = shown.lines().find_map(|line| line.strip_prefix("OTP  ")).unwrap().trim().to_owned();
    known.push((otp.clone(), "kR3v… (28 characters)"));
    page.shows(start, &normal(&shown, &known));
    at(&cluster, 1, "operator generate-root -").stdin(&new[0]).run().expect_code(0);
    let last = at(&cluster, 2, "operator generate-root -field=encoded_token -").stdin(&new[2]).run().expect_code(0);
    let decode = at(&cluster, 0, "operator generate-root -otp=-").arg(format!("-decode={}", last.stdout.trim()));
    let shown = play(decode, &[("One-time password (not shown): ", &otp)]);
    page.shows("operator generate-root -otp=- -decode=ENCODED", &normal(&shown, &known));

    page.shows("operator rotate", &normal(&play(with_token(&cluster, 0, "operator rotate"), &[]), &known));
    page.shows("operator rotation", &normal(&play(with_token(&cluster, 0, "operator rotation"), &[]), &known));
    let journal = Command::new("operator journal verify").arg(format!("-data={}", cluster.nodes[0].data_dir.display()));
    let shown = play(journal, &[]);
    // What this node has seen of the others depends on who leads.
    let counted = |line: &str| ["Entries", "First", "Last"].iter().any(|title| line.starts_with(title));
    let steady: Vec<&str> = shown.lines().filter(|line| !counted(line)).collect();
    page.shows("operator journal verify -data=DATA", &normal(&steady.join("\n"), &known));
    page.close();
    cluster.assert_sound();
}

#[test]
fn what_differs_from_run_to_run_has_a_stand_in() {
    let share = "AgHyBskAAQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eH29H";
    assert_eq!(
        normal(&format!("a  {share}\nhvs.abc 2025-01-02T03:04:05.6Z x\n"), &[("x".to_owned(), "y")]),
        "a  AgHyBskA… (a share)\nhvs.… 2026-11-24T12:00:00Z y"
    );
}
