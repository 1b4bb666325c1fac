//! Init, unseal and seal by `bao`, with shares given to different nodes.

use std::time::{Duration, Instant};

use serde_json::Value;
use tests::Cluster;

use crate::bao::Bao;
use crate::check::Tally;
use crate::check::Want::{self, Json, Says, Warns};
use crate::needs;

/// Nodes learn of an opened or a sealed barrier from their peers, a moment after the command has ended.
const SPREAD_TIMEOUT: Duration = Duration::from_secs(20);
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// A well-formed share of no cluster.
const FOREIGN_SHARE: &str = "AgHyBskAAQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eH29H";

#[tokio::test(flavor = "multi_thread")]
async fn bao_opens_and_seals_a_cluster() {
    let Some(program) = needs::bao() else { return };
    let cluster = Cluster::builder().start().await;
    let bao = Bao::of(program, &cluster);
    let mut tally = Tally::default();

    before_keys(&bao, &mut tally);
    let keys = init(&bao, &mut tally);
    let share = |form: &str, at: usize| keys[form][at].as_str().unwrap_or_default().to_owned();
    sealed(&bao, &mut tally);
    shares(&bao, &mut tally, share);

    let bao = bao.token(keys["root_token"].as_str().unwrap_or_default());
    open(&bao, &mut tally);
    seal_and_open_again(&bao, &mut tally, share);
    tally.finish(40);
}

fn before_keys(bao: &Bao, tally: &mut Tally) {
    bao.check_at(
        tally,
        "status without keys",
        0,
        "status",
        2,
        &[Says("Initialized             false"), Says("Sealed                  true")],
    );
    bao.check_at(tally, "init -status without keys", 1, "operator init -status", 2, &[Says("not initialized")]);
    bao.check_at(tally, "no secrets without keys", 2, "kv get secret/a", 2, &[Warns("Code: 503"), Warns("Vault is sealed")]);
    bao.check_at(
        tally,
        "no unseal without keys",
        0,
        &format!("operator unseal {FOREIGN_SHARE}"),
        2,
        &[Warns("Code: 400"), Warns("not initialized")],
    );
    bao.check_at(
        tally,
        "init with a threshold above the shares",
        1,
        "operator init -key-shares=2 -key-threshold=3",
        2,
        &[Warns("Code: 400")],
    );
    bao.check_at(tally, "init with one share", 2, "operator init -key-shares=1 -key-threshold=1 -status", 2, &[Says("not initialized")]);
}

fn init(bao: &Bao, tally: &mut Tally) -> Value {
    let wants = [Json("/unseal_shares", "5"), Json("/unseal_threshold", "3"), Says("\"root_token\": \"hvs.")];
    // The first leader may not be elected yet.
    let deadline = Instant::now() + SPREAD_TIMEOUT;
    let keys = loop {
        let output = bao.run_at(0, "operator init -key-shares=5 -key-threshold=3 -format=json", "");
        if output.code == Some(0) || Instant::now() > deadline {
            tally.judge("init", &output, 0, &wants);
            break output.json();
        }
        std::thread::sleep(POLL_INTERVAL);
    };
    let list = |name: &str| keys[name].as_array().map_or(0, Vec::len);
    let counts = (list("unseal_keys_b64"), list("unseal_keys_hex"));
    tally.note("init gives five shares, in both forms", (counts != (5, 5)).then(|| format!("{counts:?}")));
    bao.check_at(tally, "init again at another node", 1, "operator init", 2, &[Warns("Vault is already initialized")]);
    bao.check_at(tally, "init -status with keys", 2, "operator init -status", 0, &[Says("is initialized")]);
    keys
}

fn sealed(bao: &Bao, tally: &mut Tally) {
    let wants = [Json("/sealed", "true"), Json("/t", "3"), Json("/n", "5"), Json("/progress", "0")];
    bao.check_at(tally, "status while sealed", 0, "status -format=json", 2, &wants);
    bao.check_at(tally, "no secrets while sealed", 1, "kv get secret/a", 2, &[Warns("Vault is sealed")]);
    bao.check_at(tally, "no members while sealed", 2, "operator members", 2, &[Warns("Vault is sealed")]);
    bao.check_at(tally, "a share that is none", 0, "operator unseal AAAA", 2, &[Warns("'key' is no share")]);
    bao.check_at(
        tally,
        "a share of another cluster",
        1,
        &format!("operator unseal {FOREIGN_SHARE}"),
        2,
        &[Warns("share 1 is wrong: it is a share of another cluster")],
    );
}

