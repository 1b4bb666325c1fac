//! Tidy: what a machine can check of the house rules, over every file that git knows or would add.
//!
//! Each rule is a function from texts to [`Finding`]s and reads no disk, so that its tests hand it what they like.
//! A finding fails the run; a warning is only printed.

mod docs;
mod floors;
mod rust;
mod tree;

use std::fmt;
use std::process::Command;

use anyhow::{Context, Result, bail};

use tree::Tree;

/// A place that breaks a rule, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    /// From the repository's root.
    file: String,
    /// Counted from 1; 0 for the file as a whole.
    line: usize,
    text: String,
    severity: Severity,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Severity {
    Mistake,
    Warning,
}

impl Finding {
    fn mistake(file: &str, line: usize, text: impl Into<String>) -> Finding {
        Finding { file: file.to_owned(), line, text: text.into(), severity: Severity::Mistake }
    }

    fn warning(file: &str, line: usize, text: impl Into<String>) -> Finding {
        Finding { severity: Severity::Warning, ..Finding::mistake(file, line, text) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        let mark = if self.severity == Severity::Warning { "warning: " } else { "" };
        write!(f, ": {mark}{}", self.text)
    }
}

/// Checks the repository around the working folder; prints what it finds.
pub(crate) fn run() -> Result<()> {
    let root = output("git", &["rev-parse", "--show-toplevel"])?;
    let tree = Tree::read(root.trim().as_ref())?;
    let metadata = output("cargo", &["metadata", "--format-version=1", "--no-deps", "--locked"])?;
    let packages = floors::packages(&metadata, root.trim())?;

    let mut findings = all(&tree, &packages);
    findings.sort();
    for finding in &findings {
        println!("{finding}");
    }
    let mistakes = findings.iter().filter(|finding| finding.severity == Severity::Mistake).count();
    println!("tidy: {} files, {mistakes} mistakes, {} warnings", tree.len(), findings.len() - mistakes);
    if mistakes > 0 {
        bail!("the house is not tidy");
    }
    Ok(())
}

fn all(tree: &Tree, packages: &[floors::Package]) -> Vec<Finding> {
    let mut findings = floors::check(packages, tree);
    findings.extend(rust::check(tree));
    findings.extend(docs::check(tree));
    findings
}

fn output(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output().with_context(|| format!("{program} does not start"))?;
    if !output.status.success() {
        bail!("{program} {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("{program} answered something that is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree of these files.
    pub(super) fn tree(files: &[(&str, &str)]) -> Tree {
        Tree::of(files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect())
    }

    /// The findings, one a line.
    pub(super) fn lines(findings: &[Finding]) -> Vec<String> {
        findings.iter().map(Finding::to_string).collect()
    }

    #[test]
    fn a_finding_says_where_and_how_bad() {
        assert_eq!(Finding::mistake("a.rs", 3, "wrong").to_string(), "a.rs:3: wrong");
        assert_eq!(Finding::warning("a.rs", 0, "long").to_string(), "a.rs: warning: long");
    }
}
