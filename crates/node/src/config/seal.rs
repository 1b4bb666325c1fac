//! The shape of `seal "static"` and `seal "shamir"`: the keys by which a node opens itself, and whether open peers open it.
//!
//! Always: a key is named by file or environment variable and checked when the configuration is; it is not kept, and no message holds it.
//! Knows nothing of what the keys open.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use barrier::{Rejoin, STATIC_SEALS_MAX, StaticKey};
use crypto::{SealKey, Zeroizing};
use types::hcl::Body;

use super::files::{self, Secrecy};
use super::mistake::shown;
use super::section::{Keys, Section};
use super::{REJOIN_COUNT_DEFAULT, REJOIN_WITHIN_DEFAULT};

pub(super) const STATIC_KEYS: Keys =
    Keys { own: &["current_key_id", "current_key", "previous_key_id", "previous_key", "disabled"], repeatable: &[], foreign: &[] };
pub(super) const SHAMIR_KEYS: Keys = Keys { own: &["rejoin", "rejoin_within", "rejoin_count"], repeatable: &[], foreign: &[] };

/// The longest id of a key, in bytes.
const KEY_ID_BYTES_MAX: usize = 128;
/// The bytes of a key.
const KEY_BYTES: usize = 32;
/// The most that is read of a key's file: more than any spelling of a key takes.
const KEY_FILE_BYTES_MAX: usize = 256;

/// How this node opens, besides by the shares that are entered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SealConfig {
    /// The keys by which it opens itself.
    pub static_keys: Vec<StaticKeyConfig>,
    /// The ids of the keys whose seals go with the next migration.
    pub disabled_keys: Vec<String>,
    /// Whether open peers open it, and it them.
    pub rejoin: Option<Rejoin>,
}

/// A key by which a node opens itself: where it is, never what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticKeyConfig {
    /// Names its seal.
    pub id: String,
    /// Where it is.
    pub place: KeyPlace,
    /// Whether it is being replaced: it opens the seal that there is of it, and gets no new one.
    pub is_previous: bool,
}

/// Where a key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyPlace {
    /// In a file that others cannot read.
    File(PathBuf),
    /// In a variable of the process's environment.
    Environment(String),
}

/// Why a key cannot be had. Holds nothing of it.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("{} cannot be read: {source}", quoted(.path))]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no such variable.
    #[error("the environment variable {name} is not set (set it for this process, or name a file by \"file:///…\")")]
    Unset {
        /// Which.
        name: String,
    },
    /// It is no key.
    #[error("{place} holds no key of {KEY_BYTES} bytes in hex or base64 (make one: openssl rand -hex {KEY_BYTES})")]
    Malformed {
        /// Where.
        place: String,
    },
}

fn quoted(path: &std::path::Path) -> String {
    format!("{:?}", path.display().to_string())
}

impl StaticKeyConfig {
    /// Reads the key.
    ///
    /// # Errors
    /// It is not there, or is no key.
    pub fn read(&self) -> Result<StaticKey, KeyError> {
        let key = self.place.read()?;
        Ok(if self.is_previous { StaticKey::previous(self.id.clone(), key) } else { StaticKey::new(self.id.clone(), key) })
    }
}

impl SealConfig {
    /// Reads the keys.
    ///
    /// # Errors
    /// One of them is not there any more, or is no key any more.
    pub fn opening(&self) -> Result<barrier::Opening, KeyError> {
        Ok(barrier::Opening {
            static_keys: self.static_keys.iter().map(StaticKeyConfig::read).collect::<Result<_, KeyError>>()?,
            disabled_keys: self.disabled_keys.clone(),
            rejoin: self.rejoin,
        })
    }
}

impl KeyPlace {
    fn read(&self) -> Result<SealKey, KeyError> {
        match self {
            KeyPlace::File(path) => {
                let cannot = |source| KeyError::File { path: path.clone(), source };
                // Its final size at once: a buffer that grew would leave copies behind.
                let mut text = Zeroizing::new([0; KEY_FILE_BYTES_MAX]);
                let mut file = File::open(path).map_err(cannot)?;
                let mut length = 0;
                while length < text.len() {
                    match file.read(&mut text[length..]) {
                        Ok(0) => break,
                        Ok(count) => length += count,
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(error) => return Err(cannot(error)),
                    }
                }
                parse_key(&text[..length]).ok_or_else(|| KeyError::Malformed { place: quoted(path) })
            }
            KeyPlace::Environment(name) => {
                let text = std::env::var_os(name).ok_or_else(|| KeyError::Unset { name: name.clone() })?;
                let text = Zeroizing::new(text.as_bytes().to_vec());
                parse_key(&text).ok_or_else(|| KeyError::Malformed { place: format!("the environment variable {name}") })
            }
        }
    }
}

