//! Snapshots by `bao` and by hvac, unchanged, at whichever node: also one that does not lead, which OpenBao sends away.

use serde_json::json;
use tests::Cluster;

use crate::bao::Bao;
use crate::check::Tally;
use crate::check::Want::{Json, Warns};
use crate::{clients, hvac, needs};

#[tokio::test(flavor = "multi_thread")]
async fn bao_saves_and_restores_snapshots_at_every_node() {
    let Some(program) = needs::bao() else { return };
    let mut cluster = Cluster::builder().open().await;
    let leader = cluster.leader().await;
    let [first, second] = [(leader + 1) % 3, (leader + 2) % 3];
    let bao = Bao::of(program, &cluster).token(&cluster.keys().root_token);
    let mut tally = Tally::default();
    let file = |name: &str| cluster.folder().join(name).display().to_string();
    bao.check_at(&mut tally, "a secret", first, "kv put secret/a value=before", 0, &[]);
    for (at, name) in [(leader, "leader.snap"), (first, "follower.snap")] {
        bao.check_at(&mut tally, &format!("snapshot save, {name}"), at, &format!("operator raft snapshot save {}", file(name)), 0, &[]);
        let magic = std::fs::read(file(name)).unwrap_or_default();
        tally.note("the file is a gzip", (!magic.starts_with(&[0x1f, 0x8b])).then(|| format!("{} bytes", magic.len())));
    }
    bao.check_at(&mut tally, "another value", second, "kv put secret/a value=after", 0, &[]);
    bao.check_at(
        &mut tally,
        "snapshot restore at a follower",
        second,
        &format!("operator raft snapshot restore {}", file("follower.snap")),
        0,
        &[],
    );
    for at in 0..3 {
        let name = format!("node {} has it back", at + 1);
        bao.check_at(&mut tally, &name, at, "kv get -format=json secret/a", 0, &[Json("/data/data/value", r#""before""#)]);
    }
    bao.check_at(&mut tally, "it takes writes", first, "kv put secret/a value=again", 0, &[]);
    let forced = format!("operator raft snapshot restore -force {}", file("leader.snap"));
    bao.check_at(&mut tally, "by force, one of its own", first, &forced, 0, &[]);
    bao.check_at(&mut tally, "it stays open", second, "kv get -format=json secret/a", 0, &[Json("/data/data/value", r#""before""#)]);
    std::fs::write(file("bad.snap"), b"no snapshot").expect("written");
    let bad = format!("operator raft snapshot restore {}", file("bad.snap"));
    bao.check_at(&mut tally, "what is no snapshot", leader, &bad, 2, &[Warns("Code: 400"), Warns("snapshot")]);
    let nobody = Bao::of(needs::bao().expect("it was there a moment ago"), &cluster).token("hvs.aWrongTokenOfTheLength");
    let save = format!("operator raft snapshot save {}", file("denied.snap"));
    nobody.check_at(&mut tally, "who may not save", first, &save, 2, &[Warns("403")]);
    let restore = format!("operator raft snapshot restore {}", file("leader.snap"));
    nobody.check_at(&mut tally, "who may not restore", first, &restore, 2, &[Warns("Code: 403")]);
    if let Some(python) = needs::python() {
        let addresses: Vec<String> = cluster.nodes.iter().map(|node| node.api_address()).collect();
        let input = json!({ "addresses": addresses, "token": cluster.keys().root_token });
        clients::run(&mut tally, "hvac", hvac::script(&python, "snapshots.py"), cluster.folder(), &input);
    }
    cluster.assert_sound();
    tally.finish(15);
}
