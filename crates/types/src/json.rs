//! Limits on JSON that a stranger sent, checked on the raw bytes before a parser builds anything from them.
//!
//! Always: one pass, no allocation, no recursion, whatever the bytes are. A document that the parser accepts is measured exactly; of one
//! that it would refuse, any verdict will do, for this is no validator. Knows nothing of what the document means.

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    const TIGHT: JsonLimits = JsonLimits { depth: 3, string_bytes: 5, entries: 2, elements: 3 };

    #[test]
    fn each_limit_holds_to_the_last_one() {
        use JsonLimitError::*;
        for (json, want) in [
            ("null", Ok(())),
            ("", Ok(())),
            ("[[[1]]]", Ok(())),
            ("[[[[1]]]]", Err(Depth { at: 3, max: 3 })),
            (r#"{"a":[{}]}"#, Ok(())),
            (r#"{"a":[{"b":{}}]}"#, Err(Depth { at: 11, max: 3 })),
            ("[[],[],[[]]]", Ok(())),
            (r#""12345""#, Ok(())),
            (r#" "123456""#, Err(String { at: 1, max: 5 })),
            (r#"{"123456":1}"#, Err(String { at: 1, max: 5 })),
            (r#"["12345","123456"]"#, Err(String { at: 9, max: 5 })),
            ("[1,2,3]", Ok(())),
            ("[]", Ok(())),
            ("[1,2,3,4]", Err(Elements { at: 0, max: 3 })),
            (r#"[1,["a","b",{},null]]"#, Err(Elements { at: 3, max: 3 })),
            (r#"{"a":1,"b":2}"#, Ok(())),
            ("{}", Ok(())),
            (r#"{"a":1,"b":2,"c":3}"#, Err(Entries { at: 0, max: 2 })),
            (r#"[{"a":[1,2,3],"b":{"c":1,"d":2}}]"#, Ok(())),
            (r#"{"a":[1,2,3],"b":4,"c":5}"#, Err(Entries { at: 0, max: 2 })),
            // Escapes count as what they stand for; brackets, commas and quotes in a string are text.
            (r#""\n\n\n\n\n""#, Ok(())),
            (r#""\u0041\u0041\u0041\u0041\u0041""#, Ok(())),
            (r#""\u0041\u0041\u0041\u0041\u00e9""#, Err(String { at: 0, max: 5 })),
            (r#""\ud83d\udd11a""#, Ok(())),
            (r#""\ud83d\udd11ab""#, Err(String { at: 0, max: 5 })),
            ("\"\u{1f511}ab\"", Err(String { at: 0, max: 5 })),
            (r#"["\"[[[","]],,{",""]"#, Ok(())),
            (r#""\\","#, Ok(())),
        ] {
            assert_eq!(check_limits(json.as_bytes(), &TIGHT), want, "{json}");
        }
    }

    #[test]
    fn the_defaults_are_vaults_and_the_parser_reaches_as_deep() {
        let limits = JsonLimits::default();
        assert_eq!((limits.string_bytes, limits.entries, limits.elements), (1_048_576, 10_000, 10_000));
        let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(check_limits(nested(DEPTH_MAX).as_bytes(), &limits), Ok(()));
        assert!(serde_json::from_str::<Value>(&nested(DEPTH_MAX)).is_ok());
        assert_eq!(check_limits(nested(DEPTH_MAX + 1).as_bytes(), &limits), Err(JsonLimitError::Depth { at: DEPTH_MAX, max: DEPTH_MAX }));
        assert!(serde_json::from_str::<Value>(&nested(DEPTH_MAX + 1)).is_err());
        // A limit beyond the stack is that of the stack, not a panic.
        let boundless = JsonLimits { depth: usize::MAX, ..limits };
        assert!(check_limits("[".repeat(1 << 20).as_bytes(), &boundless).is_err());
    }

    #[test]
    fn an_error_says_where() {
        let error = check_limits(br#"{"a":"123456"}"#, &TIGHT).unwrap_err();
        assert_eq!(error.to_string(), "the JSON string at byte 5 is longer than 5 bytes");
    }

    /// The largest of each measure, by walking the parsed value.
    fn measure(value: &Value) -> JsonLimits {
        let most = |a: JsonLimits, b: JsonLimits| JsonLimits {
            depth: a.depth.max(b.depth),
            string_bytes: a.string_bytes.max(b.string_bytes),
            entries: a.entries.max(b.entries),
            elements: a.elements.max(b.elements),
        };
        let none = JsonLimits { depth: 0, string_bytes: 0, entries: 0, elements: 0 };
        match value {
            Value::String(text) => JsonLimits { string_bytes: text.len(), ..none },
            Value::Array(items) => {
                let inner = items.iter().map(measure).fold(none, most);
                most(JsonLimits { depth: inner.depth + 1, ..inner }, JsonLimits { elements: items.len(), ..none })
            }
            Value::Object(map) => {
                let keys = map.keys().map(|key| JsonLimits { string_bytes: key.len(), ..none });
                let inner = map.values().map(measure).chain(keys).fold(none, most);
                most(JsonLimits { depth: inner.depth + 1, ..inner }, JsonLimits { entries: map.len(), ..none })
            }
            _ => none,
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::from),
            "[a-z\"\\\\{}\\[\\],:\n\u{e9}\u{1f511}]{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 60, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                proptest::collection::vec(("[a-z\"\u{e9}]{0,6}", inner), 0..6)
                    .prop_map(|entries| Value::Object(entries.into_iter().collect())),
            ]
        })
    }

    /// Escapes all that is no ASCII letter, as other writers do.
    fn escaped(json: &str) -> std::string::String {
        json.chars()
            .map(|character| {
                if character.is_ascii() {
                    character.to_string()
                } else {
                    character.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04X}")).collect()
                }
            })
            .collect()
    }

    proptest! {
        #[test]
        fn a_document_is_measured_exactly(value in values()) {
            let exact = measure(&value);
            for json in [value.to_string(), serde_json::to_string_pretty(&value).unwrap(), escaped(&value.to_string())] {
                prop_assert_eq!(check_limits(json.as_bytes(), &exact), Ok(()), "{}", json);
                for (size, tighter) in [
                    (exact.depth, JsonLimits { depth: exact.depth.wrapping_sub(1), ..exact }),
                    (exact.string_bytes, JsonLimits { string_bytes: exact.string_bytes.wrapping_sub(1), ..exact }),
                    (exact.entries, JsonLimits { entries: exact.entries.wrapping_sub(1), ..exact }),
                    (exact.elements, JsonLimits { elements: exact.elements.wrapping_sub(1), ..exact }),
                ] {
                    prop_assert_eq!(check_limits(json.as_bytes(), &tighter).is_err(), size > 0, "{} within {:?}", json, tighter);
                }
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), near in "[\\[\\]{},:\"\\\\u0-9a ]{0,300}") {
            let limits = JsonLimits { depth: 4, ..TIGHT };
            let _ = (check_limits(&bytes, &limits), check_limits(near.as_bytes(), &limits));
            let _ = (check_limits(&bytes, &JsonLimits::default()), check_limits(near.as_bytes(), &JsonLimits::default()));
        }
    }
}
