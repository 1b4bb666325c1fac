//! Secrets engines by `bao`: enable, list, tune, move, disable.

use crate::check::Want::{Absent, Json, Says, Stdout, Warns};
use crate::step::{Step, step};

pub(super) const STEPS: &[Step] = &[
    step("list", "secrets list", 0).wants(&[Says("secret/"), Says("cubbyhole/"), Says("sys/")]),
    step("list as JSON", "secrets list -format=json", 0).wants(&[
        Json("/secret~1/type", r#""kv""#),
        Json("/secret~1/options/version", r#""2""#),
        Json("/secret~1/local", "false"),
        Json("/secret~1/seal_wrap", "false"),
        Json("/secret~1/external_entropy_access", "false"),
        Json("/cubbyhole~1/local", "true"),
    ]),
    step("list in detail", "secrets list -detailed", 0).wants(&[Says("Default TTL"), Says("UUID")]),
    step("list as YAML", "secrets list -format=yaml", 0).wants(&[Says("secret/:")]),
    step("list by the API", "read -format=json sys/mounts", 0).wants(&[Json("/data/secret~1/type", r#""kv""#)]),
    step(
        "enable with all flags",
        "secrets enable -path=team/a -version=2 -description='of the team' -default-lease-ttl=1h -max-lease-ttl=24h -force-no-cache \
         -audit-non-hmac-request-keys=one -audit-non-hmac-response-keys=two -listing-visibility=unauth \
         -passthrough-request-headers=X-One -allowed-response-headers=X-Two kv",
        0,
    )
    .wants(&[Says("Success! Enabled the kv secrets engine at: team/a/")]),
    step("all is told", "secrets list -format=json", 0).wants(&[
        Json("/team~1a~1/description", r#""of the team""#),
        Json("/team~1a~1/config/default_lease_ttl", "3600"),
        Json("/team~1a~1/config/max_lease_ttl", "86400"),
        Json("/team~1a~1/config/force_no_cache", "true"),
        Json("/team~1a~1/config/listing_visibility", r#""unauth""#),
    ]),
    step("read of one", "read -format=json sys/mounts/team/a", 0).wants(&[
        Json("/data/config/audit_non_hmac_request_keys", r#"["one"]"#),
        Json("/data/config/passthrough_request_headers", r#"["X-One"]"#),
    ]),
    step("read of its settings", "read -format=json sys/mounts/team/a/tune", 0).wants(&[
        Json("/data/default_lease_ttl", "3600"),
        Json("/data/max_lease_ttl", "86400"),
        Json("/data/force_no_cache", "true"),
        Json("/data/description", r#""of the team""#),
    ]),
    step("settings of one with defaults", "read -format=json sys/mounts/secret/tune", 0)
        .wants(&[Json("/data/default_lease_ttl", "2764800")]),
    step("settings of none", "read sys/mounts/nosuch/tune", 2).wants(&[Warns("Code: 400")]),
    step("read of no mount", "read sys/mounts/nosuch", 2),
    step("everyone may see it", "read -format=json sys/internal/ui/mounts", 0)
        .by("")
        .wants(&[Json("/data/secret/team~1a~1/type", r#""kv""#)]),
    step("one's own see more", "read -format=json sys/internal/ui/mounts", 0).wants(&[Json("/data/secret/secret~1/type", r#""kv""#)]),
    step("what a path is mounted at", "read -format=json sys/internal/ui/mounts/team/a/x", 0)
        .wants(&[Json("/data/path", r#""team/a/""#), Json("/data/type", r#""kv""#)]),
    step("a path of no mount", "read sys/internal/ui/mounts/nosuch/x", 2).wants(&[Warns("Code: 403")]),
    step("a path without a token", "read sys/internal/ui/mounts/secret/x", 2).by("").wants(&[Warns("Code: 403")]),
    // Where nothing can be mounted.
    step("where something is", "secrets enable -path=team/a kv", 2)
        .wants(&[Warns("Code: 400"), Warns("path is already in use at team/a/")]),
    step("above something", "secrets enable -path=team kv", 2).wants(&[Warns("Code: 400"), Warns("path is already in use at team/a/")]),
    step("below something", "secrets enable -path=team/a/b kv", 2).wants(&[Warns("Code: 400")]),
    step("beside something", "secrets enable -path=team/b kv", 0),
    step("at sys", "secrets enable -path=sys kv", 2).wants(&[Warns("Code: 400")]),
    step("below auth", "secrets enable -path=auth/x kv", 2).wants(&[Warns("Code: 400")]),
    step("what is unknown", "secrets enable nosuch", 2).wants(&[Warns("Code: 400"), Warns("plugin not found in the catalog: nosuch")]),
    step("a second cubbyhole", "secrets enable -path=cubby cubbyhole", 2).wants(&[Warns("Code: 400")]),
    step("a default above the maximum", "secrets enable -path=odd -default-lease-ttl=2h -max-lease-ttl=1h kv", 2)
        .wants(&[Warns("Code: 400")]),
    step("a lifetime that is none", "write sys/mounts/odd type=kv config=soon", 2).wants(&[Warns("Code: 400")]),
    step("a version that is none", "secrets enable -path=odd -version=7 kv", 2).wants(&[Warns("Code: 400")]),
    step("a visibility that is none", "secrets enable -path=odd -listing-visibility=nosuch kv", 2).wants(&[Warns("Code: 400")]),
    step("no type", "write -f sys/mounts/odd", 2).wants(&[Warns("Code: 400")]),
    step("nothing of it is there", "secrets list -format=json", 0).wants(&[Absent("/odd~1"), Absent("/team~1"), Absent("/cubby~1")]),
    step("enable by the API", "write sys/mounts/api type=kv description=plain", 0),
    step("is listed", "read -format=json sys/mounts/api", 0).wants(&[Json("/data/description", r#""plain""#)]),
    step("enable of nothing named", "secrets enable", 1).wants(&[Warns("Not enough arguments")]),
    step("kv-v2 is kv with a version", "secrets enable -path=second kv-v2", 0),
    step("as is listed", "read -format=json sys/mounts/second", 0)
        .wants(&[Json("/data/type", r#""kv""#), Json("/data/options/version", r#""2""#)]),
    // Tune.
    step("tune", "secrets tune -default-lease-ttl=2h -description=changed team/a", 0)
        .wants(&[Says("Success! Tuned the secrets engine at: team/a/")]),
    step("it is tuned", "read -format=json sys/mounts/team/a/tune", 0).wants(&[
        Json("/data/default_lease_ttl", "7200"),
        Json("/data/max_lease_ttl", "86400"),
        Json("/data/description", r#""changed""#),
    ]),
    step("tune a default above the maximum", "secrets tune -default-lease-ttl=25h team/a", 2).wants(&[Warns("Code: 400")]),
    step("tune by the API", "write sys/mounts/team/a/tune max_lease_ttl=48h listing_visibility=hidden", 0),
    step("it is tuned too", "read -format=json sys/mounts/team/a/tune", 0).wants(&[Json("/data/max_lease_ttl", "172800")]),
    step("hidden again", "read -format=json sys/internal/ui/mounts", 0).by("").wants(&[Absent("/data/secret/team~1a~1")]),
    step("back to the system's", "write sys/mounts/team/a/tune default_lease_ttl=0 max_lease_ttl=system", 0),
    step("it is the system's", "read -format=json sys/mounts/team/a/tune", 0).wants(&[Json("/data/max_lease_ttl", "2764800")]),
    step("tune with nonsense", "write sys/mounts/team/a/tune default_lease_ttl=soon", 2).wants(&[Warns("Code: 400")]),
    step("tune of none", "secrets tune -description=x nosuch", 2).wants(&[Warns("Code: 400")]),
    // Move.
    step("something to move", "kv put team/a/deep/x v=1", 0),
    step("move", "secrets move team/a moved", 0)
        .arbitrary(&["stdout"])
        .wants(&[Says("Success! Finished moving secrets engine team/a/ to moved/")]),
    step("it is there", "kv get -field=v moved/deep/x", 0).wants(&[Stdout("1")]),
    step("and not where it was", "kv get team/a/deep/x", 2).wants(&[Warns("Code: 403")]),
    step("its settings too", "read -format=json sys/mounts/moved", 0).wants(&[Json("/data/description", r#""changed""#)]),
    step("move to where something is", "secrets move moved secret", 2).wants(&[Warns("Code: 400")]),
    step("move of none", "secrets move nosuch other", 2).wants(&[Warns("Code: 400")]),
    step("move of cubbyhole", "secrets move cubbyhole other", 2).wants(&[Warns("Code: 400")]),
    step("move of sys", "secrets move sys other", 2).wants(&[Warns("Code: 400")]),
    step("move from secrets to auth", "secrets move moved auth/moved", 2).wants(&[Warns("Code: 400")]),
    step("move by the API", "write -format=json sys/remount from=moved to=again", 0).keep(&[("migration", "/data/migration_id")]),
    step("how it went", "read -format=json sys/remount/status/{migration}", 0)
        .after(300)
        .wants(&[Json("/data/migration_info/status", r#""success""#), Json("/data/migration_info/target_mount", r#""again/""#)]),
    step("how no move went", "read sys/remount/status/00000000-0000-0000-0000-000000000000", 2),
    step("it is there again", "kv get -field=v again/deep/x", 0).wants(&[Stdout("1")]),
    // Disable.
    step("disable", "secrets disable again", 0).wants(&[Says("Success! Disabled the secrets engine (if it existed) at: again/")]),
    step("nothing answers there", "kv get again/deep/x", 2).wants(&[Warns("Code: 403")]),
    step("enable anew", "secrets enable -path=again -version=2 kv", 0),
    step("what was there is not", "kv get again/deep/x", 2).wants(&[Warns("No value found")]),
    step("disable of none", "secrets disable nosuch", 0),
    step("disable of sys", "secrets disable sys", 2).wants(&[Warns("Code: 400"), Warns("cannot unmount")]),
    step("disable of cubbyhole", "secrets disable cubbyhole", 2).wants(&[Warns("Code: 400")]),
    step("disable by the API", "delete sys/mounts/api", 0),
    step("a token that may nothing", "token create -format=json -policy=default -ttl=1h", 0).keep(&[("nobody", "/auth/client_token")]),
    step("enables nothing", "secrets enable -path=no kv", 2).by("nobody").wants(&[Warns("Code: 403")]),
    step("lists nothing", "secrets list", 2).by("nobody").wants(&[Warns("Code: 403")]),
    step("moves nothing", "secrets move again no", 2).by("nobody").wants(&[Warns("Code: 403")]),
    step("disables nothing", "secrets disable again", 2).by("nobody").wants(&[Warns("Code: 403")]),
];
