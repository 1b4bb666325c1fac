//! The rest of `sys`, and the generic commands of `bao`: status, health, settings, tools; formats, fields, exit codes.

use crate::check::Want::{Json, Says, Stdout, Warns};
use crate::step::{Step, step};

/// What differs between two servers by nature: who they are, what they run on, how busy they are.
pub(super) const OF_A_SERVER: &[&str] = &[
    "/version",
    "/build_date",
    "/commit_date",
    "/cluster_name",
    "/cluster_id",
    "/storage_type",
    "/ha_enabled",
    "/is_self",
    "/active_time",
    "/leader_address",
    "/leader_cluster_address",
    "/raft_committed_index",
    "/raft_applied_index",
    "/t",
    "/n",
    "/data/version",
    "/data/cluster_name",
    "/data/cluster_id",
    "/data/storage_type",
    "/data/build_date",
    "/data/commit_date",
    "/data/t",
    "/data/n",
    "/data/ha_enabled",
    "/data/is_self",
    "/data/active_time",
    "/data/leader_address",
    "/data/leader_cluster_address",
    "/data/raft_committed_index",
    "/data/raft_applied_index",
];

pub(super) const STEPS: &[Step] = &[
    step("status", "status", 0).arbitrary(&["stdout"]).wants(&[Says("Sealed false"), Says("Seal Type shamir"), Says("Initialized true")]),
    step("status as JSON", "status -format=json", 0)
        .arbitrary(OF_A_SERVER)
        .wants(&[Json("/sealed", "false"), Json("/initialized", "true")]),
    step("status as YAML", "status -format=yaml", 0).arbitrary(&["stdout"]).wants(&[Says("sealed: false")]),
    step("status without a token", "status -format=json", 0).by("").arbitrary(OF_A_SERVER),
    step("health", "read -format=json sys/health", 0).by("").arbitrary(OF_A_SERVER).wants(&[Json("/data/initialized", "true")]),
    step("seal status", "read -format=json sys/seal-status", 0).by("").arbitrary(OF_A_SERVER).wants(&[Json("/data/type", r#""shamir""#)]),
    step("leader", "read -format=json sys/leader", 0).by("").arbitrary(OF_A_SERVER),
    step("init", "read -format=json sys/init", 0).by("").wants(&[Json("/data/initialized", "true")]),
    step("init again", "operator init", 2).wants(&[Warns("Code: 400"), Warns("Vault is already initialized")]),
    step("members", "operator members -format=json", 0).arbitrary(&["/Nodes"]).wants(&[Says("active_node")]),
    step("nodes", "read -format=json sys/ha-status", 0).arbitrary(&["/data/nodes", "/data/Nodes"]),
    step("host", "read -format=json sys/host-info", 0)
        .arbitrary(&["/data/cpu", "/data/cpu_times", "/data/disk", "/data/host", "/data/memory", "/data/timestamp"])
        .wants(&[Says("cpu"), Says("memory")]),
    step("requests in flight", "read sys/in-flight-req", 0).arbitrary(&["stdout", "stderr"]),
    step("metrics", "read sys/metrics", 0).arbitrary(&["stdout", "stderr"]),
    step("key status", "read -format=json sys/key-status", 0).arbitrary(&["/data/encryptions"]).wants(&[Json("/data/term", "1")]),
    step("the key's status by the CLI", "operator key-status -format=json", 0).arbitrary(&["/encryptions", "/install_time"]),
    // Settings.
    step("no cors", "read -format=json sys/config/cors", 0).wants(&[Json("/data/enabled", "false")]),
    step("cors", "write sys/config/cors allowed_origins=http://a.example,http://b.example allowed_headers=X-Team", 0),
    step("cors is on", "read -format=json sys/config/cors", 0)
        .wants(&[Json("/data/enabled", "true"), Json("/data/allowed_origins", r#"["http://a.example","http://b.example"]"#)]),
    step("cors of none", "write sys/config/cors enable=true", 2).wants(&[Warns("Code: 400")]),
    step("cors off", "delete sys/config/cors", 0),
    step("cors is off", "read -format=json sys/config/cors", 0).wants(&[Json("/data/enabled", "false")]),
    step("headers of a web UI", "write sys/config/ui/headers/X-Team values=a", 2).wants(&[Warns("Code: 404")]),
    step("configuration", "read -format=json sys/config/state/sanitized", 0).arbitrary(&["/data", "stdout"]),
    // Tools.
    step("random bytes", "write -format=json sys/tools/random bytes=16", 0)
        .arbitrary(&["/data/random_bytes"])
        .wants(&[Says("random_bytes")]),
    step("random bytes in hex", "write -format=json sys/tools/random/8 format=hex", 0).arbitrary(&["/data/random_bytes"]),
    step("no random bytes", "write sys/tools/random bytes=0", 2).wants(&[Warns("Code: 400")]),
    step("too many random bytes", "write sys/tools/random bytes=1000000000", 2).wants(&[Warns("Code: 400")]),
    step("random bytes in no form", "write sys/tools/random format=nosuch", 2).wants(&[Warns("Code: 400")]),
    step("hash", "write -format=json sys/tools/hash input=aGVsbG8=", 0)
        .wants(&[Json("/data/sum", r#""2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824""#)]),
    step("hash of another kind", "write -format=json sys/tools/hash/sha2-512 input=aGVsbG8= format=base64", 0).wants(&[Says("sum")]),
    step("hash of no kind", "write sys/tools/hash/nosuch input=aGVsbG8=", 2).wants(&[Warns("Code: 400")]),
    step("hash of no base64", "write sys/tools/hash input=%%", 2).wants(&[Warns("Code: 400")]),
    // What is not there.
    step("no such path", "read sys/nosuch", 2).arbitrary(&["stderr"]),
    step("write to no such path", "write sys/nosuch a=b", 2).wants(&[Warns("Code: 404"), Warns("unsupported path")]),
    step("delete of no such path", "delete sys/nosuch", 2).wants(&[Warns("Code: 404")]),
    step("list of no such path", "list sys/nosuch", 2),
    step("a method that a path has not", "delete sys/health", 2),
    // The generic commands.
    step("write", "write secret/data/a -", 0).stdin(r#"{"data": {"x": "1", "n": 5}}"#).wants(&[Says("version 1")]),
    step("write gives a field", "write -field=version secret/data/a -", 0).stdin(r#"{"data": {"x": "2"}}"#).wants(&[Stdout("2")]),
    step("write of no JSON", "write secret/data/a -", 1).stdin("{"),
    step("write of nothing", "write secret/data/a", 1).wants(&[Warns("Must supply data or use -force")]),
    step("write of no pair", "write secret/data/a x", 1),
    step("patch", "patch -format=json secret/data/a -", 0).stdin(r#"{"data": {"y": "9"}}"#).wants(&[Json("/data/version", "3")]),
    step("patch of nothing there", "patch secret/data/none -", 2).stdin(r#"{"data": {"y": "9"}}"#).arbitrary(&["stderr"]),
    step("patch where that is not", "patch secret/config max_versions=3", 2).wants(&[Warns("Code: 405")]),
    step("read", "read secret/data/a", 0).wants(&[Says("data map[x:2 y:9]")]),
    step("read as JSON", "read -format=json secret/data/a", 0).wants(&[Json("/data/data", r#"{"x":"2","y":"9"}"#)]),
    step("read as YAML", "read -format=yaml secret/data/a", 0).wants(&[Says("\"y\": \"9\"")]),
    step("read raw", "read -format=raw secret/data/a", 0).arbitrary(&["/request_id"]).wants(&[Says("\"y\":\"9\"")]),
    step("read in no form", "read -format=nosuch secret/data/a", 1).wants(&[Warns("Invalid output format")]),
    step("read of a field", "read -field=data secret/data/a", 0).wants(&[Stdout("map[x:2 y:9]")]),
    step("read of a field as JSON", "read -field=data -format=json secret/data/a", 0).wants(&[Json("", r#"{"x":"2","y":"9"}"#)]),
    step("read with a parameter", "read -format=json secret/data/a version=1", 0).wants(&[Json("/data/data", r#"{"n":5,"x":"1"}"#)]),
    step("read with a wrong parameter", "read secret/data/a version=one", 2).wants(&[Warns("Code: 400")]),
    step("list", "list secret/metadata", 0).wants(&[Stdout("Keys\n----\na")]),
    step("list as YAML", "list -format=yaml secret/metadata", 0).wants(&[Stdout("- a")]),
    step("list of nothing", "list secret/metadata/none", 2).wants(&[Warns("No value found at secret/metadata/none")]),
    step("list of nothing as JSON", "list -format=json secret/metadata/none", 2).wants(&[Json("", "{}")]),
    step("delete", "delete secret/data/a", 0).wants(&[Says("Success! Data deleted (if it existed) at: secret/data/a")]),
    step("the token that is used", "print token", 0).wants(&[Stdout("{root}")]),
    step("an unknown command", "nosuch", 127).arbitrary(&["stderr", "stdout"]),
    step("an unknown flag", "read -nosuch secret/data/a", 1).wants(&[Warns("nosuch")]),
    step("a path without a mount", "read nosuch/a", 2).arbitrary(&["stderr"]),
    step("no token", "read secret/data/a", 2).by("").arbitrary(&["stderr"]).wants(&[Warns("Code: 403")]),
];
