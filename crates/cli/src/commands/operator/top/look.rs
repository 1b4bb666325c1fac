//! A look at the cluster: what each node tells of itself, asked at once, and what the others know of those that do not answer.
//!
//! Always: a node that does not answer delays nobody longer than [`ASK_TIMEOUT`]; what is not told is absent, never guessed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use client::{Client, HaNode, HaStatus, Method};
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::task::JoinSet;

use super::exposition::Samples;
use crate::fault::Fault;

/// How long one node may take to tell one thing.
pub(crate) const ASK_TIMEOUT: Duration = Duration::from_millis(1500);
const DAY_S: f64 = 86_400.0;
/// Below this a certificate's end is a warning.
const CERTIFICATE_DAYS_MIN: f64 = 14.0;
/// A member that lacks more entries is a warning.
const LAG_MAX: u64 = 10_000;

/// Whether a sample counts, by its labels.
type Wanted = fn(&dyn Fn(&str) -> String) -> bool;

/// Which nodes to ask: by their addresses, with their ids where they are known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Members(Vec<Member>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Member {
    /// Empty: not known.
    id: String,
    address: String,
}

/// The cluster at one moment.
#[derive(Debug, Serialize)]
pub(crate) struct Look {
    /// The node that leads, by its id or address.
    pub(crate) leader: Option<String>,
    pub(crate) cluster_name: Option<String>,
    pub(crate) term: Option<u64>,
    pub(crate) commit_index: Option<u64>,
    pub(crate) nodes: Vec<NodeLook>,
    /// What an operator should see to, in words.
    pub(crate) warnings: Vec<String>,
    /// When it was taken.
    #[serde(skip)]
    taken: Instant,
}

/// One node.
#[derive(Debug, Default, Serialize)]
pub(crate) struct NodeLook {
    pub(crate) node_id: String,
    pub(crate) api_address: String,
    /// Whether it answered here.
    pub(crate) reachable: bool,
    /// Why it did not.
    pub(crate) error: Option<String>,
    /// `leader`, `follower`, `candidate` or `learner`.
    pub(crate) role: Option<String>,
    pub(crate) initialized: Option<bool>,
    pub(crate) sealed: Option<bool>,
    pub(crate) term: Option<u64>,
    pub(crate) commit_index: Option<u64>,
    pub(crate) applied_index: Option<u64>,
    /// Entries that it lacks.
    pub(crate) lag: Option<u64>,
    pub(crate) requests_per_second: Option<f64>,
    /// Those of them that may change something.
    pub(crate) writes_per_second: Option<f64>,
    pub(crate) denied_per_second: Option<f64>,
    pub(crate) failed_per_second: Option<f64>,
    /// Of the last minutes; absent when there was no request.
    pub(crate) p99_milliseconds: Option<f64>,
    /// The newest entry in its snapshot; 0: it has none.
    pub(crate) snapshot_index: Option<u64>,
    pub(crate) disk_free_bytes: Option<u64>,
    /// Of the certificate that ends first.
    pub(crate) certificate_days_left: Option<f64>,
    pub(crate) version: Option<String>,
    #[serde(skip)]
    pub(super) samples: Option<Samples>,
}

impl Members {
    /// As the cluster lists them; where it does not (sealed, no right), the addresses that were given.
    pub(crate) async fn find(client: &Client) -> (Members, BTreeMap<String, HaNode>) {
        let given = Members(client.addresses().iter().map(|address| Member { id: String::new(), address: address.to_string() }).collect());
        match client
            .request(Method::Get, "sys/ha-status")
            .within(Some(2 * ASK_TIMEOUT))
            .send()
            .await
            .and_then(|told| told.data::<HaStatus>())
        {
            Ok(status) if !status.nodes.is_empty() => {
                let member = |node: &HaNode| Member { id: node.node_id.clone(), address: node.api_address.clone() };
                let members = Members(status.nodes.iter().map(member).collect());
                (members, status.nodes.into_iter().map(|node| (node.node_id.clone(), node)).collect())
            }
            _ => (given, BTreeMap::new()),
        }
    }

