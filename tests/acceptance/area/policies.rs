//! Policies by `bao`: their text, and what they allow.

use crate::check::Want::{Json, Says, Stdout, Warns};
use crate::step::{Step, step};

/// Precedence, globs, `+` and deny, in one policy.
const RULES: &str = r#"# Comments are kept.
path "secret/data/*" { capabilities = ["read"] }
path "secret/data/app/*" { capabilities = ["create", "read", "update"] }
path "secret/data/app/exact" { capabilities = ["delete"] }
path "secret/data/app/denied" { capabilities = ["deny"] }
path "secret/data/app/denied*" { capabilities = ["read"] }
path "secret/data/+/team" { capabilities = ["list"] }
path "secret/data/+/team/*" { capabilities = ["patch"] }
path "secret/data/a+b" { capabilities = ["update"] }
path "secret/metadata/" { capabilities = ["list"] }
path "secret/metadata/app/" { capabilities = ["list"] }
path "sys/audit" { capabilities = ["read"] }
path "sys/remount" { capabilities = ["update", "sudo"] }
"#;

/// Parameters.
const PARAMETERS: &str = r#"
path "secret/config" {
  capabilities        = ["create", "read", "update"]
  required_parameters = ["max_versions"]
  denied_parameters   = { "cas_required" = ["true"] }
}
path "auth/token/create" {
  capabilities       = ["create", "update"]
  allowed_parameters = { "policies" = ["reader", "parameters"], "ttl" = ["1h", "2*"], "display_name" = [] }
}
path "secret/metadata/+" {
  capabilities      = ["create", "update", "read"]
  denied_parameters = { "*" = [] }
}
"#;

const LENGTH_20: &str = "length = 20\nrule \"charset\" {\n  charset = \"abcdefghij\"\n  min-chars = 1\n}\n";

