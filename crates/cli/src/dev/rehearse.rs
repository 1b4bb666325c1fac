//! `conclave operator rehearse`: a whole ceremony on a throw-away cluster of real nodes, explained step by step, with the real commands.
//!
//! Always: a step that does not do what it says ends the rehearsal with a fault; shares and tokens go from command to command in memory and
//! by stdin, never in arguments; the nodes and the folder are gone when it ends, however it ends.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use client::{Method, SecretString};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::{sleep, timeout};
use zeroize::Zeroizing;

use super::ceremony::Cluster;
use super::children::Children;
use super::layout::Layout;
use super::{Signals, Terminal};
use crate::args::{Dev, Rehearse};
use crate::fault::Fault;
use crate::output;

/// How long one command may take.
const COMMAND_MAX: Duration = Duration::from_secs(60);
/// How long the first leader, or the next one, may take.
const LEADER_MAX: Duration = Duration::from_secs(30);
/// How often the shares for one act are given again, should the leader change.
const ROUNDS_MAX: usize = 3;
const PAUSE: Duration = Duration::from_millis(200);
/// How far a command's output stands from the margin.
const INDENT: usize = 4;
/// Holders for as many shares as can be asked for, and one who joins later.
const HOLDERS: [&str; 10] = ["Ada", "Grace", "Alan", "Emmy", "Kurt", "Sofia", "Carl", "Mary", "Paul", "Hedy"];
/// The secret that must survive everything.
const WORD: &str = "still here";

/// Rehearses, and clears up.
pub(crate) async fn run(args: &Rehearse) -> Result<(), Fault> {
    if args.key_threshold > args.key_shares {
        return Err(Fault::local("the threshold is more than there are shares").cure("-key-threshold must be at most -key-shares"));
    }
    if !args.yes && !crate::commands::is_at_terminal() {
        return Err(Fault::local("nobody is here to press return").cure("go through all steps at once: -yes"));
    }
    // Before anything is started: a signal from now on is an orderly stop.
    let mut signals = Signals::listen()?;
    let terminal = Terminal::save();
    let folder = tempfile::Builder::new().prefix("conclave-rehearsal-").tempdir();
    let folder = folder.map_err(|error| Fault::local(format!("make a temporary folder: {error}")))?;
    let layout = Layout::create(&folder.path().join("cluster"), &dev())?;
    let children = Children::start(&layout)?;
    let mut rehearsal = Rehearsal {
        cluster: Cluster::new(&layout)?,
        layout: &layout,
        children,
        folder,
        args,
        holders: HOLDERS[..args.key_shares as usize].iter().map(|&name| name.to_owned()).collect(),
        shares: Vec::new(),
        token: None,
        steps: 0,
    };
    let outcome = tokio::select! {
        outcome = rehearsal.steps() => outcome,
        () = signals.next() => Err(Fault::interrupted()),
    };
    terminal.restore();
    let Rehearsal { mut children, folder, .. } = rehearsal;
    if outcome.as_ref().is_err_and(|fault| !fault.is_interrupted()) {
        eprintln!("The ends of the nodes' traces:\n{}", children.tails());
    }
    children.stop().await;
    children.kill().await;
    folder.close().map_err(|error| Fault::local(format!("remove the temporary folder: {error}")))?;
    match &outcome {
        Ok(()) => output::emit(&output::lines(
            "\nEverything did what it said. The nodes are stopped, and the folder with all their data and keys is removed.\n",
            output::columns(),
        ))?,
        Err(_) => eprintln!("The nodes are stopped, and their folder is removed."),
    }
    outcome
}

fn dev() -> Dev {
    Dev { nodes: Some(3), port: Some(0), tls: false, data_dir: None, ready_file: None, quiet: true, sealed: false, uninitialized: true }
}

struct Rehearsal<'a> {
    cluster: Cluster<'a>,
    layout: &'a Layout,
    children: Children,
    folder: TempDir,
    args: &'a Rehearse,
    /// Of the shares, in their order.
    holders: Vec<String>,
    shares: Vec<Zeroizing<String>>,
    token: Option<SecretString>,
    steps: u32,
}

/// What a command said.
struct Ran {
    code: Option<i32>,
    stdout: Zeroizing<String>,
    stderr: String,
}

