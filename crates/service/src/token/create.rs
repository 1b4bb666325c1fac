//! Making a token on purpose: `create`, `create-orphan`, `create/ROLE`.
//!
//! Always: a token has no policy that its maker has not, unless the maker is `root` or has `sudo` on the path, or a role says so; and it
//! ends with its maker, unless it is an orphan.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crypto::Zeroizing;
use engine::AskError;
use proto::stored;

use super::{Caller, roles};
use crate::backend::Asked;
use crate::body::Fields;
use crate::outcome::{Grant, Operation, Outcome, PlanError, Reply, Scope};

/// The longest text of a token that its maker chooses, in bytes.
const ID_BYTES_MAX: usize = 256;
/// The longest display name, in bytes.
const DISPLAY_NAME_BYTES_MAX: usize = 512;
/// What `meta` may hold, in entries, and each of its names and texts in bytes.
const META_MAX: usize = 64;
const META_BYTES_MAX: usize = 512;
/// Policies that only the service itself gives.
const INTERNAL_POLICIES: [&str; 2] = ["response-wrapping", "control-group"];

/// What is asked for.
struct Create {
    role: Option<String>,
    /// By the path.
    is_orphan: bool,
    id: Option<Zeroizing<String>>,
    policies: Option<Vec<String>>,
    meta: BTreeMap<String, String>,
    no_parent: bool,
    no_default_policy: bool,
    renewable: bool,
    ttl: Duration,
    explicit_max_ttl: Duration,
    period: Duration,
    uses: u64,
    display_name: String,
    kind: Option<Kind>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Service,
    Batch,
}

fn invalid(text: impl Into<String>) -> AskError {
    AskError::Invalid(text.into())
}

fn refused<T>(text: impl Into<String>) -> Result<T, PlanError> {
    Err(PlanError::Refused(text.into()))
}

/// As Vault names them: `token-` and the name, without what is neither a letter, a digit nor a dash.
fn display_name(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let full: String = "token-".chars().chain(name.chars().map(plain)).collect();
    full.strip_suffix('-').map_or(full.clone(), str::to_owned)
}

/// A token's text that its maker chooses must not look like one that is drawn, and must fit into a header.
fn check_id(id: &str) -> Result<(), AskError> {
    for prefix in ["hvs.", "hvb.", "hvr.", "s.", "b.", "r."] {
        if id.starts_with(prefix) {
            return Err(invalid(format!("custom token ID cannot have the '{prefix}' prefix")));
        }
    }
    if id.contains('.') {
        return Err(invalid("custom token ID cannot have a '.' in the value"));
    }
    if id.len() > ID_BYTES_MAX || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(invalid(format!(
            "a custom token ID has at most {ID_BYTES_MAX} characters, all of them printable ASCII without blanks"
        )));
    }
    Ok(())
}

impl Create {
    fn parse(asked: &Asked<'_>, role: Option<&str>, is_orphan: bool) -> Result<Create, AskError> {
        let fields = Fields::of(asked.ask)?;
        let text = |name: &str| fields.text(name).map(|text| text.filter(|text| !text.is_empty()));
        if text("entity_alias")?.is_some() {
            return Err(invalid(match role {
                None => "'entity_alias' is only allowed in combination with token role",
                Some(_) => "entity_alias needs identities, which are not available yet (leave it out)",
            }));
        }
        let id = fields.secret("id")?.filter(|id| !id.is_empty());
        if let Some(id) = &id {
            check_id(id)?;
        }
        let meta = fields.map("meta")?.unwrap_or_default();
        if meta.len() > META_MAX || meta.iter().any(|(name, text)| name.len().max(text.len()) > META_BYTES_MAX) {
            return Err(invalid(format!(
                "meta has at most {META_MAX} members, each with at most {META_BYTES_MAX} bytes of name and of text"
            )));
        }
        let name = text("display_name")?.unwrap_or_default();
        if name.len() > DISPLAY_NAME_BYTES_MAX {
            return Err(invalid(format!("display_name has at most {DISPLAY_NAME_BYTES_MAX} bytes")));
        }
        let kind = match text("type")? {
            None => None,
            Some("service") => Some(Kind::Service),
            Some("batch") => Some(Kind::Batch),
            Some(_) => return Err(invalid("invalid 'token_type' value (type must be service or batch)")),
        };
        let ttl = match fields.duration("ttl")? {
            Some(ttl) => ttl,
            None => fields.duration("lease")?.unwrap_or_default(),
        };
        Ok(Create {
            role: role.map(str::to_owned),
            is_orphan,
            id,
            policies: fields.list("policies")?.filter(|policies| !policies.is_empty()),
            meta,
            no_parent: fields.boolean("no_parent")?.unwrap_or_default(),
            no_default_policy: fields.boolean("no_default_policy")?.unwrap_or_default(),
            renewable: fields.boolean("renewable")?.unwrap_or(true),
            ttl,
            explicit_max_ttl: fields.duration("explicit_max_ttl")?.unwrap_or_default(),
            period: fields.duration("period")?.unwrap_or_default(),
            uses: fields.integer("num_uses")?.unwrap_or_default(),
            display_name: display_name(name),
            kind,
        })
    }

