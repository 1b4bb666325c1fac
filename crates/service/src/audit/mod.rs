//! Audit: with a device on, no secret leaves and no state changes unless the request's record is durable. Fails closed.
//!
//! Two records a request: one before anything is done, one before anything is told. All devices get them; one that took it is
//! enough. Secrets are shown as HMAC-SHA256 by a key of the device.

mod device;
mod file;
mod json;
mod options;
mod record;
mod redact;
mod table;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use barrier::View;
use crypto::MacKey;

use device::FileDevice;
use file::Sink;

pub use device::RECORD_DURATION_MAX;
pub(crate) use options::DeviceOptions;
pub(crate) use record::{Answered, Asked, AuditedHeaders, Auth, Event, GrantingPolicy, JournalEvent, MountShown, PolicyResults, WrapInfo};
pub use table::{AuditTable, DEVICES_MAX, DeviceConfig, HEADERS_MAX};

/// How long a look at a file may take when a device is turned on.
const PROBE_DURATION_MAX: Duration = Duration::from_secs(10);

/// No device took the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotRecorded;

/// What was not recorded since the service was built.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFailures {
    /// Requests that no device took, and that were therefore refused.
    pub requests: u64,
    /// Responses that no device took, and that were therefore not told.
    pub responses: u64,
    /// By the path of each device that is on: the records that it did not take, whether another did or not.
    pub devices: Vec<(String, u64)>,
}

/// Counts that outlive a change of the table.
#[derive(Default)]
struct Counts {
    requests: AtomicU64,
    responses: AtomicU64,
}

/// The devices of this node, open. Made anew when the table changes; devices that stay are kept open.
#[derive(Default)]
pub(crate) struct Broker {
    devices: Vec<(DeviceConfig, Arc<FileDevice>)>,
    headers: AuditedHeaders,
    counts: Arc<Counts>,
}

impl Broker {
    /// Opens what is new, keeps what stays, drops the rest. `None` when sealed: a device left out would record nothing.
    pub(crate) fn renew(&self, table: &AuditTable, view: &View) -> Option<Broker> {
        self.renew_with(table, |uuid| view.audit_key(uuid))
    }

    fn renew_with(&self, table: &AuditTable, key: impl Fn(&str) -> Option<MacKey>) -> Option<Broker> {
        let open = |config: &DeviceConfig| {
            let kept = self.devices.iter().find(|(known, _)| known.uuid == config.uuid).map(|(_, device)| Arc::clone(device));
            let device = match kept {
                Some(device) => device,
                None => {
                    let key = key(&config.uuid)?;
                    // A device of a newer version, say: it records nothing here, and nobody must think that it does.
                    Arc::new(match DeviceOptions::parse(&config.options) {
                        Ok(options) => FileDevice::open(&config.path, &options, key),
                        Err(error) => FileDevice::unusable(&config.path, key, &error.to_string()),
                    })
                }
            };
            Some((config.clone(), device))
        };
        let devices = table.devices().iter().map(open).collect::<Option<_>>()?;
        Some(Broker { devices, headers: table.headers().clone(), counts: Arc::clone(&self.counts) })
    }

    /// Returns once every device has taken the record or failed to, and one has taken it; with no device at all, at once.
    ///
    /// A record that is refused, or whose call is dropped, may still be written.
    pub(crate) async fn record(&self, event: &Event<'_>) -> Result<(), NotRecorded> {
        if self.devices.is_empty() {
            return Ok(());
        }
        let taken = futures::future::join_all(self.devices.iter().map(|(_, device)| device.record(event, &self.headers))).await;
        if taken.contains(&true) {
            return Ok(());
        }
        let count = if event.response.is_none() { &self.counts.requests } else { &self.counts.responses };
        count.fetch_add(1, Ordering::Relaxed);
        Err(NotRecorded)
    }

    /// Whether a device is on.
    pub(crate) fn is_on(&self) -> bool {
        !self.devices.is_empty()
    }

    /// As [`Broker::record`], of the journal: nobody's request depends on it.
    pub(crate) async fn record_journal(&self, event: &JournalEvent<'_>) -> Result<(), NotRecorded> {
        let taken = futures::future::join_all(self.devices.iter().map(|(_, device)| device.record_journal(event))).await;
        if taken.contains(&true) { Ok(()) } else { Err(NotRecorded) }
    }

    /// Has every device's file closed and opened anew.
    pub(crate) fn reopen(&self) {
        self.devices.iter().for_each(|(_, device)| device.reopen());
    }

    /// What was not recorded so far.
    pub(crate) fn failures(&self) -> AuditFailures {
        AuditFailures {
            requests: self.counts.requests.load(Ordering::Relaxed),
            responses: self.counts.responses.load(Ordering::Relaxed),
            devices: self.devices.iter().map(|(config, device)| (config.path.clone(), device.failures())).collect(),
        }
    }
}

