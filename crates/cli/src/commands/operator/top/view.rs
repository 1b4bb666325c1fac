//! How a look is drawn: a head, a line for each node, and what an operator should see to. Pure.
//!
//! Always: no line is wider than the terminal; where it is too narrow, the columns that matter least are left out; nothing that a
//! node tells can drive the terminal.

use super::look::{Look, NodeLook};
use crate::output;

/// What people may have over ssh.
pub(crate) const WIDTH_DEFAULT: usize = 80;
const GAP: usize = 2;

/// A column: its title, how much it matters (the least goes first), and its cell.
struct Column {
    title: &'static str,
    /// 0 stays.
    dispensable: u8,
    is_number: bool,
    cell: fn(&NodeLook) -> String,
}

const COLUMNS: &[Column] = &[
    Column { title: "NODE", dispensable: 0, is_number: false, cell: |node| node.node_id.clone() },
    Column { title: "ROLE", dispensable: 0, is_number: false, cell: role },
    Column { title: "SEAL", dispensable: 0, is_number: false, cell: seal },
    Column { title: "APPLIED", dispensable: 2, is_number: true, cell: |node| whole(node.applied_index) },
    Column { title: "LAG", dispensable: 0, is_number: true, cell: |node| whole(node.lag) },
    Column { title: "REQ/S", dispensable: 1, is_number: true, cell: |node| rate(node.requests_per_second) },
    Column { title: "WRITE/S", dispensable: 4, is_number: true, cell: |node| rate(node.writes_per_second) },
    Column { title: "DENY/S", dispensable: 6, is_number: true, cell: |node| rate(node.denied_per_second) },
    Column { title: "P99MS", dispensable: 3, is_number: true, cell: |node| rate(node.p99_milliseconds) },
    Column { title: "SNAPSHOT", dispensable: 5, is_number: true, cell: |node| whole(node.snapshot_index) },
    Column { title: "VERSION", dispensable: 7, is_number: false, cell: |node| node.version.clone().unwrap_or_default() },
];

/// The whole picture, in lines without their ends.
pub(crate) fn draw(look: &Look, width: usize, hint: &str) -> Vec<String> {
    let mut lines = vec![head(look), hint.to_owned(), String::new()];
    lines.extend(nodes(look, width));
    if !look.warnings.is_empty() {
        lines.push(String::new());
        for warning in &look.warnings {
            lines.extend(output::lines(&format!("! {warning}"), width).lines().map(str::to_owned));
        }
    }
    lines.into_iter().map(|line| fit(&line, width)).collect()
}

fn head(look: &Look) -> String {
    let name = look.cluster_name.as_deref().unwrap_or("conclave");
    let leader = look.leader.as_deref().unwrap_or("none");
    let number = |number: Option<u64>| number.map_or_else(|| "?".to_owned(), |number| number.to_string());
    let open = look.nodes.iter().filter(|node| node.sealed == Some(false)).count();
    format!(
        "{name}: leader {leader}, term {}, commit {}, {} of {} nodes open",
        number(look.term),
        number(look.commit_index),
        open,
        look.nodes.len()
    )
}

fn nodes(look: &Look, width: usize) -> Vec<String> {
    let table: Vec<Vec<String>> = look.nodes.iter().map(|node| COLUMNS.iter().map(|column| (column.cell)(node)).collect()).collect();
    let wide = |at: usize| table.iter().map(|row| row[at].chars().count()).chain([COLUMNS[at].title.len()]).max().unwrap_or(0);
    let mut shown: Vec<usize> = (0..COLUMNS.len()).collect();
    while shown.iter().map(|at| wide(*at) + GAP).sum::<usize>() > width + GAP {
        let Some(least) = shown.iter().copied().filter(|at| COLUMNS[*at].dispensable > 0).max_by_key(|at| COLUMNS[*at].dispensable) else {
            break;
        };
        shown.retain(|at| *at != least);
    }
    let line = |cell: &dyn Fn(usize) -> String| {
        let cells = shown.iter().map(|at| {
            let (text, width) = (cell(*at), wide(*at));
            if COLUMNS[*at].is_number { format!("{text:>width$}") } else { format!("{text:<width$}") }
        });
        cells.collect::<Vec<_>>().join(&" ".repeat(GAP)).trim_end().to_owned()
    };
    let head = line(&|at| COLUMNS[at].title.to_owned());
    std::iter::once(head).chain(table.iter().map(|row| line(&|at| row[at].clone()))).collect()
}

