//! The commands for keys, as people at terminals and scripts run them: what they say next, and where shares must not be seen.

use std::time::Duration;

use serde_json::{Value, json};
use tests::{Cluster, Command, Keys, Output, Terminal, eventually};

const OPEN_MAX: Duration = Duration::from_secs(20);
const ELECTION_MAX: Duration = Duration::from_secs(20);
/// All steps of a rehearsal, on a busy machine.
const REHEARSAL_MAX: Duration = Duration::from_secs(300);
/// A telephone over ssh.
const NARROW: u16 = 40;

fn at(cluster: &Cluster, node: usize, args: &str) -> Command {
    Command::new(args).env("CONCLAVE_ADDR", cluster.nodes[node].api_address())
}

fn with_token(cluster: &Cluster, node: usize, args: &str) -> Command {
    Command::new(args).to(&cluster.nodes[node].api_address(), &cluster.keys().root_token)
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
}

/// Waits for the first leader by making keys.
async fn made(cluster: &mut Cluster, args: &str) -> Output {
    let output = eventually("operator init", ELECTION_MAX, async || {
        let output = at(cluster, 0, args).run();
        if output.code == Some(0) { Ok(output) } else { Err(output.stderr) }
    })
    .await;
    let init = output.json();
    let root_token = init["root_token"].as_str().unwrap().to_owned();
    cluster.set_keys(Keys { shares: texts(&init["unseal_keys_b64"]), root_token });
    output
}

