//! Auth methods by `bao`: mounts, userpass, AppRole.

use crate::check::Want::{Absent, Json, Says, Stdout, Warns};
use crate::step::{Step, step};

pub(super) const STEPS: &[Step] = &[
    // Mounts.
    step("list", "auth list", 0).wants(&[Says("token/")]),
    step("list as JSON", "auth list -format=json", 0)
        .wants(&[Json("/token~1/type", r#""token""#), Json("/token~1/config/token_type", r#""default-service""#)]),
    step("list in detail", "auth list -detailed", 0).wants(&[Says("Token Type")]),
    step("enable userpass", "auth enable -description=people -listing-visibility=unauth userpass", 0)
        .wants(&[Says("Success! Enabled userpass auth method at: userpass/")]),
    step("enable approle elsewhere", "auth enable -path=machines/ci -default-lease-ttl=30m -max-lease-ttl=2h -token-type=service approle", 0)
        .wants(&[Says("at: machines/ci/")]),
    step("both are listed", "auth list -format=json", 0).wants(&[
        Json("/userpass~1/description", r#""people""#),
        Json("/machines~1ci~1/type", r#""approle""#),
        Json("/machines~1ci~1/config/default_lease_ttl", "1800"),
        Json("/machines~1ci~1/config/token_type", r#""service""#),
    ]),
    step("by the API", "read -format=json sys/auth", 0).wants(&[Json("/data/userpass~1/type", r#""userpass""#)]),
    step("one by the API", "read -format=json sys/auth/userpass", 0).keep(&[("people_accessor", "/data/accessor")]),
    step("everyone may see", "read -format=json sys/internal/ui/mounts", 0).by("").wants(&[Json("/data/auth/userpass~1/type", r#""userpass""#)]),
    step("where something is", "auth enable userpass", 2).wants(&[Warns("Code: 400"), Warns("path is already in use at userpass/")]),
    step("what is unknown", "auth enable nosuch", 2).wants(&[Warns("Code: 400"), Warns("plugin not found in the catalog: nosuch")]),
    step("a second token store", "auth enable -path=token2 token", 2).wants(&[Warns("Code: 400")]),
    step("its settings", "read -format=json sys/auth/machines/ci/tune", 0).wants(&[
        Json("/data/default_lease_ttl", "1800"),
        Json("/data/max_lease_ttl", "7200"),
        Json("/data/token_type", r#""service""#),
    ]),
    step("tune", "auth tune -default-lease-ttl=20m -description=builds machines/ci", 0)
        .wants(&[Says("Success! Tuned the auth method at: machines/ci/")]),
    step("it is tuned", "read -format=json sys/auth/machines/ci/tune", 0)
        .wants(&[Json("/data/default_lease_ttl", "1200"), Json("/data/description", r#""builds""#)]),
    step("tune the token store's type", "auth tune -token-type=batch token", 2).wants(&[Warns("Code: 400")]),
    step("tune of none", "auth tune -description=x nosuch", 2).wants(&[Warns("Code: 400")]),
    step("tune by the API", "write sys/auth/userpass/tune max_lease_ttl=12h", 0),
    step("help of a method", "auth help userpass", 0).arbitrary(&["stdout"]),
    // userpass.
    step("a user", "write auth/userpass/users/bob password=builder-1 token_policies=default,people token_ttl=30m token_max_ttl=1h", 0)
        .wants(&[Says("Success! Data written to: auth/userpass/users/bob")]),
    step("read of a user", "read -format=json auth/userpass/users/bob", 0).wants(&[
        Json("/data/token_policies", r#"["default","people"]"#),
        Json("/data/token_ttl", "1800"),
        Json("/data/token_max_ttl", "3600"),
        Json("/data/token_type", r#""default""#),
        Absent("/data/password"),
        Absent("/data/password_hash"),
    ]),
    step("list of users", "list -format=json auth/userpass/users", 0).wants(&[Json("", r#"["bob"]"#)]),
    step("login", "login -no-store -format=json -method=userpass username=bob password=builder-1", 0)
        .keep(&[("bob", "/auth/client_token")])
        .wants(&[
            Json("/auth/policies", r#"["default","people"]"#),
            Json("/auth/metadata", r#"{"username":"bob"}"#),
            Json("/auth/lease_duration", "1800"),
            Json("/auth/orphan", "true"),
        ]),
    step("login by the API", "write -format=json auth/userpass/login/bob password=builder-1", 0).by("").wants(&[Json("/auth/renewable", "true")]),
    step("its token", "token lookup -format=json", 0).by("bob").wants(&[
        Json("/data/display_name", r#""userpass-bob""#),
        Json("/data/path", r#""auth/userpass/login/bob""#),
        Json("/data/meta", r#"{"username":"bob"}"#),
        Json("/data/orphan", "true"),
    ]),
    step("names are small letters", "write -format=json auth/userpass/login/BOB password=builder-1", 0)
        .by("")
        .wants(&[Json("/auth/metadata/username", r#""bob""#)]),
    step("renew up to its end", "token renew -increment=10h -format=json {bob}", 0).wants(&[Json("/auth/lease_duration", "3600")]),
    step("a wrong password", "login -no-store -method=userpass username=bob password=wrong", 2)
        .wants(&[Warns("Code: 400"), Warns("invalid username or password")]),
    step("an unknown user", "login -no-store -method=userpass username=eve password=wrong", 2)
        .wants(&[Warns("Code: 400"), Warns("invalid username or password")]),
    step("no password", "write -f auth/userpass/login/bob", 2).by("").wants(&[Warns("Code: 400")]),
    step("a user without a password", "write auth/userpass/users/none token_policies=people", 2).wants(&[Warns("Code: 400")]),
    step("read of no user", "read auth/userpass/users/none", 2).wants(&[Warns("No value found")]),
    step("a new password", "write auth/userpass/users/bob/password password=builder-2", 0),
    step("the old one is none", "write auth/userpass/login/bob password=builder-1", 2).by("").wants(&[Warns("Code: 400")]),
    step("the new one is", "write -format=json auth/userpass/login/bob password=builder-2", 0).by("").keep(&[("bob", "/auth/client_token")]),
    step("new policies", "write auth/userpass/users/bob/policies token_policies=others", 0),
    step("count at the next login", "write -format=json auth/userpass/login/bob password=builder-2", 0)
        .by("")
        .wants(&[Json("/auth/policies", r#"["default","others"]"#)]),
    step("a change keeps the password", "write auth/userpass/users/bob token_ttl=10m", 0),
    step("and the lifetime counts", "write -format=json auth/userpass/login/bob password=builder-2", 0)
        .by("")
        .wants(&[Json("/auth/lease_duration", "600")]),
    step("a user of batch tokens", "write auth/userpass/users/batch password=builder-1 token_type=batch token_ttl=10m", 0),
    step("has them", "write -format=json auth/userpass/login/batch password=builder-1", 0)
        .by("")
        .wants(&[Json("/auth/accessor", r#""""#), Json("/auth/renewable", "false")]),
    step("a user elsewhere", "write auth/userpass/users/far password=builder-1 token_bound_cidrs=192.0.2.0/24", 0),
    step("does not log in here", "write auth/userpass/login/far password=builder-1", 2).by("").wants(&[Warns("Code: 4")]),
    step("a user with uses", "write auth/userpass/users/few password=builder-1 token_num_uses=2 token_no_default_policy=true token_policies=people token_explicit_max_ttl=5m", 0),
    step("logs in", "write -format=json auth/userpass/login/few password=builder-1", 0)
        .by("")
        .keep(&[("few", "/auth/client_token")])
        .wants(&[Json("/auth/policies", r#"["people"]"#), Json("/auth/lease_duration", "300")]),
    step("its uses are told", "token lookup -format=json {few}", 0).wants(&[Json("/data/num_uses", "2"), Json("/data/explicit_max_ttl", "300")]),
    step("delete a user", "delete auth/userpass/users/bob", 0),
    step("it is gone", "write auth/userpass/login/bob password=builder-2", 2).by("").wants(&[Warns("Code: 400")]),
    step("its tokens are renewed no more", "token renew -format=json {bob}", 2).wants(&[Warns("Code: 400")]),
    // Lock-out: five failures in a row, at each node.
    step("a user to lock out", "write auth/userpass/users/carol password=builder-1", 0),
    step("failure 1", "write auth/userpass/login/carol password=no", 2).by(""),
    step("failure 2", "write auth/userpass/login/carol password=no", 2).by(""),
    step("failure 3", "write auth/userpass/login/carol password=no", 2).by(""),
    step("failure 4", "write auth/userpass/login/carol password=no", 2).by(""),
    step("failure 5", "write auth/userpass/login/carol password=no", 2).by(""),
    step("further failure 1", "write auth/userpass/login/carol password=no", 2).by(""),
    step("further failure 2", "write auth/userpass/login/carol password=no", 2).by(""),
    step("further failure 3", "write auth/userpass/login/carol password=no", 2).by(""),
    step("further failure 4", "write auth/userpass/login/carol password=no", 2).by(""),
    step("further failure 5", "write auth/userpass/login/carol password=no", 2).by(""),
    step("further failure 6", "write auth/userpass/login/carol password=no", 2).by(""),
    step("further failure 7", "write auth/userpass/login/carol password=no", 2).by(""),
    step("further failure 8", "write auth/userpass/login/carol password=no", 2).by(""),
    step("further failure 9", "write auth/userpass/login/carol password=no", 2).by(""),
    step("further failure 10", "write auth/userpass/login/carol password=no", 2).by(""),
    step("locked out", "write auth/userpass/login/carol password=builder-1", 2).by("").wants(&[Warns("Code: 403"), Warns("permission denied")]),
    step("who is locked out", "read -format=json sys/locked-users", 0),
    step("let in again", "write -f sys/locked-users/{people_accessor}/unlock/carol", 0),
    step("is in", "write -format=json auth/userpass/login/carol password=builder-1", 0).by(""),
    // AppRole.
    step(
        "a role",
        "write auth/machines/ci/role/build token_policies=builders token_ttl=10m token_max_ttl=1h secret_id_ttl=1h secret_id_num_uses=3",
        0,
    ),
    step("read of a role", "read -format=json auth/machines/ci/role/build", 0).wants(&[
        Json("/data/bind_secret_id", "true"),
        Json("/data/local_secret_ids", "false"),
        Json("/data/secret_id_ttl", "3600"),
        Json("/data/secret_id_num_uses", "3"),
        Json("/data/token_policies", r#"["builders"]"#),
        Json("/data/token_ttl", "600"),
    ]),
    step("list of roles", "list -format=json auth/machines/ci/role", 0).wants(&[Json("", r#"["build"]"#)]),
    step("its id", "read -format=json auth/machines/ci/role/build/role-id", 0).keep(&[("role_id", "/data/role_id")]),
    step("a secret id", "write -format=json -f auth/machines/ci/role/build/secret-id", 0)
        .keep(&[("secret_id", "/data/secret_id"), ("secret_id_accessor", "/data/secret_id_accessor")])
        .wants(&[Json("/data/secret_id_ttl", "3600"), Json("/data/secret_id_num_uses", "3")]),
    step("log in", "write -format=json auth/machines/ci/login role_id={role_id} secret_id={secret_id}", 0)
        .by("")
        .keep(&[("machine", "/auth/client_token")])
        .wants(&[
            Json("/auth/policies", r#"["builders","default"]"#),
            Json("/auth/metadata", r#"{"role_name":"build"}"#),
            Json("/auth/lease_duration", "600"),
        ]),
    step("by bao login", "login -no-store -format=json -method=approle -path=machines/ci role_id={role_id} secret_id={secret_id}", 1),
    step("what its token is", "token lookup -format=json", 0).by("machine").wants(&[
        Json("/data/display_name", r#""machines-ci""#),
        Json("/data/path", r#""auth/machines/ci/login""#),
        Json("/data/orphan", "true"),
    ]),
    step("look the secret id up", "write -format=json auth/machines/ci/role/build/secret-id/lookup secret_id={secret_id}", 0).wants(&[
        Json("/data/secret_id_num_uses", "2"),
        Json("/data/secret_id_ttl", "3600"),
        Json("/data/secret_id_accessor", r#""{secret_id_accessor}""#),
    ]),
    step("by its accessor", "write -format=json auth/machines/ci/role/build/secret-id-accessor/lookup secret_id_accessor={secret_id_accessor}", 0)
        .wants(&[Json("/data/secret_id_accessor", r#""{secret_id_accessor}""#)]),
    step("accessors of secret ids", "list -format=json auth/machines/ci/role/build/secret-id", 0).wants(&[Json("", r#"["{secret_id_accessor}"]"#)]),
    step("the second use", "write -format=json auth/machines/ci/login role_id={role_id} secret_id={secret_id}", 0).by(""),
    step("the third", "write -format=json auth/machines/ci/login role_id={role_id} secret_id={secret_id}", 0).by(""),
    step("there is no fourth", "write auth/machines/ci/login role_id={role_id} secret_id={secret_id}", 2).by("").wants(&[Warns("Code: 400"), Warns("invalid role or secret ID")]),
    step("a wrong secret id", "write auth/machines/ci/login role_id={role_id} secret_id=wrong", 2).by("").wants(&[Warns("Code: 400"), Warns("invalid role or secret ID")]),
    step("a wrong role id", "write auth/machines/ci/login role_id=wrong secret_id=wrong", 2).by("").wants(&[Warns("Code: 400"), Warns("invalid role or secret ID")]),
    step("no role id", "write auth/machines/ci/login secret_id=wrong", 2).by("").wants(&[Warns("Code: 400")]),
    step("no secret id", "write auth/machines/ci/login role_id={role_id}", 2).by("").wants(&[Warns("Code: 400")]),
    step("a secret id of one's own", "write -format=json auth/machines/ci/role/build/custom-secret-id secret_id=one-of-my-own", 0)
        .wants(&[Json("/data/secret_id", r#""one-of-my-own""#)]),
    step("logs in too", "write -format=json auth/machines/ci/login role_id={role_id} secret_id=one-of-my-own", 0).by(""),
    step("the same one again", "write auth/machines/ci/role/build/custom-secret-id secret_id=one-of-my-own", 2),
    step("destroy it", "write auth/machines/ci/role/build/secret-id/destroy secret_id=one-of-my-own", 0),
    step("it logs in no more", "write auth/machines/ci/login role_id={role_id} secret_id=one-of-my-own", 2).by("").wants(&[Warns("Code: 400")]),
    step("a secret id with more", "write -format=json auth/machines/ci/role/build/secret-id metadata='{\"host\":\"a\"}' ttl=5m num_uses=1 cidr_list=127.0.0.0/8 token_bound_cidrs=127.0.0.1/32", 0)
        .keep(&[("rich_id", "/data/secret_id"), ("rich_accessor", "/data/secret_id_accessor")])
        .wants(&[Json("/data/secret_id_ttl", "300"), Json("/data/secret_id_num_uses", "1")]),
    step("is looked up", "write -format=json auth/machines/ci/role/build/secret-id/lookup secret_id={rich_id}", 0)
        .wants(&[Json("/data/metadata", r#"{"host":"a"}"#), Json("/data/cidr_list", r#"["127.0.0.0/8"]"#)]),
    step("its metadata goes along", "write -format=json auth/machines/ci/login role_id={role_id} secret_id={rich_id}", 0)
        .by("")
        .wants(&[Json("/auth/metadata", r#"{"host":"a","role_name":"build"}"#)]),
    step("a wrapped secret id", "write -format=json -wrap-ttl=5m -f auth/machines/ci/role/build/secret-id", 0).keep(&[("wrapped_id", "/wrap_info/token")]),
    step("is unwrapped", "unwrap -format=json {wrapped_id}", 0).by("").keep(&[("secret_id", "/data/secret_id"), ("secret_id_accessor", "/data/secret_id_accessor")]),
    step("destroy by accessor", "write auth/machines/ci/role/build/secret-id-accessor/destroy secret_id_accessor={secret_id_accessor}", 0),
    step("it is gone by now", "write auth/machines/ci/login role_id={role_id} secret_id={secret_id}", 2).by("").wants(&[Warns("Code: 400")]),
    step("look nothing up", "write auth/machines/ci/role/build/secret-id/lookup secret_id=nosuch", 0),
    step("a short secret id", "write -format=json auth/machines/ci/role/build/secret-id ttl=1s", 0).keep(&[("short_id", "/data/secret_id")]),
    step("is of no use after its time", "write auth/machines/ci/login role_id={role_id} secret_id={short_id}", 2).by("").after(2200).wants(&[Warns("Code: 400")]),
    // Parts of a role.
    step("a role id of one's own", "write auth/machines/ci/role/build/role-id role_id=my-role", 0),
    step("is the role's", "read -field=role_id auth/machines/ci/role/build/role-id", 0).wants(&[Stdout("my-role")]),
    step("a part", "write auth/machines/ci/role/build/token-ttl token_ttl=15m", 0),
    step("is read", "read -format=json auth/machines/ci/role/build/token-ttl", 0).wants(&[Json("/data/token_ttl", "900")]),
    step("is taken back", "delete auth/machines/ci/role/build/token-ttl", 0),
    step("as is seen", "read -format=json auth/machines/ci/role/build/token-ttl", 0).wants(&[Json("/data/token_ttl", "0")]),
    step("policies of a role", "read -format=json auth/machines/ci/role/build/policies", 0),
    step("its secret ids' networks", "write auth/machines/ci/role/build/secret-id-bound-cidrs secret_id_bound_cidrs=127.0.0.0/8", 0),
    step("are read", "read -format=json auth/machines/ci/role/build/secret-id-bound-cidrs", 0)
        .wants(&[Json("/data/secret_id_bound_cidrs", r#"["127.0.0.0/8"]"#)]),
    step("its secret ids' uses", "read -format=json auth/machines/ci/role/build/secret-id-num-uses", 0).wants(&[Json("/data/secret_id_num_uses", "3")]),
    step("its secret ids' life", "read -format=json auth/machines/ci/role/build/secret-id-ttl", 0).wants(&[Json("/data/secret_id_ttl", "3600")]),
    step("its period", "read -format=json auth/machines/ci/role/build/period", 0),
    step("a role without a secret id and without networks", "write auth/machines/ci/role/open bind_secret_id=false", 2).wants(&[Warns("Code: 400")]),
    step("a role of networks", "write auth/machines/ci/role/open bind_secret_id=false token_bound_cidrs=127.0.0.0/8 role_id=open-role", 0),
    step("a role without a secret id logs in", "write -format=json auth/machines/ci/login role_id=open-role", 0).by(""),
    step("a role of far networks", "write auth/machines/ci/role/far bind_secret_id=false token_bound_cidrs=192.0.2.0/24", 0),
    step("its given id", "write auth/machines/ci/role/far/role-id role_id=far-role", 0),
    step("gives no tokens here", "write -field=token auth/machines/ci/login role_id=far-role", 2).by("").wants(&[Warns("Code: 403")]),
    step("an id of another role", "write auth/machines/ci/role/far/role-id role_id=my-role", 2),
    step("a longer life than the longest", "write auth/machines/ci/role/odd token_ttl=2h token_max_ttl=1h", 2).wants(&[Warns("Code: 400")]),
    step("a periodic role", "write auth/machines/ci/role/periodic token_period=10m bind_secret_id=false token_bound_cidrs=127.0.0.0/8", 0),
    step("its own id", "write auth/machines/ci/role/periodic/role-id role_id=periodic-role", 0),
    step("gives periodic tokens", "write -format=json auth/machines/ci/login role_id=periodic-role", 0)
        .by("")
        .keep(&[("periodic", "/auth/client_token")])
        .wants(&[Json("/auth/lease_duration", "600")]),
    step("with their period", "token lookup -format=json {periodic}", 0).wants(&[Json("/data/period", "600")]),
    step("tidy", "write -f auth/machines/ci/tidy/secret-id", 0),
    step("read of no role", "read auth/machines/ci/role/nosuch", 2).wants(&[Warns("No value found")]),
    step("the id of no role", "read auth/machines/ci/role/nosuch/role-id", 2),
    step("a secret id of no role", "write -f auth/machines/ci/role/nosuch/secret-id", 2),
    step("delete a role", "delete auth/machines/ci/role/build", 0),
    step("its id logs in no more", "write auth/machines/ci/login role_id=my-role secret_id=any", 2).by("").wants(&[Warns("Code: 400")]),
    // Move and disable.
    step("move", "auth move auth/machines/ci auth/robots", 0)
        .arbitrary(&["stdout"])
        .wants(&[Says("Success! Finished moving auth method auth/machines/ci/ to auth/robots/")]),
    step("it serves there", "write -format=json auth/robots/login role_id=open-role", 0).by("").keep(&[("robot", "/auth/client_token")]),
    step("and not where it was", "write auth/machines/ci/login role_id=open-role", 2).by(""),
    step("disable", "auth disable robots", 0).wants(&[Says("Success! Disabled the auth method (if it existed) at: robots/")]),
    step("its tokens are dead", "token lookup", 2).by("robot").wants(&[Warns("Code: 403")]),
    step("it is not listed", "auth list -format=json", 0).wants(&[Absent("/robots~1"), Absent("/machines~1ci~1")]),
    step("disable of none", "auth disable nosuch", 0),
    step("disable of the token store", "auth disable token", 2).wants(&[Warns("Code: 400")]),
    step("an unknown method to log in by", "login -no-store -method=nosuch", 1).wants(&[Warns("Unknown auth method")]),
];