    /// The policies of the new token, sorted, each once.
    fn policies(
        &self,
        parent: &Caller,
        role: Option<&stored::TokenRole>,
        is_same_namespace: bool,
        is_sudo: bool,
    ) -> Result<Vec<String>, PlanError> {
        let asked = self.policies.as_deref().map(clean);
        let inherited = || clean(parent.policies());
        let has_default = |policies: &[String]| policies.iter().any(|name| name == "default");
        let mut policies = match (role, asked) {
            (Some(role), asked) if has_rules(role) => by_role(role, asked, &inherited(), self.no_default_policy)?,
            // Only what is asked for: the maker's policies are those of another namespace.
            (_, asked) if !is_same_namespace => with_default(asked.unwrap_or_default(), !self.no_default_policy),
            (_, None) => inherited(),
            (_, Some(asked)) if is_sudo => with_default(asked, !self.no_default_policy),
            (_, Some(asked)) => {
                let inherited = inherited();
                if !asked.iter().all(|name| inherited.contains(name)) {
                    return refused("child policies must be subset of parent");
                }
                let adds_default = !self.no_default_policy && has_default(&inherited);
                with_default(asked, adds_default)
            }
        };
        if self.no_default_policy {
            policies.retain(|name| name != "default");
        }
        if let Some(name) = policies.iter().find(|name| INTERNAL_POLICIES.contains(&name.as_str())) {
            return refused(format!("cannot assign policy {name:?}"));
        }
        if policies.iter().any(|name| name == "root") {
            if !parent.policies().iter().any(|name| name == "root") {
                return refused("root tokens may not be created without parent token being root");
            }
            policies = vec!["root".into()];
        }
        Ok(policies)
    }
}

/// As tokens carry them: lower case, sorted, each once.
fn clean(names: &[String]) -> Vec<String> {
    let mut clean: Vec<String> = names.iter().map(|name| name.trim().to_lowercase()).filter(|name| !name.is_empty()).collect();
    clean.sort();
    clean.dedup();
    clean
}

fn with_default(mut policies: Vec<String>, adds: bool) -> Vec<String> {
    if adds {
        policies.push("default".into());
    }
    clean(&policies)
}

/// Whether a role says which policies its tokens have.
fn has_rules(role: &stored::TokenRole) -> bool {
    [&role.allowed_policies, &role.disallowed_policies, &role.allowed_policies_glob, &role.disallowed_policies_glob]
        .iter()
        .any(|list| !list.is_empty())
}

/// The policies of a token of a role that has rules.
fn by_role(role: &stored::TokenRole, asked: Option<Vec<String>>, inherited: &[String], no_default: bool) -> Result<Vec<String>, PlanError> {
    let is_disallowed = |name: &String| {
        role.disallowed_policies.contains(name) || role.disallowed_policies_glob.iter().any(|glob| matches_glob(glob, name))
    };
    let adds_default = !no_default && !role.no_default_policy && !is_disallowed(&"default".to_owned());
    let policies = if role.allowed_policies.is_empty() && role.allowed_policies_glob.is_empty() {
        with_default(asked.unwrap_or_else(|| inherited.to_vec()), adds_default)
    } else {
        let allowed = with_default(role.allowed_policies.clone(), adds_default);
        match asked {
            None => allowed,
            Some(asked) => {
                let asked = with_default(asked, adds_default);
                let may = |name: &String| allowed.contains(name) || role.allowed_policies_glob.iter().any(|glob| matches_glob(glob, name));
                if !asked.iter().all(may) {
                    let globs = &role.allowed_policies_glob;
                    return refused(format!(
                        "token policies ({}) must be subset of the role's allowed policies ({}) or glob policies ({})",
                        quoted(&asked),
                        quoted(&allowed),
                        quoted(globs)
                    ));
                }
                asked
            }
        }
    };
    match policies.iter().find(|name| is_disallowed(name)) {
        Some(name) => refused(format!("token policy {name:?} is disallowed by this role")),
        None => Ok(policies),
    }
}

