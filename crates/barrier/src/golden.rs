//! Golden bytes of the records in clear and of the barrier's own, kept in `tests/golden/barrier` and never edited: what was written once is
//! read for ever.

use bytes::Bytes;
use crypto::{SealKey, Share};
use prost::Message;
use proto::stored;
use types::{ClusterId, Timestamp};
use uuid::Uuid;

use crate::keyring::Keyring;
use crate::records;
use crate::seals::{Seals, Split, StaticKey};

macro_rules! golden {
    ($name:literal, $bytes:expr) => {{
        let golden: &[u8] = include_bytes!(concat!("../../../tests/golden/barrier/", $name));
        assert_eq!(hex::encode($bytes), hex::encode(golden), "{} is not what this version's format says", $name);
        golden
    }};
}

const CLUSTER: ClusterId = ClusterId(Uuid::max());
const NOW: Timestamp = Timestamp(1_795_510_800_000);

/// The shares that open the golden seals: of three, two are needed. They open nothing else.
const OLD: [&str; 3] = [
    "AgG/jvRuMR82PxU70vXubiQL/45N/IuZ7VhB8mgEyzbW0PKwI3bR",
    "AgK/jvRNyHyQHEtcS4vmfkEOnaJjC+DJdrAEg0a+EEu/u36fX0M/",
    "AgO/jvSnn13y9oqKPKEVhWINSE15rTL59OjMrFwjWWCYafFxgIbE",
];
/// Those of the rekey that is under way there: both are needed.
const NEW: [&str; 2] = ["AgG/jvTx8sntOldGBZtmNGIcg6ZQcc9hk0GmDHOgl4qCF5F/a0Ib", "AgK/jvRSNaOBR9k+6ehN4MSYbyT35oxYvD/zAAKBoT7g2BumH+5p"];

#[test]
fn seals_and_keyring_of_version_1() {
    let golden: &[u8] = include_bytes!("../../../tests/golden/barrier/seals-v1.bin");
    let keyring: &[u8] = include_bytes!("../../../tests/golden/barrier/keyring-v1.bin");
    let seals = Seals::decode(Bytes::from_static(golden)).unwrap();
    assert_eq!(hex::encode(seals.encode()), hex::encode(golden), "what is read is written alike");
    let shares = |texts: &[&str]| texts.iter().map(|text| Share::parse_text(text).unwrap()).collect::<Vec<_>>();
    let static_key = StaticKey::new("2026-11".into(), SealKey::from_slice(&[7; 32]).unwrap());
    for root in [
        seals.open(Split::InForce, &shares(&OLD[1..])).unwrap().root,
        seals.open(Split::Next, &shares(&NEW)).unwrap().root,
        seals.open_static(&static_key).unwrap().unwrap(),
    ] {
        assert_eq!(Keyring::open(&root.derive_keyring_key(), CLUSTER, keyring).unwrap().newest().version, 2);
    }
    let holders = seals.status_of(Split::InForce).unwrap().holders;
    assert_eq!(holders.iter().map(|holder| holder.holder.name.as_str()).collect::<Vec<_>>(), ["Ada", "Grace", "Edsger"]);
    golden!("epoch-v1.bin", records::encode_epoch(7));
}

#[test]
fn records_of_the_barrier_of_version_1() {
    let attempt = stored::Attempt {
        nonce: vec![1; 16],
        started_ms: NOW.0,
        started_by: "token-ops".into(),
        details: vec![2, 3],
        verification_nonce: vec![4; 16],
    };
    golden!("attempt-v1.bin", attempt.encode_to_vec());
    let share = stored::ShareVerified { split: "0011223344556677".into(), number: 3, verified_ms: NOW.0 };
    let rejoin = stored::Rejoin { seen_open_ms: NOW.0, seal_epoch: 3, sealed_on_purpose: true, granted_ms: vec![NOW.0 - 1, NOW.0] };
    golden!("rejoin-v1.bin", rejoin.encode_to_vec());
    golden!("shares-verified-v1.bin", stored::SharesVerified { shares: vec![share] }.encode_to_vec());
    golden!("encryptions-v1.bin", stored::Encryptions { key_version: 2, reserved: 131_072 }.encode_to_vec());
    let staging = stored::Staging {
        id: "id-1".into(),
        node_id: "n2".into(),
        snapshot_id: "2-97-1795510800000".into(),
        records: 132,
        staged: 100,
        touched_ms: NOW.0,
    };
    golden!("staging-v1.bin", staging.encode_to_vec());
    let restored = stored::RestoredCluster {
        id: "id-1".into(),
        epoch: 3,
        unfinished: true,
        replaced_cluster_ids: vec![vec![0xff; 16]],
        meta: b"{}".to_vec(),
        sums: b"sums".to_vec(),
        sealed: vec![1, 0, 0, 0, 2],
        restored_ms: NOW.0,
        actor: "root".into(),
    };
    golden!("restored-cluster-v1.bin", restored.encode_to_vec());
    let restored = stored::Restored {
        epoch: 3,
        snapshot_id: "2-97-1795510800000".into(),
        saved_ms: NOW.0 - 100_000,
        restored_ms: NOW.0,
        key_version: 2,
    };
    golden!("restored-v1.bin", restored.encode_to_vec());
    golden!("rotation-v1.bin", stored::Rotation { disabled: true, operations_max: 1_000_000, interval_ms: 86_400_000 }.encode_to_vec());
}
