//! Golden bytes of the service's records, kept in `tests/golden/service` and never edited: what was written once is read for ever.

use prost::Message;
use proto::stored;
use proto::stored::chore::Task;
use proto::stored::lease::What;
use proto::stored::wrapped_answer::Answer as Kept;

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
    let schedule = stored::SnapshotSchedule {
        interval_s: 86_400,
        retain: 7,
        path_prefix: "/backups".into(),
        file_prefix: "daily".into(),
        local_max_space: 1_000_000,
        without_drill: true,
        changed_ms: 1_795_510_800_000,
    };
    golden!("snapshot-schedule-v1.bin", schedule);
    let status = stored::SnapshotScheduleStatus {
        consecutive_errors: 1,
        last_start_ms: 2,
        last_end_ms: 3,
        last_error: "no room".into(),
        last_file: "/backups/daily-1.snap".into(),
        last_node: "n2".into(),
        next_start_ms: 7,
        last_saved_ms: 8,
        restorable_saved_ms: 9,
        drill_ms: 10,
        drill_error: "cut".into(),
        drill_records: 12,
        drill_state_hash: "ab".into(),
    };
    golden!("snapshot-schedule-status-v1.bin", status);
    let autopilot = crate::autopilot::Config { cleanup_dead_servers: true, min_quorum: 3, ..crate::autopilot::Config::default() };
    golden!("autopilot-v1.bin", autopilot.stored());
    golden!("journal-joined-v1.bin", stored::JournalJoined { sequence: 5, hash: vec![7; 32] });
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

#[test]
fn settings_of_version_1() {
    let cors = stored::Cors { origins: vec!["https://a.example".into()], headers: vec!["X-Vault-Token".into(), "X-Team".into()] };
    golden!("cors-v1.bin", cors);
    let header = stored::UiHeader { name: "X-Frame-Options".into(), values: vec!["DENY".into(), "a, b".into()] };
    golden!("ui-headers-v1.bin", stored::UiHeaders { headers: vec![header] });
    let version = stored::Version { version: "0.1.0".into(), source_date: "2026-11-24T00:00:00Z".into(), led_ms: 1_795_510_800_000 };
    golden!("versions-v1.bin", stored::Versions { versions: vec![version] });
}

#[test]
fn mounts_namespaces_and_wrapped_answers_of_version_1() {
    let mount = stored::Mount {
        path: "auth/up/".into(),
        kind: "userpass".into(),
        uuid: "uuid".into(),
        accessor: "auth_userpass_1234abcd".into(),
        description: "people".into(),
        options: [("version".to_owned(), "2".to_owned())].into(),
        lease_ttl_default_s: 3600,
        lease_ttl_max_s: 7200,
        listing_visibility: "unauth".into(),
        audit_non_hmac_request_keys: vec!["a".into()],
        audit_non_hmac_response_keys: vec!["b".into()],
        passthrough_request_headers: vec!["x-a".into()],
        allowed_response_headers: vec!["x-b".into()],
        token_type: "batch".into(),
        user_lockout: Some(stored::UserLockout { threshold: 3, duration_s: 300, counter_reset_s: 600, disabled: true }),
        // Off leaves no byte: the golden ones are those of the version before these fields.
        force_no_cache: false,
        upgrading: false,
    };
    golden!("mounts-v1.bin", stored::MountTable { mounts: vec![mount] });
    let moved = stored::Move { id: "id".into(), from: "kv/".into(), to: "a/kv/".into() };
    golden!("moves-v1.bin", stored::Moves { moves: vec![moved] });
    let namespace = stored::Namespace {
        id: "nsAb12".into(),
        uuid: "uuid".into(),
        custom_metadata: [("a".to_owned(), "b".to_owned())].into(),
        tainted: true,
    };
    golden!("namespace-v1.bin", namespace);
    golden!("namespace-path-v1.bin", stored::NamespacePath { path: "a/b".into() });
    let wrapped = |answer| stored::WrappedAnswer {
        created_ms: 1_795_510_800_000,
        ttl_ms: 60_000,
        path: "kv/data/x".into(),
        warnings: vec!["mind".into()],
        answer: Some(answer),
    };
    golden!("wrapped-data-v1.bin", wrapped(Kept::Data(b"{}".to_vec())));
    golden!("wrapped-gone-v1.bin", wrapped(Kept::Gone(b"{}".to_vec())));
    let leased = stored::WrappedLeased { data: b"{}".to_vec(), lease_id: "db/creds/a/1".into(), duration_ms: 3_600_000, renewable: true };
    golden!("wrapped-leased-v1.bin", wrapped(Kept::Leased(leased)));
    let auth = stored::WrappedAuth {
        client_token: b"hvs.text".to_vec(),
        accessor: "accessor".into(),
        policies: vec!["p".into()],
        metadata: [("a".to_owned(), "b".to_owned())].into(),
        ttl_ms: 3_600_000,
        renewable: true,
        batch: true,
        orphan: true,
        uses: 5,
    };
    golden!("wrapped-auth-v1.bin", wrapped(Kept::Auth(auth)));
    let chore = |task| stored::Chore { task: Some(task), attempts: 3, last_error: "away".into(), due_ms: 1_795_510_800_000 };
    let gone = stored::GoneMount {
        namespace_id: "nsAb12".into(),
        path: "auth/up/".into(),
        accessor: "auth_userpass_1234abcd".into(),
        after: "login/bob/h07".into(),
    };
    golden!("chore-end-mount-leases-v1.bin", chore(Task::EndMountLeases(gone)));
    let mount = stored::MountReference { namespace_id: "nsAb12".into(), uuid: "uuid".into() };
    golden!("chore-upgrade-mount-v1.bin", chore(Task::UpgradeMount(mount)));
}

#[test]
fn acts_on_the_keys_of_version_1() {
    let recipient = |name: &str, key: &[u8]| stored::ShareRecipient { name: name.into(), key: key.to_vec(), fingerprint: "ab12".into() };
    let rekey = stored::RekeyDetails {
        shares: 2,
        threshold: 2,
        recipients: vec![recipient("Ada", b"age1ada"), recipient("Grace", b"age1grace")],
        backup: true,
    };
    golden!("rekey-details-v1.bin", rekey);
    let root = stored::GenerateRootDetails { otp: "password".into(), recipient: b"age1ada".to_vec(), fingerprint: "ab12".into() };
    golden!("generate-root-details-v1.bin", root);
    golden!("seal-change-v1.bin", stored::SealChange { key_id: "2026".into(), remove: true });
    let share = stored::EncryptedShare { fingerprint: "ab12".into(), message: vec![1, 2, 3] };
    golden!("shares-backup-v1.bin", stored::SharesBackup { nonce: "nonce".into(), shares: vec![share] });
}