/// What `operator init -format=json` tells.
#[derive(Deserialize)]
struct Init {
    unseal_keys_b64: Vec<String>,
    root_token: String,
}

/// What an old share of a rekey tells: nothing new, unless it is the last.
#[derive(Deserialize)]
struct Rekeyed {
    #[serde(default)]
    keys_base64: Vec<String>,
}

impl Rehearsal<'_> {
    async fn steps(&mut self) -> Result<(), Fault> {
        let (shares, threshold) = (self.args.key_shares, self.args.key_threshold);
        self.say(&format!(
            "A REHEARSAL on three nodes of this machine, made for this and removed afterwards. No other cluster is touched. {shares} shares are made, and any {threshold} open the cluster.\n\
             Lines with a dollar are the commands that people give, n1, n2 or n3 before it the node that is asked; below is what they say.\n"
        ))?;
        self.init().await?;
        self.unseal().await?;
        self.lose_a_node().await?;
        self.verify_shares().await?;
        self.seal_and_open().await?;
        self.rekey().await?;
        self.generate_root().await?;
        self.rotate().await?;
        self.journal().await
    }

    async fn init(&mut self) -> Result<(), Fault> {
        self.step(
            "Make the keys",
            "Once for the cluster, at one node. The root key is split into shares; the cluster keeps none of them. In a real ceremony each holder is shown theirs alone, or gets it encrypted (-pgp-keys, -recipients) or on a sheet (-share-sheets).",
        )
        .await?;
        let counts = [format!("-key-shares={}", self.args.key_shares), format!("-key-threshold={}", self.args.key_threshold)];
        let holders = format!("-holders={}", self.holders.join(","));
        let command = ["operator", "init", &counts[0], &counts[1], &holders, "-format=json"];
        let deadline = Instant::now() + LEADER_MAX;
        let ran = loop {
            let ran = self.conclave(0, &command, None).await?;
            // Until the first leader is elected, nodes answer that nothing was done.
            if ran.code == Some(0) || Instant::now() >= deadline {
                break ran;
            }
            sleep(PAUSE).await;
        };
        self.show_line(0, &command)?;
        let ran = ran.expect(0)?;
        let init: Init = serde_json::from_str(&ran.stdout).map_err(|_| Fault::local("init told something else than it should"))?;
        self.shares = init.unseal_keys_b64.into_iter().map(Zeroizing::new).collect();
        self.token = Some(init.root_token.into());
        self.holds(self.shares.len() == self.args.key_shares as usize, "there are as many shares as were asked for")?;
        self.say(&format!(
            "    (the shares for {}, and the first root token: they stay in the memory of this rehearsal)\n",
            self.holders.join(", ")
        ))
    }

    async fn unseal(&mut self) -> Result<(), Fault> {
        self.step(
            "Open the cluster",
            "Each holder gives their share unseen, at any node. All nodes know how many have come. First comes one share, then a wrong one: somebody has mistyped it.",
        )
        .await?;
        self.give_share(0, 0).await?;
        let wrong = mistyped(&self.shares[1]);
        let ran = self.run(1, &["operator", "unseal", "-"], Some(&wrong)).await?.expect(2)?;
        self.holds(!ran.stderr.contains(&*wrong), "no error repeats a share")?;
        let progress = self.cluster.nodes[2].sys().seal_status().await?.progress;
        self.say("The wrong share was named at once, and did no harm. The others come, each at another node:\n")?;
        self.holds(progress == 1 || self.args.key_threshold == 1, "the progress is kept")?;
        for at in 1..self.args.key_threshold as usize {
            self.give_share(at, at).await?;
        }
        self.cluster.await_open().await?;
        self.say("All three nodes are open. A first secret, which has to survive the rest:\n")?;
        self.run(0, &["secrets", "enable", "-path=secret", "kv-v2"], None).await?.expect(0)?;
        let word = format!("word={WORD}");
        self.run(1, &["kv", "put", "secret/rehearsal", &word], None).await?.expect(0)?;
        self.read_the_word(2).await
    }

    async fn lose_a_node(&mut self) -> Result<(), Fault> {
        self.step(
            "Lose a node",
            "The node that leads is killed, as when its machine fails. The others go on by themselves. When it is started again it is sealed, since nobody has kept its keys: holders come once more, or rejoin = \"peers\" in the configuration lets its peers open it.",
        )
        .await?;
        let leader = self.leader().await?;
        let other = (leader + 1) % self.layout.nodes.len();
        self.children.kill_one(leader).await;
        self.say(&format!("    ({} is killed)\n", self.layout.nodes[leader].id))?;
        self.read_the_word(other).await?;
        self.children.start_one(self.layout, leader)?;
        self.say(&format!("    ({} is started again)\n", self.layout.nodes[leader].id))?;
        self.await_answer(leader).await?;
        self.run(leader, &["status"], None).await?.expect(2)?;
        for at in 0..self.args.key_threshold as usize {
            self.give_share(at, leader).await?;
        }
        self.cluster.await_open().await
    }

    async fn verify_shares(&mut self) -> Result<(), Fault> {
        self.step(
            "Check the shares",
            "Every quarter each holder checks theirs: it is typed unseen, opens nothing, and the cluster remembers when it was right. A share that nobody has seen for years is perhaps no share any more.",
        )
        .await?;
        let last = self.shares.len() - 1;
        self.say(&format!("    (typed by {})\n", self.holders[last]))?;
        self.run(2, &["operator", "verify-share"], Some(&self.shares[last].clone())).await?.expect(0)?;
        self.run(0, &["operator", "shares"], None).await?.expect(0).map(drop)
    }

    async fn seal_and_open(&mut self) -> Result<(), Fault> {
        self.step(
            "Seal",
            "When somebody has broken in, one command closes all nodes: every key is wiped from their memory. Nothing can be read until a quorum has come; this time the last holders do, at other nodes.",
        )
        .await?;
        self.run(1, &["operator", "seal"], None).await?.expect(0)?;
        self.run(2, &["kv", "get", "secret/rehearsal"], None).await?.expect(2)?;
        let (count, threshold) = (self.shares.len(), self.args.key_threshold as usize);
        for at in 0..threshold {
            self.give_share(count - 1 - at, at).await?;
        }
        self.cluster.await_open().await?;
        self.read_the_word(0).await
    }

    async fn rekey(&mut self) -> Result<(), Fault> {
        let leaver = self.holders.last().cloned().unwrap_or_default();
        let joiner = HOLDERS[self.args.key_shares as usize].to_owned();
        self.step(
            "Renew the shares",
            &format!("{leaver} leaves, {joiner} joins. New shares of a new key are made with a quorum of the old ones. They are in force only when a quorum of them was typed in again; until then the old ones open the cluster, so that nothing can be lost on the way."),
        )
        .await?;
        let (remove, add) = (format!("-remove-holder={leaver}"), format!("-add-holder={joiner}"));
        self.run(0, &["operator", "rekey", "-init", &remove, &add], None).await?.expect(0)?;
        let threshold = self.args.key_threshold as usize;
        let new = self.old_shares(threshold).await?;
        self.holds(new.len() == self.shares.len(), "there are as many new shares as old ones")?;
        let left = std::mem::replace(&mut self.shares, new);
        self.holders.pop();
        self.holders.push(joiner);
        self.say(&format!("    (the new shares, for {})\nThey come back, each typed from where it will stay:\n", self.holders.join(", ")))?;
        let mut in_force = false;
        for turn in 0..ROUNDS_MAX * threshold {
            let at = turn % threshold;
            self.come(at)?;
            let ran = self.run(at, &["operator", "rekey", "-verify", "-"], Some(&self.shares[at].clone())).await?.expect(0)?;
            in_force = ran.stdout.contains("The new shares are in force");
            if in_force {
                break;
            }
        }
        self.holds(in_force, "the new shares are in force")?;
        self.say(&format!("{leaver}'s share is one of the old ones, and is refused now:\n"))?;
        let old = left.last().ok_or_else(|| Fault::local("there were no old shares"))?.clone();
        self.run(1, &["operator", "verify-share"], Some(&old)).await?.expect(2)?;
        self.run(1, &["operator", "shares"], None).await?.expect(0)?;
        self.read_the_word(1).await
    }

    /// Old shares until the new ones are told. When another node leads, those that came before are asked for again.
    async fn old_shares(&mut self, threshold: usize) -> Result<Vec<Zeroizing<String>>, Fault> {
        for turn in 0..ROUNDS_MAX * threshold {
            let at = turn % threshold;
            self.come(at)?;
            let share = self.shares[at].clone();
            if !self.is_last("sys/rekey/init").await? {
                self.run(at, &["operator", "rekey", "-"], Some(&share)).await?.expect(0)?;
                continue;
            }
            let command = ["operator", "rekey", "-format=json", "-"];
            self.show_line(at, &command)?;
            let ran = self.conclave(at, &command, Some(&share)).await?.expect(0)?;
            let made: Rekeyed =
                serde_json::from_str(&ran.stdout).map_err(|_| Fault::local("an old share told something else than it should"))?;
            if !made.keys_base64.is_empty() {
                return Ok(made.keys_base64.into_iter().map(Zeroizing::new).collect());
            }
        }
        Err(Fault::local("the old shares told no new ones"))
    }

    /// Shares until the hidden token is told.
    async fn shares_for_token(&mut self, threshold: usize) -> Result<String, Fault> {
        for turn in 0..ROUNDS_MAX * threshold {
            let at = turn % threshold;
            self.come(at)?;
            let share = self.shares[at].clone();
            if !self.is_last("sys/generate-root/attempt").await? {
                self.run(at, &["operator", "generate-root", "-"], Some(&share)).await?.expect(0)?;
                continue;
            }
            let command = ["operator", "generate-root", "-field=encoded_token", "-"];
            self.show_line(at, &command)?;
            let encoded = self.conclave(at, &command, Some(&share)).await?.expect(0)?.stdout.trim().to_owned();
            if !encoded.is_empty() {
                self.say(&format!("    {encoded}\n"))?;
                return Ok(encoded);
            }
        }
        Err(Fault::local("the shares told no token"))
    }

    /// Whether one more share is enough.
    async fn is_last(&self, attempt: &str) -> Result<bool, Fault> {
        #[derive(Deserialize)]
        struct Status {
            progress: u64,
            required: u64,
        }
        let status: Status = self.cluster.client.request(Method::Get, attempt).send().await?.data()?;
        Ok(status.progress + 1 >= status.required)
    }

    async fn generate_root(&mut self) -> Result<(), Fault> {
        self.step(
            "A new root token",
            "When the first one was ended and a way in is needed. Whoever starts it has a one-time password; the holders' last share gives the token, hidden by it, so that none of them sees the token.",
        )
        .await?;
        let command = ["operator", "generate-root", "-generate-otp"];
        self.show_line(0, &command)?;
        let otp = self.conclave(0, &command, None).await?.expect(0)?.stdout;
        let otp = Zeroizing::new(otp.trim().to_owned());
        self.say("    (a one-time password)\n")?;
        self.run(0, &["operator", "generate-root", "-init", "-otp=-"], Some(&otp)).await?.expect(0)?;
        let encoded = self.shares_for_token(self.args.key_threshold as usize).await?;
        let decode = format!("-decode={encoded}");
        let command = ["operator", "generate-root", &decode, "-otp=-"];
        self.show_line(0, &command)?;
        let token = self.conclave(0, &command, Some(&otp)).await?.expect(0)?.stdout;
        let first = self.token.replace(token.trim().to_owned().into());
        self.say("    (the token; it is used and ended)\n")?;
        self.run(0, &["token", "lookup", "-field=policies"], None).await?.expect(0)?;
        self.run(1, &["token", "revoke", "-self"], None).await?.expect(0)?;
        self.run(2, &["token", "lookup", "-field=policies"], None).await?.expect(2)?;
        self.token = first;
        Ok(())
    }

    async fn rotate(&mut self) -> Result<(), Fault> {
        self.step(
            "Rotate",
            "A new key encrypts what is written from now on. No holder is needed, and the cluster does it by itself in time. What was written before is still read.",
        )
        .await?;
        self.run(0, &["operator", "rotate"], None).await?.expect(0)?;
        self.run(2, &["operator", "rotation"], None).await?.expect(0)?;
        self.read_the_word(1).await
    }

    async fn journal(&mut self) -> Result<(), Fault> {
        self.step(
            "Read the journal",
            "Each node has written down what was done with the keys there: who, which share, when, and how it ended. Each line carries the hash of the one before, so that no line can be changed or left out unseen.",
        )
        .await?;
        let folders: Vec<String> =
            self.layout.nodes.iter().map(|place| format!("-data={}", self.layout.data_dir(place).display())).collect();
        let mut command = vec!["operator", "journal", "verify"];
        command.extend(folders.iter().map(String::as_str));
        self.run(0, &command, None).await?.expect(0).map(drop)
    }

    /// A heading, what it is about, and a pause for people.
    async fn step(&mut self, title: &str, about: &str) -> Result<(), Fault> {
        if self.steps > 0 && !self.args.yes {
            wait_for_return().await?;
        }
        self.steps += 1;
        self.say(&format!("\n{}. {}\n{about}\n", self.steps, title.to_uppercase()))
    }

    fn say(&self, sentences: &str) -> Result<(), Fault> {
        output::emit(&output::lines(sentences, output::columns()))
    }

    fn come(&self, share: usize) -> Result<(), Fault> {
        self.say(&format!("    ({} types their share, which is not shown)\n", self.holders[share]))
    }

    /// A holder gives their share for the opening.
    async fn give_share(&mut self, share: usize, node: usize) -> Result<(), Fault> {
        self.come(share)?;
        let text = self.shares[share].clone();
        self.run(node, &["operator", "unseal", "-"], Some(&text)).await?.expect(0).map(drop)
    }

    async fn read_the_word(&mut self, node: usize) -> Result<(), Fault> {
        let command = ["kv", "get", "-field=word", "secret/rehearsal"];
        self.show_line(node, &command)?;
        let deadline = Instant::now() + LEADER_MAX;
        loop {
            let ran = self.conclave(node, &command, None).await?;
            if ran.code == Some(0) || Instant::now() >= deadline {
                let ran = ran.expect(0)?;
                self.holds(*ran.stdout == *WORD, "the secret is as it was written")?;
                return self.say(&format!("    {WORD}\n"));
            }
            // Until the next leader is elected.
            sleep(PAUSE).await;
        }
    }

    fn holds(&self, holds: bool, what: &str) -> Result<(), Fault> {
        if holds { Ok(()) } else { Err(Fault::local(format!("step {}: it does not hold that {what}", self.steps))) }
    }

    async fn leader(&self) -> Result<usize, Fault> {
        let leader = self.cluster.nodes[0].sys().leader().await?.leader_address;
        let at = self.layout.nodes.iter().position(|place| self.layout.api_address(place) == leader);
        at.ok_or_else(|| Fault::local(format!("no node has the address {leader:?} of the leader")))
    }

    async fn await_answer(&self, node: usize) -> Result<(), Fault> {
        let deadline = Instant::now() + LEADER_MAX;
        loop {
            match self.cluster.nodes[node].sys().seal_status().await {
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() >= deadline => return Err(error.into()),
                Err(_) => sleep(PAUSE).await,
            }
        }
    }

    /// Runs a command, and shows it with what it said.
    async fn run(&mut self, node: usize, args: &[&str], stdin: Option<&str>) -> Result<Ran, Fault> {
        self.show_line(node, args)?;
        let ran = self.conclave(node, args, stdin).await?;
        let said = ran.stdout.lines().chain(ran.stderr.lines());
        let shown: String = said.map(|line| if line.is_empty() { "\n".to_owned() } else { format!("{:INDENT$}{line}\n", "") }).collect();
        output::emit(&shown)?;
        Ok(ran)
    }

    fn show_line(&self, node: usize, args: &[&str]) -> Result<(), Fault> {
        let quoted: Vec<String> = args.iter().map(|arg| super::quoted_text(&self.shortened(arg))).collect();
        let node = &self.layout.nodes[node % self.layout.nodes.len()];
        output::emit(&format!("  {}$ conclave {}\n", node.id, quoted.join(" ")))
    }

    /// The folder's name says nothing.
    fn shortened(&self, arg: &str) -> String {
        arg.replace(&self.folder.path().join("cluster").display().to_string(), "CLUSTER")
    }

    /// This program, as a person at a shell would call it.
    /// Without a leader nothing is done: on a busy machine there may be none for a moment, and it is tried again.
    async fn conclave(&self, node: usize, args: &[&str], stdin: Option<&str>) -> Result<Ran, Fault> {
        let deadline = Instant::now() + LEADER_MAX;
        loop {
            let ran = self.conclave_once(node, args, stdin).await?;
            if ran.code == Some(0) || !ran.stderr.contains("no leader") || Instant::now() >= deadline {
                return Ok(ran);
            }
            sleep(PAUSE).await;
        }
    }

    async fn conclave_once(&self, node: usize, args: &[&str], stdin: Option<&str>) -> Result<Ran, Fault> {
        let program = std::env::current_exe().map_err(|error| Fault::local(format!("find our own program: {error}")))?;
        let place = &self.layout.nodes[node % self.layout.nodes.len()];
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if ["CONCLAVE_", "BAO_", "VAULT_"].iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
                command.env_remove(name);
            }
        }
        command.args(args).env("CONCLAVE_ADDR", self.layout.api_address(place)).env("HOME", self.home());
        if let Some(columns) = output::terminal_columns() {
            command.env("COLUMNS", columns.saturating_sub(INDENT).to_string());
        }
        if let Some(token) = &self.token {
            // EXPOSE: to the commands of this rehearsal; the token is that of a cluster which ends with it.
            command.env("CONCLAVE_TOKEN", token.expose());
        }
        command.process_group(0).kill_on_drop(true).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let failed = |error: std::io::Error| Fault::local(format!("run conclave {}: {error}", args.first().unwrap_or(&"")));
        let mut child = command.spawn().map_err(failed)?;
        if let (Some(mut pipe), Some(text)) = (child.stdin.take(), stdin) {
            let mut line = Zeroizing::new(String::with_capacity(text.len() + 1));
            line.push_str(text);
            line.push('\n');
            // A command that reads nothing may be gone already.
            let _ = pipe.write_all(line.as_bytes()).await;
        }
        let ended = timeout(COMMAND_MAX, child.wait_with_output()).await;
        let output = ended.map_err(|_| Fault::local(format!("a command took longer than {COMMAND_MAX:?}")))?.map_err(failed)?;
        let stdout = String::from_utf8(output.stdout).map_err(|_| Fault::local("a command said what is no text"))?;
        Ok(Ran { code: output.status.code(), stdout: stdout.into(), stderr: String::from_utf8_lossy(&output.stderr).into_owned() })
    }

    fn home(&self) -> &Path {
        self.folder.path()
    }
}

