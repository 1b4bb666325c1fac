//! The live view: a line for the cluster, and one for each node.

use std::io::IsTerminal as _;
use std::process::ExitStatus;
use std::time::Duration;

use client::{Client, Method};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Deserialize;
use tokio::task::JoinSet;

use super::ceremony::Cluster;
use super::layout::Layout;

/// How long one node may take to tell its state.
const ASK_TIMEOUT: Duration = Duration::from_millis(800);

/// What one node tells.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    /// The process has ended.
    Ended(String),
    Silent,
    Uninitialized,
    Sealed {
        progress: u32,
        threshold: u32,
    },
    Open(Log),
}

/// Where an open node is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Log {
    is_self: bool,
    raft_committed_index: u64,
    raft_applied_index: u64,
}

/// Draws on stdout.
pub(super) struct View {
    lines: MultiProgress,
    head: ProgressBar,
    nodes: Vec<ProgressBar>,
}

impl View {
    /// `None` when stdout is no terminal.
    pub(super) fn new(layout: &Layout) -> Option<View> {
        if !std::io::stdout().is_terminal() {
            return None;
        }
        let lines = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
        let line = || {
            let style = ProgressStyle::with_template("{msg}").expect("the template is well-formed");
            lines.add(ProgressBar::new_spinner().with_style(style))
        };
        let head = line();
        let nodes = layout.nodes.iter().map(|_| line()).collect();
        Some(View { lines, head, nodes })
    }

    /// Asks every node at once, and draws what they tell.
    pub(super) async fn draw(&self, layout: &Layout, cluster: &Cluster<'_>, ended: &[Option<ExitStatus>]) {
        let states = ask_all(cluster, ended).await;
        self.head.set_message(head(layout, &states));
        for ((line, place), state) in self.nodes.iter().zip(&layout.nodes).zip(&states) {
            line.set_message(node_line(&place.id, &layout.api_address(place), state));
        }
    }

    /// Something that stays, above the view.
    pub(super) fn say(&self, text: &str) {
        // Only a terminal that went away refuses.
        let _ = self.lines.println(text);
    }
}

async fn ask_all(cluster: &Cluster<'_>, ended: &[Option<ExitStatus>]) -> Vec<State> {
    let mut states = vec![State::Silent; ended.len()];
    let mut asks = JoinSet::new();
    for (at, (node, ended)) in cluster.nodes.iter().zip(ended).enumerate() {
        match ended {
            Some(status) => states[at] = State::Ended(status.to_string()),
            None => {
                let node = node.clone();
                asks.spawn(async move { (at, tokio::time::timeout(ASK_TIMEOUT, ask(&node)).await) });
            }
        }
    }
    while let Some(asked) = asks.join_next().await {
        if let Ok((at, Ok(state))) = asked {
            states[at] = state;
        }
    }
    states
}

async fn ask(node: &Client) -> State {
    let Ok(seal) = node.sys().seal_status().await else { return State::Silent };
    if !seal.initialized {
        return State::Uninitialized;
    }
    if seal.sealed {
        return State::Sealed { progress: seal.progress, threshold: seal.t };
    }
    match node.request(Method::Get, "sys/leader").send().await.and_then(|response| response.data()) {
        Ok(log) => State::Open(log),
        Err(_) => State::Silent,
    }
}

fn head(layout: &Layout, states: &[State]) -> String {
    let leader = states.iter().position(|state| matches!(state, State::Open(log) if log.is_self));
    let leader = leader.map_or("none known", |at| layout.nodes[at].id.as_str());
    let committed = states.iter().filter_map(|state| if let State::Open(log) = state { Some(log.raft_committed_index) } else { None });
    match committed.max() {
        Some(index) => format!("leader {leader}, commit index {index}    (Ctrl-C stops all)"),
        None => "no node is open    (Ctrl-C stops all)".to_owned(),
    }
}

fn node_line(id: &str, address: &str, state: &State) -> String {
    let state = match state {
        State::Ended(how) => format!("ended ({how})"),
        State::Silent => "no answer".to_owned(),
        State::Uninitialized => "has no keys yet".to_owned(),
        State::Sealed { progress, threshold } => format!("sealed, {progress} of {threshold} shares"),
        State::Open(log) => {
            format!("open, {:<8}  applied {}", if log.is_self { "leader" } else { "follower" }, log.raft_applied_index)
        }
    };
    format!("  {id:<4} {address:<28} {state}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_has_its_words() {
        let open = |is_self| State::Open(Log { is_self, raft_committed_index: 9, raft_applied_index: 8 });
        for (state, want) in [
            (State::Ended("signal: 9 (SIGKILL)".to_owned()), "ended (signal: 9 (SIGKILL))"),
            (State::Silent, "no answer"),
            (State::Uninitialized, "has no keys yet"),
            (State::Sealed { progress: 1, threshold: 3 }, "sealed, 1 of 3 shares"),
            (open(true), "open, leader    applied 8"),
            (open(false), "open, follower  applied 8"),
        ] {
            let line = node_line("n1", "http://127.0.0.1:8200", &state);
            assert!(line.ends_with(want) && line.starts_with("  n1 "), "{line}");
        }
    }
}
