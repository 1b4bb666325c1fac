//! Where Conclave's answers differ from OpenBao's, and why: the source of `docs/compatibility.md`.
//!
//! Always: a difference that is not listed fails its area's test, and so does one that is listed and has gone.

use crate::compare::Difference;

/// Where the page has what [`page_section`] renders.
const BEGIN: &str = "<!-- Written by tests/acceptance/differences.rs. -->\n";
const END: &str = "<!-- End of what is written. -->\n";
const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/compatibility.md");
/// Set to anything, `the_page_tells_of_every_difference` writes the page anew.
const WRITE_VARIABLE: &str = "CONCLAVE_WRITE_DOCS";

/// Every step of an area.
const ANY: &str = "*";

/// A difference that is meant.
pub(crate) struct Meant {
    title: &'static str,
    /// What differs and why, in Markdown.
    reason: &'static str,
    /// Where the comparison shows it. Empty: by its nature (several nodes, say) it is shown by other tests.
    seen: &'static [Seen],
}

/// Which steps show it, and where in their answers. Step and place may have one `*`, which stands for anything.
struct Seen {
    area: &'static str,
    step: &'static str,
    place: &'static str,
}

const fn seen(area: &'static str, step: &'static str, place: &'static str) -> Seen {
    Seen { area, step, place }
}