impl Ran {
    /// The same, once the exit code is as it should be.
    fn expect(self, code: i32) -> Result<Ran, Fault> {
        if self.code == Some(code) {
            return Ok(self);
        }
        Err(Fault::local(format!("that ended with {:?}, and not with {code} as it should\n{}", self.code, self.stderr)))
    }
}

/// The share with one character of its middle changed.
fn mistyped(share: &str) -> Zeroizing<String> {
    let middle = share.len() / 2;
    let other = if share.as_bytes()[middle] == b'A' { "B" } else { "A" };
    let mut wrong = Zeroizing::new(String::with_capacity(share.len()));
    wrong.push_str(&share[..middle]);
    wrong.push_str(other);
    wrong.push_str(&share[middle + 1..]);
    wrong
}

/// On a thread of its own, which nobody waits for: a read from the terminal cannot be given up.
async fn wait_for_return() -> Result<(), Fault> {
    let (given, wait) = tokio::sync::oneshot::channel();
    let ask = move || drop(given.send(crate::commands::await_return("\nReturn goes on, Ctrl-C ends and removes everything: ")));
    std::thread::Builder::new().name("prompt".to_owned()).spawn(ask).map_err(|error| Fault::local(format!("start a thread: {error}")))?;
    wait.await.unwrap_or_else(|_| Err(Fault::local("the prompt ended without an answer")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_share_differs_in_one_character() {
        for share in ["AgHyBskAAQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eH29H", "AAAAAAAA"] {
            let wrong = mistyped(share);
            let differing = wrong.bytes().zip(share.bytes()).filter(|(a, b)| a != b).count();
            assert_eq!((wrong.len(), differing), (share.len(), 1));
        }
    }
}