/// Whether a device of these options can record on this node: opens its file, and makes it if it is not there. An error text for
/// the caller. Asked before a device is turned on. When the call is dropped, the file may still be made.
pub(crate) async fn probe(options: &DeviceOptions) -> Result<(), String> {
    let mut sink = Sink::new(&options.target, &options.prefix);
    let (reply, answer) = tokio::sync::oneshot::channel();
    // In a thread of its own, which may hang on a file system that does not answer.
    let probing = std::thread::Builder::new().name("audit-probe".into()).spawn(move || reply.send(sink.probe()));
    let opened = match probing {
        Ok(_) => match tokio::time::timeout(PROBE_DURATION_MAX, answer).await {
            Ok(Ok(opened)) => opened.map_err(|error| error.to_string()),
            Ok(Err(_)) => Err("the thread has ended".to_owned()),
            Err(_) => Err(format!("nothing came of it for {} s", PROBE_DURATION_MAX.as_secs())),
        },
        Err(error) => Err(format!("no thread: {error}")),
    };
    opened.map_err(|why| format!("sanity check failed; unable to open the file for writing: {why}"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use barrier::Plan;
    use barrier::testing::MemoryBarrier;
    use types::{RequestId, Timestamp};
    use uuid::Uuid;

    use super::*;

    fn config(path: &str, options: &[(&str, &str)]) -> DeviceConfig {
        let options: BTreeMap<_, _> = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        DeviceConfig { path: path.into(), uuid: format!("uuid of {path}"), description: String::new(), options, local: false }
    }

    fn table(barrier: &MemoryBarrier, devices: &[DeviceConfig]) -> AuditTable {
        let load = || AuditTable::load(&barrier.view()).unwrap();
        let mut table = load();
        for path in table.devices().iter().map(|device| device.path.clone()).collect::<Vec<_>>() {
            table = table.without(&path).expect("it is there");
        }
        for device in devices {
            table = table.with(device.clone()).unwrap_or_else(|why| panic!("{why}"));
        }
        let mut plan = Plan::new();
        table.store(&mut plan);
        assert!(barrier.commit(&barrier.view(), &plan));
        load()
    }

    fn renewed(broker: &Broker, barrier: &MemoryBarrier, devices: &[DeviceConfig]) -> Broker {
        let table = table(barrier, devices);
        broker.renew_with(&table, |uuid| Some(barrier.with_keyring(|keyring| keyring.audit_key(uuid)))).expect("not sealed")
    }

    async fn record(broker: &Broker, response: bool) -> bool {
        let request = Asked { client_token: Some(b"canary"), ..Asked::new(RequestId(Uuid::nil()), "read", "secret/data/app") };
        let response = response.then(Answered::default);
        broker.record(&Event { time: Timestamp(0), auth: Auth::default(), request, response, error: None }).await.is_ok()
    }

    fn lines(path: &Path) -> Vec<String> {
        std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
    }

    #[tokio::test]
    async fn one_device_that_works_is_enough_and_none_is_not() {
        let (dir, barrier) = (tempfile::tempdir().unwrap(), MemoryBarrier::new(1));
        let (good, folder) = (dir.path().join("good"), dir.path().join("none"));
        let bad = folder.join("bad");
        let devices = [config("bad/", &[("file_path", bad.to_str().unwrap())]), config("good/", &[("file_path", good.to_str().unwrap())])];
        let none = Broker::default();
        assert!(record(&none, false).await, "with no device on nothing is recorded");

        let both = renewed(&none, &barrier, &devices);
        assert!(record(&both, false).await && record(&both, true).await);
        assert_eq!(lines(&good).len(), 2);
        let counted = |requests, responses, devices: &[(&str, u64)]| AuditFailures {
            requests,
            responses,
            devices: devices.iter().map(|(path, count)| ((*path).to_owned(), *count)).collect(),
        };
        assert_eq!(both.failures(), counted(0, 0, &[("bad/", 2), ("good/", 0)]));

        let only_bad = renewed(&both, &barrier, &devices[..1]);
        assert!(!record(&only_bad, false).await && !record(&only_bad, true).await && !record(&only_bad, true).await);
        assert_eq!(only_bad.failures(), counted(1, 2, &[("bad/", 5)]), "the device was kept, and so were the counts");
        std::fs::create_dir(&folder).unwrap();
        assert!(record(&only_bad, false).await);
        assert_eq!((lines(&bad).len(), lines(&good).len()), (1, 2));
    }

    #[tokio::test]
    async fn each_device_has_a_key_of_its_own_and_keeps_it() {
        let (dir, barrier) = (tempfile::tempdir().unwrap(), MemoryBarrier::new(1));
        let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let (a, b) = (path("a"), path("b"));
        let devices = [config("a/", &[("file_path", &a)]), config("b/", &[("file_path", &b)])];
        for _ in 0..2 {
            assert!(record(&renewed(&Broker::default(), &barrier, &devices), false).await);
        }
        let (a, b) = (lines(Path::new(&a)), lines(Path::new(&b)));
        assert_eq!(a[0], a[1], "the same after a restart");
        assert_ne!(a[0], b[0]);
        assert!(!a[0].contains("canary"));
    }

    #[tokio::test]
    async fn a_device_of_unknown_options_records_nothing_and_says_so() {
        let barrier = MemoryBarrier::new(1);
        let broker = renewed(&Broker::default(), &barrier, &[config("new/", &[("file_path", "/tmp/x"), ("newer", "x")])]);
        assert!(!record(&broker, false).await);
        let table = AuditTable::load(&barrier.view()).unwrap();
        assert!(Broker::default().renew_with(&table, |_| None).is_none(), "sealed: no key, and no broker without the device");
    }

    #[tokio::test]
    async fn a_probe_makes_the_file_or_tells_why_not() {
        let dir = tempfile::tempdir().unwrap();
        let probed = async |path: &Path| {
            let config = config("", &[("file_path", path.to_str().unwrap())]);
            probe(&DeviceOptions::parse(&config.options).unwrap()).await
        };
        assert_eq!(probed(&dir.path().join("a")).await, Ok(()));
        assert!(dir.path().join("a").exists());
        let refused = probed(dir.path()).await.unwrap_err();
        assert!(refused.starts_with("sanity check failed; unable to open the file for writing: "), "{refused}");
    }
}
