//! The API's areas, each a scenario for `bao` and a part of each other client's checks. One test an area, so that an area is
//! switched on when it lands: take its `#[ignore]` away.
//!
//! Try one, landed or not:
//!
//! ```sh
//! cargo nextest run --package tests --profile acceptance --run-ignored all -E 'test(=area::tokens)'
//! CONCLAVE_ACCEPTANCE_AT=openbao cargo nextest run …      # the same, OpenBao judged by OpenBao
//! ```

mod audit;
mod auth;
mod keys;
mod kv;
mod kv_v1;
mod leases;
mod mounts;
mod namespaces;
mod path_help;
mod policies;
mod sys;
mod tokens;
mod wrapping;

use std::process::Command;

use serde_json::json;

use crate::check::Tally;
use crate::compare::compare;
use crate::differences::Ledger;
use crate::openbao::OpenBao;
use crate::step::{Player, Step};
use crate::subject::Subject;
use crate::{clients, hvac, needs};

/// In the folder of each server, for steps that name a file.
const POLICY_FILE: &str = "policy.hcl";
/// Not as `policy fmt` would lay it out.
const POLICY: &str = "path \"secret/*\" {\n  capabilities   =    [\"read\", \"list\"]\n}\n";

const NODE_VAULT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/node_vault/areas.js");

/// Plays the steps at the subject and at OpenBao side by side, and compares each answer; then the other clients' checks.
async fn run(area: &'static str, steps: &[Step]) {
    let Some(program) = needs::bao() else { return };
    let theirs = OpenBao::start(&program);
    let ours = Subject::start(&program).await;
    let mut tally = Tally::default();
    play(area, steps, &ours, &theirs, &program, &mut tally);
    let server = if ours.is_conclave() { "conclave" } else { "openbao" };
    let input = json!({ "addresses": ours.addresses(), "token": ours.token(), "folder": ours.folder(), "server": server });
    for (client, command) in others(area) {
        clients::run(&mut tally, client, command, ours.folder(), &input);
    }
    tally.finish(0);
}

fn play(area: &'static str, steps: &[Step], ours: &Subject, theirs: &OpenBao, program: &std::path::Path, tally: &mut Tally) {
    let given = |path: &std::path::Path, shares: &[String]| {
        let names = ["share1", "share2", "share3", "share4", "share5"];
        let shares = names.into_iter().zip(shares.iter().cloned());
        shares.chain([("folder", path.display().to_string())]).collect::<Vec<_>>()
    };
    for folder in [ours.folder(), theirs.folder()] {
        std::fs::write(folder.join(POLICY_FILE), POLICY).unwrap_or_else(|error| panic!("write {POLICY_FILE}: {error}"));
    }
    let mut our_player = Player::new(ours.bao(program.to_owned()), ours.token(), &given(ours.folder(), ours.shares()));
    let mut their_player = Player::new(theirs.bao(program.to_owned()), theirs.token(), &given(theirs.folder(), theirs.shares()));
    let mut ledger = Ledger::new(area);
    for step in steps {
        let (own, other) = std::thread::scope(|scope| {
            let other = scope.spawn(|| their_player.play(step));
            (our_player.play(step), other.join().expect("running a command does not panic"))
        });
        // Where a difference is meant, the table tells what we do.
        if ours.is_conclave() || !ledger.has(step.name) {
            tally.judge(step.name, &own, step.code, step.wants);
        }
        if !ledger.has(step.name) {
            tally.expect(&format!("{}, at OpenBao", step.name), &other, step.code, step.wants);
        }
        let mut found = compare(&own, &other);
        found.retain(|difference| !step.is_arbitrary(&difference.place));
        ledger.enter(step.name, &found);
    }
    tally.note("answers are OpenBao's, but for what is known", ledger.unknown());
    if ours.is_conclave() {
        tally.note("each known difference is still there", ledger.gone());
    }
}

/// The other clients' checks of an area, as far as the clients are installed.
fn others(area: &str) -> Vec<(&'static str, Command)> {
    let hvac = needs::python().map(|python| ("hvac", hvac::area(&python, area)));
    let node_vault = needs::node().map(|node| {
        let mut command = clients::command(&node);
        command.envs(std::env::var_os("NODE_PATH").map(|path| ("NODE_PATH", path))).args([NODE_VAULT, area]);
        ("node-vault", command)
    });
    let vaultrs = needs::vaultrs().map(|program| {
        let mut command = clients::command(&program);
        command.arg(area);
        ("vaultrs", command)
    });
    [hvac, node_vault, vaultrs].into_iter().flatten().collect()
}

/// Areas: `name`, or `name: "not landed"`.
macro_rules! areas {
    ($($name:ident $(: $ignored:literal)?;)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        $(#[ignore = $ignored])?
        async fn $name() {
            run(stringify!($name), $name::STEPS).await;
        }
    )*};
}

areas! {
    kv;
    kv_v1;
    tokens;
    policies;
    mounts;
    auth;
    wrapping;
    leases;
    namespaces;
    audit;
    sys;
    keys;
    path_help;
}
