//! Response wrapping and the cubbyhole by `bao`.

use crate::check::Want::{Json, Says, Stdout, Warns};
use crate::step::{Step, step};

const BOUNDS: &str =
    "path \"secret/data/bounded\" {\n  capabilities = [\"read\"]\n  min_wrapping_ttl = \"1m\"\n  max_wrapping_ttl = \"10m\"\n}\n";

pub(super) const STEPS: &[Step] = &[
    step("a secret", "kv put secret/a x=1", 0),
    step("wrap", "kv get -wrap-ttl=5m -format=json secret/a", 0)
        .keep(&[("wrapped", "/wrap_info/token"), ("wrapped_accessor", "/wrap_info/accessor")])
        .wants(&[Json("/wrap_info/ttl", "300"), Json("/wrap_info/creation_path", r#""secret/data/a""#)]),
    step("wrap as a table", "kv get -wrap-ttl=5m secret/a", 0)
        .wants(&[Says("wrapping_token_ttl: 5m"), Says("wrapping_token_creation_path: secret/data/a")]),
    step("wrap gives the token alone", "read -wrap-ttl=90s -field=wrapping_token secret/data/a", 0).keep(&[("alone", "")]),
    step("another", "read -wrap-ttl=90s -field=wrapping_token secret/data/a", 0).keep(&[("misused", "")]),
    step("a third", "read -wrap-ttl=90s -field=wrapping_token secret/data/a", 0).keep(&[("seen", "")]),
    step("look it up", "write -format=json sys/wrapping/lookup token={wrapped}", 0)
        .wants(&[Json("/data/creation_ttl", "300"), Json("/data/creation_path", r#""secret/data/a""#)]),
    step("look it up without a token", "write -format=json sys/wrapping/lookup token={wrapped}", 0).by(""),
    step("look it up with itself", "read -format=json sys/wrapping/lookup", 0).by("seen"),
    step("a wrapping token is of no other use", "kv get secret/a", 2).by("misused").wants(&[Warns("Code: 403")]),
    step("unwrap", "unwrap -format=json {wrapped}", 0).wants(&[Json("/data/data", r#"{"x":"1"}"#), Json("/data/metadata/version", "1")]),
    step("once only", "unwrap {wrapped}", 2).wants(&[Warns("Code: 400"), Warns("wrapping token is not valid or does not exist")]),
    step("after that there is nothing to look up", "write sys/wrapping/lookup token={wrapped}", 2).wants(&[Warns("Code: 400")]),
    step("unwrap with itself", "unwrap -format=json", 0).by("alone").wants(&[Json("/data/data/x", r#""1""#)]),
    step("unwrap gives a field", "write -wrap-ttl=1m -field=wrapping_token sys/wrapping/wrap word=open other=2", 0).keep(&[("words", "")]),
    step("the field", "unwrap -field=word {words}", 0).wants(&[Stdout("open")]),
    step("unwrap of no token", "unwrap hvs.aWrongTokenOfTheLength", 2)
        .wants(&[Warns("Code: 400"), Warns("wrapping token is not valid or does not exist")]),
    step("unwrap of a token that wraps nothing", "token create -field=token -policy=default -ttl=1h", 0).keep(&[("plain", "")]),
    step("is refused", "unwrap {plain}", 2).wants(&[Warns("Code: 400")]),
    // Wrap anything.
    step("wrap data", "write -wrap-ttl=60s -format=json sys/wrapping/wrap a=1 b=two", 0)
        .keep(&[("any", "/wrap_info/token")])
        .wants(&[Json("/wrap_info/creation_path", r#""sys/wrapping/wrap""#), Json("/wrap_info/ttl", "60")]),
    step("rewrap", "write -format=json sys/wrapping/rewrap token={any}", 0)
        .keep(&[("anew", "/wrap_info/token")])
        .wants(&[Json("/wrap_info/ttl", "60"), Json("/wrap_info/creation_path", r#""sys/wrapping/wrap""#)]),
    step("the old token is spent", "unwrap {any}", 2).wants(&[Warns("Code: 400")]),
    step("the new one is not", "write -format=json sys/wrapping/unwrap token={anew}", 0).wants(&[Json("/data", r#"{"a":"1","b":"two"}"#)]),
    step("the CLI wraps for five minutes", "write -format=json sys/wrapping/wrap a=1", 0).wants(&[Json("/wrap_info/ttl", "300")]),
    step("a lifetime that is none", "write -wrap-ttl=soon sys/wrapping/wrap a=1", 1),
    step("rewrap of a spent token", "write sys/wrapping/rewrap token={any}", 2).wants(&[Warns("Code: 400")]),
    step("a wrap that ends", "write -wrap-ttl=1s -field=wrapping_token sys/wrapping/wrap a=1", 0).keep(&[("brief", "")]),
    step("has ended", "unwrap {brief}", 2).after(2500).wants(&[Warns("Code: 400")]),
    // Wrapped tokens and lists.
    step("a wrapped token", "token create -wrap-ttl=5m -policy=default -ttl=1h -format=json", 0)
        .keep(&[("wrapped_token", "/wrap_info/token"), ("inner_accessor", "/wrap_info/wrapped_accessor")])
        .wants(&[Json("/wrap_info/creation_path", r#""auth/token/create""#)]),
    step("its accessor is known", "token lookup -format=json -accessor {inner_accessor}", 0)
        .wants(&[Json("/data/policies", r#"["default"]"#)]),
    step("and it comes out", "unwrap -format=json {wrapped_token}", 0)
        .keep(&[("inner", "/auth/client_token")])
        .wants(&[Json("/auth/accessor", r#""{inner_accessor}""#), Json("/auth/policies", r#"["default"]"#)]),
    step("alive", "token lookup", 0).by("inner"),
    step("a wrapped list", "list -wrap-ttl=1m -format=json secret/metadata", 0).keep(&[("listed", "/wrap_info/token")]),
    step("comes out", "unwrap -format=json {listed}", 0).wants(&[Json("", r#"["a"]"#)]),
    step("an error is not wrapped", "kv get -wrap-ttl=1m secret/none", 2),
    step("an answer without a body is not wrapped", "delete -wrap-ttl=1m secret/data/none", 0),
    step("a wrap of one's own is not revoked by others", "token revoke -accessor {inner_accessor}", 0),
    // Bounds.
    step("a policy with bounds", "policy write bounds -", 0).stdin(BOUNDS),
    step("its token", "token create -field=token -policy=bounds -ttl=1h", 0).keep(&[("bounded", "")]),
    step("its secret", "kv put secret/bounded x=1", 0),
    step("without wrapping", "read secret/data/bounded", 2).by("bounded").wants(&[Warns("Code: 403")]),
    step("for too short", "read -wrap-ttl=10s secret/data/bounded", 2).by("bounded").wants(&[Warns("Code: 403")]),
    step("for too long", "read -wrap-ttl=1h secret/data/bounded", 2).by("bounded").wants(&[Warns("Code: 403")]),
    step("within bounds", "read -wrap-ttl=5m -format=json secret/data/bounded", 0).by("bounded").wants(&[Json("/wrap_info/ttl", "300")]),
    // Cubbyhole.
    step("a token of one's own", "token create -field=token -policy=default -ttl=1h", 0).keep(&[("mine", "")]),
    step("write", "write cubbyhole/deep/a x=1", 0).by("mine").wants(&[Says("Success! Data written to: cubbyhole/deep/a")]),
    step("read", "read -format=json cubbyhole/deep/a", 0).by("mine").wants(&[Json("/data", r#"{"x":"1"}"#)]),
    step("list", "list -format=json cubbyhole", 0).by("mine").wants(&[Json("", r#"["deep/"]"#)]),
    step("nobody else sees it", "read cubbyhole/deep/a", 2).wants(&[Warns("No value found")]),
    step("nor lists it", "list cubbyhole", 2).wants(&[Warns("No value found")]),
    step("write of nothing", "write -f cubbyhole/none", 2).by("mine").wants(&[Warns("Code: 400"), Warns("missing data fields")]),
    step("delete", "delete cubbyhole/deep/a", 0).by("mine"),
    step("it is gone", "read cubbyhole/deep/a", 2).by("mine").wants(&[Warns("No value found")]),
    step("a batch token", "token create -field=token -type=batch -policy=default -ttl=1h", 0).keep(&[("batch", "")]),
    step("has no cubbyhole", "write cubbyhole/a x=1", 2).by("batch").wants(&[Warns("Code: 4")]),
];
