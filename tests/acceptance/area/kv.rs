//! KV version 2 by `bao`: what a person sees.

use crate::check::Want::{Absent, Json, Says, Stdout, Warns};
use crate::step::{Step, step};

/// In order: later lines see what earlier ones wrote. `kv` adds `data/`, `metadata/` … by itself; `read`, `write`, `list` and
/// `delete` take the API's paths.
pub(super) const STEPS: &[Step] = &[
    // A secret and its versions.
    step("put makes version 1", "kv put -format=json secret/app/a x=1 y=2", 0)
        .wants(&[Json("/data/version", "1"), Json("/data/destroyed", "false")]),
    step("get has what was put", "kv get -format=json secret/app/a", 0)
        .wants(&[Json("/data/data", r#"{"x":"1","y":"2"}"#), Json("/data/metadata/version", "1")]),
    step("put replaces all fields", "kv put secret/app/a x=2", 0).wants(&[Says("secret/data/app/a"), Says("version 2")]),
    step("get as a table", "kv get secret/app/a", 0).wants(&[Says("== Data =="), Says("x 2")]),
    step("get as YAML", "kv get -format=yaml secret/app/a", 0).wants(&[Says("x: \"2\""), Says("version: 2")]),
    step("get one field", "kv get -field=x secret/app/a", 0).wants(&[Stdout("2")]),
    step("get no such field", "kv get -field=nope secret/app/a", 1).wants(&[Warns("not present")]),
    step("get an old version", "kv get -version=1 -format=json secret/app/a", 0)
        .wants(&[Json("/data/data/y", r#""2""#), Json("/data/metadata/version", "1")]),
    step("get no such version", "kv get -version=9 secret/app/a", 2).wants(&[Warns("No value found at secret/data/app/a")]),
    step("get by -mount", "kv get -mount=secret -field=x app/a", 0).wants(&[Stdout("2")]),
    step("get no such secret", "kv get secret/none", 2).wants(&[Warns("No value found at secret/data/none")]),
    // Check and set.
    step("put -cas that holds", "kv put -cas=2 -format=json secret/app/a x=3", 0).wants(&[Json("/data/version", "3")]),
    step("put -cas that does not hold", "kv put -cas=2 secret/app/a x=4", 2)
        .wants(&[Warns("check-and-set parameter did not match the current version")]),
    step("put -cas=0 where something is", "kv put -cas=0 secret/app/a x=4", 2).wants(&[Warns("check-and-set")]),
    step("put -cas=0 where nothing is", "kv put -cas=0 -format=json -mount=secret app/b b=1", 0).wants(&[Json("/data/version", "1")]),
    step("a refused put changed nothing", "kv get -field=x secret/app/a", 0).wants(&[Stdout("3")]),
    // Patch.
    step("patch adds a field", "kv patch -format=json secret/app/a z=9", 0).wants(&[Json("/data/version", "4")]),
    step("patch by read and write", "kv patch -method=rw secret/app/a z=8", 0).wants(&[Says("version 5")]),
    step("patch keeps the others", "kv get -format=json secret/app/a", 0).wants(&[Json("/data/data", r#"{"x":"3","z":"8"}"#)]),
    step("patch -cas that does not hold", "kv patch -cas=1 secret/app/a z=7", 2).wants(&[Warns("check-and-set")]),
    step("patch of nothing", "kv patch secret/none z=9", 2).wants(&[Warns("Code: 404")]),
    step("rollback writes an old version anew", "kv rollback -version=1 -format=json secret/app/a", 0).wants(&[Json("/data/version", "6")]),
    // Lists.
    step("list of a folder", "kv list -format=json secret/app", 0).wants(&[Json("", r#"["a","b"]"#)]),
    step("list of the root", "kv list secret/", 0).wants(&[Says("app/")]),
    step("list of nothing", "kv list secret/none", 2).wants(&[Warns("No value found at secret/metadata/none")]),
    step("list of nothing as JSON", "kv list -format=json secret/none", 2).wants(&[Json("", "{}")]),
    // Death and return of versions.
    step("delete", "kv delete secret/app/a", 0).wants(&[Says("Data deleted (if it existed)")]),
    step("get what is deleted", "kv get -format=json secret/app/a", 0)
        .wants(&[Json("/data/data", "null"), Json("/data/metadata/version", "6")]),
    step("get what is deleted as a table", "kv get secret/app/a", 0).wants(&[Says("deletion_time")]),
    step("undelete", "kv undelete -versions=6 secret/app/a", 0).wants(&[Says("Data written to: secret/undelete/app/a")]),
    step("get what came back", "kv get -field=x secret/app/a", 0).wants(&[Stdout("1")]),
    step("delete of versions", "kv delete -versions=1,2 secret/app/a", 0).wants(&[Says("Data deleted")]),
    step("destroy", "kv destroy -versions=1 secret/app/a", 0).wants(&[Says("Data written to: secret/destroy/app/a")]),
    step("get what is destroyed", "kv get -version=1 -format=json secret/app/a", 0)
        .wants(&[Json("/data/metadata/destroyed", "true"), Json("/data/data", "null")]),
    step("undelete does not bring it back", "kv undelete -versions=1 secret/app/a", 0),
    step("it stays destroyed", "kv get -version=1 -format=json secret/app/a", 0)
        .wants(&[Json("/data/metadata/destroyed", "true"), Json("/data/data", "null")]),
    // Metadata.
    step("metadata put", "kv metadata put -max-versions=5 -delete-version-after=1h -custom-metadata=owner=me secret/app/a", 0)
        .wants(&[Says("Success")]),
    step("metadata get", "kv metadata get -format=json secret/app/a", 0).wants(&[
        Json("/data/max_versions", "5"),
        Json("/data/delete_version_after", r#""1h0m0s""#),
        Json("/data/custom_metadata", r#"{"owner":"me"}"#),
        Json("/data/current_version", "6"),
        Json("/data/versions/1/destroyed", "true"),
        Absent("/data/versions/7"),
    ]),
    step("metadata get as a table", "kv metadata get secret/app/a", 0).wants(&[Says("====== Version 6 ======"), Says("max_versions")]),
    step("metadata patch", "kv metadata patch -custom-metadata=team=x secret/app/a", 0).wants(&[Says("Success")]),
    step("metadata patch keeps the others", "kv metadata get -format=json secret/app/a", 0)
        .wants(&[Json("/data/custom_metadata", r#"{"owner":"me","team":"x"}"#)]),
    step("get shows custom metadata", "kv get -format=json secret/app/a", 0)
        .wants(&[Json("/data/metadata/custom_metadata/owner", r#""me""#)]),
    step("metadata of nothing", "kv metadata get secret/none", 2).wants(&[Warns("No value found at secret/metadata/none")]),
    step("metadata patch removes", "kv metadata patch -remove-custom-metadata=owner secret/app/a", 0).wants(&[Says("Success")]),
    step("metadata patch has removed", "kv metadata get -format=json secret/app/a", 0)
        .wants(&[Json("/data/custom_metadata", r#"{"team":"x"}"#)]),
    step("metadata patch of nothing", "kv metadata patch -max-versions=2 secret/none", 2).wants(&[Warns("Code: 404")]),
    step("max_versions drops the oldest", "kv put -format=json secret/app/a x=7", 0).wants(&[Json("/data/version", "7")]),
    step("what was dropped is gone", "kv get -version=2 secret/app/a", 2).wants(&[Warns("No value found")]),
    step("metadata delete", "kv metadata delete secret/app/a", 0).wants(&[Says("Data deleted")]),
    step("after that nothing is there", "kv get secret/app/a", 2).wants(&[Warns("No value found")]),
    step("and numbers begin anew", "kv put -format=json secret/app/a x=1", 0).wants(&[Json("/data/version", "1")]),
    // The API's own paths.
    step("read", "read -format=json secret/data/app/b", 0).wants(&[Json("/data/data/b", r#""1""#), Json("/data/metadata/version", "1")]),
    step("read a field", "read -field=metadata secret/data/app/b", 0).wants(&[Says("version:1")]),
    step("read of nothing", "read secret/data/none", 2).wants(&[Warns("No value found at secret/data/none")]),
    step("read of no KV path", "read secret/nosuch/x", 0).wants(&[Warns("such path")]),
    step("list", "list -format=json secret/metadata/app/", 0).wants(&[Json("", r#"["a","b"]"#)]),
    step("list -format=yaml", "list -format=yaml secret/metadata/app", 0).wants(&[Stdout("- a\n- b")]),
    step("write of what is no object", "write secret/data/raw data=x", 2).wants(&[Warns("Code: 400")]),
    step("write to a path that ends in a slash", "write secret/data/raw/ data=x", 2).wants(&[Warns("Code: 400")]),
    step("write of settings", "write secret/config max_versions=7 delete_version_after=30m", 0),
    step("read of settings", "read -format=json secret/config", 0)
        .wants(&[Json("/data/max_versions", "7"), Json("/data/delete_version_after", r#""30m0s""#)]),
    step("settings with cas_required", "write secret/config cas_required=true", 0),
    step("put without -cas is refused then", "kv put secret/app/b b=2", 2)
        .wants(&[Warns("check-and-set parameter required for this call")]),
    step("put with -cas is not", "kv put -cas=1 -format=json secret/app/b b=2", 0).wants(&[Json("/data/version", "2")]),
    step("delete by the API's path", "delete secret/data/app/b", 0).wants(&[Says("Success")]),
    step("delete of what never was", "delete secret/data/never", 0).wants(&[Says("Success")]),
    // Who may not, and what is nowhere.
    step("no such mount", "kv get nosuch/a", 2).wants(&[Warns("Code: 403")]),
    step("write to no mount", "write nosuch/a b=c", 2).wants(&[Warns("Code: 404"), Warns("no handler for route")]),
];
