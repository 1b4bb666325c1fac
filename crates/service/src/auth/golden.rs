//! What the methods store, byte for byte: one golden file for all their records, each behind its length (u32, big-endian).

use std::collections::BTreeMap;

use prost::Message;
use proto::stored::{AppRole, AppRoleAccessor, AppRoleName, AppRoleSecretId, TokenParameters, Unlock, UserpassUser};

fn token() -> TokenParameters {
    TokenParameters {
        policies: vec!["a".into(), "b".into()],
        ttl_s: 1,
        max_ttl_s: 2,
        explicit_max_ttl_s: 3,
        period_s: 4,
        uses: 5,
        no_default_policy: true,
        bound_cidrs: vec!["10.0.0.0/8".into()],
        strictly_bind_address: true,
        kind: "service".into(),
        old_names: vec!["policies".into()],
    }
}

fn records() -> Vec<Vec<u8>> {
    vec![
        UserpassUser { id: "id".into(), password_hash: "$argon2id$…".into(), token: Some(token()) }.encode_to_vec(),
        Unlock { unlocked_ms: 6 }.encode_to_vec(),
        AppRole {
            id: "id".into(),
            role_id: "role".into(),
            bind_secret_id: true,
            secret_id_bound_cidrs: vec!["::1".into()],
            secret_id_uses: 7,
            secret_id_ttl_s: 8,
            local_secret_ids: true,
            token: Some(token()),
        }
        .encode_to_vec(),
        AppRoleName { name: "name".into() }.encode_to_vec(),
        AppRoleSecretId {
            accessor: "accessor".into(),
            created_ms: 9,
            updated_ms: 10,
            expires_ms: 11,
            ttl_s: 12,
            uses_left: 13,
            metadata: BTreeMap::from([("k".into(), "v".into())]),
            bound_cidrs: vec!["1.2.3.4".into()],
            token_bound_cidrs: vec!["5.6.7.8".into()],
        }
        .encode_to_vec(),
        AppRoleAccessor { tag: vec![14; 32] }.encode_to_vec(),
    ]
}

#[test]
fn golden_bytes_of_version_1() {
    let golden = include_bytes!("../../../../tests/golden/service/auth-records-v1.bin");
    let mut bytes = Vec::new();
    for record in records() {
        bytes.extend(u32::try_from(record.len()).unwrap().to_be_bytes());
        bytes.extend(record);
    }
    assert_eq!(bytes, golden, "{}", hex::encode(&bytes));
}
