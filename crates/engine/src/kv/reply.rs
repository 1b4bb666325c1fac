//! What KV answers, as JSON: the very keys of Vault's.
//!
//! Always: a secret's data is passed on as it was written. Times are RFC 3339 in UTC, with as many digits as they need, and
//! empty when there is none.

use std::collections::BTreeMap;
use std::time::Duration;

use crypto::SecretBytes;
use serde::{Serialize, Serializer};
use types::Timestamp;

use super::record::{Config, Metadata, Version};
use crate::{Json, json};

/// A version, as reads and writes tell of it.
#[derive(Serialize)]
struct VersionReply<'a> {
    #[serde(serialize_with = "time")]
    created_time: Option<Timestamp>,
    custom_metadata: Option<&'a BTreeMap<String, String>>,
    #[serde(serialize_with = "time")]
    deletion_time: Option<Timestamp>,
    destroyed: bool,
    version: u64,
}

/// A version, in the list of them.
#[derive(Serialize)]
struct VersionInList {
    #[serde(serialize_with = "time")]
    created_time: Option<Timestamp>,
    #[serde(serialize_with = "time")]
    deletion_time: Option<Timestamp>,
    destroyed: bool,
}

#[derive(Serialize)]
struct MetadataReply<'a> {
    cas_required: bool,
    #[serde(serialize_with = "time")]
    created_time: Option<Timestamp>,
    current_metadata_version: u64,
    current_version: u64,
    custom_metadata: Option<&'a BTreeMap<String, String>>,
    #[serde(serialize_with = "duration")]
    delete_version_after: Duration,
    max_versions: u32,
    metadata_cas_required: bool,
    oldest_version: u64,
    #[serde(serialize_with = "time")]
    updated_time: Option<Timestamp>,
    versions: BTreeMap<u64, VersionInList>,
}

#[derive(Serialize)]
struct ConfigReply {
    cas_required: bool,
    delete_version_after: String,
    max_versions: u32,
    metadata_cas_required: bool,
}

/// What is known of one version.
pub(super) fn version(metadata: &Metadata, number: u64, version: Version) -> Json {
    json(&VersionReply {
        created_time: Some(version.created),
        custom_metadata: custom(metadata),
        deletion_time: version.deleted,
        destroyed: version.destroyed,
        version: number,
    })
}

/// A version's data (JSON text) and what is known of it.
pub(super) fn data(data: &[u8], metadata: &Metadata, number: u64, version: Version) -> Json {
    let metadata = self::version(metadata, number, version);
    // EXPOSE: one answer is made of two.
    joined([b"{\"data\":", data, b",\"metadata\":", metadata.expose(), b"}"])
}

/// The names in a version's data (JSON text) and what is known of it.
pub(super) fn subkeys(subkeys: &[u8], metadata: &Metadata, number: u64, version: Version) -> Json {
    let metadata = self::version(metadata, number, version);
    // EXPOSE: one answer is made of two.
    joined([b"{\"metadata\":", metadata.expose(), b",\"subkeys\":", subkeys, b"}"])
}

fn joined(parts: [&[u8]; 5]) -> Json {
    let length = parts.iter().map(|part| part.len()).sum();
    SecretBytes::with_len(length, |mut whole| {
        for part in parts {
            let (place, rest) = whole.split_at_mut(part.len());
            place.copy_from_slice(part);
            whole = rest;
        }
    })
}

/// All that is known of a secret.
pub(super) fn metadata(metadata: &Metadata) -> Json {
    let in_list = |(&number, version): (&u64, &Version)| {
        let Version { created, deleted, destroyed } = *version;
        (number, VersionInList { created_time: Some(created), deletion_time: deleted, destroyed })
    };
    json(&MetadataReply {
        cas_required: metadata.settings.cas_required,
        created_time: Some(metadata.created),
        current_metadata_version: metadata.metadata_version,
        current_version: metadata.newest,
        custom_metadata: custom(metadata),
        delete_version_after: metadata.settings.delete_after,
        max_versions: metadata.settings.max_versions,
        metadata_cas_required: metadata.settings.metadata_cas_required,
        oldest_version: metadata.oldest,
        updated_time: Some(metadata.updated),
        versions: metadata.versions.iter().map(in_list).collect(),
    })
}

/// The mount's settings.
pub(super) fn config(config: &Config) -> Json {
    let delete_after = types::duration::print_go(config.settings.delete_after);
    json(&ConfigReply {
        cas_required: config.settings.cas_required,
        // Vault's way to say that nothing expires.
        delete_version_after: if config.expiry_disabled { "-1s".to_owned() } else { delete_after },
        max_versions: config.settings.max_versions,
        metadata_cas_required: config.settings.metadata_cas_required,
    })
}

/// Vault shows none at all as null.
fn custom(metadata: &Metadata) -> Option<&BTreeMap<String, String>> {
    (!metadata.custom.is_empty()).then_some(&metadata.custom)
}

fn time<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time.map_or_else(String::new, rfc3339))
}

fn duration<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&types::duration::print_go(*duration))
}

/// As Go's `RFC3339Nano`: no zeros at the end of the fraction. A time after the year 9999 shows as the last one in it.
fn rfc3339(time: Timestamp) -> String {
    let time = i64::try_from(time.0).ok().and_then(|milliseconds| jiff::Timestamp::from_millisecond(milliseconds).ok());
    time.unwrap_or(jiff::Timestamp::MAX).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_go_prints_them() {
        for (milliseconds, want) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_795_498_518_123, "2026-11-24T05:35:18.123Z"),
            (1_795_498_518_120, "2026-11-24T05:35:18.12Z"),
            (1_795_498_518_000, "2026-11-24T05:35:18Z"),
            (1_795_498_518_005, "2026-11-24T05:35:18.005Z"),
        ] {
            assert_eq!(rfc3339(Timestamp(milliseconds)), want);
        }
        assert!(rfc3339(Timestamp(u64::MAX)).starts_with("9999-12-3"));
    }
}
