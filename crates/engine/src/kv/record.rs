//! The stored records of KV, as types, and the transaction that reads and writes them.
//!
//! Always: what a transaction reads stands in its plan with the revision at which it was read. A record that does not decode
//! to a state that the engine could have written is [`PlanError::Malformed`], never guessed at. Versions in a [`Metadata`] are
//! between its oldest and its newest.

use std::collections::BTreeMap;
use std::time::Duration;

use barrier::{Plan, View};
use crypto::SecretBytes;
use prost::Message;
use proto::stored::{KvConfig, KvMetadata, KvVersion};
use types::{Path, Timestamp};

use super::{VERSIONS_DEFAULT, config_name, data_name, metadata_name};
use crate::{Outcome, PlanError, Reply};

/// What mount and secret both can set. The zero of each: not set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Settings {
    pub(super) max_versions: u32,
    pub(super) cas_required: bool,
    /// A new version is deleted this long after it was made.
    pub(super) delete_after: Duration,
    pub(super) metadata_cas_required: bool,
}

/// The mount's settings.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Config {
    pub(super) settings: Settings,
    /// No version expires, whatever its secret says.
    pub(super) expiry_disabled: bool,
}

/// All of a secret but its data. No `Debug`: custom metadata is the user's.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Metadata {
    pub(super) created: Timestamp,
    pub(super) updated: Timestamp,
    /// The newest version's number; 0 if there never was one.
    pub(super) newest: u64,
    /// Lower numbers are gone. 0 or 1 while none is.
    pub(super) oldest: u64,
    pub(super) settings: Settings,
    /// How often the metadata itself was written.
    pub(super) metadata_version: u64,
    pub(super) custom: BTreeMap<String, String>,
    pub(super) versions: BTreeMap<u64, Version>,
}

/// A version: when it came, and what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) created: Timestamp,
    /// From then on it is hidden. May lie ahead.
    pub(super) deleted: Option<Timestamp>,
    /// Its data is erased.
    pub(super) destroyed: bool,
}

impl Version {
    /// Whether its data can be seen at `now`.
    pub(super) fn is_readable(&self, now: Timestamp) -> bool {
        !self.destroyed && self.deleted.is_none_or(|deleted| now < deleted)
    }
}

impl Config {
    /// When a version that is made, or shown again, at `now` is to be deleted: the sooner of what mount and secret say.
    pub(super) fn deletion_time(&self, secret: &Settings, now: Timestamp) -> Option<Timestamp> {
        if self.expiry_disabled {
            return None;
        }
        let after = [self.settings.delete_after, secret.delete_after].into_iter().filter(|after| !after.is_zero()).min()?;
        Some(Timestamp(now.0.saturating_add(milliseconds(after))))
    }

    /// How many versions a secret keeps: the larger of what mount and secret say.
    fn max_versions(&self, secret: &Settings) -> u64 {
        match self.settings.max_versions.max(secret.max_versions) {
            0 => VERSIONS_DEFAULT.into(),
            max => max.into(),
        }
    }
}

impl Metadata {
    /// A secret that has no version yet.
    pub(super) fn new(now: Timestamp) -> Metadata {
        Metadata {
            created: now,
            updated: now,
            newest: 0,
            oldest: 0,
            settings: Settings::default(),
            metadata_version: 0,
            custom: BTreeMap::new(),
            versions: BTreeMap::new(),
        }
    }

    /// The newest version, unless there never was one.
    pub(super) fn newest(&self) -> Option<(u64, Version)> {
        self.versions.get(&self.newest).map(|version| (self.newest, *version))
    }

    /// Adds a version. Returns its number, and those whose data has to go because there are too many.
    pub(super) fn add_version(&mut self, config: &Config, now: Timestamp) -> (u64, Vec<u64>) {
        self.newest += 1;
        self.updated = now;
        let deleted = config.deletion_time(&self.settings, now);
        self.versions.insert(self.newest, Version { created: now, deleted, destroyed: false });
        (self.newest, self.trim(config))
    }

