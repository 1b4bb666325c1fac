//! Golden bytes of the records in clear and of the barrier's own, kept in `tests/golden/barrier` and never edited: what was written once is
//! read for ever.

use bytes::Bytes;
use crypto::{Quorum, RootKey, SealKey, SeededRng};
use prost::Message;
use proto::stored;
use types::{ClusterId, Timestamp};
use uuid::Uuid;

use crate::keyring::Keyring;
use crate::records;
use crate::seals::{Holder, NewSplit, Seals, Split, StaticKey};

macro_rules! golden {
    ($name:literal, $bytes:expr) => {{
        let golden: &[u8] = include_bytes!(concat!("../../../tests/golden/barrier/", $name));
        assert_eq!(hex::encode($bytes), hex::encode(golden), "{} is not what this version's format says", $name);
        golden
    }};
}

const CLUSTER: ClusterId = ClusterId(Uuid::max());
const NOW: Timestamp = Timestamp(1_795_510_800_000);

#[test]
fn seals_and_keyring_of_version_1() {
    let rng = SeededRng::dangerous_from_seed(1);
    let root = RootKey::generate(&rng);
    let holder = |name: &str| Holder { name: name.into(), recipient: "age1example".into() };
    let split = NewSplit::new(Quorum::new(3, 2).unwrap(), ["Ada", "Grace", "Edsger"].map(holder).to_vec()).unwrap();
    let static_key = StaticKey::new("2026-11".into(), SealKey::from_slice(&[7; 32]).unwrap());
    let (seals, old) = Seals::found(&root, &split, std::slice::from_ref(&static_key), (CLUSTER, "golden"), NOW, &rng);
    let nameless = NewSplit::nameless(Quorum::new(2, 2).unwrap());
    let (seals, new) = seals.with_next(&root, &nameless, std::slice::from_ref(&static_key), NOW, &rng).unwrap();
    let keyring_key = root.derive_keyring_key();
    let (_, sealed) = Keyring::generate(&keyring_key, CLUSTER, NOW, &rng);
    let rotated = Keyring::rotated(&keyring_key, CLUSTER, &sealed, NOW, &rng).unwrap();

    let seals = Seals::decode(Bytes::from_static(golden!("seals-v1.bin", seals.encode()))).unwrap();
    let keyring = golden!("keyring-v1.bin", rotated);
    for root in [
        seals.open(Split::InForce, &old[1..]).unwrap().root,
        seals.open(Split::Next, &new).unwrap().root,
        seals.open_static(&static_key).unwrap().unwrap(),
    ] {
        assert_eq!(Keyring::open(&root.derive_keyring_key(), CLUSTER, keyring).unwrap().newest().version, 2);
    }
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
    golden!("rotation-v1.bin", stored::Rotation { disabled: true, operations_max: 1_000_000, interval_ms: 86_400_000 }.encode_to_vec());
}
