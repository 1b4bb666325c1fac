//! A share's sheet as one HTML file, for a browser's print dialogue.
//!
//! Always: nothing is loaded and nothing runs (the page forbids both to itself); the share is in its body only, not in its title, which browsers
//! remember; each text is escaped. The file is XML too, so that its tests can tell whether it is well-formed.

use crypto::Zeroizing;

use super::qr::Code;
use super::sheet::{Part, Sheet};

/// A share has 52 characters, and a hand cannot tell all of them apart in every font.
const STYLE: &str = "\
@page { margin: 18mm; }
body { font: 11pt/1.4 serif; color: black; background: white; max-width: 174mm; margin: 1em auto; padding: 0 1em; }
h1 { font: bold 14pt sans-serif; letter-spacing: 0.06em; border: solid black; border-width: 2pt 0; padding: 0.4em 0; }
h2 { font: bold 10pt sans-serif; letter-spacing: 0.06em; margin: 1.1em 0 0.2em; break-after: avoid; }
p { margin: 0.2em 0; }
table { border-collapse: collapse; }
th { font: 10pt sans-serif; text-align: left; padding: 0.1em 1.5em 0.1em 0; }
td { min-width: 70mm; }
td.blank { border-bottom: 0.5pt solid black; }
.share { display: flex; gap: 8mm; align-items: center; margin: 5mm 0; break-inside: avoid; }
.share code { font: 13pt/1.5 monospace; overflow-wrap: anywhere; font-feature-settings: 'zero'; }
.share code.long { font-size: 8pt; }
.share svg { width: 52mm; flex: none; }
pre { font: 10pt monospace; margin: 0.3em 0 0.3em 5mm; }
.screen { font: 10pt sans-serif; border: 1pt solid black; padding: 0.6em; }
@media print { .screen { display: none; } body { margin: 0; padding: 0; } }
";

/// Characters of a share that is written large.
const LARGE_CHARS_MAX: usize = 100;