fn quoted(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
    format!("[{}]", names.join(" "))
}

/// Whether a name is what a pattern says, in which a star stands for any text. Time is linear but for the stars, of which each is met once.
fn matches_glob(glob: &str, name: &str) -> bool {
    let Some((head, rest)) = glob.split_once('*') else { return glob == name };
    let Some(mut left) = name.strip_prefix(head) else { return false };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return left.ends_with(part);
        }
        match left.find(part) {
            Some(at) => left = &left[at + part.len()..],
            None => return false,
        }
    }
    true
}

/// The stricter of two numbers, zero being none.
fn stricter<T: Default + Ord + Copy>(one: T, other: T) -> T {
    if one == T::default() || other == T::default() { one.max(other) } else { one.min(other) }
}

#[async_trait::async_trait]
impl Operation for Create {
    /// Many make tokens on one path, and each token has records of its own.
    fn takes_turns(&self) -> bool {
        false
    }

    async fn plan(&self, scope: &Scope<'_>) -> Result<Outcome, PlanError> {
        let parent = scope.caller()?;
        if parent.token.batch {
            return refused("batch tokens cannot create more tokens");
        }
        if parent.is_limited() {
            return refused("restricted use token cannot generate child tokens");
        }
        let is_sudo = scope.is_sudo();
        let mut plan = barrier::Plan::new();
        let role = match &self.role {
            None => None,
            Some(name) => {
                let (revision, role) = roles::load(&scope.records, &scope.namespace.id, name)?;
                roles::expect(&scope.namespace.id, name, revision, &mut plan);
                Some(role.ok_or_else(|| PlanError::Refused(format!("unknown role {name}")))?)
            }
        };
        if self.id.is_some() && !is_sudo {
            return refused("root or sudo privileges required to specify token id");
        }
        if self.no_parent && !self.is_orphan && role.is_none() && !is_sudo {
            return refused("root or sudo privileges required to create orphan token");
        }
        if !self.period.is_zero() && !is_sudo {
            return refused("root or sudo privileges required to create periodic token");
        }
        let is_batch = match (role.as_ref().map(|role| role.token_type.as_str()), self.kind) {
            (Some("batch"), _) | (Some("default-batch"), None) => true,
            (Some("service"), _) | (_, None) => false,
            (_, Some(kind)) => kind == Kind::Batch,
        };
        let ms = Duration::from_millis;
        let explicit_max_ttl = stricter(self.explicit_max_ttl, role.as_ref().map_or(Duration::ZERO, |role| ms(role.explicit_max_ttl_ms)));
        let period = stricter(self.period, role.as_ref().map_or(Duration::ZERO, |role| ms(role.period_ms)));
        let uses = stricter(self.uses, role.as_ref().map_or(0, |role| role.uses));
        let policies = self.policies(parent, role.as_ref(), parent.namespace.id == scope.namespace.id, is_sudo)?;
        let is_root = policies.iter().any(|name| name == "root");
        if is_batch {
            if is_root {
                return refused("batch tokens cannot be root tokens");
            }
            for (name, is_set) in [
                ("explicit_max_ttl", !explicit_max_ttl.is_zero()),
                ("num_uses", uses != 0),
                ("period", !period.is_zero()),
                ("id", self.id.is_some()),
            ] {
                if is_set {
                    return refused(format!("batch tokens cannot have {name:?} set"));
                }
            }
        }
        let is_eternal = is_root && self.ttl.is_zero() && explicit_max_ttl.is_zero() && period.is_zero();
        if is_eternal && parent.token.expires_ms != 0 {
            return refused("expiring root tokens cannot create non-expiring root tokens");
        }
        let mut warnings = Vec::new();
        for name in policies.iter().filter(|name| !["root", "default"].contains(&name.as_str())) {
            if scope.records.policy(&scope.namespace.id, name)?.is_none() {
                warnings.push(format!("Policy {name:?} does not exist"));
            }
        }
        let is_orphan = match &role {
            Some(role) => role.orphan,
            None => self.is_orphan || self.no_parent,
        };
        let path = match (&self.role, &role) {
            (Some(name), Some(role)) if !role.path_suffix.is_empty() => format!("auth/token/create/{name}/{}", role.path_suffix),
            (Some(name), _) => format!("auth/token/create/{name}"),
            _ => String::new(),
        };
        let grant = Grant {
            text: self.id.clone(),
            policies,
            // What is to be added was.
            no_default_policy: true,
            display_name: self.display_name.clone(),
            meta: self.meta.clone(),
            renewable: self.renewable && role.as_ref().is_none_or(|role| role.renewable),
            is_batch,
            ttl: self.ttl,
            explicit_max_ttl,
            period,
            uses,
            role: self.role.clone().unwrap_or_default(),
            bound_cidrs: if is_eternal { Vec::new() } else { role.map(|role| role.bound_cidrs).unwrap_or_default() },
            parent: (!is_orphan).then(|| Arc::clone(parent)),
            path,
            is_eternal,
            ..Grant::default()
        };
        Ok(Outcome { plan, reply: Reply::Issue(Box::new(grant)), warnings })
    }
}