/// In the page's order.
pub(crate) const MEANT: &[Meant] = &[
    Meant {
        title: "Any node serves",
        reason: "A client may speak to any open node, for reads and writes; it is never redirected, and every read sees every write that was\n\
                 acknowledged before. `sys/health` answers 200 on each of them, where OpenBao's standbys answer 429. `sys/leader` and\n\
                 `bao operator members` still tell which node leads.",
        seen: &[],
    },
    Meant {
        title: "Members are changed at any node",
        reason: "`sys/storage/raft/…` and `sys/step-down` are served by every node, where OpenBao's standbys redirect. An unknown `server_id` is an error\n\
                 (400), where OpenBao answers 204 or 500; to promote a voter is no error. The leader hands over before it is removed or demoted, and\n\
                 what would leave no majority is refused. Settings of autopilot must make sense together. After `sys/step-down` another node leads at once.",
        seen: &[],
    },
    Meant {
        title: "One ceremony for the cluster",
        reason: "Shares may be given to different nodes, and together open all. `sys/seal` seals all. In OpenBao both are for one node.",
        seen: &[],
    },
    Meant {
        title: "A reset takes a share",
        reason: "`{\"reset\": true}` to `sys/unseal` needs one of the shares as `key`, so that nobody else can cancel a ceremony. `bao operator unseal\n\
                 -reset` and hvac's `submit_unseal_key(reset=True)` send none, and get 400; `conclave operator unseal -reset` asks for it. It is seldom\n\
                 needed: a wrong share is refused when it is entered, and is not counted.",
        seen: &[],
    },
    Meant {
        title: "New shares have to come back",
        reason: "The shares of a rekey are in force only when a quorum of them was entered again (`sys/rekey/verify`, `sys/rotate/root/verify`, or\n\
                 simply an unseal), whether or not `require_verification` is asked for; until then the old ones open the cluster, too. So nobody is\n\
                 locked out by an answer that was lost or a sheet that was misread.",
        seen: &[seen("keys", "start without verification", "/verification_required")],
    },
    Meant {
        title: "A share stands in for a token",
        reason: "To start or to cancel a rekey or the generation of a root token takes a token with `sudo` on the path or, in place of it, one of the\n\
                 cluster's shares as `share` in the body (of a `DELETE`, too): so holders can make a root token when there is none left, and no\n\
                 stranger can hold or cancel an act. Vault's paths `sys/rekey/…` and `sys/generate-root/…` are always there; OpenBao serves them to\n\
                 everybody, or not at all. How far an act has come is told to everybody, in numbers.",
        seen: &[],
    },
    Meant {
        title: "Wrong shares are named",
        reason: "`sys/unseal` answers 400 to a share that is malformed, of another cluster, or given before, and keeps the progress. OpenBao tells\n\
                 only at the threshold, and starts again.",
        seen: &[],
    },
    Meant {
        title: "Audit devices through the API",
        reason: "`audit enable` and `disable` work at run time, as in Vault. OpenBao takes devices from its configuration only, unless that says\n\
                 `unsafe_allow_api_audit_creation`.",
        seen: &[],
    },
    Meant {
        title: "Texts of 403",
        reason: "Whatever is denied, the text is `permission denied`, in Vault's multi-line form. OpenBao has three texts, by which one can tell\n\
                 an unknown token from one without the right. No known client reads them: the code decides.",
        seen: &[
            seen("tokens", "lookup without a token", "stderr"),
            seen("tokens", "login with a wrong token", "stderr"),
            seen("tokens", "no use is left", "stderr"),
            seen("tokens", "it dies by itself", "stderr"),
            seen("tokens", "its child is dead", "stderr"),
            seen("tokens", "it is dead", "stderr"),
            seen("tokens", "after that it is dead", "stderr"),
            seen("tokens", "serves nobody here", "stderr"),
            seen("mounts", "a path without a token", "stderr"),
            seen("auth", "does not log in here", "stderr"),
            seen("auth", "locked out", "stderr"),
            seen("auth", "and not where it was", "stderr"),
            seen("auth", "its tokens are dead", "stderr"),
            seen("leases", "the token is dead", "stderr"),
            seen("leases", "the first is dead", "stderr"),
            seen("leases", "so is the second", "stderr"),
            seen("leases", "it is dead too", "stderr"),
            seen("namespaces", "not in blue", "stderr"),
            seen("namespaces", "nor in root", "stderr"),
            seen("namespaces", "not in blue's", "stderr"),
            seen("namespaces", "its tokens are dead", "stderr"),
        ],
    },
    Meant {
        title: "Warning about a path that KV does not have",
        reason: "Both answer 404 with a warning; ours names the paths that exist.",
        seen: &[seen("kv", "read of no KV path", "stderr")],
    },
    Meant {
        title: "Patch of a secret that is not there",
        reason: "Both answer 404. OpenBao's has no body, ours is `{\"errors\":[]}` like every other; `bao` prints \"Errors:\" in place of \"Raw Message:\".",
        seen: &[seen("kv", "patch of nothing", "stderr"), seen("kv", "metadata patch of nothing", "stderr")],
    },
    Meant {
        title: "KV: scans",
        reason: "`SCAN` answers the whole names sorted by their bytes, heeds `after` and `limit`, and is 404 when it finds nothing. OpenBao's answer has folders\n\
                 behind secrets, level by level, heeds neither, and is 200 with an empty object when there is nothing. One list holds at most a million names, a\n\
                 detailed one 32 MiB: more is refused with 400 and the advice to page.",
        seen: &[seen("kv_v1", "recursive", "*")],
    },
    Meant {
        title: "KV: detailed lists",
        reason: "`detailed-metadata/` says nothing of a folder. OpenBao shows there the metadata of a secret that has the folder's name.",
        seen: &[],
    },
    Meant {
        title: "KV: numbers and data",
        reason: "Data keeps its very text, so `1.50` stays `1.50` and `1e400` is taken, in both versions of KV. OpenBao's version 1 reads numbers as floats and\n\
                 refuses what none holds. `data` and `options` that are lists are refused with 400.",
        seen: &[],
    },
    Meant {
        title: "KV: paths that end in a slash",
        reason: "Deleting one is refused with 400. OpenBao's version 2 deletes the secret without the slash, past policies on it; its version 1 answers 204 and\n\
                 deletes nothing.",
        seen: &[],
    },
    Meant {
        title: "KV version 1: lists in pages",
        reason: "`after` and `limit` are heeded. OpenBao ignores them there, with a warning. A negative `ttl` in a secret counts as none.",
        seen: &[seen("kv_v1", "pages", "*"), seen("kv_v1", "the next page", "*")],
    },
    Meant {
        title: "Cubbyhole",
        reason: "It can be scanned (OpenBao: 405). A write without members or without a path is 400 (OpenBao: 500).",
        seen: &[],
    },
    Meant {
        title: "KV: upgrade to version 2",
        reason: "Until it is done the mount answers 400 to everything, as OpenBao's does. A crash leaves no secret half converted, and the upgrade can be taken up\n\
                 where it was.",
        seen: &[],
    },
    Meant {
        title: "400 for what the caller got wrong",
        reason: "OpenBao answers 500 to some mistakes of its callers (a login without a password, a role id that is missing). Ours is 400, as\n\
                 for every other: 5xx is said of the server only, and tells a client to try again.",
        seen: &[
            seen("auth", "no password", "stderr"),
            seen("auth", "no role id", "stderr"),
            seen("auth", "a role without a secret id and without networks", "stderr"),
            seen("auth", "the same one again", "stderr"),
            seen("auth", "an id of another role", "stderr"),
            seen("namespaces", "not its accessor", "stderr"),
            seen("sys", "cors of none", "stderr"),
            seen("wrapping", "write of nothing", "stderr"),
        ],
    },
    Meant {
        title: "Networks are checked when they are written",
        reason: "A role that is bound to something that is no network (`token_bound_cidrs=300.0.0.0/8`) is refused with 400. OpenBao takes it for\n\
                 a name, and the role's tokens then serve nobody.",
        seen: &[seen("tokens", "a role with a wrong network", "*"), seen("tokens", "a wrong role is not there", "*")],
    },
    Meant {
        title: "No entities yet",
        reason: "There is no identity engine yet: a login's `entity_id` is empty, and no mount `identity/` is listed.",
        seen: &[
            seen("auth", ANY, "/auth/entity_id"),
            seen("auth", ANY, "/data/entity_id"),
            seen("mounts", "list", "stdout"),
            seen("mounts", "list in detail", "stdout"),
            seen("mounts", "list as YAML", "stdout"),
            seen("mounts", ANY, "/identity~1"),
            seen("mounts", ANY, "/data/identity~1"),
            seen("mounts", "one's own see more", "/data/secret/identity~1"),
            seen("namespaces", "its engines", "/identity~1"),
            seen("namespaces", "it is empty", "/identity~1"),
            seen("namespaces", "logs in in red", "/auth/entity_id"),
        ],
    },
    Meant {
        title: "Lock-out is counted by each node",
        reason: "A failed login writes nothing to the cluster's log, so that strangers cannot fill it: each node counts for itself, and locks a name after five\n\
                 failures that it has seen. Unlocking is for all nodes at once. `sys/locked-users` tells what the answering node has locked.",
        seen: &[seen("auth", "further failure*", "stderr")],
    },
    Meant {
        title: "A login from where its token could not be used",
        reason: "Is refused with 403, for AppRole as for userpass. OpenBao's AppRole gives a token, which then serves nowhere near.",
        seen: &[seen("auth", "gives no tokens here", "*")],
    },
    Meant {
        title: "Tokens of a user who is gone",
        reason: "Are not renewed, and the client is told so with 400. OpenBao does not renew them either, but answers 204, and clients take it for done.",
        seen: &[seen("auth", "its tokens are renewed no more", "*")],
    },
    Meant {
        title: "Warnings about lifetimes",
        reason: "A lifetime that the caller or the role has asked for, and that is cut, is warned of. OpenBao also warns that its own default was cut, of which\n\
                 nobody had asked.",
        seen: &[seen("auth", "logs in", "/warnings"), seen("auth", "is in", "/warnings")],
    },
    Meant {
        title: "Tidying is done when it is answered",
        reason: "`tidy` answers when it is done, and says what was done. OpenBao starts it, and tells of it in its server's log.",
        seen: &[seen("auth", "tidy", "stderr"), seen("leases", "tidy", "stderr"), seen("tokens", "tidy", "stderr")],
    },
    Meant {
        title: "A wrapped answer has its request's id",
        reason: "`request_id` is that of the audit records also where the answer is wrapped. OpenBao's is empty there.",
        seen: &[seen("wrapping", ANY, "/request_id"), seen("auth", "a wrapped secret id", "/request_id")],
    },
    Meant {
        title: "Lookup of another namespace's token",
        reason: "A token is looked up in its own namespace or in one above it. OpenBao looks tokens up from any namespace: who may look up in one learns of\n\
                 tokens of all.",
        seen: &[seen("namespaces", "and not in blue", "*")],
    },
    Meant {
        title: "No web UI",
        reason: "The headers of its pages (`sys/config/ui/headers`) are those of the answers below `/ui/`, which are 404. Headers that frame an answer\n\
                 (`Content-Length` and its like) and values that cannot be sent as they are (line breaks) are refused; OpenBao takes them and mends or breaks\n\
                 its answers.",
        seen: &[seen("sys", "a header of pages that is the server's", "*")],
    },
    Meant {
        title: "Version history",
        reason: "Tells Conclave's own versions and since when each has led, where `sys/seal-status` tells the version of the API.",
        seen: &[],
    },
    Meant {
        title: "CORS",
        reason: "Scripts may always set `X-Vault-Namespace`, and never send cookies along (`allow_credentials`): no cookie means anything here.",
        seen: &[seen("sys", "cors is on", "/data/allowed_headers"), seen("sys", "cors is on", "/data/allow_credentials")],
    },
    Meant { title: "Key status", reason: "Tells the key's version and age. How often it has encrypted is not counted yet.", seen: &[] },
    Meant {
        title: "Members that Vault's clients want",
        reason: "`sys/health` and `sys/leader` have `performance_standby`, which Vault's clients read (vaultrs fails without it) and OpenBao has dropped.",
        seen: &[
            seen("sys", "health", "/data/performance_standby"),
            seen("sys", "leader", "/data/performance_standby"),
            seen("sys", "leader", "/data/performance_standby_last_remote_wal"),
        ],
    },
    Meant {
        title: "Texts of 400",
        reason: "Some tell the cure, or the bounds, or leave out what only Go says (`strconv.ParseInt`). The code is OpenBao's.",
        seen: &[
            seen("tokens", "the API with a lifetime that is none", "stderr"),
            seen("tokens", "the API with a negative lifetime", "stderr"),
            seen("tokens", "the API with a negative longest lifetime", "stderr"),
            seen("tokens", "the API with a negative period", "stderr"),
            seen("tokens", "the API with a negative count of uses", "stderr"),
            seen("tokens", "the API with a type that is none", "stderr"),
            seen("tokens", "lookup of no accessor", "stderr"),
            seen("tokens", "its accessor goes too", "stderr"),
            seen("tokens", "its accessor is gone", "stderr"),
            seen("policies", "no HCL", "stderr"),
            seen("policies", "no capability", "stderr"),
            seen("policies", "no setting", "stderr"),
            seen("policies", "no block", "stderr"),
            seen("policies", "a plus and a glob together", "stderr"),
            seen("policies", "a password policy without a length", "stderr"),
            seen("policies", "one that cannot be met", "stderr"),
            seen("mounts", "a lifetime that is none", "stderr"),
            seen("mounts", "a version that is none", "stderr"),
            seen("mounts", "a visibility that is none", "stderr"),
            seen("mounts", "no type", "stderr"),
            seen("mounts", "tune with nonsense", "stderr"),
            seen("auth", "a user without a password", "stderr"),
            seen("audit", "in a folder that is none", "stderr"),
            seen("audit", "of an unknown kind", "stderr"),
            seen("audit", "with a mode that is none", "stderr"),
            seen("leases", "a token's lease is not renewed here", "stderr"),
            seen("leases", "nor by the API", "stderr"),
            seen("namespaces", "a name with a slash", "stderr"),
            seen("namespaces", "a mount of the name of a namespace", "stderr"),
            seen("namespaces", "no audit devices there", "stderr"),
            seen("namespaces", "no raw settings there", "stderr"),
            seen("sys", "no random bytes", "stderr"),
            seen("sys", "too many random bytes", "stderr"),
            seen("sys", "random bytes in no form", "stderr"),
            seen("sys", "hash of no base64", "stderr"),
            seen("sys", "read with a wrong parameter", "stderr"),
        ],
    },
    Meant {
        title: "Engines and methods have no version of their own",
        reason: "All are built in, so `running_plugin_version` is empty. OpenBao has its own version there.",
        seen: &[
            seen("auth", ANY, "*running_plugin_version"),
            seen("auth", "list in detail", "stdout"),
            seen("kv_v1", ANY, "*running_plugin_version"),
            seen("mounts", ANY, "*running_plugin_version"),
            seen("namespaces", ANY, "*running_plugin_version"),
        ],
    },
    Meant {
        title: "A new namespace is as the root namespace",
        reason: "Its token store gives service tokens (`default-service`), as that of the root namespace. No engine looks at request headers\n\
                 (`passthrough_request_headers`) that are not audited.",
        seen: &[
            seen("mounts", ANY, "*sys~1/config/passthrough_request_headers"),
            seen("namespaces", ANY, "*sys~1/config/passthrough_request_headers"),
            seen("namespaces", "its methods", "/token~1/config/token_type"),
            seen("namespaces", "is not one of blue's", "/token~1/config/token_type"),
        ],
    },
    Meant {
        title: "Counts of leases",
        reason: "`sys/leases/count` refuses a type that it does not know. OpenBao answers 404, which is also what it says of none.",
        seen: &[seen("leases", "count of another type", "stderr")],
    },
    Meant {
        title: "Renewal of a root token",
        reason: "Both answer 400. Ours says what is the matter: `lease is not renewable`, as Vault; OpenBao's says `invalid lease ID`.",
        seen: &[seen("tokens", "renew of a root token", "stderr")],
    },
    Meant {
        title: "Batch tokens with what they cannot have",
        reason: "A batch token with a period or a count of uses is refused with 400, as one with an explicit end is. OpenBao leaves them out in silence.",
        seen: &[seen("tokens", "a batch token has no period", "*"), seen("tokens", "nor uses", "*")],
    },
    Meant {
        title: "What is told of a token and of a role",
        reason: "A lookup tells `issue_time` and `renewable` of a root token too. The bounds that a role gave show in its token's lookup, and a role\n\
                 shows them by their old names too (`period`, `explicit_max_ttl`, `bound_cidrs`): OpenBao shows what was written by the old name only.",
        seen: &[
            seen("tokens", "lookup of a root token", "/data/issue_time"),
            seen("tokens", "lookup of a root token", "/data/renewable"),
            seen("tokens", "read a role", "/data/period"),
            seen("tokens", "lookup tells the role", "/data/period"),
            seen("tokens", "read its bounds", "/data/bound_cidrs"),
            seen("tokens", "read its bounds", "/data/explicit_max_ttl"),
            seen("tokens", "its bounds are told", "/data/explicit_max_ttl"),
        ],
    },
    Meant {
        title: "Tokens with ids of one's own",
        reason: "They are found by the same keyed hash as every other, so there is no warning of a weaker one.",
        seen: &[seen("tokens", "create with an id of one's own", "/warnings")],
    },
    Meant {
        title: "ACL policies have no versions",
        reason: "A policy's answer has its name and its text, as Vault's. OpenBao adds `version`, `cas_required`, `modified` and two settings of templates.",
        seen: &[seen("policies", "read by the API", "/data/*"), seen("policies", "read by the older API", "/data/*")],
    },
    Meant {
        title: "What one may see",
        reason: "`sys/internal/ui/resultant-acl` tells the rules with `+` too, which OpenBao leaves out; and the policy `default` also allows `sys/renew`,\n\
                 which is served for older clients.",
        seen: &[
            seen("policies", "what one may see", "/data/exact_paths/sys~1renew"),
            seen("policies", "what one may see", "/data/glob_paths/*"),
        ],
    },
    Meant {
        title: "Options of a mount that has none",
        reason: "They are `null`. OpenBao's are `null` or `{}`, as its maker sent them.",
        seen: &[seen("mounts", "is listed", "/data/options")],
    },
    Meant {
        title: "Moves of mounts",
        reason: "A move is done when it is answered, and so there is no warning that it is under way. `sys/remount/status` says so.",
        seen: &[seen("mounts", "move by the API", "/warnings")],
    },
    Meant {
        title: "The OpenAPI document says how one authenticates",
        reason: "It has `security`; OpenBao's has none.",
        seen: &[seen("path_help", "as JSON", "/security")],
    },
    Meant {
        title: "Version",
        reason: "`sys/health` and `sys/seal-status` report a version of Vault's whose API is served, as clients turn features on by it. The header\n\
                 `X-Conclave-Version` has our own.",
        seen: &[],
    },
];