    /// Those that were seen before, where now nobody lists them.
    pub(crate) fn or(self, known: &Members, listed: bool) -> Members {
        if listed || known.0.is_empty() { self } else { known.clone() }
    }

    /// Id (or address) and a client of that node alone.
    pub(crate) fn clients(&self, client: &Client) -> Result<Vec<(String, Client)>, Fault> {
        let one = |member: &Member| {
            let name = if member.id.is_empty() { host(&member.address).to_owned() } else { member.id.clone() };
            Ok((name, client.at(&member.address)?))
        };
        self.0.iter().map(one).collect()
    }
}

/// Host and port of a URL.
pub(crate) fn host(address: &str) -> &str {
    address.split_once("://").map_or(address, |(_, host)| host).trim_end_matches('/')
}

/// Asks every node at once. `before`: an earlier look, for the rates.
pub(crate) async fn look(
    client: &Client,
    members: &Members,
    told: &BTreeMap<String, HaNode>,
    before: Option<&Look>,
) -> Result<Look, Fault> {
    let mut asks = JoinSet::new();
    for (at, ((name, node), member)) in members.clients(client)?.into_iter().zip(&members.0).enumerate() {
        let address = member.address.clone();
        asks.spawn(async move { (at, ask(&name, &address, &node).await) });
    }
    let mut nodes: Vec<Option<(NodeLook, Option<String>)>> = members.0.iter().map(|_| None).collect();
    while let Some(asked) = asks.join_next().await {
        let (at, look) = asked.map_err(|error| Fault::local(format!("ask the nodes: {error}")))?;
        nodes[at] = Some(look);
    }
    let (mut nodes, names): (Vec<NodeLook>, Vec<Option<String>>) = nodes.into_iter().flatten().unzip();
    for node in &mut nodes {
        if let Some(told) = told.get(&node.node_id) {
            node.add_hearsay(told);
        }
    }
    let mut look = Look {
        leader: nodes.iter().find(|node| node.role.as_deref() == Some("leader")).map(|node| node.node_id.clone()),
        cluster_name: names.into_iter().flatten().find(|name| !name.is_empty()),
        term: nodes.iter().filter_map(|node| node.term).max(),
        commit_index: nodes.iter().filter_map(|node| node.commit_index).max(),
        nodes,
        warnings: Vec::new(),
        taken: Instant::now(),
    };
    look.add_lags();
    if let Some(before) = before {
        look.add_rates(before);
    }
    look.warnings = look.warn();
    Ok(look)
}

/// What one node tells, and the cluster's name as it knows it.
async fn ask(name: &str, address: &str, client: &Client) -> (NodeLook, Option<String>) {
    let mut node = NodeLook { node_id: name.to_owned(), api_address: address.to_owned(), ..NodeLook::default() };
    let get = |path: &'static str| client.request(Method::Get, path).within(Some(ASK_TIMEOUT));
    let health = match get("sys/health").accept_any_status().send().await.and_then(|answer| answer.json::<client::Health>()) {
        Ok(health) => health,
        Err(error) => {
            node.error = Some(cause(&error));
            return (node, None);
        }
    };
    node.reachable = true;
    node.initialized = Some(health.initialized);
    node.sealed = Some(health.sealed);
    let (leader, metrics) = tokio::join!(get("sys/leader").send(), get("sys/metrics").query("format", "prometheus").send());
    if let Ok(fields) = leader.and_then(|answer| answer.data::<Map<String, Value>>()) {
        node.add_leader(&fields);
    }
    if let Ok(answer) = metrics {
        node.add_samples(Samples::parse(&String::from_utf8_lossy(answer.body())));
    }
    (node, Some(health.cluster_name))
}

/// The last words of an error: the ones before repeat where it was.
fn cause(error: &client::Error) -> String {
    match error {
        client::Error::Unavailable { tried, .. } => tried.last().map_or_else(|| error.to_string(), |attempt| attempt.failure.to_string()),
        _ => error.to_string(),
    }
}

