//! What stands on a share's sheet, and its form for terminals and plain paper.
//!
//! Always: the words are the same in each form; no line of the text is wider than was asked; what is not known is a line to write on. Holds the
//! share, and wipes it on drop.

use crypto::Zeroizing;

use crate::output::wrapped;

/// Between a fact's name and the fact.
const FACT_COLUMN: usize = 10;
const INDENT: usize = 2;
/// A share and commands stand out by this.
const INDENT_DEEP: usize = 4;
/// Characters of a line of an encrypted share.
const MESSAGE_LINE_CHARS: usize = 64;

/// One sheet.
pub(super) struct Sheet {
    /// `None`: nobody was asked.
    pub(super) cluster: Option<Cluster>,
    pub(super) holder: Option<String>,
    pub(super) body: Body,
    /// The day on which the sheet was made: `2026-11-24`.
    pub(super) made: String,
}

/// The cluster that the share helps to open.
#[derive(Clone)]
pub(crate) struct Cluster {
    pub(crate) name: String,
    pub(crate) id: Option<String>,
    pub(crate) shares: u64,
    pub(crate) threshold: u64,
}

/// What the sheet is for.
pub(super) enum Body {
    /// A share that whoever reads it can use.
    Share {
        /// Its number among the shares, from 1.
        number: u8,
        /// Base64.
        text: Zeroizing<String>,
    },
    /// A share that is encrypted to its holder.
    Message {
        /// An age file; else an OpenPGP message.
        is_age: bool,
        /// Base64.
        text: Zeroizing<String>,
    },
}

impl Body {
    /// What is typed, or what the QR code holds.
    pub(super) fn text(&self) -> &str {
        match self {
            Body::Share { text, .. } | Body::Message { text, .. } => text,
        }
    }
}

/// A heading and what stands below it.
pub(super) struct Section {
    pub(super) title: &'static str,
    pub(super) parts: Vec<Part>,
}

pub(super) enum Part {
    Sentences(String),
    /// Lines for a shell.
    Command(String),
}