pub(super) const STEPS: &[Step] = &[
    // Text.
    step("list", "policy list -format=json", 0).wants(&[Json("", r#"["default","root"]"#)]),
    step("list as a table", "policy list", 0).wants(&[Stdout("default\nroot")]),
    step("write from stdin", "policy write rules -", 0).stdin(RULES).wants(&[Says("Success! Uploaded policy: rules")]),
    step("write from a file", "policy write reader {folder}/policy.hcl", 0),
    step("read", "policy read rules", 0).wants(&[Says("# Comments are kept."), Says("secret/data/+/team")]),
    step("read as JSON", "policy read -format=json rules", 0),
    step("read keeps each byte", "read -field=policy sys/policies/acl/reader", 0).wants(&[Says("capabilities   =    [\"read\", \"list\"]")]),
    step("read by the API", "read -format=json sys/policies/acl/reader", 0).wants(&[Json("/data/name", r#""reader""#)]),
    step("read by the older API", "read -format=json sys/policy/reader", 0).wants(&[Json("/data/name", r#""reader""#), Says("rules")]),
    step("list by the API", "list -format=json sys/policies/acl", 0).wants(&[Json("", r#"["default","reader","rules","root"]"#)]),
    step("list by the older API", "read -format=json sys/policy", 0).wants(&[
        Json("/data/policies", r#"["default","reader","rules","root"]"#),
        Json("/data/keys", r#"["default","reader","rules","root"]"#),
    ]),
    step("the default policy", "policy read default", 0).arbitrary(&["stdout"]).wants(&[Says("auth/token/lookup-self"), Says("cubbyhole/*")]),
    step("the root policy has no text", "policy read root", 2),
    step("read of nothing", "policy read nosuch", 2).wants(&[Warns("No policy named: nosuch")]),
    step("read of nothing by the API", "read sys/policies/acl/nosuch", 2).wants(&[Warns("No value found")]),
    step("names are small letters", "policy write BIG -", 0).stdin("path \"a\" { capabilities = [\"read\"] }"),
    step("so it is read", "policy read big", 0).wants(&[Says("path \"a\"")]),
    step("JSON is text too", "policy write json -", 0).stdin(r#"{"path": {"secret/data/json": {"capabilities": ["read"]}}}"#),
    step("JSON is kept", "read -field=policy sys/policies/acl/json", 0)
        .wants(&[Stdout(r#"{"path": {"secret/data/json": {"capabilities": ["read"]}}}"#)]),
    step("base64 by the API", "write sys/policies/acl/encoded policy=cGF0aCAiYSIgeyBjYXBhYmlsaXRpZXMgPSBbInJlYWQiXSB9", 0),
    step("is decoded", "policy read encoded", 0).wants(&[Stdout(r#"path "a" { capabilities = ["read"] }"#)]),
    step("the older API writes", "write sys/policy/older policy=-", 0).stdin("path \"b\" { policy = \"write\" }"),
    step("an older word is understood", "write -format=json sys/capabilities-self path=b", 0),
    step("fmt", "policy fmt {folder}/policy.hcl", 0).wants(&[Says("Success! Formatted policy")]),
    step("fmt of no file", "policy fmt {folder}/nosuch.hcl", 1),
    // What is no policy.
    step("no HCL", "policy write bad -", 2).stdin("path \"a\" {").wants(&[Warns("Code: 400")]),
    step("no capability", "policy write bad -", 2).stdin("path \"a\" { capabilities = [\"fly\"] }").wants(&[Warns("Code: 400"), Warns("fly")]),
    step("no setting", "policy write bad -", 2).stdin("path \"a\" { capability = [\"read\"] }").wants(&[Warns("Code: 400")]),
    step("no block", "policy write bad -", 2).stdin("paths \"a\" { capabilities = [\"read\"] }").wants(&[Warns("Code: 400")]),
    step("nothing at all", "policy write bad -", 2).stdin("").wants(&[Warns("Code: 400")]),
    step("a glob in the middle", "policy write bad -", 0).stdin("path \"a*b\" { capabilities = [\"read\"] }"),
    step("a plus and a glob together", "policy write bad2 -", 2).stdin("path \"a/+*\" { capabilities = [\"read\"] }").wants(&[Warns("Code: 400")]),
    step("none of it is there", "read sys/policies/acl/bad2", 2).wants(&[Warns("No value found")]),
    step("root cannot be written", "policy write root -", 2).stdin("path \"a\" { capabilities = [\"read\"] }").wants(&[Warns("Code: 400"), Warns("cannot update \"root\" policy")]),
    step("root cannot be deleted", "policy delete root", 2).wants(&[Warns("Code: 400"), Warns("cannot delete \"root\" policy")]),
    step("default cannot be deleted", "policy delete default", 2).wants(&[Warns("Code: 400"), Warns("cannot delete default policy")]),
    step("delete", "policy delete json", 0).wants(&[Says("Success! Deleted policy: json")]),
    step("it is gone", "policy read json", 2).wants(&[Warns("No policy named: json")]),
    step("delete of nothing", "policy delete json", 0),
    // What they allow.
    step("a token of the rules", "token create -format=json -policy=rules -ttl=1h", 0)
        .keep(&[("ruled", "/auth/client_token"), ("ruled_accessor", "/auth/accessor")]),
    step("a glob", "token capabilities {ruled} secret/data/x", 0).wants(&[Stdout("read")]),
    step("the longer glob wins", "token capabilities {ruled} secret/data/app/x", 0).wants(&[Stdout("create, read, update")]),
    step("a whole path wins over globs", "token capabilities {ruled} secret/data/app/exact", 0).wants(&[Stdout("delete")]),
    step("deny", "token capabilities {ruled} secret/data/app/denied", 0).wants(&[Stdout("deny")]),
    step("a glob holds what begins so", "token capabilities {ruled} secret/data/app/denied-not", 0).wants(&[Stdout("read")]),
    step("plus is one segment", "token capabilities {ruled} secret/data/b/team", 0).wants(&[Stdout("list")]),
    step("and not two", "token capabilities {ruled} secret/data/b/c/team", 0).wants(&[Stdout("read")]),
    step("plus and glob", "token capabilities {ruled} secret/data/b/team/x", 0).wants(&[Stdout("read")]),
    step("the glob of a whole prefix against plus", "token capabilities {ruled} secret/data/app/team", 0),
    step("plus within a segment is a letter", "token capabilities {ruled} secret/data/a+b", 0).wants(&[Stdout("update")]),
    step("plus within a segment stands for nothing", "token capabilities {ruled} secret/data/aXb", 0).wants(&[Stdout("read")]),
    step("nothing", "token capabilities {ruled} other/x", 0).wants(&[Stdout("deny")]),
    step("a list's folder", "token capabilities {ruled} secret/metadata/app/", 0).wants(&[Stdout("list")]),
    step("a list's folder without its slash", "token capabilities {ruled} secret/metadata/app", 0),
    step("several paths at once", "write -format=json sys/capabilities token={ruled} paths=secret/data/x,other/x", 0)
        .wants(&[Json("/data/secret~1data~1x", r#"["read"]"#), Json("/data/other~1x", r#"["deny"]"#)]),
    step("by accessor", "write -format=json sys/capabilities-accessor accessor={ruled_accessor} path=secret/data/x", 0)
        .wants(&[Json("/data/capabilities", r#"["read"]"#)]),
    step("of oneself", "write -format=json sys/capabilities-self paths=secret/data/app/x,sys/remount", 0)
        .by("ruled")
        .wants(&[Json("/data/sys~1remount", r#"["sudo","update"]"#)]),
    step("of nothing named", "write -f sys/capabilities-self", 2).by("ruled").wants(&[Warns("Code: 400")]),
    step("what one may see", "read -format=json sys/internal/ui/resultant-acl", 0).by("ruled"),
    step("a put that is allowed", "kv put secret/app/x a=1", 0).by("ruled"),
    step("a get that is allowed", "kv get -field=a secret/app/x", 0).by("ruled").wants(&[Stdout("1")]),
    step("a put that is not", "kv put secret/x a=1", 2).by("ruled").wants(&[Warns("Code: 403"), Warns("permission denied")]),
    step("a get that is denied", "kv get secret/app/denied", 2).by("ruled").wants(&[Warns("Code: 403")]),
    step("a delete that is not", "kv delete secret/app/x", 2).by("ruled").wants(&[Warns("Code: 403")]),
    step("a list that is allowed", "kv list -format=json secret/app", 0).by("ruled").wants(&[Json("", r#"["x"]"#)]),
    step("a list that is not", "kv list secret/other", 2).by("ruled").wants(&[Warns("Code: 403")]),
    step("a root path asks for sudo", "read sys/audit", 2).by("ruled").wants(&[Warns("Code: 403")]),
    step("a root path with sudo", "write sys/remount from=nosuch to=other", 2).by("ruled").wants(&[Warns("Code: 400")]),
    step("a change counts at once", "policy write rules -", 0).stdin("path \"secret/data/app/*\" { capabilities = [\"delete\"] }"),
    step("what was allowed is not", "kv get secret/app/x", 2).by("ruled").wants(&[Warns("Code: 403")]),
    step("what was not is", "kv delete secret/app/x", 0).by("ruled"),
    step("delete it", "policy delete rules", 0),
    step("nothing is left but default", "token capabilities {ruled} secret/data/app/x", 0).wants(&[Stdout("deny")]),
    // Parameters.
    step("a policy of parameters", "policy write parameters -", 0).stdin(PARAMETERS),
    step("its token", "token create -format=json -policy=parameters -policy=reader -ttl=1h", 0).keep(&[("params", "/auth/client_token")]),
    step("a required parameter", "write secret/config max_versions=7", 0).by("params"),
    step("that is missing", "write secret/config delete_version_after=1h", 2).by("params").wants(&[Warns("Code: 403")]),
    step("a denied value", "write secret/config max_versions=7 cas_required=true", 2).by("params").wants(&[Warns("Code: 403")]),
    step("another value", "write secret/config max_versions=7 cas_required=false", 0).by("params"),
    step("reads need parameters too", "read -format=json secret/config", 2).by("params"),
    step("an allowed value", "write -format=json auth/token/create policies=reader ttl=1h", 0).by("params"),
    step("a value of a glob", "write -format=json auth/token/create policies=reader ttl=20m", 0).by("params"),
    step("a value that is not allowed", "write auth/token/create policies=reader ttl=3h", 2).by("params").wants(&[Warns("Code: 403")]),
    step("any value", "write -format=json auth/token/create policies=reader display_name=any", 0).by("params"),
    step("a parameter that is not allowed", "write auth/token/create policies=reader num_uses=3", 2).by("params").wants(&[Warns("Code: 403")]),
    step("all parameters denied", "write secret/metadata/x max_versions=2", 2).by("params").wants(&[Warns("Code: 403")]),
    step("none given", "write -f secret/metadata/x", 0).by("params"),
    // A list that shows what one may see.
    step("two secrets", "kv put secret/mine/a x=1", 0),
    step("and another", "kv put secret/mine/b x=1", 0),
    step("a policy that filters", "policy write filter -", 0).stdin(
        "path \"secret/metadata/mine/\" {\n  capabilities = [\"list\"]\n  list_scan_response_keys_filter_path = \"{{ .path }}{{ .key }}\"\n}\n\
         path \"secret/metadata/mine/b\" { capabilities = [\"read\"] }\n",
    ),
    step("its own token", "token create -format=json -policy=filter -ttl=1h", 0).keep(&[("filtered", "/auth/client_token")]),
    step("a list has what it may read", "list -format=json secret/metadata/mine", 0).by("filtered"),
    // Password policies.
    step("no password policies", "list sys/policies/password", 2).wants(&[Warns("No value found")]),
    step("write a password policy", "write sys/policies/password/twenty policy=-", 0).stdin(LENGTH_20),
    step("read it", "read -format=json sys/policies/password/twenty", 0).wants(&[Json("/data/policy", "\"length = 20\\nrule \\\"charset\\\" {\\n  charset = \\\"abcdefghij\\\"\\n  min-chars = 1\\n}\\n\"")]),
    step("list them", "list -format=json sys/policies/password", 0).wants(&[Json("", r#"["twenty"]"#)]),
    step("generate by it", "read -format=json sys/policies/password/twenty/generate", 0).arbitrary(&["/data/password"]).wants(&[Says("password")]),
    step("generate by none", "read sys/policies/password/nosuch/generate", 2),
    step("a password policy without a length", "write sys/policies/password/bad policy=-", 2).stdin("rule \"charset\" { charset = \"ab\" }").wants(&[Warns("Code: 400")]),
    step("one that cannot be met", "write sys/policies/password/bad policy=-", 2)
        .stdin("length = 4\nrule \"charset\" {\n  charset = \"ab\"\n  min-chars = 5\n}")
        .wants(&[Warns("Code: 400")]),
    step("delete it too", "delete sys/policies/password/twenty", 0),
    step("it is gone too", "read sys/policies/password/twenty", 2).wants(&[Warns("No value found")]),
];