impl NodeLook {
    fn add_leader(&mut self, fields: &Map<String, Value>) {
        let number = |name: &str| fields.get(name).and_then(Value::as_u64);
        self.commit_index = number("raft_committed_index");
        self.applied_index = number("raft_applied_index");
        if self.role.is_none() && self.sealed == Some(false) {
            let leads = fields.get("is_self") == Some(&Value::Bool(true));
            self.role = Some(if leads { "leader" } else { "follower" }.to_owned());
        }
    }

    fn add_samples(&mut self, samples: Samples) {
        let whole = |name: &str| samples.value(name).map(|value| value as u64);
        self.term = whole("conclave_raft_term");
        self.commit_index = whole("vault_raft_storage_stats_commit_index").or(self.commit_index);
        self.applied_index = whole("vault_raft_storage_stats_applied_index").or(self.applied_index);
        self.snapshot_index = whole("conclave_snapshot_index");
        self.disk_free_bytes = whole("conclave_disk_free_bytes");
        if let Some((role, _)) = samples.by("conclave_raft_role", "role").into_iter().find(|(_, is)| *is == 1.0) {
            self.role = Some(role);
        }
        self.p99_milliseconds = samples.labelled("vault_core_handle_request", "quantile", "0.99").filter(|value| value.is_finite());
        let ends = samples.by("conclave_certificate_end_seconds", "purpose").into_iter().map(|(_, ends)| ends);
        self.certificate_days_left = ends.reduce(f64::min).map(|ends| (ends - now_s()) / DAY_S);
        self.version = samples.by("conclave_build_info", "version").pop().map(|(version, _)| version);
        self.samples = Some(samples);
    }

    /// What other members know of it, where it does not say so itself.
    fn add_hearsay(&mut self, told: &HaNode) {
        self.term = self.term.or(told.term);
        self.applied_index = self.applied_index.or(told.applied_index);
        self.sealed = self.sealed.or(told.sealed);
        if self.role.is_none() && told.last_echo.is_some() {
            self.role = Some(if told.active_node { "leader".to_owned() } else { told.role.replace("voter", "follower") });
        }
        if self.version.is_none() && !told.version.is_empty() {
            self.version = Some(told.version.clone());
        }
    }
}

impl Look {
    /// How many nodes answered.
    pub(crate) fn reachable(&self) -> usize {
        self.nodes.iter().filter(|node| node.reachable).count()
    }

    /// As the leader counts them; else by the newest commit index that any node knows.
    fn add_lags(&mut self) {
        let leader = self.nodes.iter().find(|node| node.role.as_deref() == Some("leader"));
        let counted: BTreeMap<String, f64> = leader
            .and_then(|node| node.samples.as_ref())
            .map(|samples| samples.by("conclave_raft_member_lag", "member"))
            .into_iter()
            .flatten()
            .collect();
        for node in &mut self.nodes {
            let behind = self.commit_index.zip(node.applied_index).map(|(committed, applied)| committed.saturating_sub(applied));
            node.lag = counted.get(&node.node_id).map(|lag| *lag as u64).or(behind);
        }
    }

    fn add_rates(&mut self, before: &Look) {
        let seconds = self.taken.saturating_duration_since(before.taken).as_secs_f64();
        for node in &mut self.nodes {
            let earlier = before.nodes.iter().find(|earlier| earlier.node_id == node.node_id).and_then(|node| node.samples.as_ref());
            let (Some(earlier), Some(now)) = (earlier, &node.samples) else { continue };
            if seconds <= 0.0 {
                continue;
            }
            let rate = |wanted: Wanted| {
                let count = |samples: &Samples| samples.sum_where("conclave_requests_total", wanted).unwrap_or(0.0);
                // A process that was started anew counts from 0.
                let (now, earlier) = (count(now), count(earlier));
                Some(if now < earlier { now } else { now - earlier } / seconds)
            };
            node.requests_per_second = rate(|_| true);
            node.writes_per_second = rate(|label| !matches!(label("operation").as_str(), "read" | "list" | "scan" | "help"));
            node.denied_per_second = rate(|label| label("result") == "denied");
            node.failed_per_second = rate(|label| label("result") == "failed");
        }
    }