/// A key as it is, in hex, or in base64 (padded or not); white space around the text does not count.
fn parse_key(text: &[u8]) -> Option<SealKey> {
    if text.len() == KEY_BYTES {
        return SealKey::from_slice(text);
    }
    let text = text.trim_ascii();
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    if text.len() == 2 * KEY_BYTES {
        hex::decode_to_slice(text, &mut *key).ok()?;
    } else {
        let engine = base64::engine::GeneralPurpose::new(&base64::alphabet::STANDARD, BASE64);
        // The decoder wants room for whole groups of its own.
        let mut room = Zeroizing::new([0; KEY_BYTES + 4]);
        let length = base64::Engine::decode_slice(&engine, text, &mut *room).ok()?;
        if length != KEY_BYTES {
            return None;
        }
        key.copy_from_slice(&room[..KEY_BYTES]);
    }
    SealKey::from_slice(&*key)
}

const BASE64: base64::engine::GeneralPurposeConfig =
    base64::engine::GeneralPurposeConfig::new().with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent);

/// Reads all blocks `seal`; `None` only after a mistake was reported.
pub(super) fn seals(root: &Section<'_>) -> Option<SealConfig> {
    let mut config = SealConfig::default();
    let mut is_whole = true;
    let (mut first_active, mut first_shamir) = (None, None);
    for (label, line, body) in root.labels("seal") {
        let read = match label {
            "static" => static_seal(root, line, body, &mut config, &mut first_active),
            "shamir" => match first_shamir.replace(line) {
                Some(first) => {
                    root.twice(line, "seal", first);
                    None
                }
                None => rejoin(&root.labelled("seal".to_owned(), line, body, SHAMIR_KEYS)).map(|rejoin| config.rejoin = rejoin),
            },
            other => {
                let text =
                    format!("{} is not supported (write seal \"static\", or remove this block: shares always open it)", shown(other));
                root.mistake_at(line, "seal", text);
                None
            }
        };
        is_whole &= read.is_some();
    }
    if config.static_keys.len() > STATIC_SEALS_MAX {
        let count = config.static_keys.len();
        root.mistake("seal", format!("{count} static keys are too many (at most {STATIC_SEALS_MAX})"));
        return None;
    }
    (is_whole && (config != SealConfig::default() || !root.has("seal") || first_shamir.is_some())).then_some(config)
}

fn static_seal(root: &Section<'_>, line: usize, body: &Body, config: &mut SealConfig, first_active: &mut Option<usize>) -> Option<()> {
    let section = root.labelled("seal".to_owned(), line, body, STATIC_KEYS);
    let disabled = section.boolean("disabled", false);
    let current_id = key_id(&section, "current_key_id", config);
    let wants_previous = section.has("previous_key_id") || section.has("previous_key");
    if disabled? {
        // The keys themselves may be gone already; those that are there must still be no secrets in the file.
        for key in ["current_key", "previous_key"].into_iter().filter(|key| section.has(key)) {
            key_place(&section, key)?;
        }
        config.disabled_keys.push(current_id?);
        if section.has("previous_key_id") {
            let previous = key_id(&section, "previous_key_id", config)?;
            config.disabled_keys.push(previous);
        }
        return Some(());
    }
    if let Some(first) = first_active.replace(line) {
        root.twice(line, "seal", first);
        return None;
    }
    let current = key(&section, "current_key");
    let current_id = current_id?;
    config.static_keys.push(StaticKeyConfig { id: current_id, place: current?, is_previous: false });
    if wants_previous {
        let previous_id = key_id(&section, "previous_key_id", config);
        let previous = key(&section, "previous_key");
        config.static_keys.push(StaticKeyConfig { id: previous_id?, place: previous?, is_previous: true });
    }
    Some(())
}

