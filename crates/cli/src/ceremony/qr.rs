//! QR codes (ISO/IEC 18004), for terminals and for HTML.
//!
//! Always: dark on light with the margin that the standard asks for, whatever colours a terminal has; a code's modules are wiped on drop. Knows
//! nothing of what is encoded.

use std::fmt::Write as _;

use crypto::Zeroizing;
use qrcodegen_no_heap::{QrCode, QrCodeEcc, Version};

/// Light modules around a code.
const MARGIN: usize = 4;
/// As wide as the largest code, with its margin.
pub(super) const MODULES_MAX: usize = 177 + 2 * MARGIN;

/// A code: a square of dark and light modules.
pub(super) struct Code {
    /// Modules of a side, without the margin.
    size: usize,
    /// Row by row; `true` is dark.
    modules: Zeroizing<Vec<bool>>,
}

impl Code {
    /// Encodes `text` with the strongest correction with which it is no wider than `columns`, margin included. `None`: it is wider with any.
    pub(super) fn fitting(text: &str, columns: usize) -> Option<Code> {
        // Version v has 17 + 4 v modules on a side.
        let version = u8::try_from(columns.checked_sub(2 * MARGIN + 17)? / 4).unwrap_or(u8::MAX).min(Version::MAX.value());
        if version < Version::MIN.value() {
            return None;
        }
        let largest = Version::new(version);
        let mut scratch = Zeroizing::new(vec![0; Version::MAX.buffer_len()]);
        let mut buffer = Zeroizing::new(vec![0; Version::MAX.buffer_len()]);
        // Half a code may be lost to a fold or a stain; but a dense one is hard to read from a sheet.
        for level in [QrCodeEcc::Quartile, QrCodeEcc::Medium, QrCodeEcc::Low] {
            let code = QrCode::encode_text(text, &mut scratch, &mut buffer, level, Version::MIN, largest, None, true);
            if let Ok(code) = code {
                let side = code.size();
                let mut modules = Zeroizing::new(Vec::with_capacity(usize::from(side.unsigned_abs() as u16).pow(2)));
                modules.extend((0..side).flat_map(|y| (0..side).map(move |x| (x, y))).map(|(x, y)| code.get_module(x, y)));
                return Some(Code { size: usize::from(side.unsigned_abs() as u16), modules });
            }
        }
        None
    }

    /// Modules of a side, with the margin.
    fn side(&self) -> usize {
        self.size + 2 * MARGIN
    }

    /// Whether a module is dark; the margin is light, and so is all around it.
    fn is_dark(&self, x: usize, y: usize) -> bool {
        match (x.checked_sub(MARGIN), y.checked_sub(MARGIN)) {
            (Some(x), Some(y)) if x < self.size && y < self.size => self.modules[y * self.size + x],
            _ => false,
        }
    }

    /// Two modules a character, one above the other. Ink is dark on paper; a terminal is told to be so too.
    pub(super) fn to_text(&self, is_terminal: bool) -> Zeroizing<String> {
        // Black on bright white, and back.
        let (begin, end) = if is_terminal { ("\x1b[30;107m", "\x1b[0m") } else { ("", "") };
        let rows = self.side().div_ceil(2);
        let mut text = Zeroizing::new(String::with_capacity(rows * (self.side() * 3 + begin.len() + end.len() + 1)));
        for y in (0..self.side()).step_by(2) {
            text.push_str(begin);
            for x in 0..self.side() {
                text.push(match (self.is_dark(x, y), self.is_dark(x, y + 1)) {
                    (false, false) => ' ',
                    (true, false) => '▀',
                    (false, true) => '▄',
                    (true, true) => '█',
                });
            }
            text.push_str(end);
            text.push('\n');
        }
        text
    }

