//! Shares and root tokens that are encrypted to people: `bao` asks for it, `gpg` and `age` decrypt.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tests::Cluster;
use tests::raw::request;

use crate::bao::Bao;
use crate::check::Tally;
use crate::check::Want::{Json, Says};
use crate::needs;

/// How long the first leader may take.
const LEADER_TIMEOUT: Duration = Duration::from_secs(20);
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// A keyring of its own, with a key for each of two people.
struct Gpg {
    home: tempfile::TempDir,
}

impl Gpg {
    fn new() -> Gpg {
        // Short: the agent's socket lies in it.
        let gpg = Gpg { home: tempfile::Builder::new().prefix("gpg").tempdir().expect("the system has a temporary folder") };
        for name in ["ada", "grace"] {
            gpg.run(&["--batch", "--passphrase", "", "--quick-generate-key", name, "default", "default", "never"], b"");
            std::fs::write(gpg.file(name), gpg.run(&["--export", name], b"")).expect("a file can be made in a new folder");
        }
        gpg
    }

    fn file(&self, name: &str) -> PathBuf {
        self.home.path().join(format!("{name}.gpg"))
    }

    fn run(&self, args: &[&str], input: &[u8]) -> Vec<u8> {
        use std::io::Write as _;
        let mut command = Command::new("gpg");
        command.env("GNUPGHOME", self.home.path()).args(["--quiet", "--no-tty", "--pinentry-mode", "loopback"]).args(args);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("gpg runs");
        child.stdin.take().expect("stdin is piped").write_all(input).expect("gpg reads");
        let output = child.wait_with_output().expect("gpg ends");
        assert!(output.status.success(), "gpg {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// What a base64 text is, decrypted.
    fn decrypt(&self, text: &Value) -> String {
        let message = STANDARD.decode(text.as_str().unwrap_or_default()).expect("an encrypted share is base64");
        String::from_utf8(self.run(&["--batch", "--decrypt"], &message)).expect("a share is text")
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        // Its agent would outlive it.
        let _ = Command::new("gpgconf").args(["--kill", "all"]).env("GNUPGHOME", self.home.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_bao_has_encrypted_gpg_decrypts() {
    let (Some(program), Some(_)) = (needs::bao(), needs::gpg()) else { return };
    let cluster = Cluster::builder().start().await;
    let bao = Bao::of(program, &cluster);
    let gpg = Gpg::new();
    let mut tally = Tally::default();
    let keys = format!("{},{}", gpg.file("ada").display(), gpg.file("grace").display());

    // Init.
    let line = format!(
        "operator init -key-shares=2 -key-threshold=2 -pgp-keys={keys} -root-token-pgp-key={} -format=json",
        gpg.file("grace").display()
    );
    let deadline = Instant::now() + LEADER_TIMEOUT;
    let init = loop {
        let output = bao.run_at(0, &line, "");
        if output.code == Some(0) || Instant::now() > deadline {
            tally.judge("init", &output, 0, &[Json("/unseal_threshold", "2")]);
            break output.json();
        }
        std::thread::sleep(POLL_INTERVAL);
    };
    let shares = [&init["unseal_keys_b64"][0], &init["unseal_keys_b64"][1]].map(|share| gpg.decrypt(share));
    for (at, share) in shares.iter().enumerate() {
        bao.check_at(&mut tally, &format!("share {} opens", at + 1), at, &format!("operator unseal {share}"), 0, &[]);
    }
    cluster.await_sealed(&[0, 1, 2], false, LEADER_TIMEOUT).await;
    let bao = bao.token(&gpg.decrypt(&init["root_token"]));
    bao.check_at(&mut tally, "the root token is good", 2, "token lookup", 0, &[Says("auth/token/root")]);

    // New shares, for the same people in another order, with a backup.
    let keys = format!("{},{}", gpg.file("grace").display(), gpg.file("ada").display());
    let start = format!("operator rotate-keys -init -key-shares=2 -key-threshold=2 -pgp-keys={keys} -backup -verify -format=json");
    let started = bao.check_at(&mut tally, "new shares", 0, &start, 0, &[Json("/required", "2")]).json();
    let enter = |share: &str| format!("operator rotate-keys -nonce={} -format=json {share}", started["nonce"].as_str().unwrap_or_default());
    bao.check_at(&mut tally, "an old share", 1, &enter(&shares[0]), 0, &[Json("/progress", "1")]);
    let renewed = bao.check_at(&mut tally, "the other old share", 2, &enter(&shares[1]), 0, &[Json("/complete", "true")]).json();
    let new = [&renewed["keys_base64"][0], &renewed["keys_base64"][1]].map(|share| gpg.decrypt(share));
    let backup = bao.check_at(&mut tally, "the backup", 0, "read -format=json sys/rotate/root/backup", 0, &[]).json();
    let fingerprints = renewed["pgp_fingerprints"].as_array().cloned().unwrap_or_default();
    tally.note("two fingerprints", (fingerprints.len() != 2).then(|| renewed.to_string()));
    for (at, fingerprint) in fingerprints.iter().enumerate() {
        let kept = &backup["data"]["keys_base64"][fingerprint.as_str().unwrap_or_default()][0];
        tally.note("the backup holds the same", (kept != &renewed["keys_base64"][at]).then(|| backup.to_string()));
    }
    let verify =
        |share: &str| format!("operator rotate-keys -verify -nonce={} {share}", renewed["verification_nonce"].as_str().unwrap_or_default());
    bao.check_at(&mut tally, "a new share", 1, &verify(&new[0]), 0, &[]);
    bao.check_at(&mut tally, "the other new share", 0, &verify(&new[1]), 0, &[]);
    bao.check_at(&mut tally, "the backup is deleted", 2, "operator rotate-keys -backup-delete", 0, &[]);

    // A root token.
    let start = format!("operator generate-root -init -pgp-key={} -format=json", gpg.file("ada").display());
    let started = bao.check_at(&mut tally, "a root token", 0, &start, 0, &[]).json();
    let enter =
        |share: &str| format!("operator generate-root -nonce={} -format=json {share}", started["nonce"].as_str().unwrap_or_default());
    bao.check_at(&mut tally, "a share for it", 1, &enter(&new[1]), 0, &[Json("/progress", "1")]);
    let generated = bao.check_at(&mut tally, "the other share for it", 2, &enter(&new[0]), 0, &[Json("/complete", "true")]).json();
    let token = gpg.decrypt(&generated["encoded_token"]);
    bao.token(&token).check_at(&mut tally, "it is good", 1, "token lookup", 0, &[Says("auth/token/root")]);
    tally.finish(16);
}

/// Ours: age recipients, and names.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_encrypted_to_age_recipients_age_decrypts() {
    if needs::age().is_none() {
        return;
    }
    let cluster = Cluster::builder().nodes(1).start().await;
    let folder = tempfile::tempdir().expect("the system has a temporary folder");
    let (first, second) = (identity(folder.path(), "ada"), identity(folder.path(), "grace"));
    let body = json!({
        "secret_shares": 2, "secret_threshold": 2, "holders": ["Ada", "Grace"], "recipients": [first, second],
        "root_token_recipient": first,
    });
    let port = cluster.nodes[0].api_port;
    let deadline = Instant::now() + LEADER_TIMEOUT;
    let init = loop {
        let answer = request(port, "PUT /v1/sys/init", &[], &body.to_string());
        if answer.status == 200 || Instant::now() > deadline {
            assert_eq!(answer.status, 200, "{answer:?}");
            break answer.json();
        }
        std::thread::sleep(POLL_INTERVAL);
    };
    let opened = |text: &Value, name: &str| age_decrypt(folder.path(), name, text);
    for (at, name) in ["ada", "grace"].into_iter().enumerate() {
        let share = opened(&init["keys_base64"][at], name);
        let answer = request(port, "PUT /v1/sys/unseal", &[], &json!({ "key": share }).to_string());
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    cluster.await_sealed(&[0], false, LEADER_TIMEOUT).await;
    let token = opened(&init["root_token"], "ada");
    let seals = request(port, "GET /v1/sys/seals", &[&format!("X-Vault-Token: {token}")], "").json();
    let holder = &seals["data"]["shamir"]["holders"][1];
    assert_eq!((&holder["name"], &holder["recipient"]), (&json!("Grace"), &json!(second)));
    assert!(holder["last_verified_time"].is_string(), "it was seen at the unseal: {holder}");
}

/// Ours: keys in files as people have them, one of each kind; and what comes out goes straight to the next command.
#[tokio::test(flavor = "multi_thread")]
async fn what_our_command_line_has_encrypted_goes_from_gpg_and_age_to_the_next_command() {
    let (Some(_), Some(_)) = (needs::gpg(), needs::age()) else { return };
    let cluster = Cluster::builder().nodes(1).start().await;
    let gpg = Gpg::new();
    let emmy = identity(gpg.home.path(), "emmy");
    let armored = gpg.home.path().join("ada.asc");
    std::fs::write(&armored, gpg.run(&["--armor", "--export", "ada"], b"")).expect("a file can be made in a new folder");
    let conclave = |args: &str| tests::Command::new(args).env("CONCLAVE_ADDR", cluster.nodes[0].api_address());

    let line = format!(
        "operator init -key-shares=2 -key-threshold=2 -holders=Ada,Emmy -recipients={},{emmy} -root-token-pgp-key={} -format=json",
        armored.display(),
        gpg.file("grace").display()
    );
    let init = tests::eventually("init", LEADER_TIMEOUT, async || {
        let output = conclave(&line).run();
        if output.code == Some(0) { Ok(output.json()) } else { Err(output.stderr) }
    })
    .await;
    let keys = &init["unseal_keys_b64"];
    let old = [gpg.decrypt(&keys[0]), age_decrypt(gpg.home.path(), "emmy", &keys[1])];
    for share in &old {
        conclave("operator unseal").stdin(share).run().expect_code(0);
    }
    cluster.await_sealed(&[0], false, LEADER_TIMEOUT).await;
    let token = gpg.decrypt(&init["root_token"]);
    let with_token = |args: &str| conclave(args).env("CONCLAVE_TOKEN", &token);

    let keys = format!("-pgp-keys={},{}", gpg.file("ada").display(), gpg.file("grace").display());
    with_token(&format!("operator rekey -init -key-shares=2 -key-threshold=2 -holders=Ada,Grace -backup {keys}")).run().expect_code(0);
    conclave("operator rekey").stdin(&old[0]).run().expect_code(0);
    let told = conclave("operator rekey").stdin(&old[1]).run().expect_code(0);
    assert!(!told.stderr.contains("Warning") && told.stdout.contains("Unseal Key 2 (Grace): "), "nobody but Grace can use it: {told:?}");
    let kept = with_token("operator rekey -backup-retrieve -format=json").run().expect_code(0).json();
    let new: Vec<String> =
        kept["keys_base64"].as_object().expect("by fingerprint").values().map(|shares| gpg.decrypt(&shares[0])).collect();
    for share in &new {
        conclave("operator rekey -verify").stdin(share).run().expect_code(0);
    }
    conclave("operator verify-share").stdin(&old[0]).run().expect_code(2);
    with_token("operator rekey -backup-delete").run().expect_code(0);
    with_token("operator rekey -backup-retrieve").run().expect_code(2);

    with_token(&format!("operator generate-root -init -pgp-key={}", gpg.file("grace").display())).run().expect_code(0);
    conclave("operator generate-root").stdin(&new[0]).run().expect_code(0);
    let encoded = conclave("operator generate-root -format=json").stdin(&new[1]).run().expect_code(0).json();
    let token = gpg.decrypt(&encoded["encoded_token"]);
    conclave("token lookup").env("CONCLAVE_TOKEN", &token).run().expect_code(0);
}

/// What a base64 text is, decrypted by the identity in a file.
fn age_decrypt(folder: &Path, name: &str, text: &Value) -> String {
    let message = folder.join("message");
    std::fs::write(&message, STANDARD.decode(text.as_str().unwrap_or_default()).expect("base64")).expect("written");
    let output = Command::new("age").args(["--decrypt", "--identity"]).arg(folder.join(name)).arg(&message).output();
    let output = output.expect("age runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("a share is text")
}

/// A new identity in a file; its recipient.
fn identity(folder: &Path, name: &str) -> String {
    let file = folder.join(name);
    let made = Command::new("age-keygen").arg("-o").arg(&file).output().expect("age-keygen runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let shown = Command::new("age-keygen").arg("-y").arg(&file).output().expect("age-keygen runs");
    String::from_utf8(shown.stdout).expect("a recipient is text").trim().to_owned()
}
