//! The upgrade of a mount from version 1 to version 2 (`kv enable-versioning`), step by step.
//!
//! Always: each step is one transaction, and whatever the node that makes it does next, another node can go on. A first step only marks
//! the mount, for good: every operation of version 1 expects that there is no mark, so that after it nothing of version 1 is written, not even
//! by who planned before. The steps behind it make of each secret one with a single version, a bounded number at a time. So the size
//! of a mount is not limited, and nothing is lost that was acknowledged. Between the first step and the last the mount refuses all requests,
//! as it does in OpenBao. Two who upgrade at once do no harm: one of them conflicts.
//!
//! Knows nothing of mounts: who runs the steps sets the mount's option `version` with the first one, and has it serve nobody until the last.
//! There is no way back, as in OpenBao.

use barrier::{Name, Plan, View};
use crypto::SecretBytes;
use prost::Message;
use proto::stored::KvUpgrade;
use types::{Path, Revision, Timestamp};

use super::record::{Config, Metadata, encode_metadata};
use super::{data_name, metadata_name};
use crate::PlanError;
use crate::kv1::{secret_name, secrets_folder};

/// Secrets that one step converts, at most: with three writes each they fit in a batch.
pub const STEP_SECRETS_MAX: usize = 10_000;
/// Bytes of secrets and names after which a step ends. A secret has 8 MiB at most, and a batch may have 32 MiB.
pub const STEP_BYTES_MAX: usize = 4 << 20;
/// What the three names of one secret add to a batch, at most, for each segment and byte of its path.
const NAMES: usize = 3;
/// What encryption adds to a segment, and a record to its segments; on the safe side.
const SEGMENT_BYTES: usize = 24;
const RECORD_BYTES: usize = 256;

/// One step.
pub struct Step {
    /// What to write, in names below the mount.
    pub plan: Plan,
    /// How many secrets it converts.
    pub converted: usize,
    /// Once the plan is carried out (it may be empty) nothing of version 1 is left: the mount is one of version 2.
    pub is_last: bool,
}

/// The next step of the upgrade of the mount that `view` shows.
pub fn step(view: &View, now: Timestamp) -> Result<Step, PlanError> {
    let mut plan = Plan::new();
    let mark = view.read(&upgrade_name())?;
    plan.expect(upgrade_name(), mark.revision);
    let Some(mark) = mark.value else {
        plan.put(upgrade_name(), SecretBytes::from(encode_mark(now)));
        return Ok(Step { plan, converted: 0, is_last: false });
    };
    let started = decode_mark(&mark)?;
    // In no order, and so without looking again at what comes first.
    let names = view.names_below(&secrets_folder(), STEP_SECRETS_MAX + 1)?;
    let (mut converted, mut bytes) = (0, 0);
    for name in &names {
        if converted == STEP_SECRETS_MAX || bytes >= STEP_BYTES_MAX {
            break;
        }
        let path = Path::parse(name.as_str()).map_err(|_| PlanError::Malformed)?;
        bytes += convert(&mut plan, view, &path, started)?;
        converted += 1;
    }
    Ok(Step { plan, converted, is_last: converted == names.len() })
}

/// Makes one secret one of version 2. Returns about how many bytes that is in a batch.
fn convert(plan: &mut Plan, view: &View, path: &Path, started: Timestamp) -> Result<usize, PlanError> {
    let old = secret_name(path);
    let found = view.read(&old)?;
    let secret = found.value.ok_or(PlanError::Malformed)?;
    let bytes = secret.len() + NAMES * (path.as_str().len() + SEGMENT_BYTES * path.segments().count()) + RECORD_BYTES;
    let mut metadata = Metadata::new(started);
    let (number, _) = metadata.add_version(&Config::default(), started);
    metadata.oldest = number;
    plan.expect(old.clone(), found.revision);
    plan.delete(old);
    plan.put(metadata_name(path), SecretBytes::from(encode_metadata(&metadata)));
    plan.put(data_name(path, number), secret);
    Ok(bytes)
}

/// The record that marks a mount which is, or was, upgraded.
pub(crate) fn upgrade_name() -> Name {
    Name::new("upgrade")
}

/// The revision at which the mark is not there: what every operation of version 1 expects. Refuses once it is.
pub(crate) fn check_not_begun(view: &View) -> Result<Revision, PlanError> {
    let found = view.read(&upgrade_name())?;
    match found.value {
        None => Ok(found.revision),
        Some(_) => Err(PlanError::Refused("this mount is being upgraded to version 2 (try again when that is done)".to_owned())),
    }
}

fn encode_mark(started: Timestamp) -> Vec<u8> {
    KvUpgrade { started_ms: started.0 }.encode_to_vec()
}

