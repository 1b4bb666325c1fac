//! Documents: links that lead somewhere, decision records in a row, a changelog for what is not released, no strangers' paths.

use std::collections::BTreeSet;

use super::tree::Tree;
use super::{Finding, rust};

/// The headings of a decision record, in this order.
const ADR_PARTS: [&str; 4] = ["## Context", "## Decision", "## Cost", "## What we refused"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.ending(".md") {
        findings.extend(links(tree, path, text));
    }
    for (path, text) in tree.texts() {
        findings.extend(mentions(tree, path, text));
        findings.extend(strangers(path, text));
    }
    findings.extend(decision_records(tree));
    findings.extend(changelog(tree));
    findings
}

/// Relative links of a Markdown file, and the headings they name.
fn links(tree: &Tree, path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (line, target) in targets(text) {
        let (file, anchor) = target.split_once('#').map_or((target, None), |(file, anchor)| (file, Some(anchor)));
        let outside = target.contains("://") || target.starts_with("mailto:");
        if outside {
            continue;
        }
        let resolved = if file.is_empty() { Some(path.to_owned()) } else { resolve(path, file) };
        let Some(resolved) = resolved.filter(|resolved| tree.has(resolved)) else {
            findings.push(Finding::mistake(path, line, format!("the link to {file} leads nowhere (mend the path, or remove it)")));
            continue;
        };
        if let Some(anchor) = anchor
            && resolved.ends_with(".md")
            && !tree.text(&resolved).is_some_and(|text| anchors(text).contains(anchor))
        {
            findings.push(Finding::mistake(path, line, format!("{resolved} has no heading #{anchor} (mend the anchor)")));
        }
    }
    findings
}

/// The targets of `[…](target)`, `[…]: target`, `src="target"` and `href="target"`, with their lines; none inside code.
fn targets(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (number, line) in outside_code(text) {
        let spans = line.split('`').step_by(2);
        for span in spans {
            for (opening, closing) in [("](", ')'), ("src=\"", '"'), ("href=\"", '"')] {
                for (position, _) in span.match_indices(opening) {
                    let rest = &span[position + opening.len()..];
                    let target = rest.split([closing, ' ']).next().unwrap_or_default();
                    found.push((number, target));
                }
            }
        }
        let definition = line.strip_prefix('[').and_then(|rest| rest.split_once("]: "));
        if let Some((_, target)) = definition {
            found.push((number, target.trim()));
        }
    }
    found
}

/// The lines, counted from 1, that are not inside a fence.
fn outside_code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(number, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        (!fenced && !fence).then_some((number + 1, line))
    })
}

/// `target` as seen from the file `path`, from the root; `None` if it leads out of the repository.
fn resolve(path: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    if target.starts_with('/') {
        parts.clear();
    }
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The anchors that a forge makes of the headings: lower case, punctuation dropped, spaces to dashes, repeats numbered.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    for (_, line) in outside_code(text) {
        let heading = line.trim_start_matches('#');
        if heading.len() == line.len() || !heading.starts_with(' ') {
            continue;
        }
        let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        let slug: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect::<String>().to_lowercase();
        let repeats = (1..).map(|count| format!("{slug}-{count}"));
        let unique = std::iter::once(slug.clone()).chain(repeats).find(|anchor| !anchors.contains(anchor));
        anchors.extend(unique);
    }
    anchors
}

/// Documents named in the comments of sources, in manifests and scripts are there. A decision record may be named by its number.
fn mentions(tree: &Tree, path: &str, text: &str) -> Vec<Finding> {
    let lines: Vec<String> = if path.ends_with(".rs") {
        rust::split(text).into_iter().map(|line| line.comment).collect()
    } else if [".toml", ".proto", ".sh", ".py", ".ci/run"].iter().any(|end| path.ends_with(end)) {
        text.lines().map(str::to_owned).collect()
    } else {
        Vec::new()
    };
    let mut findings = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        for position in standing_alone(line, "docs/") {
            let mention = line[position..].split(|c: char| !(c.is_alphanumeric() || "/.-_".contains(c))).next().unwrap_or_default();
            let mention = mention.trim_end_matches(['.', '/']);
            let numbered = |path: &str| path.strip_prefix(mention).is_some_and(|rest| rest.starts_with('-'));
            if mention.contains('/') && !tree.has(mention) && !tree.paths().any(numbered) {
                findings.push(Finding::mistake(path, number + 1, format!("{mention} is not there (mend the path, or write it)")));
            }
        }
    }
    findings
}

/// Where `path` begins in `line`, not as the middle of a longer path or word.
fn standing_alone<'a>(line: &'a str, path: &'a str) -> impl Iterator<Item = usize> + 'a {
    let inside = |c: char| c.is_alphanumeric() || "./-_>}".contains(c);
    line.match_indices(path)
        .map(|(position, _)| position)
        .filter(move |position| !line[..*position].chars().next_back().is_some_and(inside))
}