/// A node that does not answer has no role that anybody could vouch for.
fn role(node: &NodeLook) -> String {
    match (&node.role, node.reachable) {
        (_, false) => "no answer".to_owned(),
        (Some(role), true) => role.clone(),
        (None, true) => "?".to_owned(),
    }
}

fn seal(node: &NodeLook) -> String {
    match (node.initialized, node.sealed) {
        (Some(false), _) => "no keys",
        (_, Some(true)) => "sealed",
        (_, Some(false)) => "open",
        (_, None) => "?",
    }
    .to_owned()
}

fn whole(number: Option<u64>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

/// Three figures are enough to see.
fn rate(number: Option<f64>) -> String {
    match number {
        None => "-".to_owned(),
        Some(number) if number >= 99.5 || number == 0.0 => format!("{number:.0}"),
        Some(number) => format!("{number:.1}"),
    }
}

/// Cut to the width, without characters that would drive the terminal.
fn fit(line: &str, width: usize) -> String {
    output::printable(&line.replace(['\n', '\t'], " ")).chars().take(width).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::look::tests::{look_at, node};
    use super::*;

    fn look() -> Look {
        let leader = "conclave_raft_term 12\nvault_raft_storage_stats_commit_index 48210\nvault_raft_storage_stats_applied_index 48210\n\
                      conclave_snapshot_index 40000\nvault_core_handle_request{quantile=\"0.99\"} 4.12\n\
                      conclave_build_info{version=\"0.1.0\"} 1\nconclave_raft_member_lag{member=\"n2\"} 3\n";
        let mut one = node("n1", "leader", leader);
        (one.requests_per_second, one.writes_per_second, one.denied_per_second) = (Some(1234.4), Some(310.0), Some(0.04));
        let mut two = node("n2", "follower", "vault_raft_storage_stats_applied_index 48207\nconclave_build_info{version=\"0.1.0\"} 1\n");
        two.requests_per_second = Some(0.0);
        let three = NodeLook { node_id: "n3".into(), error: Some("connection\u{1b}[2J refused".into()), ..NodeLook::default() };
        look_at(vec![one, two, three], Instant::now())
    }

    #[test]
    fn eighty_columns_hold_what_matters() {
        let lines = draw(&look(), 80, "every 2 s; q ends");
        assert_eq!(
            lines,
            [
                "prod: leader n1, term 12, commit 48210, 2 of 3 nodes open",
                "every 2 s; q ends",
                "",
                "NODE  ROLE       SEAL  APPLIED  LAG  REQ/S  WRITE/S  DENY/S  P99MS  SNAPSHOT",
                "n1    leader     open    48210    0   1234      310     0.0    4.1     40000",
                "n2    follower   open    48207    3      0        -       -      -         -",
                "n3    no answer  ?           -    -      -        -       -      -         -",
                "",
                "! n3 does not answer here: connection\\u{1b}[2J refused",
            ]
        );
    }

    #[test]
    fn a_narrow_terminal_gets_fewer_columns_and_no_line_is_too_long() {
        for width in [20, 32, 40, 60, 80, 100, 200] {
            let lines = draw(&look(), width, "every 2 s; q ends");
            assert!(lines.iter().all(|line| line.chars().count() <= width), "{width}: {lines:#?}");
            assert!(lines[3].starts_with("NODE  ROLE"), "{lines:#?}");
        }
        let has = |width: usize, title: &str| draw(&look(), width, "")[3].contains(title);
        assert!(has(100, "VERSION") && has(60, "REQ/S") && has(36, "LAG") && !has(60, "SNAPSHOT"));
    }
}
