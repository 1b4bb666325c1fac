//! Namespaces by `bao`: two tenants that do not see each other.

use crate::check::Want::{Absent, Json, Says, Stdout, Warns};
use crate::step::{Step, step};

pub(super) const STEPS: &[Step] = &[
    step("none yet", "namespace list", 2).wants(&[Warns("No namespaces found")]),
    step("create", "namespace create -format=json -custom-metadata=owner=a red", 0)
        .keep(&[("red_id", "/id")])
        .wants(&[Json("/path", r#""red/""#), Json("/custom_metadata", r#"{"owner":"a"}"#)]),
    step("create as a table", "namespace create blue", 0).arbitrary(&["stdout/id"]).wants(&[Says("path blue/")]),
    step("create again", "namespace create -format=json -custom-metadata=owner=a red", 0).wants(&[Json("/id", r#""{red_id}""#)]),
    step("list", "namespace list", 0).arbitrary(&["stdout"]).wants(&[Says("blue/"), Says("red/")]),
    step("list as JSON", "namespace list -format=json", 0).arbitrary(&[""]).wants(&[Says("blue/"), Says("red/")]),
    step("list in detail", "namespace list -detailed -format=json", 0).arbitrary(&["/blue~1/id"]),
    step("lookup", "namespace lookup -format=json red", 0).wants(&[
        Json("/id", r#""{red_id}""#),
        Json("/path", r#""red/""#),
        Json("/custom_metadata/owner", r#""a""#),
    ]),
    step("lookup of none", "namespace lookup nosuch", 2).wants(&[Warns("Namespace not found")]),
    step("patch", "namespace patch -format=json -custom-metadata=team=x red", 0)
        .wants(&[Json("/custom_metadata", r#"{"owner":"a","team":"x"}"#)]),
    step("patch removes", "namespace patch -format=json -remove-custom-metadata=owner red", 0)
        .wants(&[Json("/custom_metadata", r#"{"team":"x"}"#)]),
    step("patch of none", "namespace patch -custom-metadata=team=x nosuch", 2),
    step("by the API", "read -format=json sys/namespaces/red", 0).wants(&[Json("/data/path", r#""red/""#)]),
    step("list by the API", "list -format=json sys/namespaces", 0).arbitrary(&[""]).wants(&[Says("blue/"), Says("red/")]),
    // Names.
    step("a name of the system's", "namespace create sys", 2).wants(&[Warns("Code: 400")]),
    step("the name root", "namespace create root", 2).wants(&[Warns("Code: 400")]),
    step("a name with a blank", "namespace create 'a b'", 2).wants(&[Warns("Code: 400")]),
    step("a name with a slash", "namespace create a/b", 2).wants(&[Warns("Code: 40")]),
    step("a name of a mount", "namespace create secret", 2).wants(&[Warns("Code: 400")]),
    step("a mount of the name of a namespace", "secrets enable -path=red kv", 2).wants(&[Warns("Code: 400")]),
    step("no name", "namespace create", 1).wants(&[Warns("Not enough arguments")]),
    // Nested.
    step("a namespace within", "namespace create -ns=red -format=json dark", 0)
        .arbitrary(&["/id"])
        .wants(&[Json("/path", r#""red/dark/""#)]),
    step("is listed there", "namespace list -ns=red -format=json", 0).wants(&[Json("", r#"["dark/"]"#)]),
    step("and not here", "namespace list -format=json", 0).arbitrary(&[""]).wants(&[Says("blue/"), Says("red/")]),
    step("within a namespace that is not there", "namespace create -ns=nosuch x", 2),
    // What is in a new one.
    step("its engines", "secrets list -ns=red -format=json", 0).wants(&[
        Json("/sys~1/type", r#""ns_system""#),
        Says("cubbyhole/"),
        Absent("/secret~1"),
    ]),
    step("its methods", "auth list -ns=red -format=json", 0).wants(&[Json("/token~1/type", r#""ns_token""#)]),
    step("its policies", "policy list -ns=red -format=json", 0).wants(&[Json("", r#"["default"]"#)]),
    // Two tenants.
    step("an engine in red", "secrets enable -ns=red -path=kv -version=2 kv", 0)
        .wants(&[Says("Success! Enabled the kv secrets engine at: kv/")]),
    step("an engine of the same name in blue", "secrets enable -ns=blue -path=kv -version=2 kv", 0),
    step("put in red", "kv put -ns=red kv/a colour=red", 0),
    step("put in blue", "kv put -ns=blue kv/a colour=blue", 0),
    step("get in red", "kv get -ns=red -field=colour kv/a", 0).wants(&[Stdout("red")]),
    step("get in blue", "kv get -ns=blue -field=colour kv/a", 0).wants(&[Stdout("blue")]),
    step("nothing of it in root", "kv get kv/a", 2).wants(&[Warns("Code: 403")]),
    step("by path", "kv get -field=colour red/kv/a", 0).wants(&[Stdout("red")]),
    step("read by path", "read -format=json blue/kv/data/a", 0).wants(&[Json("/data/data/colour", r#""blue""#)]),
    step("a slash before and after", "kv get -ns=/red/ -field=colour kv/a", 0).wants(&[Stdout("red")]),
    step("in no namespace", "kv get -ns=nosuch kv/a", 2),
    step("in the namespace within", "secrets enable -ns=red/dark -path=kv -version=2 kv", 0),
    step("put within", "kv put -ns=red/dark kv/a colour=dark", 0),
    step("half by header, half by path", "kv get -ns=red -field=colour dark/kv/a", 0).wants(&[Stdout("dark")]),
    // Policies and tokens.
    step("a policy of red", "policy write -ns=red reader -", 0)
        .stdin("path \"kv/*\" { capabilities = [\"read\", \"list\"] }\npath \"dark/kv/*\" { capabilities = [\"read\"] }\n"),
    step("is not one of blue", "policy read -ns=blue reader", 2).wants(&[Warns("No policy named: reader")]),
    step("nor of root", "policy read reader", 2),
    step("a token of red", "token create -ns=red -format=json -policy=reader -ttl=1h", 0)
        .keep(&[("red", "/auth/client_token"), ("red_accessor", "/auth/accessor")])
        .wants(&[Json("/auth/policies", r#"["default","reader"]"#)]),
    step("lookup tells where", "token lookup -ns=red -format=json {red}", 0).wants(&[Json("/data/namespace_path", r#""red/""#)]),
    step("it looks itself up", "token lookup -ns=red -format=json", 0)
        .by("red")
        .wants(&[Json("/data/policies", r#"["default","reader"]"#)]),
    step("it reads in red", "kv get -ns=red -field=colour kv/a", 0).by("red").wants(&[Stdout("red")]),
    step("and within", "kv get -ns=red/dark -field=colour kv/a", 0).by("red").wants(&[Stdout("dark")]),
    step("not in blue", "kv get -ns=blue kv/a", 2).by("red").wants(&[Warns("Code: 403")]),
    step("nor by path in blue", "read blue/kv/data/a", 2).by("red").wants(&[Warns("Code: 403")]),
    step("nor in root", "kv get secret/a", 2).by("red").wants(&[Warns("Code: 403")]),
    step("it writes nowhere", "kv put -ns=red kv/a colour=pink", 2).by("red").wants(&[Warns("Code: 403")]),
    step("red's is looked up in red", "token lookup -ns=red -format=json {red}", 0).wants(&[Json("/data/namespace_path", r#""red/""#)]),
    step("and not in blue", "token lookup -ns=blue -format=json {red}", 2).wants(&[Warns("Code: 403")]),
    step("not its accessor", "token lookup -ns=blue -accessor {red_accessor}", 2).wants(&[Warns("Code: 40")]),
    step("what it may in red", "token capabilities -ns=red {red} kv/data/a", 0).wants(&[Stdout("list, read")]),
    step("renew in red", "token renew -ns=red -format=json {red}", 0),
    step("accessors of red", "list -ns=red -format=json auth/token/accessors", 0).wants(&[Json("", r#"["{red_accessor}"]"#)]),
    step("a wrapped answer of red", "read -ns=red -wrap-ttl=5m -field=wrapping_token kv/data/a", 0).keep(&[("wrapped", "")]),
    step("is unwrapped in red", "unwrap -ns=red -format=json {wrapped}", 0).wants(&[Json("/data/data/colour", r#""red""#)]),
    step("a method of red", "auth enable -ns=red userpass", 0),
    step("is not one of blue's", "auth list -ns=blue -format=json", 0).wants(&[Absent("/userpass~1")]),
    step("a user of red", "write -ns=red auth/userpass/users/bob password=builder-1 token_policies=reader", 0),
    step("logs in in red", "login -ns=red -no-store -format=json -method=userpass username=bob password=builder-1", 0)
        .keep(&[("bob", "/auth/client_token")]),
    step("not in blue's", "write -ns=blue auth/userpass/login/bob password=builder-1", 2).by("").wants(&[Warns("Code: 40")]),
    step("reads there", "kv get -ns=red -field=colour kv/a", 0).by("bob").wants(&[Stdout("red")]),
    step("leases of red", "list -ns=red -format=json sys/leases/lookup/auth/userpass/login", 0).wants(&[Json("", r#"["bob/"]"#)]),
    step("are not blue's", "list -ns=blue sys/leases/lookup/auth/userpass/login", 2),
    step("a policy that manages", "policy write -ns=red admin -", 0)
        .stdin("path \"*\" { capabilities = [\"create\", \"read\", \"update\", \"delete\", \"list\", \"sudo\", \"patch\"] }\n"),
    step("an administrator of red", "token create -ns=red -field=token -policy=admin -ttl=1h", 0).keep(&[("admin", "")]),
    step("manages red", "secrets enable -ns=red -path=more kv", 0).by("admin"),
    step("and what is within", "secrets enable -ns=red/dark -path=more kv", 0).by("admin"),
    step("and makes namespaces there", "namespace create -ns=red light", 0).by("admin").arbitrary(&["stdout/id"]),
    step("not in root", "namespace create green", 2).by("admin").wants(&[Warns("Code: 403")]),
    step("nor root's engines", "secrets list", 2).by("admin").wants(&[Warns("Code: 403")]),
    step("nor root's policies", "policy write root2 -", 2)
        .by("admin")
        .stdin("path \"a\" { capabilities = [\"read\"] }")
        .wants(&[Warns("Code: 403")]),
    // Of the root namespace only.
    step("no audit devices there", "audit list -ns=red", 2).wants(&[Warns("Code: 4")]),
    step("no seal there", "operator seal -ns=red", 2).by("admin").wants(&[Warns("Code: 4")]),
    step("no raw settings there", "read -ns=red sys/config/cors", 2).wants(&[Warns("Code: 4")]),
    step("seal status everywhere", "status -ns=red -format=json", 0).arbitrary(super::sys::OF_A_SERVER).wants(&[Json("/sealed", "false")]),
    step("move to another namespace", "secrets move red/more blue/more", 0).arbitrary(&["stdout"]),
    step("it has moved", "read -ns=blue -format=json sys/mounts/more", 0).wants(&[Json("/data/type", r#""kv""#)]),
    // Delete.
    step("delete of one that holds another", "namespace delete red", 2).wants(&[Warns("Code: 400")]),
    step("delete", "namespace delete -ns=red dark", 0),
    step("delete another", "namespace delete -ns=red light", 0),
    step("delete the outer", "namespace delete red", 0).after(1500),
    step("its tokens are dead", "token lookup -ns=red", 2).by("red").after(1500).wants(&[Warns("Code: 40")]),
    step("it is not listed", "namespace list -format=json", 0).wants(&[Json("", r#"["blue/"]"#)]),
    step("make it anew", "namespace create -format=json red", 0).arbitrary(&["/id"]),
    step("it is empty", "secrets list -ns=red -format=json", 0).wants(&[Absent("/kv~1")]),
    step("delete of none", "namespace delete nosuch", 0),
    step("blue is as it was", "kv get -ns=blue -field=colour kv/a", 0).wants(&[Stdout("blue")]),
];
