//! `bao path-help`. The texts are each server's own; that there is one, and its parts, is what is compared.

use crate::check::Want::{Says, Warns};
use crate::step::{Step, step};

const TEXT: &[&str] = &["stdout"];

pub(super) const STEPS: &[Step] = &[
    step("an engine", "path-help secret", 0).arbitrary(TEXT).wants(&[Says("## DESCRIPTION"), Says("## PATHS")]),
    step("a secret", "path-help secret/data/a", 0).arbitrary(TEXT).wants(&[
        Says("Request: data/a"),
        Says("Matching Route:"),
        Says("## PARAMETERS"),
        Says("version"),
    ]),
    step("metadata", "path-help secret/metadata/a", 0).arbitrary(TEXT).wants(&[
        Says("max_versions"),
        Says("custom_metadata"),
        Says("delete_version_after"),
    ]),
    step("settings", "path-help secret/config", 0).arbitrary(TEXT).wants(&[Says("cas_required")]),
    step("as JSON", "path-help -format=json secret/data/a", 0)
        .arbitrary(&["/components", "/info", "/openapi", "/paths", "/servers"])
        .wants(&[Says("openapi"), Says("paths")]),
    step("sys", "path-help sys", 0).arbitrary(TEXT).wants(&[Says("## PATHS")]),
    step("policies", "path-help sys/policies/acl/a", 0).arbitrary(TEXT).wants(&[Says("policy"), Says("name")]),
    step("mounts", "path-help sys/mounts/a", 0).arbitrary(TEXT).wants(&[Says("type"), Says("description")]),
    step("settings of mounts", "path-help sys/mounts/a/tune", 0).arbitrary(TEXT).wants(&[Says("default_lease_ttl")]),
    step("leases", "path-help sys/leases/renew", 0).arbitrary(TEXT).wants(&[Says("increment")]),
    step("tokens", "path-help auth/token", 0).arbitrary(TEXT).wants(&[Says("## PATHS")]),
    step("a token's lookup", "path-help auth/token/lookup", 0).arbitrary(TEXT).wants(&[Says("token")]),
    step("roles of tokens", "path-help auth/token/roles/a", 0).arbitrary(TEXT).wants(&[Says("allowed_policies"), Says("path_suffix")]),
    step("cubbyhole", "path-help cubbyhole/a", 0).arbitrary(TEXT).wants(&[Says("## DESCRIPTION")]),
    step("userpass", "auth enable userpass", 0),
    step("a user", "path-help auth/userpass/users/bob", 0).arbitrary(TEXT).wants(&[Says("password"), Says("token_policies")]),
    step("a login", "path-help auth/userpass/login/bob", 0).arbitrary(TEXT).wants(&[Says("username")]),
    step("approle", "auth enable approle", 0),
    step("a role", "path-help auth/approle/role/a", 0).arbitrary(TEXT).wants(&[Says("bind_secret_id"), Says("secret_id_ttl")]),
    step("no such path", "path-help sys/nosuch", 2).arbitrary(&["stderr"]),
    step("no such mount", "path-help nosuch", 2).arbitrary(&["stderr"]).wants(&[Warns("Code: 40")]),
    step("nothing named", "path-help", 1),
    step("without a token", "path-help secret", 2).by("").arbitrary(&["stderr"]).wants(&[Warns("Code: 403")]),
];