/// `create`.
pub(super) fn child(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    Ok(Box::new(Create::parse(asked, None, false)?))
}

/// `create-orphan`.
pub(super) fn orphan(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    Ok(Box::new(Create::parse(asked, None, true)?))
}

/// `create/ROLE`.
pub(super) fn by_role_name(asked: &Asked<'_>) -> Result<Box<dyn Operation>, AskError> {
    Ok(Box::new(Create::parse(asked, Some(asked.captures.text("role_name")), false)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (glob, name, want) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "a", true),
            ("a*", "abc", true),
            ("a*", "ba", false),
            ("*", "", true),
            ("*b", "aab", true),
            ("*b", "aabc", false),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
            ("a*a", "a", false),
            ("a*b*b", "ab", false),
            ("**", "x", true),
        ] {
            assert_eq!(matches_glob(glob, name), want, "{glob} {name}");
        }
    }

    #[test]
    fn display_names_are_plain() {
        for (name, want) in [("", "token"), ("ci", "token-ci"), ("a b/c!", "token-a-b-c"), ("é", "token-"), ("a--", "token-a-")] {
            assert_eq!(display_name(name), want, "{name}");
        }
    }

    #[test]
    fn a_chosen_text_never_looks_like_a_drawn_one() {
        for id in ["hvs.x", "hvb.x", "s.x", "b.x", "a.b", "a b", "a\u{e9}", "a\n", &"a".repeat(300)] {
            assert!(check_id(id).is_err(), "{id}");
        }
        assert!(check_id("my-id_1/2").is_ok());
    }

    #[test]
    fn a_roles_rules_bound_the_policies() {
        let names = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let role = |allowed: &str, disallowed: &str, allowed_glob: &str, disallowed_glob: &str| stored::TokenRole {
            allowed_policies: names(allowed),
            disallowed_policies: names(disallowed),
            allowed_policies_glob: names(allowed_glob),
            disallowed_policies_glob: names(disallowed_glob),
            ..Default::default()
        };
        for (role, asked, want) in [
            (role("p", "q", "", ""), Some("q"), None),
            (role("p", "", "", ""), Some("x"), None),
            (role("p", "", "", ""), None, Some("default p")),
            (role("p", "", "", ""), Some("p"), Some("default p")),
            (role("", "", "a*", ""), Some("ab"), Some("ab default")),
            (role("", "", "a*", ""), Some("ba"), None),
            (role("", "", "a*", ""), None, Some("default")),
            (role("", "q", "", "z*"), Some("zz"), None),
            (role("", "q", "", "z*"), Some("q"), None),
            (role("", "q", "", "z*"), Some("x"), Some("default x")),
            (role("", "q", "", ""), None, Some("default mine")),
            (role("", "mine", "", ""), None, None),
            (role("p", "default", "", ""), None, Some("p")),
            (role("p", "", "", "*"), None, None),
        ] {
            let found = by_role(&role, asked.map(names), &names("mine"), false).ok();
            let rules = [role.allowed_policies, role.disallowed_policies, role.allowed_policies_glob, role.disallowed_policies_glob];
            assert_eq!(found, want.map(names), "{rules:?} {asked:?}");
        }
        assert_eq!(by_role(&role("p", "", "", ""), None, &[], true).ok(), Some(names("p")), "without default");
    }
}