/// The id of a key, which no other key has.
fn key_id(section: &Section<'_>, key: &str, config: &SealConfig) -> Option<String> {
    let id = section.required_text(key, "2026-1")?;
    if id.is_empty() || id.len() > KEY_ID_BYTES_MAX || id.chars().any(char::is_control) {
        section.mistake(key, format!("must be 1 to {KEY_ID_BYTES_MAX} bytes without control characters"));
        return None;
    }
    if config.static_keys.iter().any(|other| other.id == id) || config.disabled_keys.iter().any(|other| other == id) {
        section.mistake(key, format!("{} names another key already (give each key an id of its own)", shown(id)));
        return None;
    }
    Some(id.to_owned())
}

/// Where a key is that can be read now.
fn key(section: &Section<'_>, key: &str) -> Option<KeyPlace> {
    if !section.has(key) {
        section.missing(key, &format!("{key} = \"file:///etc/conclave/seal.key\" or \"env://NAME\""));
    }
    let place = key_place(section, key)?;
    if let KeyPlace::File(path) = &place
        && !files::usable(section, key, path, Secrecy::Private)
    {
        return None;
    }
    place.read().map_err(|error| section.mistake(key, error.to_string())).ok()?;
    Some(place)
}

/// Where a key is, as it is written. Nothing of the text is repeated unless it names a place: it may be the key.
fn key_place(section: &Section<'_>, key: &str) -> Option<KeyPlace> {
    let text = section.text(key)?;
    if let Some(path) = text.strip_prefix("file://").filter(|path| !path.is_empty()) {
        return Some(KeyPlace::File(section.folder(key).join(path)));
    }
    let is_name = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if let Some(name) = text.strip_prefix("env://") {
        if is_name(name) {
            return Some(KeyPlace::Environment(OsStr::new(name).to_string_lossy().into_owned()));
        }
        section.mistake(key, "names no environment variable (write \"env://NAME\": letters, digits and '_')");
        return None;
    }
    section.mistake(key, "must say where the key is, not hold it (write \"file:///etc/conclave/seal.key\" or \"env://NAME\")");
    None
}

fn rejoin(section: &Section<'_>) -> Option<Option<Rejoin>> {
    let is_on = section.choice("rejoin", &[("off", false), ("peers", true)]);
    let within = section.duration("rejoin_within", REJOIN_WITHIN_DEFAULT, barrier::REJOIN_WITHIN_MIN..=barrier::REJOIN_WITHIN_MAX);
    let count = section.integer("rejoin_count", REJOIN_COUNT_DEFAULT.into(), 1..=barrier::REJOIN_COUNT_MAX.into());
    let (is_on, within, count) = (is_on?, within?, u32::try_from(count?).expect("within the range"));
    if !is_on {
        for key in ["rejoin_within", "rejoin_count"].into_iter().filter(|key| section.has(key)) {
            section.warning(key, "does nothing here: rejoin is off (write rejoin = \"peers\", or remove this line)");
        }
    }
    Some(is_on.then_some(Rejoin { within, count }))
}

/// Peers that are to open a node must be there.
pub(super) fn fits_cluster(root: &Section<'_>, config: &SealConfig, has_peers: bool) {
    if config.rejoin.is_some() && !has_peers {
        root.mistake("seal", "rejoin = \"peers\" takes peers (add a cluster block, or remove that line)");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_may_be_raw_hex_or_base64_and_nothing_else() {
        let key: [u8; 32] = std::array::from_fn(|at| u8::try_from(at).unwrap() ^ 0xA5);
        let hex = hex::encode(key);
        let base64 = "paSnpqGgo6Ktr6+uqairqrW0t7axsLOyvby/vrm4u7o=";
        assert_eq!(base64::Engine::decode(&base64::engine::general_purpose::STANDARD, base64).map(|key| key.len()), Ok(32));
        for text in [key.to_vec(), hex.clone().into_bytes(), format!(" {}\r\n", hex.to_uppercase()).into_bytes()] {
            assert_eq!(parse_key(&text).unwrap().expose(), &key);
        }
        for text in [base64.to_owned(), format!("{base64}\n"), base64.trim_end_matches('=').to_owned()] {
            assert!(parse_key(text.as_bytes()).is_some(), "{text}");
        }
        for text in ["", "\n", &hex[..62], &format!("{hex}00"), &hex.replace('a', "g"), "AAAA", &"A".repeat(44), &"A".repeat(500), "ü"] {
            assert!(parse_key(text.as_bytes()).is_none(), "{text}");
        }
    }
}
