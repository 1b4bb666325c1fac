//! What GnuPG and age make of our messages, with keys that they make themselves.
//!
//! Needs `gpg`, `gpgconf`, `age` and `age-keygen`. Where one is missing, a test fails, unless `CONCLAVE_TEST_NEEDS` is `none`: then it says that it
//! is skipped.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crypto::{OsRng, Rng as _};
use recipients::{Recipient, RecipientError};
use tempfile::TempDir;
use types::{Clock as _, SystemClock};

/// As long as the hex text of a share of Vault, and of ours; a token; nothing at all; all bytes.
fn secrets() -> Vec<Vec<u8>> {
    let mut random = vec![0; 34];
    OsRng::new().fill(&mut random);
    let hex = random.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into_bytes();
    vec![hex, b"hvs.CAESIJ5Wn".to_vec(), Vec::new(), (0..=255).collect(), vec![b'\n'; recipients::SECRET_BYTES_MAX]]
}

/// Whether `programs` are there; says so if not.
fn has(programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let missing = programs.iter().find(|program| !std::env::split_paths(&path).any(|folder| folder.join(program).is_file()));
    let Some(missing) = missing else { return true };
    let text = format!("`{missing}` is missing: apt-get install gnupg age");
    assert!(std::env::var_os("CONCLAVE_TEST_NEEDS").is_some_and(|needs| needs == "none"), "{text}");
    // Past the capture of what a passing test prints.
    let _ = std::io::stderr().write_all(format!("\nSKIPPED: {text}\n\n").as_bytes());
    false
}

/// A keyring of GnuPG, whose agent ends with it.
struct Gpg(TempDir);

impl Gpg {
    fn new() -> Gpg {
        let home = tempfile::tempdir().unwrap();
        std::fs::set_permissions(home.path(), PermissionsExt::from_mode(0o700)).unwrap();
        Gpg(home)
    }

    fn try_run(&self, args: &[&str], stdin: &[u8]) -> Output {
        let mut command = Command::new("gpg");
        command.args(["--batch", "--yes", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""]).args(args);
        run(command.env("GNUPGHOME", self.0.path()), stdin)
    }

