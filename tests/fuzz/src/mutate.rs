//! Mutations: a new input out of known ones. The same dice, the same input.

/// The largest input that is made, in bytes.
pub(crate) const INPUT_BYTES_MAX: usize = 16 * 1024;
/// Mutations of one input at most.
const STEPS_MAX: usize = 6;

/// Pieces that parsers of text have something to say about.
const PIECES: [&str; 64] = [
    "/",
    "//",
    "/./",
    "/../",
    "%2e",
    "%2f",
    "%00",
    "%25",
    "%ff",
    "\\",
    ";",
    "?",
    "#",
    "+",
    "*",
    "\"",
    "\\\"",
    "\\u0000",
    "\\ud800",
    "{",
    "}",
    "[",
    "]",
    "(",
    ")",
    ":",
    ",",
    "=",
    ".",
    "-",
    "0",
    "1e400",
    "-1",
    "18446744073709551616",
    "null",
    "true",
    "\n",
    "\r\n",
    "\t",
    "\0",
    "\u{7f}",
    "\u{85}",
    "\u{fe0f}",
    "é",
    "\u{202e}",
    "\u{1f600}",
    "<<EOT\n",
    "EOT",
    "${",
    "%{",
    "/*",
    "*/",
    "//x\n",
    "# ",
    "hvs.",
    "hvb.",
    "root",
    "path \"",
    "capabilities = [\"",
    "deny",
    "{{",
    "}}",
    "9999999999h",
    "list=true",
];

/// Sebastiano Vigna's SplitMix64: every seed gives another stream, the same everywhere.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `sides`, which is not 0.
    pub(crate) fn roll(&mut self, sides: usize) -> usize {
        (self.next() % sides as u64) as usize
    }
}

/// Changes one input a few times; `other` is another known one, to take parts from.
pub(crate) fn mutate(input: &[u8], other: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=dice.roll(STEPS_MAX) {
        let at = dice.roll(bytes.len() + 1);
        let end = (at + 1 + dice.roll(16)).min(bytes.len());
        match dice.roll(10) {
            0 if at < bytes.len() => bytes[at] ^= 1 << dice.roll(8),
            1 if at < bytes.len() => bytes[at] = dice.next() as u8,
            2 if at < bytes.len() => drop(bytes.drain(at..end)),
            3 if at < bytes.len() => {
                let again = bytes[at..end].repeat(1 + dice.roll(8));
                bytes.splice(at..at, again);
            }
            // Much of the same: depth, length, number.
            4 if at < bytes.len() => {
                let again = bytes[at..end].repeat(1 << dice.roll(10));
                bytes.splice(at..at, again);
            }
            5 => bytes.truncate(at),
            6 if !other.is_empty() => {
                let from = dice.roll(other.len());
                let until = (from + 1 + dice.roll(64)).min(other.len());
                bytes.splice(at..at, other[from..until].iter().copied());
            }
            7 if !other.is_empty() => {
                bytes.truncate(at);
                bytes.extend_from_slice(&other[dice.roll(other.len())..]);
            }
            _ => {
                let piece = PIECES[dice.roll(PIECES.len())];
                bytes.splice(at..at, piece.bytes());
            }
        }
        bytes.truncate(INPUT_BYTES_MAX);
    }
    bytes
}