/// Without the ends of lines, which fall where the terminal ends.
fn flowing(shown: &str) -> String {
    shown.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// No line is wider, but for shares and commands, which are whole so that they can be copied.
fn assert_fits(shown: &str, columns: u16) {
    for line in shown.lines() {
        let is_share = line.len() >= 52 && !line.contains(' ');
        assert!(line.chars().count() <= columns.into() || line.starts_with("  ") || is_share, "{line:?} in\n{shown}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn holders_are_guided_by_name_and_a_share_is_seen_nowhere_but_by_its_holder() {
    let mut cluster = Cluster::builder().start().await;
    cluster.leader().await;

    // In a narrow terminal: what is shown can be read, and the shares can be copied whole.
    let init = at(&cluster, 0, "operator init -key-shares=3 -key-threshold=2 -holders=Ada,Grace,Alan").at_terminal(NARROW);
    let (code, shown) = init.end();
    assert_eq!(code, Some(0), "{shown}");
    assert_fits(&shown, NARROW);
    let after = |name: &str| shown.split_once(&format!("({name}):\n")).and_then(|(_, rest)| rest.lines().next()).unwrap().to_owned();
    let shares = ["Ada", "Grace", "Alan"].map(after);
    let root_token = shown.split_once("Initial Root Token:\n").and_then(|(_, rest)| rest.lines().next()).unwrap().to_owned();
    assert!(shown.contains("conclave operator unseal") && shown.contains("conclave status"), "it says what happens next: {shown}");
    cluster.set_keys(Keys { shares: shares.to_vec(), root_token });

    // A wrong share is named and asked for again; a right one counts, and nobody sees either.
    let mut holder = at(&cluster, 1, "operator unseal").at_terminal(NARROW);
    holder.wait_for("Unseal key (not shown): ");
    let wrong = format!("{}{}", &shares[0][..30], &shares[1][30..]);
    holder.type_line(&wrong);
    holder.wait_for("Not taken: ");
    holder.wait_for("Unseal key (not shown): ");
    let seen = holder.seen_from_outside();
    holder.type_line(&shares[0]);
    let (code, shown) = holder.end();
    assert_eq!(code, Some(0), "{shown}");
    assert_fits(&shown, NARROW);
    assert!(shown.contains("Have come: Ada.") && shown.contains("Can still come: Grace, Alan."), "{shown}");
    assert_secret(&[&seen, &shown], &[&wrong, &shares[0]]);

    let last = at(&cluster, 2, "operator unseal").stdin(&format!("{}\n", shares[2])).run().expect_code(0);
    assert!(last.stdout.contains("The cluster is open"), "{last:?}");
    assert_secret(&[&last.stdout, &last.stderr], &[&shares[2]]);
    cluster.await_sealed(&[0, 1, 2], false, OPEN_MAX).await;

    // A share on the command line works, as Vault's, and is warned of.
    let given = at(&cluster, 0, "operator unseal").arg(&shares[1]).run().expect_code(0);
    assert!(given.stderr.contains("history"), "{given:?}");

    let mut check = at(&cluster, 0, "operator verify-share").at_terminal(NARROW);
    check.wait_for("Share (not shown): ");
    check.type_line(&shares[1]);
    let (code, shown) = check.end();
    assert!(code == Some(0) && flowing(&shown).contains("Share 2 (Grace's) is right"), "{shown}");
    assert_secret(&[&shown], &[&shares[1]]);
    let refused = at(&cluster, 0, "operator verify-share").stdin(&wrong).run().expect_code(2);
    assert_secret(&[&refused.stdout, &refused.stderr], &[&wrong]);
    assert!(at(&cluster, 0, "operator verify-share").arg(&shares[1]).run().expect_code(1).stderr.contains("history"));

    // Each node writes down in its own time what it has seen.
    eventually("all three shares are known to be right", OPEN_MAX, async || {
        let output = with_token(&cluster, 2, "operator shares -strict").run();
        if output.code == Some(0) { Ok(()) } else { Err(output.stderr) }
    })
    .await;
    let listed = with_token(&cluster, 2, "operator shares").run().expect_code(0);
    for text in ["2 of 3 shares open the cluster", "Ada", "Grace", "Alan", "today"] {
        assert!(listed.stdout.contains(text), "{text}: {listed:?}");
    }
    // Three of two were seen today: one to spare, as is wanted; two to spare are not.
    let few = with_token(&cluster, 2, "operator shares -strict -margin=2").run().expect_code(2);
    assert!(few.stderr.contains("2 to spare are wanted"), "{few:?}");
    let whole = with_token(&cluster, 0, "operator shares -format=json").run().expect_code(0).json();
    assert_eq!(whole["shamir"]["holders"][1]["name"], json!("Grace"), "{whole}");
    cluster.assert_sound();
}

fn assert_secret(seen: &[&str], secrets: &[&str]) {
    for seen in seen {
        for secret in secrets {
            // Not even the better part of it.
            assert!(!seen.contains(&secret[..20]) && !seen.contains(&secret[secret.len() - 20..]), "a share is seen in {seen}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn new_shares_go_where_their_holders_are_and_nowhere_else() {
    let mut cluster = Cluster::builder().nodes(1).start().await;
    cluster.leader().await;
    let folder = cluster.folder().join("sheets");
    let sheets = |folder: &std::path::Path| format!("-share-sheets={}", folder.display());

    for (args, says) in [
        ("operator init -holders=Ada", "-holders names 1"),
        ("operator init -key-shares=2 -key-threshold=2 -pgp-keys=keybase:ada,keybase:grace", "Keybase"),
        ("operator init -key-shares=2 -key-threshold=2 -recipients=/nonexistent,age1x", "no such file"),
        ("operator init -hand-out", "no terminal"),
        ("operator init -key-shares=2 -key-threshold=3", "open nothing"),
    ] {
        let refused = at(&cluster, 0, args).run().expect_code(1);
        assert!(refused.stderr.contains(says), "{refused:?}");
    }
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("share-2-grace-hopper.html"), "an old sheet").unwrap();
    let init = |cluster: &Cluster| at(cluster, 0, "operator init -key-shares=2 -key-threshold=2").arg("-holders=Ada,Grace Hopper");
    let refused = init(&cluster).arg(sheets(&folder)).run().expect_code(1);
    assert!(refused.stderr.contains("there already"), "{refused:?}");
    at(&cluster, 0, "operator init -status").run().expect_code(2);

    let folder = cluster.folder().join("other");
    let output = init(&cluster).arg(sheets(&folder)).run().expect_code(0);
    for name in ["share-1-ada.html", "share-2-grace-hopper.html"] {
        let file = folder.join(name);
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&file).unwrap()) & 0o777;
        assert!(mode == 0o600 && output.stdout.contains(&file.display().to_string()), "{mode:o} {output:?}");
    }
    assert!(!output.stdout.contains("Unseal Key"), "what is on paper is not on the screen: {output:?}");

    // Into a pipe: done, as scripts expect, and warned of; programs are not warned.
    let mut other = Cluster::builder().nodes(1).lay_out_beside(&cluster);
    other.start().await;
    let piped = eventually("init into a pipe", ELECTION_MAX, async || {
        let output = at(&other, 0, "operator init -key-shares=1 -key-threshold=1").run();
        if output.code == Some(0) { Ok(output) } else { Err(output.stderr) }
    })
    .await;
    assert!(piped.stderr.contains("no terminal") && piped.stdout.contains("Unseal Key 1: "), "{piped:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn shares_are_renewed_step_by_step_and_the_old_ones_open_until_the_new_ones_have_come_back() {
    let mut cluster = Cluster::builder().start().await;
    let output = made(&mut cluster, "operator init -key-shares=3 -key-threshold=2 -holders=Ada,Grace,Alan -format=json").await;
    assert!(!output.stderr.contains("Warning"), "{output:?}");
    let old = cluster.keys().shares.clone();
    for share in &old[..2] {
        at(&cluster, 0, "operator unseal -").stdin(share).run().expect_code(0);
    }
    cluster.await_sealed(&[0, 1, 2], false, OPEN_MAX).await;

    // By verbs, as Vault's, and nobody without a token or a share starts or ends anything.
    at(&cluster, 0, "operator rekey -init").run().expect_code(2);
    let started =
        with_token(&cluster, 0, "operator rekey -init -remove-holder=Alan -add-holder=Emmy -format=json").run().expect_code(0).json();
    assert_eq!((&started["n"], &started["t"]), (&json!(3), &json!(2)), "{started}");
    at(&cluster, 1, "operator rekey -cancel").run().expect_code(2);
    at(&cluster, 1, "operator rekey -cancel -share=-").stdin("AAAA").run().expect_code(2);
    assert!(at(&cluster, 1, "operator rekey -cancel").arg(format!("-share={}", old[0])).run().expect_code(1).stderr.contains("history"));
    at(&cluster, 1, "operator rekey -cancel -share=-").stdin(&old[1]).run().expect_code(0);
    assert!(at(&cluster, 2, "operator rekey -").stdin(&old[0]).run().expect_code(1).stderr.contains("no rekey is under way"));

    // The whole way at one terminal.
    let mut walk = with_token(&cluster, 1, "operator rekey -remove-holder=Alan -add-holder=Emmy").at_terminal(60);
    walk.wait_for("Ada, Grace, Emmy");
    walk.wait_for("Start? [y/N] ");
    walk.type_line("y");
    for share in [&old[2], &old[0]] {
        walk.wait_for("Next old share (not shown; nothing: leave): ");
        walk.type_line(share);
    }
    let new = new_shares(&mut walk, &["Ada", "Grace", "Emmy"]);
    walk.wait_for("0 of 2 new shares have come back.");
    walk.wait_for("Next new share (not shown; nothing: leave): ");
    walk.type_line(&old[0]);
    walk.wait_for("Not taken: ");
    walk.wait_for("New share (not shown): ");
    walk.type_line(&new[2]);
    walk.wait_for("Can still come: Ada, Grace.");
    walk.wait_for("Next new share (not shown; nothing: leave): ");
    walk.type_line("");
    let (code, shown) = walk.end();
    assert!(code == Some(0) && flowing(&shown).contains("the old ones open the cluster"), "{shown}");
    assert_secret(&[&shown], &[&old[0], &old[2]]);

    // Not in force yet: the old ones open.
    at(&cluster, 0, "operator verify-share -").stdin(&old[0]).run().expect_code(0);
    let told = at(&cluster, 0, "operator verify-share -").stdin(&new[0]).run().expect_code(0);
    assert!(flowing(&told.stdout).contains("not in force yet"), "{told:?}");
    let status = with_token(&cluster, 2, "operator rekey -verify -status -format=json").run().expect_code(0).json();
    assert_eq!(status["progress"], json!(1), "{status}");
    let done = at(&cluster, 2, "operator rekey -verify -").stdin(&new[0]).run().expect_code(0);
    assert!(done.stdout.contains("The new shares are in force"), "{done:?}");
    at(&cluster, 0, "operator verify-share -").stdin(&old[0]).run().expect_code(2);

    let sealed = with_token(&cluster, 0, "operator seal").run().expect_code(0);
    for node in ["n1", "n2", "n3"] {
        assert!(sealed.stdout.lines().any(|line| line.starts_with(node) && line.ends_with("sealed")), "{sealed:?}");
    }
    cluster.await_sealed(&[0, 1, 2], true, OPEN_MAX).await;
    at(&cluster, 1, "operator unseal -").stdin(&old[1]).run().expect_code(2);
    at(&cluster, 1, "operator unseal -").stdin(&new[1]).run().expect_code(0);
    at(&cluster, 2, "operator unseal -").stdin(&new[2]).run().expect_code(0);
    cluster.await_sealed(&[0, 1, 2], false, OPEN_MAX).await;
    cluster.assert_sound();
}

/// Takes the new shares that are handed out one after the other, each on a screen of its own.
fn new_shares(walk: &mut Terminal, names: &[&str]) -> Vec<String> {
    let mut shares = Vec::new();
    for (at, name) in names.iter().enumerate() {
        walk.wait_for(&format!("\u{1b}[H{}", format_args!("Share {} of {}, for {name}", at + 1, names.len())));
        walk.wait_for("Return shows the share: ");
        walk.type_line("");
        let shown = walk.wait_for("Return clears the screen: ");
        let share = shown.lines().map(str::trim).find(|line| line.len() == 52 && !line.contains(' '));
        shares.push(share.unwrap_or_else(|| panic!("no share in {shown}")).to_owned());
        walk.type_line("");
    }
    shares
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_token_is_made_by_a_quorum_and_the_other_acts_say_what_they_did() {
    let mut cluster = Cluster::builder().open().await;
    let shares = cluster.keys().shares.clone();

    // As scripts do it.
    let otp = at(&cluster, 0, "operator generate-root -generate-otp").run().expect_code(0).stdout.trim().to_owned();
    let started =
        with_token(&cluster, 0, "operator generate-root -init -format=json").arg(format!("-otp={otp}")).run().expect_code(0).json();
    assert_eq!(started["otp_length"].as_u64(), Some(otp.len() as u64), "{started}");
    let nonce = format!("-nonce={}", started["nonce"].as_str().unwrap());
    at(&cluster, 1, "operator generate-root -").arg(&nonce).stdin(&shares[0]).run().expect_code(0);
    at(&cluster, 2, "operator generate-root -").stdin(&shares[3]).run().expect_code(0);
    let encoded = at(&cluster, 0, "operator generate-root -field=encoded_token -").stdin(&shares[4]).run().expect_code(0).stdout;
    let token = at(&cluster, 0, "operator generate-root -otp=-").arg(format!("-decode={encoded}")).stdin(&otp).run().expect_code(0).stdout;
    let address = cluster.nodes[1].api_address();
    Command::new("token lookup").to(&address, token.trim()).run().expect_code(0);

    // At one terminal.
    let mut walk = with_token(&cluster, 1, "operator generate-root").at_terminal(NARROW);
    walk.wait_for("Start? [y/N] ");
    walk.type_line("y");
    for share in &shares[..3] {
        walk.wait_for("Next share (not shown; nothing: leave): ");
        walk.type_line(share);
    }
    let (code, shown) = walk.end();
    assert_eq!(code, Some(0), "{shown}");
    assert_fits(&shown, NARROW);
    let second = shown.split_once("Root Token: ").and_then(|(_, rest)| rest.lines().next()).unwrap();
    assert_ne!(second, token.trim());
    Command::new("token revoke -self").to(&address, second).run().expect_code(0);
    let none = at(&cluster, 0, "operator generate-root -").stdin(&shares[0]).run().expect_code(1);
    assert!(none.stderr.contains("no root token is being generated"), "{none:?}");

    let rotated = with_token(&cluster, 2, "operator rotate").run().expect_code(0);
    assert!(rotated.stdout.contains("Key Term") && rotated.stdout.contains('2'), "{rotated:?}");
    assert_eq!(with_token(&cluster, 0, "operator key-status -format=json").run().expect_code(0).json()["term"], json!(2));
    with_token(&cluster, 0, "operator rotation -max-operations=1000000 -interval=720h").run().expect_code(0);
    let rotation = with_token(&cluster, 1, "operator rotation -format=json").run().expect_code(0).json();
    assert_eq!(rotation["max_operations"], json!(1_000_000), "{rotation}");
    let refused = with_token(&cluster, 1, "operator rotation -interval=1s").run().expect_code(2);
    assert!(refused.stderr.contains("24"), "{refused:?}");

    let seals = with_token(&cluster, 0, "operator seals list").run().expect_code(0);
    assert!(seals.stdout.contains("any 3 of 5 shares"), "{seals:?}");
    // Which node needs the key is known when a quorum has come; until then the change can be seen and cancelled.
    with_token(&cluster, 0, "operator seals add 2026").stdin(&shares[0]).run().expect_code(0);
    let status = with_token(&cluster, 1, "operator seals status -format=json").run().expect_code(0).json();
    assert_eq!((&status["change"], &status["progress"]), (&json!("add"), &json!(1)), "{status}");
    let other = with_token(&cluster, 1, "operator seals remove 2026").stdin(&shares[1]).run().expect_code(1);
    assert!(other.stderr.contains("another change"), "{other:?}");
    with_token(&cluster, 2, "operator seals cancel").run().expect_code(0);
    assert_eq!(with_token(&cluster, 1, "operator seals status -format=json").run().expect_code(0).json()["started"], json!(false));

    let one = with_token(&cluster, 0, "operator seal -node=n3").run().expect_code(0);
    assert!(one.stdout.contains("n3 is sealed"), "{one:?}");
    cluster.await_sealed(&[2], true, OPEN_MAX).await;
    cluster.await_sealed(&[0, 1], false, OPEN_MAX).await;
    assert!(with_token(&cluster, 0, "operator seal -node=n9").run().expect_code(1).stderr.contains("n1, n2, n3"));
    // A node that is down cannot confirm, and that is said.
    cluster.nodes[1].kill();
    let sealed = with_token(&cluster, 0, "operator seal").run();
    assert!(sealed.code == Some(2) && sealed.stderr.contains("n2"), "{sealed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rehearsal_does_what_it_says_and_leaves_nothing() {
    let _turn = tests::turn();
    let folder = tempfile::tempdir().unwrap();
    let rehearse = Command::new("operator rehearse -yes -key-shares=3 -key-threshold=2").env("TMPDIR", folder.path());
    let output = rehearse.within(REHEARSAL_MAX).run().expect_code(0);
    for text in ["1. MAKE THE KEYS", "9. READ THE JOURNAL", "Everything did what it said", "$ conclave operator seal"] {
        assert!(output.stdout.contains(text), "{text}: {output:?}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "its folder is removed");
    let refused = Command::new("operator rehearse").run().expect_code(1);
    assert!(refused.stderr.contains("-yes"), "{refused:?}");
}