    fn run(&self, args: &[&str], stdin: &[u8]) -> Vec<u8> {
        let output = self.try_run(args, stdin);
        assert!(output.status.success(), "gpg {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// A key with a subkey that encrypts, if `subkey` names an algorithm; tells its fingerprint.
    fn generate(&self, name: &str, primary: &str, usage: &str, subkey: Option<&str>) -> String {
        self.run(&["--quick-gen-key", name, primary, usage, "never"], b"");
        let listing = String::from_utf8(self.run(&["--with-colons", "--list-keys", name], b"")).unwrap();
        let fingerprint = listing.lines().find_map(|line| line.strip_prefix("fpr:")).unwrap().trim_matches(':').to_owned();
        if let Some(subkey) = subkey {
            self.run(&["--quick-add-key", &fingerprint, subkey, "encr", "never"], b"");
        }
        fingerprint
    }

    fn export(&self, name: &str) -> Vec<u8> {
        self.run(&["--export", name], b"")
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        let _ = Command::new("gpgconf").args(["--kill", "all"]).env("GNUPGHOME", self.0.path()).status();
    }
}

fn run(command: &mut Command, stdin: &[u8]) -> Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(stdin);
    child.wait_with_output().unwrap()
}

#[test]
fn gpg_decrypts_what_is_encrypted_to_each_kind_of_key() {
    if !has(&["gpg", "gpgconf"]) {
        return;
    }
    let (gpg, rng, now) = (Gpg::new(), OsRng::new(), SystemClock.now());
    for (name, primary, usage, subkey) in [
        ("curve@example.org", "ed25519", "cert,sign", Some("cv25519")),
        ("rsa@example.org", "rsa2048", "cert,sign", Some("rsa2048")),
        ("p256@example.org", "nistp256", "cert,sign", Some("nistp256")),
        ("p384@example.org", "nistp384", "cert,sign", Some("nistp384")),
        ("p521@example.org", "nistp521", "cert,sign", Some("nistp521")),
        // Without subkeys, as keys were in the nineties.
        ("alone@example.org", "rsa2048", "cert,sign,encr", None),
    ] {
        let fingerprint = gpg.generate(name, primary, usage, subkey);
        let binary = gpg.export(name);
        let armored = gpg.run(&["--armor", "--export", name], b"");
        let recipient = Recipient::openpgp(STANDARD.encode(&binary).as_bytes(), now).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(recipient.fingerprint(), fingerprint.to_lowercase(), "{name}");
        assert!([&binary, &armored].iter().all(|form| Recipient::openpgp(form, now).unwrap() == recipient), "{name}");
        for secret in secrets() {
            let message = recipient.encrypt(&secret, &rng).unwrap();
            assert!(gpg.run(&["--decrypt"], &message) == secret, "{name}");
            let message = recipient.encrypt_armored(&secret, &rng).unwrap();
            assert!(gpg.run(&["--decrypt"], message.as_bytes()) == secret, "{name}, armored");
        }
        let mut damaged = recipient.encrypt(b"secret", &rng).unwrap();
        *damaged.last_mut().unwrap() ^= 1;
        assert!(!gpg.try_run(&["--decrypt"], &damaged).status.success(), "{name}: the message is protected");
    }
}

#[test]
fn what_gpg_revokes_expires_or_keeps_private_is_refused() {
    if !has(&["gpg", "gpgconf"]) {
        return;
    }
    let (gpg, now) = (Gpg::new(), SystemClock.now());
    let name = "ada@example.org";
    let fingerprint = gpg.generate(name, "ed25519", "cert,sign", Some("cv25519"));
    let good = gpg.export(name);
    let private = gpg.run(&["--export-secret-keys", name], b"");
    let armored = gpg.run(&["--armor", "--export-secret-subkeys", name], b"");
    for key in [&private, &armored] {
        assert_eq!(Recipient::openpgp(key, now).unwrap_err(), RecipientError::PrivateKey);
    }
    // An end that is moved: the newest signature decides.
    gpg.run(&["--faked-system-time", "20991231T000000", "--quick-set-expire", &fingerprint, "1y"], b"");
    let later = types::Timestamp(4_133_980_800_000);
    assert!(Recipient::openpgp(&gpg.export(name), later).is_err());
    Recipient::openpgp(&good, now).unwrap();

    let certificate: PathBuf = gpg.0.path().join("openpgp-revocs.d").join(format!("{fingerprint}.rev"));
    let revocation = std::fs::read_to_string(certificate).unwrap().replace(":-----BEGIN", "-----BEGIN");
    gpg.run(&["--import"], revocation.as_bytes());
    assert_eq!(
        Recipient::openpgp(&gpg.export(name), now).unwrap_err(),
        RecipientError::Revoked { fingerprint: fingerprint.to_lowercase() }
    );
}

#[test]
fn age_decrypts_what_is_encrypted_to_its_key() {
    if !has(&["age", "age-keygen"]) {
        return;
    }
    let (folder, rng) = (tempfile::tempdir().unwrap(), OsRng::new());
    let identity = folder.path().join("identity");
    assert!(run(Command::new("age-keygen").arg("-o").arg(&identity), b"").status.success());
    let printed = run(Command::new("age-keygen").arg("-y").arg(&identity), b"").stdout;
    let text = String::from_utf8(printed).unwrap();
    let recipient = Recipient::age(&text).unwrap();
    assert_eq!(recipient.fingerprint(), text.trim());
    let decrypt = |message: &[u8]| run(Command::new("age").arg("--decrypt").arg("-i").arg(&identity), message);
    for secret in secrets() {
        for message in [recipient.encrypt(&secret, &rng).unwrap(), recipient.encrypt_armored(&secret, &rng).unwrap().into_bytes()] {
            let output = decrypt(&message);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert!(output.stdout == secret);
        }
    }
    let mut damaged = recipient.encrypt(b"secret", &rng).unwrap();
    *damaged.last_mut().unwrap() ^= 1;
    assert!(!decrypt(&damaged).status.success());
}
