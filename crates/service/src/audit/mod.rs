//! Audit: with a device on, no secret leaves and no state changes unless the request's record is durable. Fails closed.
//!
//! Two records a request: one before anything is done, one before anything is told. Of several devices one that works is
//! enough. Strings and numbers of bodies are shown as HMAC-SHA256 by a key of the device.

mod device;
mod record;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use barrier::{Barrier, Name, Plan, View};
use crypto::SecretBytes;
use engine::PlanError;
use prost::Message;
use proto::stored;
use types::Revision;

pub(crate) use device::{FileDevice, probe};
pub(crate) use record::{Event, Stage, parse_body};

/// Audit devices in one cluster, at most.
pub const DEVICES_MAX: usize = 16;

/// One device, as it is configured.
#[derive(Clone)]
pub struct DeviceConfig {
    /// Ends with `/`.
    pub path: String,
    /// Names its key.
    pub uuid: String,
    /// For people.
    pub description: String,
    /// As the operator gave them: `file_path`.
    pub options: BTreeMap<String, String>,
}

impl DeviceConfig {
    fn file(&self) -> PathBuf {
        self.options.get("file_path").map(PathBuf::from).unwrap_or_default()
    }
}

/// All devices at one revision.
#[derive(Default)]
pub struct AuditTable {
    revision: Revision,
    devices: Vec<DeviceConfig>,
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
            options: device.options.into_iter().collect(),
        });
        Some(AuditTable { revision: Revision::ABSENT, devices: devices.collect() })
    }

    /// Plans to store the table, if nobody has changed it since it was loaded.
    pub(crate) fn store(&self, plan: &mut Plan) {
        let devices = self.devices.iter().map(|device| stored::AuditDevice {
            path: device.path.clone(),
            kind: "file".into(),
            uuid: device.uuid.clone(),
            description: device.description.clone(),
            options: device.options.clone().into_iter().collect(),
        });
        plan.expect(AuditTable::name(), self.revision);
        plan.put(AuditTable::name(), SecretBytes::from(stored::AuditTable { devices: devices.collect() }.encode_to_vec()));
    }

    pub(crate) fn devices(&self) -> &[DeviceConfig] {
        &self.devices
    }

    /// The table with one more device; an error text for the caller when it cannot be there.
    pub(crate) fn with(mut self, device: DeviceConfig) -> Result<AuditTable, String> {
        if self.devices.iter().any(|other| other.path == device.path) {
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
}

/// No device took the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotRecorded;

/// The devices of this node, open. Made anew when the table changes; devices that stay are kept open.
#[derive(Default)]
pub(crate) struct Broker {
    devices: Vec<(DeviceConfig, Arc<FileDevice>)>,
}

impl Broker {
    /// Opens what is new, keeps what stays, drops the rest. `None` when sealed: a device left out would record nothing.
    pub(crate) fn renew(&self, table: &AuditTable, barrier: &Barrier) -> Option<Broker> {
        let open = |config: &DeviceConfig| {
            let kept = self.devices.iter().find(|(known, _)| known.uuid == config.uuid).map(|(_, device)| Arc::clone(device));
            let device = match kept {
                Some(device) => device,
                None => {
                    let key = barrier.with_keyring(|keyring| keyring.audit_key(&config.uuid))?;
                    Arc::new(FileDevice::open(config.file(), key))
                }
            };
            Some((config.clone(), device))
        };
        Some(Broker { devices: table.devices.iter().map(open).collect::<Option<_>>()? })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.devices.is_empty()
    }

    /// Returns once one device at least has the record on stable storage; with no device at all, at once.
    pub(crate) async fn record(&self, event: &Event<'_>) -> Result<(), NotRecorded> {
        if self.devices.is_empty() {
            return Ok(());
        }
        let writes = self.devices.iter().map(|(config, device)| async move {
            let line = event.line(device.key());
            match device.write(line).await {
                Ok(()) => true,
                Err(error) => {
                    tracing::error!(device = %config.path, %error, "an audit device fails");
                    false
                }
            }
        });
        // All are waited for: a record that is in one device should be in the others too.
        let mut recorded = false;
        for write in writes {
            recorded |= write.await;
        }
        if recorded { Ok(()) } else { Err(NotRecorded) }
    }
}