    fn warn(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let open: Vec<&NodeLook> = self.nodes.iter().filter(|node| node.sealed == Some(false)).collect();
        if self.nodes.iter().any(|node| node.initialized == Some(false)) {
            warnings.push("the cluster has no keys yet: `conclave operator init`".to_owned());
        } else if self.leader.is_none() && (!open.is_empty() || self.term.is_some()) {
            warnings.push("no node that answers leads: is there a quorum?".to_owned());
        }
        let sealed = self.nodes.iter().filter(|node| node.sealed == Some(true) && node.initialized != Some(false));
        let sealed: Vec<&str> = sealed.map(|node| node.node_id.as_str()).collect();
        if !sealed.is_empty() {
            let verb = if sealed.len() == 1 { "is" } else { "are" };
            warnings.push(format!("{} {verb} sealed: give shares there with `conclave operator unseal`", sealed.join(", ")));
        }
        for node in &self.nodes {
            let id = &node.node_id;
            if let Some(error) = &node.error {
                let heard = if node.applied_index.is_some() { ", though other members hear it" } else { "" };
                warnings.push(format!("{id} does not answer here{heard}: {error}"));
            }
            if let Some(lag) = node.lag.filter(|lag| *lag > LAG_MAX) {
                warnings.push(format!("{id} lacks {lag} entries"));
            }
            if let Some(days) = node.certificate_days_left.filter(|days| *days < CERTIFICATE_DAYS_MIN) {
                let when = if days < 0.0 { "has ended".to_owned() } else { format!("ends in {days:.0} days") };
                warnings.push(format!("a certificate of {id} {when}"));
            }
            let is_full = node.samples.as_ref().and_then(|samples| samples.value("conclave_disk_full")) == Some(1.0);
            if is_full {
                warnings.push(format!("the disk of {id} is almost full: it takes no writes"));
            }
            if node.reachable && node.sealed == Some(false) && node.samples.is_none() {
                warnings.push(format!("{id} tells no metrics: a token that may read sys/metrics is needed"));
            }
        }
        let versions: std::collections::BTreeSet<&str> = self.nodes.iter().filter_map(|node| node.version.as_deref()).collect();
        if versions.len() > 1 {
            warnings.push(format!("the nodes run different versions: {}", versions.into_iter().collect::<Vec<_>>().join(", ")));
        }
        warnings
    }
}

