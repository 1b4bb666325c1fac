//! `conclave operator share-sheet` as people and scripts run it: what it asks, where the share goes, and where it must not.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;

/// Share 2, of bytes that count up.
const SHARE: &str = "AQIAAQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHw==";
/// The same in hex.
const SHARE_HEX: &str = "0102000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

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
    let address = node(r#"{"initialized":true,"sealed":true,"t":3,"n":5,"cluster_name":"production","cluster_id":"5c3f0d9e"}"#);
    let output = run(folder.path(), &[&address, "-holder=Ada", "-qr"], SHARE_HEX);
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    for part in [SHARE, "production", "5c3f0d9e", "2 of 5", "any 3 of its 5 shares", "Ada", "▀", "conclave operator verify-share"] {
        assert!(stdout.contains(part), "{part}: {stdout}");
    }
    assert!(!stdout.contains('\x1b'), "what is no terminal gets no colours");
    assert!(!stderr.contains(&SHARE[..8]) && !stderr.contains(&SHARE_HEX[..8]), "{stderr}");
}

#[test]
fn a_share_that_the_cluster_cannot_have_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (status, code, why) in [
        (r#"{"initialized":true,"sealed":false,"t":1,"n":1,"cluster_name":"lab"}"#, 1, "this is share 2, and lab has 1"),
        (r#"{"initialized":false,"sealed":true,"t":0,"n":0}"#, 2, "has no keys yet"),
    ] {
        let output = run(folder.path(), &[&node(status)], SHARE);
        assert_eq!(output.status.code(), Some(code));
        assert!(text(&output.stderr).contains(why) && output.stdout.is_empty(), "{}", text(&output.stderr));
    }
}

#[test]
fn without_a_node_only_what_is_offline_works() {
    let folder = tempfile::tempdir().unwrap();
    let nobody = format!("-address=http://{}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    let output = run(folder.path(), &[&nobody], SHARE);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("-offline") && output.stdout.is_empty(), "{}", text(&output.stderr));
    let output = run(folder.path(), &[&nobody, "-offline"], SHARE);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("Cluster   ____"));
}

#[test]
fn a_file_is_private_whole_and_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["-offline", "-html=sheet.html", "-holder=Ada <script> & Co"];
    let output = run(folder.path(), &args, SHARE);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let file = folder.path().join("sheet.html");
    let page = std::fs::read_to_string(&file).unwrap();
    assert!(
        page.contains(SHARE) && page.ends_with("</html>\n") && page.contains("Ada &lt;script&gt; &amp; Co") && !page.contains("<script")
    );
    assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    assert!(text(&output.stdout).contains("shred -u sheet.html"));
    for stream in [&output.stdout, &output.stderr] {
        assert!(!text(stream).contains(&SHARE[..8]), "the share is in the file only");
    }

    let output = run(folder.path(), &args, "AQMAAQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHw==");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("nothing is overwritten"));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), page);

    let output = run(folder.path(), &["-offline", "-html=other.html", "-format=json"], SHARE);
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap(), serde_json::json!({"file": "other.html"}));
}

#[test]
fn what_is_no_share_makes_no_sheet_and_is_not_repeated() {
    let folder = tempfile::tempdir().unwrap();
    for (args, stdin, why) in [
        (&["-offline", "-html=sheet.html"][..], &SHARE[..40], "has 40 characters"),
        (&["-offline"], "", "nothing was given"),
        (&["-offline", "-holder=a\u{202e}b"], SHARE, "-holder"),
        (&["-offline", "-format=json"], SHARE, "for people"),
        (&["-offline", "-field=share"], SHARE, "for people"),
        // On the command line it would stay in the shell's history.
        (&["-offline", SHARE], "", "unexpected argument"),
    ] {
        let output = run(folder.path(), args, stdin);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        let stderr = text(&output.stderr);
        assert!(stderr.contains(why) && output.stdout.is_empty(), "{args:?}: {stderr}");
        assert!(stdin.is_empty() || !stderr.contains(&stdin[..8]), "{args:?}: {stderr}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "no file was made");
}