fn decode_mark(value: &SecretBytes) -> Result<Timestamp, PlanError> {
    // EXPOSE: the record is read.
    let mark = KvUpgrade::decode(value.expose()).map_err(|_| PlanError::Malformed)?;
    Ok(Timestamp(mark.started_ms))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kv::Kv;
    use crate::kv1::Kv1;
    use crate::testing::{Mount, START, START_TEXT, data, version};

    #[test]
    fn golden_bytes_of_version_1() {
        let golden = include_bytes!("../../../../tests/golden/engine/kv-upgrade-v1.bin");
        assert_eq!(encode_mark(START), golden);
        assert!(decode_mark(&SecretBytes::from(golden.to_vec())).is_ok_and(|started| started == START));
        assert!(matches!(decode_mark(&SecretBytes::from(vec![0xff])), Err(PlanError::Malformed)));
    }

    /// Takes all steps. Returns how many secrets each converted.
    fn upgrade(mount: &Mount) -> Vec<usize> {
        let mut converted = Vec::new();
        loop {
            let view = mount.view();
            let step = step(&view, mount.now()).unwrap();
            assert!(step.plan.is_empty() || mount.commit_plan(&view, &step.plan));
            converted.push(step.converted);
            if step.is_last {
                return converted;
            }
            mount.wait(1000);
        }
    }

    #[test]
    fn each_secret_gets_one_version() {
        let old = Mount::of(&Kv1);
        for (path, body) in [("a", r#"{"x":1.50}"#), ("a/b", r#"{"ttl":"1h"}"#), ("meta/a", r#"{"y":1}"#)] {
            old.ask(&format!("POST {path}"), body);
        }
        assert_eq!(upgrade(&old), [0, 3]);
        let new = old.served_by(&Kv);
        new.check("GET data/a", "", 200, &data(r#"{"x":1.50}"#, &version(1, START_TEXT, "", false)));
        new.check("GET data/a/b", "", 200, &data(r#"{"ttl":"1h"}"#, &version(1, START_TEXT, "", false)));
        new.check("SCAN metadata", "", 200, r#"["a","a/b","meta/a"]"#);
        let metadata: serde_json::Value = serde_json::from_str(&new.ask("GET metadata/a", "").body).unwrap();
        for (name, want) in [("current_version", 1), ("oldest_version", 1), ("max_versions", 0), ("current_metadata_version", 0)] {
            assert_eq!(metadata[name], want, "{name}");
        }
        // As good as one that was written so.
        let time = new.ask("POST data/a", r#"{"data":{"x":2},"options":{"cas":1}}"#);
        assert_eq!(time.status, 200);
        for _ in 0..10 {
            new.ask("POST data/a", r#"{"data":{"x":3}}"#);
        }
        new.check("GET data/a?version=1", "", 404, "");
        assert_eq!(upgrade(&new), [0], "again, there is nothing to do");
    }

    #[test]
    fn an_empty_mount_is_upgraded_too() {
        let mount = Mount::of(&Kv1);
        assert_eq!(upgrade(&mount), [0, 0]);
        mount.served_by(&Kv).check("LIST metadata", "", 404, "");
    }

    #[test]
    fn large_secrets_take_more_steps() {
        let mount = Mount::of(&Kv1);
        let body = format!(r#"{{"x":"{}"}}"#, "y".repeat(STEP_BYTES_MAX / 2));
        for number in 0..5 {
            mount.ask(&format!("POST {number}"), &body);
        }
        assert_eq!(upgrade(&mount), [0, 2, 2, 1]);
        mount.served_by(&Kv).check("LIST metadata", "", 200, r#"["0","1","2","3","4"]"#);
    }

    #[test]
    fn of_two_who_upgrade_one_conflicts() {
        let mount = Mount::of(&Kv1);
        mount.ask("POST a", r#"{"x":1}"#);
        for _ in 0..2 {
            let view = mount.view();
            let (one, other) = (step(&view, mount.now()).unwrap(), step(&view, mount.now()).unwrap());
            assert!(mount.commit_plan(&view, &one.plan));
            assert!(!mount.commit_plan(&view, &other.plan));
        }
        assert_eq!(upgrade(&mount), [0]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn nothing_is_lost_and_nothing_is_made(paths in prop::collection::btree_set("[ab](/[ab]){0,2}", 0..12)) {
            let old = Mount::of(&Kv1);
            let body = |path: &str| format!(r#"{{"path":"{path}"}}"#);
            for path in &paths {
                old.ask(&format!("POST {path}"), &body(path));
            }
            upgrade(&old);
            let mut want = vec!["upgrade".to_owned()];
            for path in &paths {
                want.extend([format!("meta/{path}"), format!("data/0000000000000001/{path}")]);
                old.served_by(&Kv).check(&format!("GET data/{path}"), "", 200, &data(&body(path), &version(1, START_TEXT, "", false)));
            }
            want.sort();
            prop_assert_eq!(old.records().into_keys().collect::<Vec<_>>(), want);
        }
    }
}