fn now_s() -> f64 {
    use types::Clock as _;
    types::SystemClock.now().0 as f64 / 1000.0
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A node as it tells itself.
    pub(crate) fn node(id: &str, role: &str, samples: &str) -> NodeLook {
        let mut node = NodeLook {
            node_id: id.to_owned(),
            api_address: format!("https://{id}:8200"),
            reachable: true,
            initialized: Some(true),
            sealed: Some(false),
            ..NodeLook::default()
        };
        let roles = format!("conclave_raft_role{{role=\"{role}\"}} 1\nconclave_raft_role{{role=\"other\"}} 0\n");
        node.add_samples(Samples::parse(&format!("{roles}{samples}")));
        node
    }

    /// A look at these nodes, whenever it was taken.
    pub(crate) fn look_at(nodes: Vec<NodeLook>, taken: Instant) -> Look {
        let mut look = Look {
            leader: nodes.iter().find(|node| node.role.as_deref() == Some("leader")).map(|node| node.node_id.clone()),
            cluster_name: Some("prod".to_owned()),
            term: nodes.iter().filter_map(|node| node.term).max(),
            commit_index: nodes.iter().filter_map(|node| node.commit_index).max(),
            nodes,
            warnings: Vec::new(),
            taken,
        };
        look.add_lags();
        look.warnings = look.warn();
        look
    }

    #[test]
    fn rates_are_of_the_time_between_two_looks() {
        let counts = |reads: u32, writes: u32, denied: u32| {
            format!(
                "conclave_requests_total{{mount_type=\"kv\",operation=\"read\",result=\"done\"}} {reads}\n\
                 conclave_requests_total{{mount_type=\"kv\",operation=\"update\",result=\"done\"}} {writes}\n\
                 conclave_requests_total{{mount_type=\"none\",operation=\"read\",result=\"denied\"}} {denied}\n"
            )
        };
        let began = Instant::now();
        let before = look_at(vec![node("n1", "leader", &counts(100, 10, 0)), node("n2", "follower", &counts(50, 0, 0))], began);
        let nodes = vec![node("n1", "leader", &counts(140, 20, 2)), node("n2", "follower", &counts(4, 0, 0)), node("n3", "follower", "")];
        let mut now = look_at(nodes, began + Duration::from_secs(2));
        now.add_rates(&before);
        assert_eq!((now.nodes[0].requests_per_second, now.nodes[0].writes_per_second), (Some(26.0), Some(5.0)));
        assert_eq!((now.nodes[0].denied_per_second, now.nodes[0].failed_per_second), (Some(1.0), Some(0.0)));
        assert_eq!(now.nodes[1].requests_per_second, Some(2.0), "it was started anew");
        assert_eq!(now.nodes[2].requests_per_second, None, "there is nothing to compare with");
    }

    #[test]
    fn the_leader_says_who_lags_and_what_it_does_not_say_is_reckoned() {
        let leader = "vault_raft_storage_stats_commit_index 100\nvault_raft_storage_stats_applied_index 100\n\
                      conclave_raft_member_lag{member=\"n2\"} 20000\n";
        let nodes = vec![
            node("n1", "leader", leader),
            node("n2", "follower", "vault_raft_storage_stats_applied_index 99\n"),
            node("n3", "follower", "vault_raft_storage_stats_applied_index 93\n"),
            node("n4", "follower", ""),
        ];
        let look = look_at(nodes, Instant::now());
        assert_eq!(look.nodes.iter().map(|node| node.lag).collect::<Vec<_>>(), [Some(0), Some(20_000), Some(7), None]);
        assert_eq!(look.warnings, ["n2 lacks 20000 entries"]);
    }

    #[test]
    fn what_an_operator_must_see_to_is_said() {
        let mut sealed = node("n1", "follower", "");
        sealed.sealed = Some(true);
        let silent =
            NodeLook { node_id: "n2".into(), error: Some("connection refused".into()), applied_index: Some(7), ..NodeLook::default() };
        let ends = now_s() + 3.2 * DAY_S;
        let open = node("n3", "follower", &format!("conclave_certificate_end_seconds{{purpose=\"peers\"}} {ends}\nconclave_disk_full 1\n"));
        let look = look_at(vec![sealed, silent, open], Instant::now());
        assert_eq!(
            look.warnings,
            [
                "no node that answers leads: is there a quorum?",
                "n1 is sealed: give shares there with `conclave operator unseal`",
                "n2 does not answer here, though other members hear it: connection refused",
                "a certificate of n3 ends in 3 days",
                "the disk of n3 is almost full: it takes no writes",
            ]
        );
        let mut fresh = node("n1", "follower", "");
        (fresh.initialized, fresh.sealed) = (Some(false), Some(true));
        assert_eq!(look_at(vec![fresh], Instant::now()).warnings, ["the cluster has no keys yet: `conclave operator init`"]);
    }

    #[test]
    fn a_node_has_a_name_before_its_id_is_known() {
        for (address, want) in [("https://10.0.0.1:8200", "10.0.0.1:8200"), ("http://a/", "a"), ("b:1", "b:1")] {
            assert_eq!(host(address), want);
        }
    }
}
