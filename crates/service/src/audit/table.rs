//! The cluster's audit devices and audited headers, in one record.

use std::collections::BTreeMap;

use barrier::{Name, Plan, View};
use crypto::SecretBytes;
use engine::PlanError;
use prost::Message;
use proto::stored;
use types::Revision;

use super::record::AuditedHeaders;

/// Audit devices in one cluster, at most.
pub const DEVICES_MAX: usize = 16;
/// Request headers that are shown in records, at most.
pub const HEADERS_MAX: usize = 128;

/// One device, as it is configured.
#[derive(Clone)]
pub struct DeviceConfig {
    /// Ends with `/`.
    pub path: String,
    /// Names its key.
    pub uuid: String,
    /// For people.
    pub description: String,
    /// As the operator gave them.
    pub options: BTreeMap<String, String>,
    /// As the operator said. Every node has every device; Vault's replication between clusters, which this is about, is not ours.
    pub local: bool,
}

/// All devices and headers at one revision.
#[derive(Default)]
pub struct AuditTable {
    revision: Revision,
    devices: Vec<DeviceConfig>,
    headers: AuditedHeaders,
}

impl AuditTable {
    /// The record's name.
    pub(crate) fn name() -> Name {
        Name::new("core/audit")
    }

    /// Reads the table to change it; an absent record is an empty table.
    pub(crate) fn load(view: &View) -> Result<AuditTable, PlanError> {
        let found = view.read(&AuditTable::name())?;
        let table = match found.value {
            // EXPOSE: the record is decoded.
            Some(value) => AuditTable::decode(value.expose()).ok_or(PlanError::Malformed)?,
            None => AuditTable::default(),
        };
        Ok(AuditTable { revision: found.revision, ..table })
    }

    /// The table as it is stored; its revision is not known.
    pub(crate) fn decode(bytes: &[u8]) -> Option<AuditTable> {
        let table = stored::AuditTable::decode(bytes).ok()?;
        let devices = table.devices.into_iter().map(|device| DeviceConfig {
            path: device.path,
            uuid: device.uuid,
            description: device.description,
            options: device.options,
            local: device.local,
        });
        Some(AuditTable { revision: Revision::ABSENT, devices: devices.collect(), headers: table.headers })
    }

    /// Plans to store the table, if nobody has changed it since it was loaded.
    pub(crate) fn store(&self, plan: &mut Plan) {
        let devices = self.devices.iter().map(|device| stored::AuditDevice {
            path: device.path.clone(),
            kind: "file".into(),
            uuid: device.uuid.clone(),
            description: device.description.clone(),
            options: device.options.clone(),
            local: device.local,
        });
        let table = stored::AuditTable { devices: devices.collect(), headers: self.headers.clone() };
        plan.expect(AuditTable::name(), self.revision);
        plan.put(AuditTable::name(), SecretBytes::from(table.encode_to_vec()));
    }

    pub(crate) fn devices(&self) -> &[DeviceConfig] {
        &self.devices
    }

    /// The device at `path`, which ends with `/`.
    pub(crate) fn device(&self, path: &str) -> Option<&DeviceConfig> {
        self.devices.iter().find(|device| device.path == path)
    }

    /// The table with one more device; an error text for the caller when it cannot be there. No device lies below another.
    pub(crate) fn with(mut self, device: DeviceConfig) -> Result<AuditTable, String> {
        if self.devices.iter().any(|other| other.path.starts_with(&device.path) || device.path.starts_with(&other.path)) {
            return Err("path already in use".into());
        }
        if self.devices.len() >= DEVICES_MAX {
            return Err(format!("there are {DEVICES_MAX} audit devices already, which is the limit"));
        }
        self.devices.push(device);
        Ok(self)
    }

    /// The table without the device at `path`; `None` when there is none.
    pub(crate) fn without(mut self, path: &str) -> Option<AuditTable> {
        let place = self.devices.iter().position(|device| device.path == path)?;
        self.devices.remove(place);
        Some(self)
    }

    /// Which headers are shown, by lower-case name, and whether as HMACs.
    pub(crate) fn headers(&self) -> &AuditedHeaders {
        &self.headers
    }

    /// The table with this header (lower-case); an error text for the caller when it cannot be there.
    pub(crate) fn with_header(mut self, name: String, hmac: bool) -> Result<AuditTable, String> {
        self.headers.insert(name, hmac);
        if self.headers.len() > HEADERS_MAX {
            return Err(format!("{HEADERS_MAX} request headers are audited already, which is the limit"));
        }
        Ok(self)
    }

    /// The table without this header; `None` when it is not there.
    pub(crate) fn without_header(mut self, name: &str) -> Option<AuditTable> {
        self.headers.remove(name)?;
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use barrier::testing::MemoryBarrier;

    use super::*;

    fn device(path: &str) -> DeviceConfig {
        let options = BTreeMap::from([("file_path".into(), "/a.log".into())]);
        DeviceConfig { path: path.into(), uuid: format!("uuid of {path}"), description: "d".into(), options, local: true }
    }

    fn empty() -> AuditTable {
        AuditTable { revision: Revision::ABSENT, devices: Vec::new(), headers: AuditedHeaders::new() }
    }

    #[test]
    fn what_is_stored_is_loaded() {
        let barrier = MemoryBarrier::new(1);
        let view = barrier.view();
        let table = AuditTable::load(&view).unwrap().with(device("file/")).unwrap_or_else(|why| panic!("{why}"));
        let table = table.with_header("x-a".into(), true).unwrap_or_else(|why| panic!("{why}"));
        let mut plan = Plan::new();
        table.store(&mut plan);
        assert!(barrier.commit(&view, &plan));
        assert!(!barrier.commit(&view, &plan), "made from a table that has changed meanwhile");
        let table = AuditTable::load(&barrier.view()).unwrap();
        let loaded = table.device("file/").expect("it was stored");
        assert_eq!((&*loaded.uuid, &*loaded.description, &loaded.options, loaded.local), ("uuid of file/", "d", &device("").options, true));
        assert_eq!(table.headers(), &AuditedHeaders::from([("x-a".into(), true)]));
    }

    #[test]
    fn no_device_lies_in_another() {
        let table = || empty().with(device("file/")).and_then(|table| table.with(device("a/b/")));
        for (path, fits) in [("file/", false), ("file/x/", false), ("a/", false), ("a/b/", false), ("a/c/", true), ("fil/", true)] {
            assert_eq!(table().and_then(|table| table.with(device(path))).is_ok(), fits, "{path}");
        }
    }

    #[test]
    fn devices_and_headers_are_limited() {
        let mut table = empty();
        for at in 0..DEVICES_MAX {
            table = table.with(device(&format!("{at}/"))).unwrap_or_else(|why| panic!("{why}"));
        }
        let mut table = table.without("3/").expect("it is there").with(device("x/")).unwrap_or_else(|why| panic!("{why}"));
        for at in 0..HEADERS_MAX {
            table = table.with_header(format!("x-{at}"), true).unwrap_or_else(|why| panic!("{why}"));
        }
        let mut table = table.with_header("x-0".into(), false).unwrap_or_else(|why| panic!("a known one is changed: {why}"));
        table = table.without_header("x-1").expect("it is there").with_header("x-new".into(), true).unwrap_or_else(|why| panic!("{why}"));
        assert!(table.with_header("x-more".into(), true).is_err());
        assert!(empty().without("no/").is_none() && empty().without_header("no").is_none());
    }
}
