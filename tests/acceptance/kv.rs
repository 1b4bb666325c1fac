//! KV by `bao`: what a person sees, and that it is what OpenBao shows.

use tests::Cluster;

use crate::bao::Bao;
use crate::check::Want::{Absent, Json, Says, Stdout, Warns};
use crate::check::{Check, Tally, check};
use crate::needs;
use crate::openbao::{self, OpenBao};

/// In order: later lines see what earlier ones wrote. `kv` adds `data/`, `metadata/` … by itself; `read`, `write`, `list` and
/// `delete` take the API's paths.
const CHECKS: &[Check] = &[
    // A secret and its versions.
    check(
        "put makes version 1",
        "kv put -format=json secret/app/a x=1 y=2",
        0,
        &[Json("/data/version", "1"), Json("/data/destroyed", "false")],
    ),
    check(
        "get has what was put",
        "kv get -format=json secret/app/a",
        0,
        &[Json("/data/data", r#"{"x":"1","y":"2"}"#), Json("/data/metadata/version", "1")],
    ),
    check("put replaces all fields", "kv put secret/app/a x=2", 0, &[Says("secret/data/app/a"), Says("version            2")]),
    check("get as a table", "kv get secret/app/a", 0, &[Says("== Data =="), Says("x      2")]),
    check("get as YAML", "kv get -format=yaml secret/app/a", 0, &[Says("x: \"2\""), Says("version: 2")]),
    check("get one field", "kv get -field=x secret/app/a", 0, &[Stdout("2")]),
    check("get no such field", "kv get -field=nope secret/app/a", 1, &[Warns("not present")]),
    check(
        "get an old version",
        "kv get -version=1 -format=json secret/app/a",
        0,
        &[Json("/data/data/y", r#""2""#), Json("/data/metadata/version", "1")],
    ),
    check("get no such version", "kv get -version=9 secret/app/a", 2, &[Warns("No value found at secret/data/app/a")]),
    check("get by -mount", "kv get -mount=secret -field=x app/a", 0, &[Stdout("2")]),
    check("get no such secret", "kv get secret/none", 2, &[Warns("No value found at secret/data/none")]),
    // Check and set.
    check("put -cas that holds", "kv put -cas=2 -format=json secret/app/a x=3", 0, &[Json("/data/version", "3")]),
    check(
        "put -cas that does not hold",
        "kv put -cas=2 secret/app/a x=4",
        2,
        &[Warns("check-and-set parameter did not match the current version")],
    ),
    check("put -cas=0 where something is", "kv put -cas=0 secret/app/a x=4", 2, &[Warns("check-and-set")]),
    check("put -cas=0 where nothing is", "kv put -cas=0 -format=json -mount=secret app/b b=1", 0, &[Json("/data/version", "1")]),
    check("a refused put changed nothing", "kv get -field=x secret/app/a", 0, &[Stdout("3")]),
    // Patch.
    check("patch adds a field", "kv patch -format=json secret/app/a z=9", 0, &[Json("/data/version", "4")]),
    check("patch by read and write", "kv patch -method=rw secret/app/a z=8", 0, &[Says("version            5")]),
    check("patch keeps the others", "kv get -format=json secret/app/a", 0, &[Json("/data/data", r#"{"x":"3","z":"8"}"#)]),
    check("patch -cas that does not hold", "kv patch -cas=1 secret/app/a z=7", 2, &[Warns("check-and-set")]),
    check("patch of nothing", "kv patch secret/none z=9", 2, &[Warns("Code: 404")]),
    check("rollback writes an old version anew", "kv rollback -version=1 -format=json secret/app/a", 0, &[Json("/data/version", "6")]),
    // Lists.
    check("list of a folder", "kv list -format=json secret/app", 0, &[Json("", r#"["a","b"]"#)]),
    check("list of the root", "kv list secret/", 0, &[Says("app/")]),
    check("list of nothing", "kv list secret/none", 2, &[Warns("No value found at secret/metadata/none")]),
    check("list of nothing as JSON", "kv list -format=json secret/none", 2, &[Json("", "{}")]),
    // Death and return of versions.
    check("delete", "kv delete secret/app/a", 0, &[Says("Data deleted (if it existed)")]),
    check("get what is deleted", "kv get -format=json secret/app/a", 0, &[Json("/data/data", "null"), Json("/data/metadata/version", "6")]),
    check("get what is deleted as a table", "kv get secret/app/a", 0, &[Says("deletion_time")]),
    check("undelete", "kv undelete -versions=6 secret/app/a", 0, &[Says("Data written to: secret/undelete/app/a")]),
    check("get what came back", "kv get -field=x secret/app/a", 0, &[Stdout("1")]),
    check("delete of versions", "kv delete -versions=1,2 secret/app/a", 0, &[Says("Data deleted")]),
    check("destroy", "kv destroy -versions=1 secret/app/a", 0, &[Says("Data written to: secret/destroy/app/a")]),
    check(
        "get what is destroyed",
        "kv get -version=1 -format=json secret/app/a",
        0,
        &[Json("/data/metadata/destroyed", "true"), Json("/data/data", "null")],
    ),
    check("undelete does not bring it back", "kv undelete -versions=1 secret/app/a", 0, &[]),
    check(
        "it stays destroyed",
        "kv get -version=1 -format=json secret/app/a",
        0,
        &[Json("/data/metadata/destroyed", "true"), Json("/data/data", "null")],
    ),
    // Metadata.
    check(
        "metadata put",
        "kv metadata put -max-versions=5 -delete-version-after=1h -custom-metadata=owner=me secret/app/a",
        0,
        &[Says("Success")],
    ),
    check(
        "metadata get",
        "kv metadata get -format=json secret/app/a",
        0,
        &[
            Json("/data/max_versions", "5"),
            Json("/data/delete_version_after", r#""1h0m0s""#),
            Json("/data/custom_metadata", r#"{"owner":"me"}"#),
            Json("/data/current_version", "6"),
            Json("/data/versions/1/destroyed", "true"),
            Absent("/data/versions/7"),
        ],
    ),
    check("metadata get as a table", "kv metadata get secret/app/a", 0, &[Says("====== Version 6 ======"), Says("max_versions")]),
    check("metadata patch", "kv metadata patch -custom-metadata=team=x secret/app/a", 0, &[Says("Success")]),
    check(
        "metadata patch keeps the others",
        "kv metadata get -format=json secret/app/a",
        0,
        &[Json("/data/custom_metadata", r#"{"owner":"me","team":"x"}"#)],
    ),
    check("get shows custom metadata", "kv get -format=json secret/app/a", 0, &[Json("/data/metadata/custom_metadata/owner", r#""me""#)]),
    check("metadata of nothing", "kv metadata get secret/none", 2, &[Warns("No value found at secret/metadata/none")]),
    check("metadata patch removes", "kv metadata patch -remove-custom-metadata=owner secret/app/a", 0, &[Says("Success")]),
    check(
        "metadata patch has removed",
        "kv metadata get -format=json secret/app/a",
        0,
        &[Json("/data/custom_metadata", r#"{"team":"x"}"#)],
    ),
    check("metadata patch of nothing", "kv metadata patch -max-versions=2 secret/none", 2, &[Warns("Code: 404")]),
    check("max_versions drops the oldest", "kv put -format=json secret/app/a x=7", 0, &[Json("/data/version", "7")]),
    check("what was dropped is gone", "kv get -version=2 secret/app/a", 2, &[Warns("No value found")]),
    check("metadata delete", "kv metadata delete secret/app/a", 0, &[Says("Data deleted")]),
    check("after that nothing is there", "kv get secret/app/a", 2, &[Warns("No value found")]),
    check("and numbers begin anew", "kv put -format=json secret/app/a x=1", 0, &[Json("/data/version", "1")]),
    // The API's own paths.
    check("read", "read -format=json secret/data/app/b", 0, &[Json("/data/data/b", r#""1""#), Json("/data/metadata/version", "1")]),
    check("read a field", "read -field=metadata secret/data/app/b", 0, &[Says("version:1")]),
    check("read of nothing", "read secret/data/none", 2, &[Warns("No value found at secret/data/none")]),
    check("read of no KV path", "read secret/nosuch/x", 0, &[Warns("such path")]),
    check("list", "list -format=json secret/metadata/app/", 0, &[Json("", r#"["a","b"]"#)]),
    check("list -format=yaml", "list -format=yaml secret/metadata/app", 0, &[Stdout("- a\n- b")]),
    check("write of what is no object", "write secret/data/raw data=x", 2, &[Warns("Code: 400")]),
    check("write to a path that ends in a slash", "write secret/data/raw/ data=x", 2, &[Warns("Code: 400")]),
    check("write of settings", "write secret/config max_versions=7 delete_version_after=30m", 0, &[]),
    check(
        "read of settings",
        "read -format=json secret/config",
        0,
        &[Json("/data/max_versions", "7"), Json("/data/delete_version_after", r#""30m0s""#)],
    ),
    check("settings with cas_required", "write secret/config cas_required=true", 0, &[]),
    check("put without -cas is refused then", "kv put secret/app/b b=2", 2, &[Warns("check-and-set parameter required for this call")]),
    check("put with -cas is not", "kv put -cas=1 -format=json secret/app/b b=2", 0, &[Json("/data/version", "2")]),
    check("delete", "delete secret/data/app/b", 0, &[Says("Success")]),
    check("delete of what never was", "delete secret/data/never", 0, &[Says("Success")]),
    // Who may not, and what is nowhere.
    check("no such mount", "kv get nosuch/a", 2, &[Warns("Code: 403")]),
    check("write to no mount", "write nosuch/a b=c", 2, &[Warns("Code: 404"), Warns("no handler for route")]),
];

#[tokio::test(flavor = "multi_thread")]
async fn bao_reads_and_writes_as_with_openbao() {
    let Some(program) = needs::bao() else { return };
    let cluster = Cluster::builder().open().await;
    let theirs = OpenBao::start(program.clone());
    let mut ours = Bao::of(program, &cluster).token(&cluster.keys().root_token);
    let mut tally = Tally::default();
    let mut differences = openbao::Differences::default();
    for check in CHECKS {
        let (output, other) = std::thread::scope(|scope| {
            let other = scope.spawn(|| theirs.run(check.line));
            (ours.run(check.line), other.join().expect("running a command does not panic"))
        });
        tally.judge(check.name, &output, check.code, check.wants);
        differences.compare(check.name, &output, &other);
    }
    differences.judge(&mut tally);
    tally.finish(60);
}
