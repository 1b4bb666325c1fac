//! What operators do with `bao` on an open cluster: mounts, tokens, audit devices, members, errors.

use tests::Cluster;

use crate::bao::Bao;
use crate::check::Want::{Absent, Json, Says, Warns};
use crate::check::{Check, Tally, check};
use crate::needs;

const CHECKS: &[Check] = &[
    check("status", "status -format=json", 0, &[Json("/sealed", "false"), Json("/ha_enabled", "true"), Json("/storage_type", r#""raft""#)]),
    check("secrets list", "secrets list", 0, &[Says("secret/"), Says("sys/")]),
    check(
        "secrets enable",
        "secrets enable -path=team -description=theirs -version=2 kv",
        0,
        &[Says("Success! Enabled the kv secrets engine at: team/")],
    ),
    check(
        "secrets list shows it",
        "secrets list -format=json",
        0,
        &[
            Json("/team~1/type", r#""kv""#),
            Json("/team~1/options/version", r#""2""#),
            Json("/team~1/description", r#""theirs""#),
            Json("/sys~1/type", r#""system""#),
        ],
    ),
    check("secrets enable where something is", "secrets enable -path=team kv-v2", 2, &[Warns("path is already in use at team/")]),
    check("secrets enable of what is unknown", "secrets enable -path=other nosuch", 2, &[Warns("plugin not found in the catalog: nosuch")]),
    check("a refused mount is not there", "secrets list -format=json", 0, &[Absent("/other~1")]),
    check("put below the new mount", "kv put -format=json team/a x=1", 0, &[Json("/data/version", "1")]),
    check("mounts do not mix", "kv get secret/a", 2, &[Warns("No value found")]),
    check(
        "read of a mount",
        "read -format=json sys/mounts/team",
        0,
        &[Json("/data/type", r#""kv""#), Json("/data/config/max_lease_ttl", "0")],
    ),
    check("auth list", "auth list", 0, &[Says("token/")]),
    check(
        "token lookup",
        "token lookup -format=json",
        0,
        &[
            Json("/data/policies", r#"["root"]"#),
            Json("/data/expire_time", "null"),
            Json("/data/ttl", "0"),
            Json("/data/orphan", "true"),
            Json("/data/type", r#""service""#),
        ],
    ),
    check("read of health", "read -format=json sys/health", 0, &[]),
    check("operator members", "operator members", 0, &[Says("n1"), Says("n2"), Says("n3"), Says("true")]),
    check("audit list of nothing", "audit list", 2, &[Says("No audit devices are enabled")]),
    check("audit enable without a file", "audit enable file", 2, &[Warns("Code: 400"), Warns("file_path")]),
    check("audit enable of what is unknown", "audit enable nosuch", 2, &[Warns("Code: 400")]),
    check("audit disable of what is not there", "audit disable file", 0, &[]),
    check("read of no sys path", "read sys/nosuch", 2, &[Warns("No value found at sys/nosuch")]),
    check("write to no sys path", "write sys/nosuch a=b", 2, &[Warns("Code: 404")]),
    check("a path with dots", "read secret/data/../data/a", 2, &[]),
];

const WRONG_TOKEN: &[Check] = &[
    check("kv get with a wrong token", "kv get secret/a", 2, &[Warns("Code: 403"), Warns("permission denied")]),
    check("write with a wrong token", "write secret/data/a x=y", 2, &[Warns("Code: 403"), Warns("permission denied")]),
    check("a wrong token learns no mounts", "read nosuch/a", 2, &[Warns("Code: 403"), Warns("permission denied")]),
    check("secrets list with a wrong token", "secrets list", 2, &[Warns("Code: 403")]),
    check("token lookup with a wrong token", "token lookup", 2, &[Warns("Code: 403")]),
    check("operator seal with a wrong token", "operator seal", 2, &[Warns("Code: 403")]),
    check("status needs no token", "status", 0, &[]),
];

#[tokio::test(flavor = "multi_thread")]
async fn bao_operates_a_cluster() {
    let Some(program) = needs::bao() else { return };
    let cluster = Cluster::builder().open().await;
    let token = &cluster.keys().root_token;
    let mut tally = Tally::default();
    let mut bao = Bao::of(program.clone(), &cluster).token(token);
    bao.check_all(CHECKS, &mut tally);
    Bao::of(program.clone(), &cluster).token("hvs.aWrongTokenOfTheLength").check_all(WRONG_TOKEN, &mut tally);
    Bao::of(program.clone(), &cluster)
        .check_all(&[check("kv get without a token", "kv get secret/a", 2, &[Warns("Code: 403")])], &mut tally);
    login(&Bao::of(program, &cluster), token, &mut tally);
    audit(&bao, &cluster, &mut tally);
    tally.finish(35);
}

fn login(bao: &Bao, token: &str, tally: &mut Tally) {
    let output = bao.run_at(0, "login -no-store -format=json -", token);
    tally.judge("login with a token", &output, 0, &[Json("/auth/policies", r#"["root"]"#)]);
    let output = bao.run_at(1, "login -no-store -", "hvs.aWrongTokenOfTheLength");
    tally.judge("login with a wrong token", &output, 2, &[Warns("Code: 403")]);
}

/// The device's file is the same for the three nodes, as they share a machine.
fn audit(bao: &Bao, cluster: &Cluster, tally: &mut Tally) {
    let file = cluster.folder().join("audit.log");
    let enable = format!("audit enable file file_path={}", file.display());
    bao.check_at(tally, "audit enable", 0, &enable, 0, &[Says("Success! Enabled the file audit device at: file/")]);
    bao.check_at(tally, "audit list", 1, "audit list -format=json", 0, &[Json("/file~1/type", r#""file""#)]);
    bao.check_at(tally, "audit enable again", 2, &enable, 2, &[Warns("path already in use")]);
    for at in 0..3 {
        bao.check_at(tally, &format!("put at node {} is audited", at + 1), at, "kv put secret/audited x=canary-value", 0, &[]);
    }
    let records = std::fs::read_to_string(&file).unwrap_or_default();
    let puts = records.lines().filter(|line| line.contains("secret/data/audited") && line.contains("\"type\":\"response\"")).count();
    tally.note("each put has its record", (puts != 3).then(|| format!("{puts} of 3, in {} lines", records.lines().count())));
    tally.note("records hold no values", records.contains("canary-value").then(|| "canary-value is in the audit file".to_owned()));
    bao.check_at(tally, "audit disable", 1, "audit disable file", 0, &[Says("Success")]);
    bao.check_at(tally, "audit list after that", 2, "audit list", 2, &[Says("No audit devices are enabled")]);
    let before = std::fs::metadata(&file).map(|file| file.len()).unwrap_or_default();
    bao.check_at(tally, "put without audit", 0, "kv put secret/audited x=1", 0, &[]);
    let after = std::fs::metadata(&file).map(|file| file.len()).unwrap_or_default();
    tally.note("nothing is recorded any more", (before == 0 || before != after).then(|| format!("{before} bytes before, {after} after")));
}