/// Which of an area's differences were seen.
pub(crate) struct Ledger {
    area: &'static str,
    used: Vec<bool>,
    unknown: Vec<String>,
}

impl Ledger {
    pub(crate) fn new(area: &'static str) -> Ledger {
        Ledger { area, used: vec![false; all().count()], unknown: Vec::new() }
    }

    /// Whether a difference is meant at this step in particular: then what is wanted of it is not true of OpenBao.
    pub(crate) fn has(&self, step: &str) -> bool {
        all().any(|seen| seen.area == self.area && seen.step != ANY && matches(seen.step, step))
    }

    /// Enters what was found at a step.
    pub(crate) fn enter(&mut self, step: &str, found: &[Difference]) {
        for difference in found {
            let mut known = false;
            for (used, seen) in self.used.iter_mut().zip(all()) {
                if seen.area == self.area && matches(seen.step, step) && matches(seen.place, &difference.place) {
                    (*used, known) = (true, true);
                }
            }
            if !known {
                let Difference { place, ours, theirs } = difference;
                self.unknown.push(format!("{step}: {place:?}\n  ours:   {ours:?}\n  theirs: {theirs:?}"));
            }
        }
    }

    /// Differences that nobody meant, as one text.
    pub(crate) fn unknown(&self) -> Option<String> {
        (!self.unknown.is_empty()).then(|| self.unknown.join("\n"))
    }

