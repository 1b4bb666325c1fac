//! Leases by `bao`: those of tokens and logins, as the engines of this issue give no others.

use crate::check::Want::{Json, Says, Warns};
use crate::step::{Step, step};

pub(super) const STEPS: &[Step] = &[
    step("a method to log in by", "auth enable userpass", 0),
    step("a user", "write auth/userpass/users/bob password=builder-1 token_ttl=30m token_max_ttl=1h", 0),
    step("a login", "write -field=token auth/userpass/login/bob password=builder-1", 0).keep(&[("bob", "")]),
    step("folders of leases", "list -format=json sys/leases/lookup/auth/userpass", 0).wants(&[Json("", r#"["login/"]"#)]),
    step("its lease", "list -format=json sys/leases/lookup/auth/userpass/login/bob", 0).keep(&[("lease", "/0")]),
    step("no leases", "list sys/leases/lookup/nosuch", 2).wants(&[Warns("No value found")]),
    step("lookup", "lease lookup -format=json auth/userpass/login/bob/{lease}", 0).wants(&[
        Json("/data/renewable", "true"),
        Json("/data/ttl", "1800"),
        Json("/data/last_renewal", "null"),
    ]),
    step("lookup as a table", "lease lookup auth/userpass/login/bob/{lease}", 0).wants(&[Says("renewable true")]),
    step("lookup by the API", "write -format=json sys/leases/lookup lease_id=auth/userpass/login/bob/{lease}", 0),
    step("lookup of none", "lease lookup auth/userpass/login/bob/nosuch", 2).wants(&[Warns("Code: 400"), Warns("invalid lease")]),
    step("lookup of nothing named", "write -f sys/leases/lookup", 2).wants(&[Warns("Code: 400")]),
    step("a token's lease is not renewed here", "lease renew auth/userpass/login/bob/{lease}", 2).wants(&[Warns("Code: 4")]),
    step("nor by the API", "write sys/leases/renew lease_id=auth/userpass/login/bob/{lease} increment=600", 2).wants(&[Warns("Code: 4")]),
    step("renew of none", "lease renew auth/nosuch/x", 2).wants(&[Warns("Code: 400"), Warns("lease not found")]),
    step("renew of nothing named", "write -f sys/leases/renew", 2).wants(&[Warns("Code: 400")]),
    step("revoke", "lease revoke auth/userpass/login/bob/{lease}", 0).wants(&[Says("All revocation operations queued successfully!")]),
    step("the token is dead", "token lookup", 2).by("bob").after(500).wants(&[Warns("Code: 403")]),
    step("so is its lease", "lease lookup auth/userpass/login/bob/{lease}", 2).wants(&[Warns("Code: 400"), Warns("invalid lease")]),
    step("revoke of none", "lease revoke auth/userpass/login/bob/nosuch", 0),
    step("another login", "write -field=token auth/userpass/login/bob password=builder-1", 0).keep(&[("bob", "")]),
    step("and another", "write -field=token auth/userpass/login/bob password=builder-1", 0).keep(&[("bob2", "")]),
    step("both are there", "list -format=json sys/leases/lookup/auth/userpass/login/bob", 0).wants(&[Says(",")]),
    step("revoke a prefix at once", "lease revoke -prefix -sync auth/userpass/login", 0).wants(&[Says("Success!")]),
    step("the first is dead", "token lookup", 2).by("bob").wants(&[Warns("Code: 403")]),
    step("so is the second", "token lookup", 2).by("bob2").wants(&[Warns("Code: 403")]),
    step("a third login", "write -field=token auth/userpass/login/bob password=builder-1", 0).keep(&[("bob", "")]),
    step("revoke by force", "lease revoke -force -prefix auth/userpass/login", 0)
        .wants(&[Says("Success! Force revoked any leases with prefix: auth/userpass/login")]),
    step("it is dead too", "token lookup", 2).by("bob").after(500).wants(&[Warns("Code: 403")]),
    step("force wants a prefix", "lease revoke -force auth/userpass/login/bob/x", 1).wants(&[Warns("-prefix")]),
    step("revoke by the API", "write sys/leases/revoke lease_id=auth/userpass/login/bob/nosuch", 0),
    step("revoke of nothing named", "write -f sys/leases/revoke", 2).wants(&[Warns("Code: 400")]),
    step("revoke a prefix by the API", "write -f sys/leases/revoke-prefix/auth/userpass", 0),
    step("a token", "token create -field=token -policy=default -ttl=1h", 0).keep(&[("child", "")]),
    step("its lease is here", "list -format=json sys/leases/lookup/auth/token/create", 0).keep(&[("lease", "/0")]),
    step("and tells its time", "lease lookup -format=json auth/token/create/{lease}", 0)
        .wants(&[Json("/data/ttl", "3600"), Json("/data/renewable", "true")]),
    step("an end that is kept", "token revoke {child}", 0),
    step("takes its lease along", "lease lookup auth/token/create/{lease}", 2).wants(&[Warns("Code: 400")]),
    step("count of what cannot be revoked", "read -format=json sys/leases/count type=irrevocable", 0)
        .wants(&[Json("/data/lease_count", "0"), Json("/data/counts", "{}")]),
    step("count of another type", "read sys/leases/count type=nosuch", 2),
    step("what cannot be revoked", "read -format=json sys/leases type=irrevocable", 0).wants(&[Json("/data/lease_count", "0")]),
    step("tidy", "write -f sys/leases/tidy", 0).wants(&[Warns("Tidy operation")]),
    step("a token that may nothing", "token create -field=token -policy=default -ttl=1h", 0).keep(&[("nobody", "")]),
    step("lists nothing", "list sys/leases/lookup/auth", 2).by("nobody").wants(&[Warns("Code: 403")]),
    step("revokes nothing", "lease revoke -prefix auth", 2).by("nobody").wants(&[Warns("Code: 403")]),
    step("counts nothing", "read sys/leases/count type=irrevocable", 2).by("nobody").wants(&[Warns("Code: 403")]),
];
