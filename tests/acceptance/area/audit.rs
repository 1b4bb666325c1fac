//! Audit devices by `bao`. What is in their files is tried by `tests/it/audit.rs`.

use crate::check::Want::{Json, Says, Warns};
use crate::step::{Step, step};

pub(super) const STEPS: &[Step] = &[
    step("none yet", "audit list", 2).wants(&[Says("No audit devices are enabled")]),
    step("none yet, by the API", "read -format=json sys/audit", 0),
    step("enable", "audit enable file file_path={folder}/first.log", 0).wants(&[Says("Success! Enabled the file audit device at: file/")]),
    step(
        "enable a second",
        "audit enable -path=second -description=spare file file_path={folder}/second.log log_raw=false hmac_accessor=true mode=0600",
        0,
    )
    .wants(&[Says("at: second/")]),
    step("list", "audit list", 0).wants(&[Says("file/"), Says("second/")]),
    step("list as JSON", "audit list -format=json", 0).wants(&[
        Json("/file~1/type", r#""file""#),
        Json("/file~1/options/file_path", r#""{folder}/first.log""#),
        Json("/second~1/description", r#""spare""#),
        Json("/second~1/local", "false"),
    ]),
    step("list in detail", "audit list -detailed", 0).arbitrary(&["stdout"]).wants(&[Says("file_path={folder}/first.log")]),
    step("by the API", "read -format=json sys/audit", 0).wants(&[Json("/data/second~1/type", r#""file""#)]),
    step("where one is", "audit enable file file_path={folder}/third.log", 2).wants(&[Warns("Code: 400")]),
    step("without a file", "audit enable -path=third file", 2).wants(&[Warns("Code: 400"), Warns("file_path")]),
    step("in a folder that is none", "audit enable -path=third file file_path={folder}", 2).wants(&[Warns("Code: 400")]),
    step("of an unknown kind", "audit enable nosuch", 2).wants(&[Warns("Code: 400")]),
    step("with a mode that is none", "audit enable -path=third file file_path={folder}/third.log mode=rwx", 2).wants(&[Warns("Code: 400")]),
    step("none of it is there", "audit list -format=json", 0).wants(&[Says("second/")]),
    step("hash", "write -format=json sys/audit-hash/file input=hello", 0)
        .keep(&[("hash", "/data/hash")])
        .wants(&[Json("/data/hash", r#""{hash}""#)]),
    step("the same again", "write -format=json sys/audit-hash/file input=hello", 0).wants(&[Json("/data/hash", r#""{hash}""#)]),
    step("another at another device", "write -format=json sys/audit-hash/second input=hello", 0).wants(&[Says("hmac-sha256:")]),
    step("hash at none", "write sys/audit-hash/nosuch input=hello", 2).wants(&[Warns("Code: 400")]),
    step("hash of nothing", "write -f sys/audit-hash/file", 2).wants(&[Warns("Code: 400")]),
    // Headers.
    step("no headers", "read -format=json sys/config/auditing/request-headers", 0),
    step("a header", "write sys/config/auditing/request-headers/X-Team hmac=true", 0),
    step("is read", "read -format=json sys/config/auditing/request-headers/X-Team", 0).wants(&[Json("/data/X-Team/hmac", "true")]),
    step("and listed", "read -format=json sys/config/auditing/request-headers", 0).wants(&[Json("/data/headers/x-team/hmac", "true")]),
    step("is deleted", "delete sys/config/auditing/request-headers/X-Team", 0),
    step("is gone", "read sys/config/auditing/request-headers/X-Team", 2),
    // Who may.
    step("a token that may nothing", "token create -field=token -policy=default -ttl=1h", 0).keep(&[("nobody", "")]),
    step("lists nothing", "audit list", 2).by("nobody").wants(&[Warns("Code: 403")]),
    step("enables nothing", "audit enable -path=no file file_path={folder}/no.log", 2).by("nobody").wants(&[Warns("Code: 403")]),
    step("disables nothing", "audit disable file", 2).by("nobody").wants(&[Warns("Code: 403")]),
    step("hashes nothing", "write sys/audit-hash/file input=hello", 2).by("nobody").wants(&[Warns("Code: 403")]),
    step("disable", "audit disable file", 0).wants(&[Says("Success! Disabled audit device (if it was enabled) at: file/")]),
    step("disable the other", "audit disable second", 0),
    step("disable of none", "audit disable file", 0),
    step("none is left", "audit list", 2).wants(&[Says("No audit devices are enabled")]),
];