    /// Differences that are listed for this area, and were not found.
    pub(crate) fn gone(&self) -> Option<String> {
        let gone = all().zip(&self.used).filter(|(seen, used)| seen.area == self.area && !**used);
        let gone: Vec<String> = gone.map(|(seen, _)| format!("{}: {} is no different any more", seen.step, seen.place)).collect();
        (!gone.is_empty()).then(|| gone.join("\n"))
    }
}

fn all() -> impl Iterator<Item = &'static Seen> {
    MEANT.iter().flat_map(|meant| meant.seen)
}

/// `pattern` may have one `*`, which stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    pattern.split_once('*').map_or(pattern == text, |(head, tail)| text.strip_prefix(head).is_some_and(|rest| rest.ends_with(tail)))
}

/// The page's section: each title, its reason, and which checks show it.
fn page_section() -> String {
    let mut text = String::new();
    for Meant { title, reason, seen } in MEANT {
        text.push_str(&format!("### {title}\n{reason}\n\n"));
        let mut checks: Vec<String> =
            seen.iter().map(|Seen { area, step, .. }| format!("{area}, {}", if *step == ANY { "any" } else { step })).collect();
        checks.dedup();
        if !checks.is_empty() {
            text.push_str(&format!("Seen in: {}.\n\n", checks.join("; ")));
        }
    }
    text
}