/// The whole file.
pub(super) fn page(sheet: &Sheet, code: &Code) -> Zeroizing<String> {
    let svg = code.to_svg();
    // The final size at once: a buffer that grew would leave copies behind.
    let mut page = Zeroizing::new(String::with_capacity(32 * 1024 + svg.len()));
    let title = sheet.cluster.as_ref().map_or("a cluster", |cluster| &cluster.name);
    page.push_str("<!DOCTYPE html>\n<html lang=\"en\" xmlns=\"http://www.w3.org/1999/xhtml\">\n<head>\n<meta charset=\"utf-8\" />\n");
    page.push_str("<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\" />\n");
    page.push_str("<meta name=\"referrer\" content=\"no-referrer\" />\n<meta name=\"robots\" content=\"noindex\" />\n");
    page.push_str(&format!("<title>Share of {}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n", escaped(title)));
    page.push_str(
        "<p class=\"screen\">Print this page on a printer that keeps no copies, look at the print, then destroy the file (shred -u). \
         Close this window; do not leave the file in a folder that is synchronised or backed up.</p>\n",
    );
    page.push_str(&format!("<h1>{}</h1>\n<table>\n", escaped(sheet.title())));
    for (name, value) in sheet.facts() {
        let cell = value.map_or_else(|| "<td class=\"blank\"></td>".to_owned(), |value| format!("<td>{}</td>", escaped(&value)));
        page.push_str(&format!("<tr><th>{}</th>{cell}</tr>\n", escaped(name)));
    }
    page.push_str("</table>\n<div class=\"share\">\n");
    page.push_str(&svg);
    page.push_str(if sheet.body.text().len() > LARGE_CHARS_MAX { "\n<code class=\"long\">" } else { "\n<code>" });
    // Base64 has nothing to escape.
    page.push_str(sheet.body.text());
    page.push_str("</code>\n</div>\n");
    for section in sheet.sections(true) {
        page.push_str(&format!("<h2>{}</h2>\n", escaped(section.title)));
        for part in section.parts {
            page.push_str(&match part {
                Part::Sentences(text) => format!("<p>{}</p>\n", escaped(&text)),
                Part::Command(lines) => format!("<pre>{}</pre>\n", escaped(&lines)),
            });
        }
    }
    page.push_str("</body>\n</html>\n");
    page
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::super::qr::MODULES_MAX;
    use super::super::sheet::tests::known;
    use super::super::sheet::{Body, Cluster};
    use super::*;

    fn page_of(sheet: &Sheet) -> Zeroizing<String> {
        page(sheet, &Code::fitting(sheet.body.text(), MODULES_MAX).unwrap())
    }

    /// Every element that begins ends, in order; attributes are quoted; `&` begins a character that is known. Returns the names of elements.
    fn well_formed(xml: &str) -> Vec<String> {
        let (mut open, mut names) = (Vec::new(), Vec::new());
        let mut rest = xml.strip_prefix("<!DOCTYPE html>\n").unwrap();
        while let Some(at) = rest.find('<') {
            let (text, tag) = rest.split_at(at);
            assert!(!text.contains('>'), "{text}");
            for (at, _) in text.match_indices('&') {
                assert!(["&amp;", "&lt;", "&gt;", "&quot;", "&#39;"].iter().any(|known| text[at..].starts_with(known)), "{text}");
            }
            let (inside, after) = tag[1..].split_once('>').unwrap();
            rest = after;
            if let Some(name) = inside.strip_prefix('/') {
                assert_eq!(open.pop().as_deref(), Some(name));
                continue;
            }
            let (inside, is_empty) = inside.strip_suffix(" /").map_or((inside, false), |inside| (inside, true));
            let (name, attributes) = inside.split_once(' ').unwrap_or((inside, ""));
            assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{name}");
            assert_eq!(attributes.matches('"').count() % 2, 0, "{attributes}");
            let unquoted: String = attributes.split('"').step_by(2).collect();
            assert!(unquoted.chars().all(|c| c.is_ascii_alphabetic() || "=- ".contains(c)), "{attributes}");
            names.push(name.to_owned());
            if !is_empty {
                open.push(name.to_owned());
            }
        }
        assert!(open.is_empty() && rest.trim().is_empty(), "{open:?} {rest}");
        names
    }

    #[test]
    fn a_page_is_well_formed_loads_nothing_and_runs_nothing() {
        let message = Body::Message { is_age: false, text: Zeroizing::new("wV4DC7COV92OoxkSAQdA".repeat(25)) };
        for sheet in [known(), Sheet { cluster: None, holder: None, ..known() }, Sheet { body: message, ..known() }] {
            let page = page_of(&sheet);
            let names = well_formed(&page);
            for forbidden in ["script", "img", "link", "iframe", "object", "form", "a"] {
                assert!(!names.iter().any(|name| name == forbidden), "{forbidden}");
            }
            for forbidden in ["url(", "src=", "href=", "@import", "javascript:"] {
                assert!(!page.contains(forbidden), "{forbidden}");
            }
            assert_eq!(page.matches("://").count(), 2, "the names of two formats, which nobody fetches");
            assert_eq!(page.matches(sheet.body.text()).count(), 1, "the share is in one place");
            assert!(page.find(sheet.body.text()) > page.find("<body>"));
            assert!(page.capacity() <= 32 * 1024 + Code::fitting(sheet.body.text(), MODULES_MAX).unwrap().to_svg().len());
        }
    }

    #[test]
    fn names_are_text_whatever_they_contain() {
        let name = r#"</td><script>alert("1")</script>&'"#;
        let cluster = Cluster { name: name.to_owned(), id: Some(name.to_owned()), shares: 3, threshold: 2 };
        let page = page_of(&Sheet { holder: Some(name.to_owned()), cluster: Some(cluster), ..known() });
        well_formed(&page);
        assert!(!page.contains("<script"));
        // Title, name, id, holder, and the sentence that names the cluster.
        assert_eq!(page.matches("&lt;/td&gt;&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&amp;&#39;").count(), 5);
    }
}