/// Paths of one developer's machine.
fn strangers(path: &str, text: &str) -> Vec<Finding> {
    // In two parts, so that this file does not hold what it looks for.
    let needles = [["/wo", "rk/"].concat(), ["/ho", "me/"].concat(), ["/ro", "ot/"].concat()];
    let mut findings = Vec::new();
    for (number, line) in text.lines().enumerate() {
        if let Some(needle) = needles.iter().find(|needle| standing_alone(line, needle).next().is_some()) {
            let text = format!("{needle} is a path of one machine (write it relative to the repository)");
            findings.push(Finding::mistake(path, number + 1, text));
        }
    }
    findings
}

/// Decision records: their files are numbered from 0001 without a gap, each with the same parts.
fn decision_records(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let records = tree.texts().filter(|(path, _)| path.starts_with("docs/adr/") && path.ends_with(".md"));
    for (index, (path, text)) in records.enumerate() {
        let name = path.trim_start_matches("docs/adr/");
        let want = format!("{:04}", index + 1);
        if !name.starts_with(&format!("{want}-")) {
            findings.push(Finding::mistake(path, 0, format!("decision records are numbered without gaps (this one is {want})")));
        }
        let mut lines = text.lines();
        for part in ADR_PARTS {
            if !lines.any(|line| line == part) {
                findings.push(Finding::mistake(
                    path,
                    0,
                    format!("has no part {part:?} in its place (the parts are {})", ADR_PARTS.join(", ")),
                ));
                break;
            }
        }
    }
    findings
}

fn changelog(tree: &Tree) -> Option<Finding> {
    let text = tree.text("CHANGELOG.md").unwrap_or_default();
    let unreleased = text.lines().any(|line| line.trim() == "## Unreleased");
    (!unreleased).then(|| Finding::mistake("CHANGELOG.md", 0, "has no part \"## Unreleased\" (operators read there what comes)"))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{lines, tree};
    use super::*;

    const CHANGELOG: (&str, &str) = ("CHANGELOG.md", "# Changelog\n\n## Unreleased\n");

    #[test]
    fn links_lead_somewhere() {
        let text = "# A b: c!\n[a](docs/x.md) [b](docs/x.md#part-two) [c](#a-b-c) [d](https://example.com/x) ![e](docs/p.svg)\n\
                    `[f](nowhere)` [g](docs) <img src=\"docs/p.svg\">\n```\n[h](nowhere)\n```\n[i](nowhere.md) [j](docs/x.md#part-three)\n\
                    [k](../out.md)\n[l]: docs/y.md\n";
        let found = check(&tree(&[CHANGELOG, ("README.md", text), ("docs/x.md", "# X\n## Part two\n"), ("docs/p.svg", "")]));
        assert_eq!(
            lines(&found),
            [
                "README.md:7: the link to nowhere.md leads nowhere (mend the path, or remove it)",
                "README.md:7: docs/x.md has no heading #part-three (mend the anchor)",
                "README.md:8: the link to ../out.md leads nowhere (mend the path, or remove it)",
                "README.md:9: the link to docs/y.md leads nowhere (mend the path, or remove it)",
            ]
        );
    }

    #[test]
    fn anchors_are_made_as_forges_make_them() {
        let text = "# One request, eight stops: `POST /v1/x`\n## Log\n## Log\n```\n# not a heading\n```\n#no\n";
        let found: Vec<String> = anchors(text).into_iter().collect();
        assert_eq!(found, ["log", "log-1", "one-request-eight-stops-post-v1x"]);
    }

    #[test]
    fn documents_that_sources_name_are_there() {
        let source = "// docs/adr/0001: why. See docs/x.md.\n// docs/adr/0002-b.md and docs/none.md\n";
        let record = ADR_PARTS.join("\n");
        let found = check(&tree(&[CHANGELOG, ("a.rs", source), ("docs/x.md", ""), ("docs/adr/0001-a.md", &record)]));
        assert_eq!(
            lines(&found),
            [
                "a.rs:2: docs/adr/0002-b.md is not there (mend the path, or write it)",
                "a.rs:2: docs/none.md is not there (mend the path, or write it)",
            ]
        );
    }

    #[test]
    fn decision_records_have_numbers_and_parts() {
        let record = ADR_PARTS.join("\n");
        let found = check(&tree(&[CHANGELOG, ("docs/adr/0001-a.md", &record), ("docs/adr/0003-c.md", "## Context\n## Cost\n")]));
        assert_eq!(
            lines(&found),
            [
                "docs/adr/0003-c.md: decision records are numbered without gaps (this one is 0002)",
                "docs/adr/0003-c.md: has no part \"## Decision\" in its place (the parts are ## Context, ## Decision, ## Cost, ## What we refused)",
            ]
        );
    }

    #[test]
    fn the_changelog_has_room_for_what_comes() {
        for (text, want) in [("## Unreleased\n", 0), ("## 1.0.0\n", 1), ("", 1)] {
            assert_eq!(check(&tree(&[("CHANGELOG.md", text)])).len(), want, "{text}");
        }
    }

    #[test]
    fn paths_of_one_machine_are_found_in_any_file() {
        let text = format!("a\n{}someone/x\n", ["/ho", "me/"].concat());
        let found = check(&tree(&[CHANGELOG, (".ci/x.yml", &text)]));
        assert_eq!(lines(&found).len(), 1);
        assert_eq!(found[0].line, 2);
    }
}