fn shares(bao: &Bao, tally: &mut Tally, share: impl Fn(&str, usize) -> String) {
    let unseal = |form: &str, at: usize| format!("operator unseal -format=json {}", share(form, at));
    let (base64, hex) = ("unseal_keys_b64", "unseal_keys_hex");
    bao.check_at(tally, "the first share", 1, &unseal(base64, 0), 0, &[Json("/progress", "1"), Json("/sealed", "true")]);
    bao.check_at(tally, "the same share at another node", 2, &unseal(base64, 0), 2, &[Warns("share 1 was entered already")]);
    bao.check_at(tally, "every node knows of it", 0, "status", 2, &[Says("Unseal Progress         1/3")]);
    bao.check_at(tally, "the second share, in hex", 2, &unseal(hex, 1), 0, &[Json("/progress", "2")]);
    // `bao` sends no share with it; docs/compatibility.md tells why one is needed.
    bao.check_at(
        tally,
        "unseal -reset takes a share",
        0,
        "operator unseal -reset",
        2,
        &[Warns("Code: 400"), Warns("a reset needs one of the shares")],
    );
    bao.check_at(tally, "a refused reset changes nothing", 1, "status", 2, &[Says("Unseal Progress         2/3")]);
    bao.check_at(
        tally,
        "a wrong share changes nothing",
        2,
        &format!("operator unseal {FOREIGN_SHARE}"),
        2,
        &[Warns("share 1 is wrong: it is a share of another cluster")],
    );
    bao.check_at(tally, "the third share opens", 0, &unseal(base64, 4), 0, &[Json("/sealed", "false"), Json("/progress", "0")]);
    for at in 0..3 {
        await_status(
            bao,
            tally,
            &format!("node {} is open", at + 1),
            at,
            0,
            &[Says("Sealed                  false"), Says("HA Enabled              true")],
        );
    }
}

fn open(bao: &Bao, tally: &mut Tally) {
    bao.check_at(
        tally,
        "unseal of what is open",
        1,
        &format!("operator unseal {FOREIGN_SHARE}"),
        0,
        &[Says("Sealed                  false")],
    );
    bao.check_at(
        tally,
        "mount",
        0,
        "secrets enable -path=secret kv-v2",
        0,
        &[Says("Success! Enabled the kv-v2 secrets engine at: secret/")],
    );
    bao.check_at(tally, "put at one node", 1, "kv put secret/a x=1", 0, &[]);
    bao.check_at(tally, "get at the second", 2, "kv get -field=x secret/a", 0, &[Want::Stdout("1")]);
    bao.check_at(tally, "get at the third", 0, "kv get -field=x secret/a", 0, &[Want::Stdout("1")]);
    let output = bao.check_at(tally, "members", 1, "operator members -format=json", 0, &[]);
    let members = output.json();
    let nodes = members["Nodes"].as_array().map_or(&[][..], Vec::as_slice);
    let active = nodes.iter().filter(|node| node["active_node"] == true).count();
    tally.note("three members, one of them active", ((nodes.len(), active) != (3, 1)).then(|| output.to_string()));
}

fn seal_and_open_again(bao: &Bao, tally: &mut Tally, share: impl Fn(&str, usize) -> String) {
    let without = "status -format=json";
    bao.check_at(tally, "seal at one node", 2, "operator seal", 0, &[Says("Vault is sealed")]);
    for at in 0..3 {
        await_status(bao, tally, &format!("node {} is sealed", at + 1), at, 2, &[Says("Sealed                  true")]);
    }
    bao.check_at(tally, "no secrets once sealed", 0, "kv get secret/a", 2, &[Warns("Vault is sealed")]);
    bao.check_at(tally, "seal once sealed", 1, "operator seal", 2, &[Warns("Vault is sealed")]);
    bao.check_at(tally, "the first share is not kept", 2, without, 2, &[Json("/progress", "0")]);
    for (node, at) in [(0, 3), (0, 4), (0, 0)] {
        bao.check_at(
            tally,
            &format!("share {} opens again", at + 1),
            node,
            &format!("operator unseal {}", share("unseal_keys_b64", at)),
            0,
            &[],
        );
    }
    for at in 0..3 {
        await_status(bao, tally, &format!("node {} is open again", at + 1), at, 0, &[Says("Sealed                  false")]);
    }
    bao.check_at(tally, "and the secret is there", 1, "kv get -field=x secret/a", 0, &[Want::Stdout("1")]);
}

/// Waits for an exit code of `status`, which is 0 open, 2 sealed.
fn await_status(bao: &Bao, tally: &mut Tally, name: &str, at: usize, code: i32, wants: &[Want]) {
    let deadline = Instant::now() + SPREAD_TIMEOUT;
    let output = loop {
        let output = bao.run_at(at, "status", "");
        if output.code == Some(code) || Instant::now() > deadline {
            break output;
        }
        std::thread::sleep(POLL_INTERVAL);
    };
    tally.judge(name, &output, code, wants);
}