    /// An element of SVG, as wide as what it stands in: a path along the runs of dark modules.
    pub(super) fn to_svg(&self) -> Zeroizing<String> {
        let side = self.side();
        // A run is no longer than `M999 999h99v1h-99z`, and every other module begins one at most.
        let mut svg = Zeroizing::new(String::with_capacity(300 + side * side * 10));
        write!(
            svg,
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {side} {side}" shape-rendering="crispEdges" role="img" aria-label="QR code of the share"><rect width="{side}" height="{side}" fill="white" /><path fill="black" d=""#
        )
        .expect("writing to a String cannot fail");
        for y in 0..side {
            let mut x = 0;
            while x < side {
                let run = (x..side).take_while(|x| self.is_dark(*x, y)).count();
                if run > 0 {
                    write!(svg, "M{x} {y}h{run}v1h-{run}z").expect("writing to a String cannot fail");
                }
                x += run.max(1);
            }
        }
        svg.push_str(r#"" /></svg>"#);
        svg
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARE: &str = "AgHyBskAAQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eH29H";

    /// What a reader of codes sees, eight pixels a module.
    fn read(side: usize, is_dark: impl Fn(usize, usize) -> bool) -> String {
        const SCALE: usize = 8;
        let pixels = side * SCALE;
        let mut image =
            rqrr::PreparedImage::prepare_from_greyscale(pixels, pixels, |x, y| if is_dark(x / SCALE, y / SCALE) { 0 } else { 255 });
        let found = image.detect_grids();
        assert_eq!(found.len(), 1, "one code is seen");
        found[0].decode().unwrap().1
    }

    /// The pixels of a text: ink above, below, or both.
    fn pixels(text: &str) -> Vec<Vec<bool>> {
        let halves = |line: &str, ink: [char; 2]| line.chars().map(|c| ink.contains(&c)).collect::<Vec<_>>();
        text.lines().flat_map(|line| [halves(line, ['▀', '█']), halves(line, ['▄', '█'])]).collect()
    }

    #[test]
    fn a_code_reads_back_from_paper_and_from_a_terminal() {
        let message = "wV4DC7COV92OoxkSAQdA".repeat(25);
        for (text, columns) in [(SHARE, 80), (SHARE, 40), (SHARE, 37), (SHARE, MODULES_MAX), (&message, MODULES_MAX), ("x", 29)] {
            let code = Code::fitting(text, columns).unwrap();
            let shown = code.to_text(false);
            assert!(shown.lines().all(|line| line.chars().count() == code.side()) && code.side() <= columns, "{columns}");
            let seen = pixels(&shown);
            assert_eq!(read(code.side(), |x, y| seen[y][x]), text, "{columns}");
            let coloured = code.to_text(true);
            let bare = coloured.replace("\x1b[30;107m", "").replace("\x1b[0m", "");
            assert_eq!(bare, *shown, "colours change nothing but colours");
            assert!(coloured.lines().all(|line| line.ends_with("\x1b[0m")), "the rest of a line is not painted");
        }
    }

    #[test]
    fn a_code_reads_back_from_its_svg() {
        let code = Code::fitting(SHARE, MODULES_MAX).unwrap();
        let svg = code.to_svg();
        let path = svg.split(" d=\"").nth(1).unwrap().split('"').next().unwrap();
        let mut seen = vec![vec![false; code.side()]; code.side()];
        for run in path.split('M').skip(1) {
            let (at, rest) = run.split_once('h').unwrap();
            let (x, y) = at.split_once(' ').unwrap();
            let (x, y, length): (usize, usize, usize) =
                (x.parse().unwrap(), y.parse().unwrap(), rest.split('v').next().unwrap().parse().unwrap());
            assert_eq!(rest, format!("{length}v1h-{length}z"));
            seen[y][x..x + length].fill(true);
        }
        assert_eq!(read(code.side(), |x, y| seen[y][x]), SHARE);
        assert!(svg.len() <= 300 + code.side() * code.side() * 10, "it did not grow");
    }

    #[test]
    fn what_does_not_fit_is_none() {
        for columns in [0, 28, 36] {
            assert!(Code::fitting(SHARE, columns).is_none(), "{columns}");
        }
        assert!(Code::fitting(&"x".repeat(3000), MODULES_MAX).is_none());
    }

    #[test]
    fn a_wider_place_gives_a_stronger_code() {
        let sides = [37, 40, 80].map(|columns| Code::fitting(SHARE, columns).unwrap().side());
        assert_eq!(sides, [37, 37, 45]);
    }
}
