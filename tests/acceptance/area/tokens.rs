//! Tokens by `bao`: create, look up, renew, revoke; what they may, how long, how often; roles, hierarchy, batch tokens.

use crate::check::Want::{Absent, Json, Says, Stdout, Warns};
use crate::step::{Step, step};

pub(super) const STEPS: &[Step] = &[
    step("a policy to have", "policy write reader -", 0).stdin("path \"secret/*\" { capabilities = [\"read\", \"list\"] }\n"),
    step("a policy that makes tokens", "policy write maker -", 0).stdin(
        "path \"auth/token/create\" { capabilities = [\"update\"] }\npath \"auth/token/create/*\" { capabilities = [\"update\"] }\n\
         path \"secret/*\" { capabilities = [\"read\"] }\n",
    ),
    // Create.
    step("create", "token create -format=json -policy=reader -ttl=1h -display-name=ci -metadata=team=a", 0)
        .keep(&[("child", "/auth/client_token"), ("child_accessor", "/auth/accessor")])
        .wants(&[
            Json("/auth/policies", r#"["default","reader"]"#),
            Json("/auth/token_policies", r#"["default","reader"]"#),
            Json("/auth/metadata", r#"{"team":"a"}"#),
            Json("/auth/lease_duration", "3600"),
            Json("/auth/renewable", "true"),
            Json("/auth/orphan", "false"),
        ]),
    step("create as a table", "token create -policy=reader -ttl=1h", 0).wants(&[Says("token_duration 1h"), Says("token_renewable true")]),
    step("create as YAML", "token create -format=yaml -policy=reader -ttl=1h", 0).wants(&[Says("lease_duration: 3600"), Says("- reader")]),
    step("create gives one field", "token create -field=token -policy=reader -ttl=1h", 0).keep(&[("plain", "")]),
    step("create gives no such field", "token create -field=nosuch -ttl=1h", 1).wants(&[Warns("not present")]),
    step("create with defaults is as its parent", "token create -format=json", 0)
        .wants(&[Json("/auth/policies", r#"["root"]"#), Json("/auth/lease_duration", "0"), Json("/auth/renewable", "false")]),
    step("create with the default lifetime", "token create -policy=reader -format=json", 0).wants(&[Json("/auth/lease_duration", "2764800")]),
    step("create beyond the longest lifetime", "token create -policy=reader -ttl=10000h -format=json", 0)
        .wants(&[Json("/auth/lease_duration", "2764800")]),
    step("create with a policy that is nowhere", "token create -policy=nosuch -ttl=1h -format=json", 0)
        .wants(&[Json("/auth/policies", r#"["default","nosuch"]"#)]),
    step("create with a policy in capitals", "token create -policy=READER -ttl=1h -format=json", 0)
        .wants(&[Json("/auth/policies", r#"["default","reader"]"#)]),
    step("create without the default policy", "token create -no-default-policy -policy=reader -ttl=1h -format=json", 0)
        .wants(&[Json("/auth/policies", r#"["reader"]"#)]),
    step("create of a root token with an end", "token create -policy=root -ttl=1h -format=json", 0)
        .wants(&[Json("/auth/policies", r#"["root"]"#), Json("/auth/lease_duration", "3600")]),
    step("create with a lifetime that is none", "token create -ttl=soon", 1).wants(&[Warns("soon")]),
    step("the API with a lifetime that is none", "write auth/token/create ttl=soon", 2).wants(&[Warns("Code: 400")]),
    step("the API with a negative lifetime", "write auth/token/create ttl=-1h", 2).wants(&[Warns("Code: 400")]),
    step("the API with a negative longest lifetime", "write auth/token/create explicit_max_ttl=-1h", 2).wants(&[Warns("Code: 400")]),
    step("the API with a negative period", "write auth/token/create period=-1h", 2).wants(&[Warns("Code: 400")]),
    step("the API with a negative count of uses", "write auth/token/create num_uses=-1", 2).wants(&[Warns("Code: 400")]),
    step("the API with a type that is none", "write auth/token/create type=nosuch", 2).wants(&[Warns("Code: 400")]),
    step("create with an id of one's own", "token create -id=an-id-of-ones-own-0815 -policy=reader -ttl=1h -format=json", 0)
        .wants(&[Json("/auth/client_token", r#""an-id-of-ones-own-0815""#)]),
    step("the same id again", "token create -id=an-id-of-ones-own-0815 -policy=reader -ttl=1h", 2).wants(&[Warns("Code: 400")]),
    step("an id in the form of a real one", "token create -id=hvs.0123456789 -ttl=1h", 2).wants(&[Warns("Code: 400")]),
    // Lookup.
    step("lookup", "token lookup -format=json {child}", 0).wants(&[
        Json("/data/id", r#""{child}""#),
        Json("/data/accessor", r#""{child_accessor}""#),
        Json("/data/creation_ttl", "3600"),
        Json("/data/display_name", r#""token-ci""#),
        Json("/data/explicit_max_ttl", "0"),
        Json("/data/meta", r#"{"team":"a"}"#),
        Json("/data/num_uses", "0"),
        Json("/data/orphan", "false"),
        Json("/data/path", r#""auth/token/create""#),
        Json("/data/policies", r#"["default","reader"]"#),
        Json("/data/renewable", "true"),
        Json("/data/type", r#""service""#),
    ]),
    step("lookup as a table", "token lookup {child}", 0).wants(&[Says("display_name token-ci"), Says("creation_ttl 1h")]),
    step("lookup by accessor hides the token", "token lookup -format=json -accessor {child_accessor}", 0)
        .wants(&[Json("/data/id", r#""""#), Json("/data/accessor", r#""{child_accessor}""#), Json("/data/policies", r#"["default","reader"]"#)]),
    step("lookup of oneself", "token lookup -format=json", 0).by("child").wants(&[Json("/data/id", r#""{child}""#)]),
    step("lookup by the API", "read -format=json auth/token/lookup-self", 0).by("child").wants(&[Json("/data/display_name", r#""token-ci""#)]),
    step("lookup by the API, by POST", "write -format=json auth/token/lookup token={child}", 0).wants(&[Json("/data/id", r#""{child}""#)]),
    step("lookup-accessor by the API", "write -format=json auth/token/lookup-accessor accessor={child_accessor}", 0)
        .wants(&[Json("/data/id", r#""""#)]),
    step("lookup of no token", "token lookup hvs.aWrongTokenOfTheLength", 2).wants(&[Warns("Code: 403"), Warns("bad token")]),
    step("lookup of no accessor", "token lookup -accessor aWrongAccessorOfLength24", 2).wants(&[Warns("Code: 400"), Warns("invalid accessor")]),
    step("lookup of another without the right", "token lookup {plain}", 2).by("child").wants(&[Warns("Code: 403"), Warns("permission denied")]),
    step("lookup without a token", "token lookup", 2).by("").wants(&[Warns("Code: 403")]),
    step("lookup of a root token", "token lookup -format=json", 0).wants(&[
        Json("/data/expire_time", "null"),
        Json("/data/ttl", "0"),
        Json("/data/path", r#""auth/token/root""#),
        Json("/data/display_name", r#""root""#),
        Absent("/data/last_renewal"),
    ]),
    step("accessors", "list -format=json auth/token/accessors", 0).wants(&[Says("{child_accessor}")]),
    step("accessors without the right", "list auth/token/accessors", 2).by("child").wants(&[Warns("Code: 403")]),
    // Capabilities.
    step("capabilities of another", "token capabilities {child} secret/data/x", 0).wants(&[Stdout("list, read")]),
    step("capabilities as JSON", "token capabilities -format=json {child} secret/data/x", 0).wants(&[Json("", r#"["list","read"]"#)]),
    step("capabilities of oneself", "token capabilities auth/token/lookup-self", 0).by("child").wants(&[Stdout("read")]),
    step("capabilities by accessor", "write -format=json sys/capabilities-accessor accessor={child_accessor} path=secret/data/x", 0)
        .wants(&[Json("/data/capabilities", r#"["list","read"]"#)]),
    step("capabilities where there are none", "token capabilities {child} sys/policy", 0).wants(&[Stdout("deny")]),
    step("capabilities of root", "token capabilities secret/data/x", 0).wants(&[Stdout("root")]),
    step("capabilities of no token", "token capabilities hvs.aWrongTokenOfTheLength secret/x", 2).wants(&[Warns("Code: 400")]),
    step("what it may, it can", "kv get secret/nothing", 2).by("child").wants(&[Warns("No value found")]),
    step("what it may not, it cannot", "kv put secret/nothing x=1", 2).by("child").wants(&[Warns("Code: 403"), Warns("permission denied")]),
    // Login.
    step("login", "login -no-store -format=json {child}", 0).wants(&[Json("/auth/policies", r#"["default","reader"]"#)]),
    step("login as a table", "login -no-store {child}", 0).arbitrary(&["stdout"]).wants(&[Says("token_policies [\"default\" \"reader\"]")]),
    step("login gives the token alone", "login -no-store -token-only {child}", 0).wants(&[Stdout("{child}")]),
    step("login with a wrong token", "login -no-store hvs.aWrongTokenOfTheLength", 2).wants(&[Warns("Code: 403")]),
    // Renew.
    step("renew", "token renew -format=json {child}", 0).wants(&[Json("/auth/lease_duration", "3600"), Json("/auth/renewable", "true")]),
    step("renew by so much", "token renew -increment=30m -format=json {child}", 0).wants(&[Json("/auth/lease_duration", "1800")]),
    step("renew oneself", "token renew -format=json", 0).by("child").wants(&[Json("/auth/client_token", r#""{child}""#)]),
    step("renew by accessor", "token renew -format=json -accessor {child_accessor}", 0).wants(&[Json("/auth/client_token", r#""""#)]),
    step("renew as a table", "token renew {child}", 0).wants(&[Says("token_renewable true")]),
    step("a renewal is remembered", "token lookup -format=json {child}", 0).wants(&[Says("last_renewal")]),
    step("renew of a root token", "token renew", 2).wants(&[Warns("Code: 400"), Warns("lease is not renewable")]),
    step("renew of no token", "token renew hvs.aWrongTokenOfTheLength", 2).wants(&[Warns("Code: 400"), Warns("token not found")]),
    step("create not renewable", "token create -format=json -renewable=false -policy=reader -ttl=1h", 0)
        .keep(&[("fixed", "/auth/client_token")])
        .wants(&[Json("/auth/renewable", "false")]),
    step("renew of what is not renewable", "token renew {fixed}", 2).wants(&[Warns("Code: 400"), Warns("lease is not renewable")]),
    step("create with an explicit end", "token create -format=json -policy=reader -ttl=1h -explicit-max-ttl=2h", 0)
        .keep(&[("ended", "/auth/client_token")])
        .wants(&[Json("/auth/lease_duration", "3600")]),
    step("renew up to the explicit end", "token renew -increment=10h -format=json {ended}", 0).wants(&[Json("/auth/lease_duration", "7200")]),
    step("lookup tells the explicit end", "token lookup -format=json {ended}", 0).wants(&[Json("/data/explicit_max_ttl", "7200")]),
    step("a lifetime beyond the explicit end", "token create -format=json -policy=reader -ttl=3h -explicit-max-ttl=2h", 0)
        .wants(&[Json("/auth/lease_duration", "7200")]),
    step("create with a period", "token create -format=json -policy=reader -period=30m", 0)
        .keep(&[("periodic", "/auth/client_token")])
        .wants(&[Json("/auth/lease_duration", "1800")]),
    step("lookup tells the period", "token lookup -format=json {periodic}", 0).wants(&[Json("/data/period", "1800")]),
    step("renewal is by the period", "token renew -increment=10h -format=json {periodic}", 0).wants(&[Json("/auth/lease_duration", "1800")]),
    step("create with period and end", "token create -format=json -policy=reader -period=2h -explicit-max-ttl=1h", 0)
        .wants(&[Json("/auth/lease_duration", "3600")]),
    // Uses.
    step("create with three uses", "token create -format=json -policy=reader -ttl=1h -use-limit=3", 0).keep(&[("thrice", "/auth/client_token")]),
    step("lookup tells the uses", "token lookup -format=json {thrice}", 0).wants(&[Json("/data/num_uses", "3")]),
    step("the first use", "read -format=json auth/token/lookup-self", 0).by("thrice").wants(&[Json("/data/num_uses", "2")]),
    step("a denied use is one", "read secret-not-mine/x", 2).by("thrice").wants(&[Warns("Code: 403")]),
    step("the last use", "read -format=json auth/token/lookup-self", 0).by("thrice"),
    step("no use is left", "read auth/token/lookup-self", 2).by("thrice").wants(&[Warns("Code: 403")]),
    step("a token with uses makes no tokens", "token create -format=json -policy=maker -ttl=1h -use-limit=5", 0)
        .keep(&[("five", "/auth/client_token")]),
    step("it is refused", "token create", 2).by("five").wants(&[Warns("Code: 400"), Warns("restricted use token cannot generate child tokens")]),
    // Expiry.
    step("create with a short life", "token create -format=json -policy=reader -ttl=1s", 0)
        .keep(&[("short", "/auth/client_token"), ("short_accessor", "/auth/accessor")]),
    step("it dies by itself", "token lookup", 2).by("short").after(2500).wants(&[Warns("Code: 403")]),
    step("its accessor goes too", "token lookup -accessor {short_accessor}", 2).wants(&[Warns("Code: 400"), Warns("invalid accessor")]),
    // Hierarchy.
    step("create a parent", "token create -format=json -policy=maker -policy=reader -ttl=1h", 0)
        .keep(&[("parent", "/auth/client_token"), ("parent_accessor", "/auth/accessor")]),
    step("it makes a child", "token create -format=json -policy=reader -ttl=30m", 0).by("parent").keep(&[("grandchild", "/auth/client_token")]),
    step("a child of defaults has its parent's policies", "token create -format=json", 0)
        .by("parent")
        .wants(&[Json("/auth/policies", r#"["default","maker","reader"]"#)]),
    step("a child has no policy that its parent has not", "token create -policy=other", 2)
        .by("parent")
        .wants(&[Warns("Code: 400"), Warns("child policies must be subset of parent")]),
    step("nor is it root", "token create -policy=root", 2).by("parent").wants(&[Warns("Code: 400"), Warns("child policies must be subset of parent")]),
    step("nor an orphan", "token create -orphan", 2).by("parent").wants(&[Warns("Code: 400")]),
    step("nor periodic", "token create -period=1h", 2).by("parent").wants(&[Warns("Code: 400")]),
    step("nor has it an id of one's own", "token create -id=chosen-by-a-child-1234", 2).by("parent").wants(&[Warns("Code: 400")]),
    step("who may not make tokens", "token create", 2).by("child").wants(&[Warns("Code: 403"), Warns("permission denied")]),
    step("revoke the parent", "token revoke {parent}", 0).wants(&[Says("Success! Revoked token (if it existed)")]),
    step("its child is dead", "token lookup", 2).by("grandchild").wants(&[Warns("Code: 403")]),
    step("its accessor is gone", "token lookup -accessor {parent_accessor}", 2).wants(&[Warns("Code: 400"), Warns("invalid accessor")]),
    step("create an orphan", "token create -format=json -orphan -policy=reader -ttl=1h", 0)
        .keep(&[("orphan", "/auth/client_token")])
        .wants(&[Json("/auth/orphan", "true")]),
    step("lookup tells it", "token lookup -format=json {orphan}", 0).wants(&[Json("/data/orphan", "true")]),
    step("create-orphan by the API", "write -format=json auth/token/create-orphan policies=reader ttl=1h", 0).wants(&[Json("/auth/orphan", "true")]),
    step("another parent", "token create -format=json -policy=maker -ttl=1h", 0).keep(&[("second_parent", "/auth/client_token")]),
    step("its child", "token create -format=json -ttl=30m", 0).by("second_parent").keep(&[("second_child", "/auth/client_token")]),
    step("revoke it alone", "token revoke -mode=orphan {second_parent}", 0),
    step("it is dead", "token lookup", 2).by("second_parent").wants(&[Warns("Code: 403")]),
    step("its child lives, an orphan", "token lookup -format=json", 0).by("second_child").wants(&[Json("/data/orphan", "true")]),
    // Revoke.
    step("revoke by accessor", "token revoke -accessor {child_accessor}", 0),
    step("after that it is dead", "token lookup", 2).by("child").wants(&[Warns("Code: 403")]),
    step("revoke of oneself", "token revoke -self", 0).by("plain"),
    step("after that oneself is dead", "token lookup {plain}", 2).wants(&[Warns("Code: 403")]),
    step("revoke of no token", "token revoke hvs.aWrongTokenOfTheLength", 0),
    step("revoke of no accessor", "token revoke -accessor aWrongAccessorOfLength24", 0),
    step("revoke without the right", "token revoke {periodic}", 2).by("orphan").wants(&[Warns("Code: 403")]),
    step("revoke of nothing named", "token revoke", 1).wants(&[Warns("Not enough arguments")]),
    step("revoke with self and a token", "token revoke -self {orphan}", 1),
    // Batch tokens.
    step("create a batch token", "token create -format=json -type=batch -policy=reader -ttl=1h", 0)
        .keep(&[("batch", "/auth/client_token")])
        .wants(&[Json("/auth/accessor", r#""""#), Json("/auth/renewable", "false")]),
    step("lookup of a batch token", "token lookup -format=json {batch}", 0).wants(&[
        Json("/data/type", r#""batch""#),
        Json("/data/accessor", r#""""#),
        Json("/data/num_uses", "0"),
        Json("/data/policies", r#"["default","reader"]"#),
    ]),
    step("a batch token reads", "kv get secret/nothing", 2).by("batch").wants(&[Warns("No value found")]),
    step("a batch token is not renewed", "token renew {batch}", 2).wants(&[Warns("Code: 400")]),
    step("a batch token is not revoked", "token revoke {batch}", 2).wants(&[Warns("Code: 400"), Warns("batch tokens cannot be revoked")]),
    step("nor by itself", "token revoke -self", 2).by("batch"),
    step("a batch token has no period", "token create -format=json -type=batch -policy=reader -period=1h", 2).wants(&[Warns("Code: 400")]),
    step("nor uses", "token create -format=json -type=batch -policy=reader -use-limit=2", 2).wants(&[Warns("Code: 400")]),
    step("nor an explicit end", "token create -type=batch -policy=reader -ttl=1h -explicit-max-ttl=2h", 2).wants(&[Warns("Code: 400")]),
    step("nor is it root", "token create -type=batch -policy=root", 2).wants(&[Warns("Code: 400")]),
    step("a batch token that was changed", "token lookup {batch}A", 2).wants(&[Warns("Code: 403")]),
    step("a batch token that makes tokens", "token create -format=json -type=batch -policy=maker -ttl=1h", 0).keep(&[("maker_batch", "/auth/client_token")]),
    step("makes none but batch tokens", "token create -ttl=10m", 2).by("maker_batch").wants(&[Warns("Code: 400"), Warns("batch tokens cannot create more tokens")]),
    // Roles.
    step("no roles yet", "list auth/token/roles", 2).wants(&[Warns("No value found")]),
    step(
        "write a role",
        "write auth/token/roles/app allowed_policies=reader disallowed_policies=maker orphan=true token_period=20m path_suffix=builds renewable=true",
        0,
    )
    .wants(&[Says("Success! Data written to: auth/token/roles/app")]),
    step("read a role", "read -format=json auth/token/roles/app", 0).wants(&[
        Json("/data/name", r#""app""#),
        Json("/data/allowed_policies", r#"["reader"]"#),
        Json("/data/orphan", "true"),
        Json("/data/token_period", "1200"),
        Json("/data/path_suffix", r#""builds""#),
        Json("/data/renewable", "true"),
    ]),
    step("list roles", "list -format=json auth/token/roles", 0).wants(&[Json("", r#"["app"]"#)]),
    step("create by a role", "token create -role=app -format=json", 0)
        .keep(&[("by_role", "/auth/client_token")])
        .wants(&[Json("/auth/policies", r#"["default","reader"]"#), Json("/auth/lease_duration", "1200"), Json("/auth/orphan", "true")]),
    step("lookup tells the role", "token lookup -format=json {by_role}", 0).wants(&[
        Json("/data/role", r#""app""#),
        Json("/data/path", r#""auth/token/create/app/builds""#),
        Json("/data/orphan", "true"),
    ]),
    step("create by a role with a foreign policy", "token create -role=app -policy=maker", 2).wants(&[Warns("Code: 400")]),
    step("create by no role", "token create -role=nosuch", 2).wants(&[Warns("Code: 400"), Warns("unknown role")]),
    step("a role for batch tokens", "write auth/token/roles/quick token_type=batch allowed_policies=reader orphan=true renewable=false", 0),
    step("create by it", "token create -role=quick -ttl=10m -format=json", 0).wants(&[Json("/auth/accessor", r#""""#)]),
    step("a role with globs", "write auth/token/roles/globs allowed_policies_glob=read* disallowed_policies_glob=*maker", 0),
    step("a policy of the glob", "token create -role=globs -policy=reader -ttl=10m -format=json", 0)
        .wants(&[Json("/auth/policies", r#"["default","reader"]"#)]),
    step("a policy of the other glob", "token create -role=globs -policy=maker", 2).wants(&[Warns("Code: 400")]),
    step("a role with bounds", "write auth/token/roles/bound token_explicit_max_ttl=1h token_num_uses=7 token_bound_cidrs=127.0.0.0/8 token_no_default_policy=true allowed_policies=reader", 0),
    step("read its bounds", "read -format=json auth/token/roles/bound", 0).wants(&[
        Json("/data/token_explicit_max_ttl", "3600"),
        Json("/data/token_num_uses", "7"),
        Json("/data/token_bound_cidrs", r#"["127.0.0.0/8"]"#),
        Json("/data/token_no_default_policy", "true"),
    ]),
    step("create by it within bounds", "token create -role=bound -ttl=5h -format=json", 0)
        .keep(&[("bound", "/auth/client_token")])
        .wants(&[Json("/auth/policies", r#"["reader"]"#), Json("/auth/lease_duration", "3600")]),
    step("its bounds are told", "token lookup -format=json {bound}", 0).wants(&[Json("/data/bound_cidrs", r#"["127.0.0.0/8"]"#)]),
    step("a role for elsewhere", "write auth/token/roles/elsewhere token_bound_cidrs=192.0.2.0/24 allowed_policies=reader", 0),
    step("its token", "token create -role=elsewhere -ttl=10m -format=json", 0).keep(&[("elsewhere", "/auth/client_token")]),
    step("serves nobody here", "kv get secret/nothing", 2).by("elsewhere").wants(&[Warns("Code: 403")]),
    step("a role with a wrong network", "write auth/token/roles/wrong token_bound_cidrs=300.0.0.0/8", 2).wants(&[Warns("Code: 400")]),
    step("a role with a wrong type", "write auth/token/roles/wrong token_type=nosuch", 2).wants(&[Warns("Code: 400")]),
    step("a wrong role is not there", "read auth/token/roles/wrong", 2).wants(&[Warns("No value found")]),
    step("delete a role", "delete auth/token/roles/app", 0),
    step("it is gone", "read auth/token/roles/app", 2).wants(&[Warns("No value found")]),
    step("delete of no role", "delete auth/token/roles/app", 0),
    // Odds.
    step("tidy", "write -f auth/token/tidy", 0).wants(&[Warns("Tidy operation finished")]),
    step("tidy without the right", "write -f auth/token/tidy", 2).by("orphan").wants(&[Warns("Code: 403")]),
    step("revoke all of a path", "token revoke -mode=path auth/token/create-orphan", 0),
    step("an unknown mode", "token revoke -mode=nosuch {orphan}", 1).wants(&[Warns("Invalid mode")]),
    step("no such path of tokens", "write auth/token/nosuch a=b", 2).wants(&[Warns("Code: 404")]),
];