impl Sheet {
    pub(super) fn title(&self) -> &'static str {
        match self.body {
            Body::Share { .. } => "ONE SHARE OF A KEY – SECRET",
            Body::Message { .. } => "ONE SHARE OF A KEY – ENCRYPTED",
        }
    }

    /// Name and value; what is not known is to be written by hand.
    pub(super) fn facts(&self) -> Vec<(&'static str, Option<String>)> {
        let cluster = self.cluster.as_ref();
        let number = match self.body {
            Body::Share { number, .. } => Some(number.to_string()),
            Body::Message { .. } => None,
        };
        let share = match (number, cluster) {
            (Some(number), Some(cluster)) => Some(format!("{number} of {}", cluster.shares)),
            (number, _) => number,
        };
        vec![
            ("Cluster", cluster.map(|cluster| cluster.name.clone())),
            ("Id", cluster.and_then(|cluster| cluster.id.clone())),
            ("Share", share),
            ("Needed", cluster.map(|cluster| format!("{} of {}", cluster.threshold, cluster.shares))),
            ("Holder", self.holder.clone()),
            ("Made", Some(self.made.clone())),
        ]
    }

    /// What to do with it; `with_code`: a QR code stands beside.
    pub(super) fn sections(&self, with_code: bool) -> Vec<Section> {
        let sentences = |text: &str| Part::Sentences(text.to_owned());
        let needed = self.cluster.as_ref().map_or_else(
            || "as many shares as it needs".to_owned(),
            |cluster| match (cluster.threshold, cluster.shares) {
                (1, 1) => "this share, its only one,".to_owned(),
                (threshold, shares) => format!("any {threshold} of its {shares} shares"),
            },
        );
        let name = self.cluster.as_ref().map_or("a secrets service", |cluster| &cluster.name);
        let mut what = format!(
            "A part of the key of {name}. After a restart the cluster is sealed, and serves nothing until {needed} have been given. Fewer open nothing."
        );
        let (keep, give) = match self.body {
            Body::Share { .. } => (
                "On this paper only, in a safe or a sealed envelope that its holder alone can get at, and never beside another share. Do not photograph, \
                 scan or mail it, and do not keep it in a file: whoever reads it has it.",
                if with_code { "Type it unseen, or read the QR code with a scanner that types:" } else { "Type it unseen:" },
            ),
            Body::Message { is_age, .. } => {
                what.push_str(if is_age {
                    " It is encrypted to its holder's age key."
                } else {
                    " It is encrypted to its holder's OpenPGP key."
                });
                (
                    "With its holder. This sheet alone is of no use to others: the key that decrypts it is the secret. Keep that where you keep your \
                     other keys, and never beside another holder's.",
                    "Give the text, then Ctrl-D; the share itself is not shown:",
                )
            }
        };
        vec![
            Section { title: "WHAT THIS IS", parts: vec![Part::Sentences(what)] },
            Section { title: "KEEP IT", parts: vec![sentences(keep)] },
            Section {
                title: "USE IT",
                parts: vec![
                    Part::Sentences(format!("When the cluster is sealed, and others come with their shares too. {give}")),
                    self.command("unseal"),
                    sentences(
                        "Look first that the cluster's name and id are those above. It is never asked for by mail, by telephone, or on a web page.",
                    ),
                ],
            },
            Section {
                title: "TEST IT",
                parts: vec![
                    sentences(
                        "When you get it, and twice a year. This opens nothing, and tells whether the share is whole and the current one:",
                    ),
                    self.command("verify-share"),
                ],
            },
            Section {
                title: "IF IT IS LOST, OR SEEN",
                parts: vec![
                    sentences("Tell the other holders today. Together they make new shares, and this one opens nothing any more:"),
                    Part::Command("conclave operator rekey -init".to_owned()),
                    sentences(
                        "That takes as many shares as an unseal: do not wait until too few are left. Shred the sheet that was replaced.",
                    ),
                ],
            },
        ]
    }

    /// Gives the share to a verb; an encrypted one by way of the program that decrypts it.
    fn command(&self, verb: &str) -> Part {
        let before = match self.body {
            Body::Share { .. } => "",
            Body::Message { is_age: true, .. } => "base64 --decode |\nage --decrypt -i KEYFILE |\n",
            Body::Message { is_age: false, .. } => "base64 --decode |\ngpg --decrypt |\n",
        };
        Part::Command(format!("{before}conclave operator {verb}"))
    }

    /// The whole sheet, `columns` wide at most, with `code` (lines of its own width) if there is one.
    pub(super) fn to_text(&self, columns: usize, code: Option<&str>) -> Zeroizing<String> {
        // The final size at once: a buffer that grew would leave copies behind.
        let mut text = Zeroizing::new(String::with_capacity(16 * 1024 + code.map_or(0, str::len)));
        let rule = "=".repeat(columns);
        text.push_str(&format!("{rule}\n{}\n{rule}\n\n", self.title()));
        for (name, value) in self.facts() {
            let value = value.unwrap_or_else(|| "_".repeat((columns - FACT_COLUMN).min(30)));
            wrapped(&mut text, &value, columns, &format!("{name:FACT_COLUMN$}"), FACT_COLUMN);
        }
        text.push('\n');
        self.body_lines(&mut text, columns);
        if let Some(code) = code {
            text.push('\n');
            text.push_str(code);
        }
        for section in self.sections(code.is_some()) {
            text.push_str(&format!("\n{}\n", section.title));
            for part in section.parts {
                match part {
                    Part::Sentences(sentences) => wrapped(&mut text, &sentences, columns, &" ".repeat(INDENT), INDENT),
                    Part::Command(lines) => lines.lines().for_each(|line| text.push_str(&format!("{:INDENT_DEEP$}{line}\n", ""))),
                }
            }
        }
        text
    }

    /// In as few lines as there is room for, all of one length but the last.
    fn body_lines(&self, text: &mut String, columns: usize) {
        let body = self.body.text();
        let room = columns - 2 * INDENT;
        let line_chars = match self.body {
            Body::Message { .. } => room.min(MESSAGE_LINE_CHARS),
            // Groups of four belong together when a person reads them.
            Body::Share { .. } => body.len().div_ceil(body.len().div_ceil(room)).next_multiple_of(4).min(room),
        };
        let mut rest = body;
        while !rest.is_empty() {
            // Base64: each character is one byte.
            let (line, after) = rest.split_at(line_chars.min(rest.len()));
            text.push_str("  ");
            text.push_str(line);
            text.push('\n');
            rest = after;
        }
        // What decodes a message passes over line ends.
        if matches!(self.body, Body::Share { .. }) && body.len() > line_chars {
            wrapped(text, "(one line, without spaces, when it is typed)", columns, "  ", INDENT);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// As far as a node told, and a person said.
    pub(in super::super) fn known() -> Sheet {
        let share = super::super::tests::share(2);
        Sheet {
            cluster: Some(Cluster {
                name: "production".to_owned(),
                id: Some(super::super::tests::CLUSTER.to_owned()),
                shares: 5,
                threshold: 3,
            }),
            holder: Some("Ada Lovelace".to_owned()),
            body: Body::Share { number: share.number(), text: share.to_base64() },
            made: "2026-11-24".to_owned(),
        }
    }

    fn encrypted(is_age: bool) -> Sheet {
        let text = Zeroizing::new("wV4DC7COV92OoxkSAQdA".repeat(14));
        Sheet { cluster: None, holder: None, body: Body::Message { is_age, text }, ..known() }
    }

    /// `CONCLAVE_WRITE_EXPECTED=1` writes the files anew, to be read before they are committed.
    #[expect(clippy::disallowed_methods, reason = "a test's file need not be durable")]
    fn expect(file: &str, expected: &str, found: &str) {
        if std::env::var_os("CONCLAVE_WRITE_EXPECTED").is_some() {
            let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ceremony/expected");
            return std::fs::write(folder.join(file), found).unwrap();
        }
        assert_eq!(found, expected, "{file}");
    }

    #[test]
    fn a_sheet_reads_as_expected() {
        let code = super::super::qr::Code::fitting(known().body.text(), 80).unwrap().to_text(false);
        for (file, expected, found) in [
            ("wide.txt", include_str!("expected/wide.txt"), known().to_text(80, Some(&code))),
            ("narrow.txt", include_str!("expected/narrow.txt"), known().to_text(40, None)),
            ("blank.txt", include_str!("expected/blank.txt"), Sheet { cluster: None, holder: None, ..known() }.to_text(60, None)),
            ("openpgp.txt", include_str!("expected/openpgp.txt"), encrypted(false).to_text(80, None)),
            ("age.txt", include_str!("expected/age.txt"), encrypted(true).to_text(40, None)),
        ] {
            expect(file, expected, &found);
        }
    }

    #[test]
    fn no_line_is_wider_than_asked_and_the_share_is_whole() {
        for columns in [34, 35, 36, 40, 47, 50, 51, 52, 53, 60, 80] {
            for sheet in [known(), encrypted(false), encrypted(true), Sheet { holder: Some("x".repeat(60)), ..known() }] {
                let text = sheet.to_text(columns, None);
                for line in text.lines() {
                    assert!(line.chars().count() <= columns, "{columns}: {line}");
                }
                assert!(text.replace(['\n', ' '], "").contains(sheet.body.text()), "{columns}");
                assert!(text.capacity() <= 16 * 1024, "it did not grow");
            }
        }
    }

    #[test]
    fn a_key_of_one_share_is_no_ceremony() {
        let cluster = Cluster { name: "lab".to_owned(), id: None, shares: 1, threshold: 1 };
        let text = Sheet { cluster: Some(cluster), ..known() }.to_text(80, None);
        assert!(text.replace('\n', " ").contains("until this share, its only one,"), "{}", *text);
    }
}