#[test]
fn the_page_tells_of_every_difference() {
    let page = std::fs::read_to_string(PAGE).unwrap_or_else(|error| panic!("read {PAGE}: {error}"));
    let (head, rest) = page.split_once(BEGIN).unwrap_or_else(|| panic!("{PAGE} has no line {BEGIN:?}"));
    let (found, tail) = rest.split_once(END).unwrap_or_else(|| panic!("{PAGE} has no line {END:?}"));
    let wanted = format!("\n{}", page_section());
    if std::env::var_os(WRITE_VARIABLE).is_some() {
        std::fs::write(PAGE, format!("{head}{BEGIN}{wanted}{END}{tail}")).unwrap_or_else(|error| panic!("write {PAGE}: {error}"));
        return;
    }
    assert_eq!(found, wanted, "{PAGE} is not what the table says; {WRITE_VARIABLE}=1 writes it anew");
}

#[test]
fn a_difference_is_known_or_it_fails() {
    let difference = |place: &str| Difference { place: place.to_owned(), ours: "a".to_owned(), theirs: "b".to_owned() };
    let mut ledger = Ledger::new("kv");
    assert!(ledger.has("read of no KV path") && !ledger.has("put makes version 1"));
    ledger.enter("read of no KV path", &[difference("stderr")]);
    assert_eq!(ledger.unknown(), None);
    ledger.enter("read of no KV path", &[difference("exit")]);
    assert!(ledger.unknown().unwrap().contains("read of no KV path"));
    assert!(ledger.gone().unwrap().contains("patch of nothing") && !ledger.gone().unwrap().contains("read of no KV path"));
    assert!(
        matches("/data*", "/data/x")
            && matches("/a*/c", "/a/b/c")
            && !matches("/ab*b", "/ab")
            && matches("*", "")
            && !matches("/data", "/data/x")
    );
}
