//! `conclave operator share-sheet` as people and scripts run it: what it asks, where the share goes, and where it must not.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;

use crypto::{Quorum, SealKey, SeededRng, Share, ShareTag};

const CLUSTER: [u8; 16] = [0x5c, 0x3f, 0x0d, 0x9e, 0x4a, 0x52, 0x4a, 0x77, 0x9f, 0x3c, 0x0f, 0x8e, 0x6f, 0x3d, 0x2b, 0x1a];

/// One of five shares of the cluster.
fn share(number: usize) -> Share {
    let (key, rng) = (SealKey::with_bytes(|bytes| *bytes = [7; 32]), SeededRng::dangerous_from_seed(1));
    crypto::shamir::split(&key, Quorum::new(5, 3).unwrap(), ShareTag::of(&CLUSTER), &rng).swap_remove(number - 1)
}

fn run(folder: &Path, args: &[&str], stdin: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_conclave"));
    command.args(["operator", "share-sheet"]).args(args).current_dir(folder).env_clear().env("HOME", folder).env("RUST_LOG", "trace");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A command that does not read stdin may be gone already.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A node that says this of its seal, to whoever asks anything; tells its address.
fn node(status: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("-address=http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut asked = Vec::new();
            let mut buffer = [0; 1024];
            while !asked.windows(4).any(|end| end == b"\r\n\r\n") {
                match stream.read(&mut buffer) {
                    Ok(read @ 1..) => asked.extend_from_slice(&buffer[..read]),
                    _ => break,
                }
            }
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                status.len()
            );
            let _ = stream.write_all(format!("{head}{status}").as_bytes());
        }
    });
    address
}

#[test]
fn a_sheet_tells_of_the_cluster_and_holds_the_share() {
    let folder = tempfile::tempdir().unwrap();
    let address = node(
        r#"{"initialized":true,"sealed":true,"t":3,"n":5,"cluster_name":"production","cluster_id":"5c3f0d9e-4a52-4a77-9f3c-0f8e6f3d2b1a"}"#,
    );
    let output = run(folder.path(), &[&address, "-holder=Ada", "-qr"], &share(2).to_hex());
    let (base64, hex) = (share(2).to_base64(), share(2).to_hex());
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    for part in
        [base64.as_str(), "production", "5c3f0d9e-4a52", "2 of 5", "any 3 of its 5 shares", "Ada", "▀", "conclave operator verify-share"]
    {
        assert!(stdout.contains(part), "{part}: {stdout}");
    }
    assert!(!stdout.contains('\x1b'), "what is no terminal gets no colours");
    assert!(!stderr.contains(&base64[20..28]) && !stderr.contains(&hex[20..28]), "{stderr}");
}

#[test]
fn a_share_that_the_cluster_cannot_have_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (status, code, why) in [
        (r#"{"initialized":true,"sealed":false,"t":1,"n":1,"cluster_name":"lab"}"#, 1, "this is share 2, and lab has 1"),
        (
            r#"{"initialized":true,"sealed":false,"t":3,"n":5,"cluster_name":"other","cluster_id":"00000000-4a52-4a77-9f3c-0f8e6f3d2b1a"}"#,
            1,
            "of another cluster than other",
        ),
        (r#"{"initialized":false,"sealed":true,"t":0,"n":0}"#, 2, "has no keys yet"),
    ] {
        let output = run(folder.path(), &[&node(status)], &share(2).to_base64());
        assert_eq!(output.status.code(), Some(code));
        assert!(text(&output.stderr).contains(why) && output.stdout.is_empty(), "{}", text(&output.stderr));
    }
}

#[test]
fn without_a_node_only_what_is_offline_works() {
    let folder = tempfile::tempdir().unwrap();
    let nobody = format!("-address=http://{}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    let output = run(folder.path(), &[&nobody], &share(2).to_base64());
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("-offline") && output.stdout.is_empty(), "{}", text(&output.stderr));
    let output = run(folder.path(), &[&nobody, "-offline"], &share(2).to_base64());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("Cluster   ____"));
}

#[test]
fn a_file_is_private_whole_and_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["-offline", "-html=sheet.html", "-holder=Ada <script> & Co"];
    let base64 = share(2).to_base64();
    let output = run(folder.path(), &args, &base64);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let file = folder.path().join("sheet.html");
    let page = std::fs::read_to_string(&file).unwrap();
    assert!(
        page.contains(base64.as_str())
            && page.ends_with("</html>\n")
            && page.contains("Ada &lt;script&gt; &amp; Co")
            && !page.contains("<script")
    );
    assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    assert!(text(&output.stdout).contains("shred -u sheet.html"));
    for stream in [&output.stdout, &output.stderr] {
        assert!(!text(stream).contains(&base64[20..28]), "the share is in the file only");
    }

    let output = run(folder.path(), &args, &share(3).to_base64());
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("nothing is overwritten"));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), page);

    let output = run(folder.path(), &["-offline", "-html=other.html", "-format=json"], &base64);
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap(), serde_json::json!({"file": "other.html"}));
}

#[test]
fn what_is_no_share_makes_no_sheet_and_is_not_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let base64 = share(2).to_base64();
    for (args, stdin, why) in [
        (&["-offline", "-html=sheet.html"][..], &base64[..40], "has 40 characters"),
        (&["-offline"], "", "nothing was given"),
        (&["-offline", "-holder=a\u{202e}b"], base64.as_str(), "-holder"),
        (&["-offline", "-format=json"], base64.as_str(), "for people"),
        (&["-offline", "-field=share"], base64.as_str(), "for people"),
        // On the command line it would stay in the shell's history.
        (&["-offline", base64.as_str()], "", "unexpected argument"),
    ] {
        let output = run(folder.path(), args, stdin);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        let stderr = text(&output.stderr);
        assert!(stderr.contains(why) && output.stdout.is_empty(), "{args:?}: {stderr}");
        assert!(stdin.is_empty() || !stderr.contains(&stdin[20..28]), "{args:?}: {stderr}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "no file was made");
}