    fn trim(&mut self, config: &Config) -> Vec<u64> {
        let max = config.max_versions(&self.settings);
        if self.newest - self.oldest < max {
            return Vec::new();
        }
        self.oldest = self.newest - max + 1;
        let kept = self.versions.split_off(&self.oldest);
        let gone = std::mem::replace(&mut self.versions, kept);
        gone.into_iter().filter(|(_, version)| !version.destroyed).map(|(number, _)| number).collect()
    }
}

/// What an operation reads and writes below its mount.
pub(super) struct Transaction<'a> {
    view: &'a View,
    plan: Plan,
}

impl<'a> Transaction<'a> {
    /// Nothing read, nothing to write.
    pub(super) fn new(view: &'a View) -> Transaction<'a> {
        Transaction { view, plan: Plan::new() }
    }

    /// The plan, and the answer for when it is carried out.
    pub(super) fn outcome(self, reply: Reply) -> Outcome {
        Outcome::new(self.plan, reply)
    }

    /// The mount's settings: the defaults if there are none.
    pub(super) fn read_config(&mut self) -> Result<Config, PlanError> {
        let value = self.read(config_name())?;
        value.map_or_else(|| Ok(Config::default()), |value| decode_config(&value))
    }

    /// A secret's metadata.
    pub(super) fn read_metadata(&mut self, path: &Path) -> Result<Option<Metadata>, PlanError> {
        self.read(metadata_name(path))?.map(|value| decode_metadata(&value)).transpose()
    }

    /// A version's data, which must be there.
    pub(super) fn read_data(&mut self, path: &Path, version: u64) -> Result<SecretBytes, PlanError> {
        self.read(data_name(path, version))?.ok_or(PlanError::Malformed)
    }

    /// Writes the mount's settings.
    pub(super) fn put_config(&mut self, config: &Config) {
        self.plan.put(config_name(), SecretBytes::from(encode_config(config)));
    }

    /// Writes a secret's metadata.
    pub(super) fn put_metadata(&mut self, path: &Path, metadata: &Metadata) {
        self.plan.put(metadata_name(path), SecretBytes::from(encode_metadata(metadata)));
    }

    /// Writes a version's data.
    pub(super) fn put_data(&mut self, path: &Path, version: u64, data: SecretBytes) {
        self.plan.put(data_name(path, version), data);
    }

    /// Erases a secret's metadata.
    pub(super) fn delete_metadata(&mut self, path: &Path) {
        self.plan.delete(metadata_name(path));
    }

    /// Erases a version's data.
    pub(super) fn delete_data(&mut self, path: &Path, version: u64) {
        self.plan.delete(data_name(path, version));
    }

    fn read(&mut self, name: barrier::Name) -> Result<Option<SecretBytes>, PlanError> {
        let found = self.view.read(&name)?;
        self.plan.expect(name, found.revision);
        Ok(found.value)
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).expect("a duration is at most types::duration::DURATION_MAX")
}

fn encode_config(config: &Config) -> Vec<u8> {
    let Settings { max_versions, cas_required, delete_after, metadata_cas_required } = config.settings;
    KvConfig {
        max_versions,
        cas_required,
        delete_version_after_ms: milliseconds(delete_after),
        metadata_cas_required,
        expiry_disabled: config.expiry_disabled,
    }
    .encode_to_vec()
}

fn decode_config(value: &SecretBytes) -> Result<Config, PlanError> {
    // EXPOSE: the record is read.
    let record = KvConfig::decode(value.expose()).map_err(|_| PlanError::Malformed)?;
    let settings = Settings {
        max_versions: record.max_versions,
        cas_required: record.cas_required,
        delete_after: duration(record.delete_version_after_ms)?,
        metadata_cas_required: record.metadata_cas_required,
    };
    Ok(Config { settings, expiry_disabled: record.expiry_disabled })
}

pub(super) fn encode_metadata(metadata: &Metadata) -> Vec<u8> {
    let version = |(&version, &Version { created, deleted, destroyed }): (&u64, &Version)| KvVersion {
        version,
        created_ms: created.0,
        // A clock at the epoch must not make a deleted version look alive.
        deleted_ms: deleted.map_or(0, |deleted| deleted.0.max(1)),
        destroyed,
    };
    KvMetadata {
        current_version: metadata.newest,
        oldest_version: metadata.oldest,
        created_ms: metadata.created.0,
        updated_ms: metadata.updated.0,
        max_versions: metadata.settings.max_versions,
        cas_required: metadata.settings.cas_required,
        delete_version_after_ms: milliseconds(metadata.settings.delete_after),
        metadata_cas_required: metadata.settings.metadata_cas_required,
        custom_metadata: metadata.custom.clone(),
        metadata_version: metadata.metadata_version,
        versions: metadata.versions.iter().map(version).collect(),
    }
    .encode_to_vec()
}

pub(super) fn decode_metadata(value: &SecretBytes) -> Result<Metadata, PlanError> {
    // EXPOSE: the record is read.
    let record = KvMetadata::decode(value.expose()).map_err(|_| PlanError::Malformed)?;
    let numbers = || record.versions.iter().map(|version| version.version);
    let range = record.oldest_version.max(1)..=record.current_version;
    if !numbers().all(|number| range.contains(&number)) || !numbers().is_sorted_by(|a, b| a < b) {
        return Err(PlanError::Malformed);
    }
    let version = |&KvVersion { version, created_ms, deleted_ms, destroyed }: &KvVersion| {
        let deleted = (deleted_ms != 0).then_some(Timestamp(deleted_ms));
        (version, Version { created: Timestamp(created_ms), deleted, destroyed })
    };
    let metadata = Metadata {
        created: Timestamp(record.created_ms),
        updated: Timestamp(record.updated_ms),
        newest: record.current_version,
        oldest: record.oldest_version,
        settings: Settings {
            max_versions: record.max_versions,
            cas_required: record.cas_required,
            delete_after: duration(record.delete_version_after_ms)?,
            metadata_cas_required: record.metadata_cas_required,
        },
        metadata_version: record.metadata_version,
        versions: record.versions.iter().map(version).collect(),
        custom: record.custom_metadata,
    };
    // The newest version is never trimmed.
    let complete = metadata.newest == 0 || metadata.versions.contains_key(&metadata.newest);
    if complete && metadata.oldest <= metadata.newest { Ok(metadata) } else { Err(PlanError::Malformed) }
}

fn duration(milliseconds: u64) -> Result<Duration, PlanError> {
    let duration = Duration::from_millis(milliseconds);
    if duration <= types::duration::DURATION_MAX { Ok(duration) } else { Err(PlanError::Malformed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Metadata {
        let version = |created, deleted, destroyed| Version { created: Timestamp(created), deleted, destroyed };
        Metadata {
            created: Timestamp(1_795_498_518_123),
            updated: Timestamp(1_795_498_519_000),
            newest: 4,
            oldest: 2,
            settings: Settings {
                max_versions: 3,
                cas_required: true,
                delete_after: Duration::from_secs(3600),
                metadata_cas_required: true,
            },
            metadata_version: 7,
            custom: [("owner", "ops"), ("a", "b")].map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            versions: [
                (2, version(1_795_498_518_200, Some(Timestamp(1_795_498_518_300)), true)),
                (3, version(1_795_498_518_400, Some(Timestamp(1_795_502_118_400)), false)),
                (4, version(1_795_498_519_000, None, false)),
            ]
            .into(),
        }
    }

    fn sample_config() -> Config {
        let settings = Settings { max_versions: 5, cas_required: true, delete_after: Duration::from_secs(90), metadata_cas_required: true };
        Config { settings, expiry_disabled: true }
    }

    #[test]
    fn golden_bytes_of_version_1() {
        let golden = include_bytes!("../../../../tests/golden/engine/kv-metadata-v1.bin");
        assert_eq!(encode_metadata(&sample()), golden);
        assert!(decode_metadata(&SecretBytes::from(golden.to_vec())).is_ok_and(|metadata| metadata == sample()));
        let golden = include_bytes!("../../../../tests/golden/engine/kv-config-v1.bin");
        assert_eq!(encode_config(&sample_config()), golden);
        assert!(decode_config(&SecretBytes::from(golden.to_vec())).is_ok_and(|config| config == sample_config()));
    }

    #[test]
    fn a_version_deleted_at_the_epoch_stays_deleted() {
        let mut metadata = Metadata::new(Timestamp(0));
        metadata.add_version(&Config::default(), Timestamp(0));
        metadata.versions.get_mut(&1).unwrap().deleted = Some(Timestamp(0));
        let Ok(stored) = decode_metadata(&SecretBytes::from(encode_metadata(&metadata))) else { panic!("it was written so") };
        assert!(!stored.versions[&1].is_readable(Timestamp(1)));
    }

    #[test]
    fn a_record_that_makes_no_sense_is_malformed() {
        type Change = fn(&mut KvMetadata);
        let changes: &[(&str, Change)] = &[
            ("beyond the newest", |record| record.versions[2].version = 5),
            ("below the oldest", |record| record.versions[0].version = 1),
            ("not ascending", |record| record.versions.swap(0, 1)),
            ("twice", |record| record.versions[1].version = 2),
            ("without the newest", |record| record.versions.truncate(2)),
            ("oldest beyond newest", |record| {
                record.versions.clear();
                record.current_version = 0;
            }),
            ("an endless duration", |record| record.delete_version_after_ms = u64::MAX),
        ];
        let record = || KvMetadata::decode(&*encode_metadata(&sample())).unwrap();
        assert!(decode_metadata(&SecretBytes::from(record().encode_to_vec())).is_ok());
        for (what, change) in changes {
            let mut record = record();
            change(&mut record);
            assert!(matches!(decode_metadata(&SecretBytes::from(record.encode_to_vec())), Err(PlanError::Malformed)), "{what}");
        }
        for bytes in [vec![0xff], b"{}".to_vec()] {
            assert!(matches!(decode_metadata(&SecretBytes::from(bytes.clone())), Err(PlanError::Malformed)));
            assert!(matches!(decode_config(&SecretBytes::from(bytes)), Err(PlanError::Malformed)));
        }
    }

    #[test]
    fn the_sooner_expiry_holds() {
        let config = |seconds, expiry_disabled| Config {
            settings: Settings { delete_after: Duration::from_secs(seconds), ..Settings::default() },
            expiry_disabled,
        };
        for (mount, secret, disabled, want) in [
            (0, 0, false, None),
            (60, 0, false, Some(61_000)),
            (0, 30, false, Some(31_000)),
            (60, 30, false, Some(31_000)),
            (30, 60, false, Some(31_000)),
            (30, 60, true, None),
        ] {
            let secret = config(secret, false).settings;
            assert_eq!(config(mount, disabled).deletion_time(&secret, Timestamp(1000)), want.map(Timestamp), "{mount} {secret:?}");
        }
    }

    #[test]
    fn the_larger_number_of_versions_holds_and_the_rest_is_trimmed() {
        for (mount, secret, kept) in [(0, 0, 10), (2, 0, 2), (0, 3, 3), (2, 3, 3), (3, 2, 3), (1, 1, 1)] {
            let config = Config { settings: Settings { max_versions: mount, ..Settings::default() }, ..Config::default() };
            let mut metadata = Metadata::new(Timestamp(1));
            metadata.settings.max_versions = secret;
            for number in 1..=12 {
                let (made, trimmed) = metadata.add_version(&config, Timestamp(number));
                assert_eq!(made, number);
                assert_eq!(trimmed, Vec::from_iter(number.checked_sub(kept).filter(|&gone| gone > 0)), "{mount} {secret} {number}");
                assert_eq!(metadata.oldest, (number + 1).saturating_sub(kept));
                assert_eq!(metadata.versions.len() as u64, number.min(kept));
            }
        }
    }

    #[test]
    fn a_lowered_number_trims_all_at_once_and_a_raised_one_brings_none_back() {
        let mut metadata = Metadata::new(Timestamp(1));
        let config = Config::default();
        for _ in 0..5 {
            metadata.add_version(&config, Timestamp(1));
        }
        metadata.versions.get_mut(&2).unwrap().destroyed = true;
        metadata.settings.max_versions = 2;
        assert_eq!(metadata.add_version(&config, Timestamp(1)), (6, vec![1, 3, 4]));
        metadata.settings.max_versions = 4;
        assert_eq!(metadata.add_version(&config, Timestamp(1)), (7, vec![]));
        assert_eq!(metadata.versions.keys().copied().collect::<Vec<_>>(), [5, 6, 7]);
    }
}
