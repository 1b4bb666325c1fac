//! Golden bytes of the service's records, kept in `tests/golden/service` and never edited: what was written once is read for ever.

use prost::Message;
use proto::stored;
use proto::stored::chore::Task;
use proto::stored::lease::What;

fn check<M: Message + Default + PartialEq>(name: &str, message: &M, golden: &[u8]) {
    assert_eq!(hex::encode(message.encode_to_vec()), hex::encode(golden), "{name} is not what this version's format says");
    assert!(M::decode(golden).is_ok_and(|decoded| decoded == *message), "{name} is not read back");
}

macro_rules! golden {
    ($name:literal, $message:expr) => {
        check($name, &$message, include_bytes!(concat!("../../../tests/golden/service/", $name)))
    };
}

fn reference() -> stored::TokenParent {
    stored::TokenParent { namespace_id: "root".into(), tag: vec![7; 32] }
}

fn lease() -> stored::LeaseReference {
    stored::LeaseReference { namespace_id: "nsAb12".into(), lease_id: "db/creds/a/1".into(), at_once: true, force: true }
}

#[test]
fn records_of_version_1() {
    let token = stored::Token {
        accessor: "accessor".into(),
        policies: vec!["default".into(), "p".into()],
        display_name: "token-ci".into(),
        created_ms: 1_795_510_800_000,
        ttl_ms: 3_600_000,
        path: "auth/token/create/r".into(),
        orphan: true,
        meta: [("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())].into(),
        expires_ms: 1_795_514_400_000,
        renewed_ms: 1_795_510_860_000,
        renewable: true,
        period_ms: 60_000,
        explicit_max_ttl_ms: 7_200_000,
        max_ttl_ms: 3_700_000,
        uses_left: 5,
        role: "r".into(),
        parent: Some(reference()),
        bound_cidrs: vec!["10.0.0.0/8".into()],
        mount_accessor: "auth_token_1234abcd".into(),
        namespace_id: "root".into(),
        internal: [("user".to_owned(), "u".to_owned())].into(),
        batch: true,
        children_are_orphans: true,
    };
    golden!("token-v1.bin", token);
    golden!("token-accessor-v1.bin", stored::TokenAccessor { tag: vec![7; 32] });
    let role = stored::TokenRole {
        allowed_policies: vec!["p".into()],
        disallowed_policies: vec!["q".into()],
        allowed_policies_glob: vec!["a*".into()],
        disallowed_policies_glob: vec!["z*".into()],
        orphan: true,
        renewable: true,
        period_ms: 60_000,
        explicit_max_ttl_ms: 7_200_000,
        bound_cidrs: vec!["10.0.0.0/8".into()],
        no_default_policy: true,
        uses: 5,
        token_type: "service".into(),
        path_suffix: "s".into(),
        allowed_entity_aliases: vec!["e".into()],
    };
    golden!("token-role-v1.bin", role);
    golden!("lease-token-v1.bin", stored::Lease { what: Some(What::TokenTag(vec![7; 32])) });
    let secret = stored::SecretLease {
        mount_accessor: "db_1234abcd".into(),
        kind: "db".into(),
        payload: vec![1, 2, 3],
        created_ms: 1_795_510_800_000,
        expires_ms: 1_795_514_400_000,
        renewed_ms: 1_795_510_860_000,
        renewable: true,
        max_ttl_ms: 7_200_000,
        token: Some(reference()),
        bound_ms: 1_795_514_400_000,
    };
    golden!("lease-secret-v1.bin", stored::Lease { what: Some(What::Secret(secret)) });
    let chore = |task| stored::Chore { task: Some(task), attempts: 3, last_error: "away".into(), due_ms: 1_795_510_800_000 };
    golden!("chore-expire-token-v1.bin", chore(Task::ExpireToken(reference())));
    golden!("chore-revoke-children-v1.bin", chore(Task::RevokeChildren(reference())));
    golden!("chore-purge-mount-v1.bin", chore(Task::PurgeMount("uuid".into())));
    golden!("chore-purge-namespace-v1.bin", chore(Task::PurgeNamespace("nsAb12".into())));
    golden!("chore-orphan-children-v1.bin", chore(Task::OrphanChildren(reference())));
    golden!("chore-revoke-lease-v1.bin", chore(Task::RevokeLease(lease())));
    golden!("chore-revoke-prefix-v1.bin", chore(Task::RevokePrefix(lease())));
}
