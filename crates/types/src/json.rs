//! Limits on JSON that a stranger sent, checked on the raw bytes before a parser builds anything from them.
//!
//! Always: one pass, no allocation, no recursion, whatever the bytes are. A document that the parser accepts is measured exactly; of one that it would refuse, any
//! verdict will do, for this is no validator. Knows nothing of what the document means.

/// The deepest nesting: `serde_json` refuses a 128th level, so a larger limit would be a promise that is not kept.
pub const DEPTH_MAX: usize = 127;

/// How large a JSON document's parts may be. The defaults are those of Vault 1.20.3, but for the depth (Vault: 300; see [`DEPTH_MAX`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JsonLimits {
    /// Objects and arrays within each other. More than [`DEPTH_MAX`] counts as that.
    pub depth: usize,
    /// Bytes of a string or of an object's key, as UTF-8, after its escapes are decoded.
    pub string_bytes: usize,
    /// Entries of an object.
    pub entries: usize,
    /// Elements of an array.
    pub elements: usize,
}

impl Default for JsonLimits {
    fn default() -> JsonLimits {
        JsonLimits { depth: DEPTH_MAX, string_bytes: 1 << 20, entries: 10_000, elements: 10_000 }
    }
}

/// Which limit a document passes, and where: `at` is the byte's offset from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JsonLimitError {
    /// Too deep.
    #[error("the JSON is nested more than {max} deep at byte {at}")]
    Depth {
        /// Where the object or array begins that is one too deep.
        at: usize,
        /// The limit.
        max: usize,
    },
    /// A string or key too long.
    #[error("the JSON string at byte {at} is longer than {max} bytes")]
    String {
        /// Where its quote is.
        at: usize,
        /// The limit.
        max: usize,
    },
    /// An object with too many entries.
    #[error("the JSON object at byte {at} has more than {max} entries")]
    Entries {
        /// Where it begins.
        at: usize,
        /// The limit.
        max: usize,
    },
    /// An array with too many elements.
    #[error("the JSON array at byte {at} has more than {max} elements")]
    Elements {
        /// Where it begins.
        at: usize,
        /// The limit.
        max: usize,
    },
}

/// Checks `bytes` against `limits`.
pub fn check_limits(bytes: &[u8], limits: &JsonLimits) -> Result<(), JsonLimitError> {
    let mut open = OpenContainers::new(limits);
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'{' | b'[' => {
                open.note_item()?;
                open.push(byte, at)?;
            }
            b'}' | b']' => open.pop(),
            b',' => open.expect_item(),
            b'"' => {
                open.note_item()?;
                at = end_of_string(bytes, at, limits.string_bytes)?;
                continue;
            }
            b' ' | b'\t' | b'\n' | b'\r' | b':' => {}
            _ => open.note_item()?,
        }
        at += 1;
    }
    Ok(())
}

/// The objects and arrays that are open at this byte, outermost first.
struct OpenContainers<'a> {
    limits: &'a JsonLimits,
    stack: [Container; DEPTH_MAX],
    depth: usize,
}

#[derive(Clone, Copy)]
struct Container {
    is_object: bool,
    at: usize,
    items: usize,
    /// The next token that is no punctuation begins an item.
    item_is_due: bool,
}

impl OpenContainers<'_> {
    fn new(limits: &JsonLimits) -> OpenContainers<'_> {
        let none = Container { is_object: false, at: 0, items: 0, item_is_due: false };
        OpenContainers { limits, stack: [none; DEPTH_MAX], depth: 0 }
    }

    fn push(&mut self, bracket: u8, at: usize) -> Result<(), JsonLimitError> {
        let max = self.limits.depth.min(DEPTH_MAX);
        if self.depth == max {
            return Err(JsonLimitError::Depth { at, max });
        }
        self.stack[self.depth] = Container { is_object: bracket == b'{', at, items: 0, item_is_due: true };
        self.depth += 1;
        Ok(())
    }

    fn pop(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    fn innermost(&mut self) -> Option<&mut Container> {
        self.stack[..self.depth].last_mut()
    }

    fn expect_item(&mut self) {
        if let Some(container) = self.innermost() {
            container.item_is_due = true;
        }
    }

    fn note_item(&mut self) -> Result<(), JsonLimitError> {
        let JsonLimits { entries, elements, .. } = *self.limits;
        let Some(container) = self.innermost() else { return Ok(()) };
        container.items += usize::from(std::mem::take(&mut container.item_is_due));
        match *container {
            Container { is_object: true, items, at, .. } if items > entries => Err(JsonLimitError::Entries { at, max: entries }),
            Container { is_object: false, items, at, .. } if items > elements => Err(JsonLimitError::Elements { at, max: elements }),
            _ => Ok(()),
        }
    }
}

/// Where the byte after the string's closing quote is, or the document's end if it has none.
fn end_of_string(bytes: &[u8], start: usize, max: usize) -> Result<usize, JsonLimitError> {
    let mut length = 0;
    let mut at = start + 1;
    while let Some(&byte) = bytes.get(at) {
        let (taken, made) = match byte {
            b'"' => return Ok(at + 1),
            b'\\' => escape(&bytes[at..]),
            _ => (1, 1),
        };
        length += made;
        if length > max {
            return Err(JsonLimitError::String { at: start, max });
        }
        at += taken;
    }
    Ok(bytes.len())
}

/// How many bytes the escape at the start of `bytes` takes, and how many of UTF-8 it stands for.
fn escape(bytes: &[u8]) -> (usize, usize) {
    let Some(digits) = bytes.strip_prefix(b"\\u").and_then(|rest| rest.first_chunk::<4>()) else {
        return (2, 1);
    };
    let code = digits.iter().try_fold(0, |code, &digit| Some(code * 16 + char::from(digit).to_digit(16)?));
    match code {
        None => (2, 1),
        // Half of a surrogate pair, which is four bytes as a whole.
        Some(0xd800..=0xdfff) => (6, 2),
        Some(code) => (6, char::from_u32(code).map_or(1, char::len_utf8)),
    }
}
