//! Rotation, renewed shares and generated root tokens, by OpenBao's newer verbs and by Vault's.

use crate::check::Want::{Json, Says, Warns};
use crate::step::{Step, step};

pub(super) const STEPS: &[Step] = &[
    // The key that encrypts.
    step("key status", "operator key-status -format=json", 0).arbitrary(&["/encryptions", "/install_time"]),
    step("rotate", "operator rotate -format=json", 0).arbitrary(&["/encryptions", "/install_time"]),
    step("rotate by the old path", "write -f sys/rotate", 0),
    step("key status after it", "read -format=json sys/key-status", 0)
        .arbitrary(&["/data/encryptions", "/data/install_time"])
        .wants(&[Json("/data/term", "3")]),
    step("when it rotates", "read -format=json sys/rotate/config", 0)
        .wants(&[Json("/data/enabled", "true"), Json("/data/max_operations", "3865470566")]),
    step("too few operations", "write sys/rotate/config max_operations=5", 2).wants(&[Warns("Code: 400"), Warns("max_operations must be")]),
    step("too short an interval", "write sys/rotate/config interval=1h", 2).wants(&[Warns("Code: 400"), Warns("interval must be")]),
    step("other times", "write sys/rotate/config max_operations=2000000 interval=48h enabled=false", 0),
    step("what is left out stays", "write sys/rotate/config enabled=true", 0),
    step("when it rotates now", "read -format=json sys/rotate/config", 0).wants(&[
        Json("/data/enabled", "true"),
        Json("/data/interval", r#""48h0m0s""#),
        Json("/data/max_operations", "2000000"),
    ]),
    step("rotate without a token", "write -f sys/rotate/keyring", 2).by("").wants(&[Warns("Code: 403")]),
    // New shares.
    step("no new shares", "operator rotate-keys -status -format=json", 0).wants(&[Json("/started", "false")]),
    step("no shares at all", "operator rotate-keys -init -key-shares=0 -key-threshold=1", 2).wants(&[Warns("Code: 400")]),
    step("a threshold of one", "operator rotate-keys -init -key-shares=3 -key-threshold=1", 2).wants(&[Warns("Code: 400")]),
    step("a backup without keys", "operator rotate-keys -init -key-shares=1 -key-threshold=1 -backup", 2).wants(&[Warns("Code: 400")]),
    step("start without a token", "operator rotate-keys -init -key-shares=3 -key-threshold=2", 2).by("").wants(&[Warns("Code: 403")]),
    step("start without verification", "operator rotate-keys -init -key-shares=3 -key-threshold=2 -format=json", 0).arbitrary(&["/nonce"]),
    step("cancel", "operator rotate-keys -cancel", 0).wants(&[Says("Success! Canceled")]),
    step("start", "operator rotate-keys -init -key-shares=3 -key-threshold=2 -verify -format=json", 0)
        .keep(&[("nonce", "/nonce")])
        .wants(&[Json("/t", "2"), Json("/n", "3"), Json("/required", "3"), Json("/verification_required", "true")]),
    step("start again", "operator rotate-keys -init -key-shares=3 -key-threshold=2", 2).arbitrary(&["stderr"]).wants(&[Warns("Code: 400")]),
    step("a wrong nonce", "operator rotate-keys -nonce=abc {share1}", 2).arbitrary(&["stderr"]).wants(&[Warns("Code: 400")]),
    step("the first share", "operator rotate-keys -nonce={nonce} -format=json {share1}", 0).wants(&[Json("/progress", "1")]),
    step("the same share", "operator rotate-keys -nonce={nonce} {share1}", 2).arbitrary(&["stderr"]).wants(&[Warns("Code: 400")]),
    step("the second share", "operator rotate-keys -nonce={nonce} -format=json {share4}", 0).wants(&[Json("/progress", "2")]),
    step("status while shares come", "operator rotate-keys -status -format=json", 0).wants(&[Json("/progress", "2")]),
    step("the last share", "operator rotate-keys -nonce={nonce} -format=json {share2}", 0)
        .keep(&[
            ("new1", "/keys_base64/0"),
            ("new2", "/keys_base64/1"),
            ("new3", "/keys_base64/2"),
            ("verification", "/verification_nonce"),
            ("hex1", "/keys/0"),
            ("hex2", "/keys/1"),
            ("hex3", "/keys/2"),
        ])
        .wants(&[Json("/complete", "true"), Json("/verification_required", "true"), Says("verification_nonce")]),
    step("status while new shares are out", "operator rotate-keys -status -format=json", 0).wants(&[Json("/started", "true")]),
    step("verification status", "operator rotate-keys -verify -status -format=json", 0).wants(&[Json("/progress", "0")]),
    step("the first new share", "operator rotate-keys -verify -nonce={verification} -format=json {new3}", 0)
        .wants(&[Json("/progress", "1")]),
    step("verification anew", "operator rotate-keys -verify -cancel", 0).arbitrary(&["stdout"]),
    step("verification status anew", "operator rotate-keys -verify -status -format=json", 0)
        .keep(&[("verification", "/nonce")])
        .wants(&[Json("/progress", "0")]),
    step("a new share", "operator rotate-keys -verify -nonce={verification} -format=json {new1}", 0).wants(&[Json("/progress", "1")]),
    step("another new share", "operator rotate-keys -verify -nonce={verification} -format=json {new3}", 0)
        .wants(&[Json("/complete", "true")]),
    step("no verification any more", "operator rotate-keys -verify -status", 2).arbitrary(&["stderr"]).wants(&[Warns("Code: 400")]),
    step("no backup", "operator rotate-keys -backup-retrieve", 2).wants(&[Warns("no backed-up keys found")]),
    step("the backup is deleted all the same", "operator rotate-keys -backup-delete", 0),
    // By Vault's verbs, with the new shares.
    step("no rekey", "operator rekey -status -format=json", 0).wants(&[Json("/started", "false"), Json("/required", "2")]),
    step("rekey", "operator rekey -init -key-shares=2 -key-threshold=2 -verify -format=json", 0)
        .keep(&[("nonce", "/nonce")])
        .wants(&[Json("/started", "true"), Json("/required", "2")]),
    step("rekey, first share", "operator rekey -nonce={nonce} -format=json {new2}", 0).wants(&[Json("/progress", "1")]),
    step("rekey, last share", "operator rekey -nonce={nonce} -format=json {new1}", 0)
        .keep(&[
            ("later1", "/keys_base64/0"),
            ("later2", "/keys_base64/1"),
            ("verification", "/verification_nonce"),
            ("hex4", "/keys/0"),
            ("hex5", "/keys/1"),
        ])
        .wants(&[Json("/complete", "true")]),
    step("rekey, first new share", "operator rekey -verify -nonce={verification} -format=json {later1}", 0)
        .wants(&[Json("/progress", "1")]),
    step("rekey, last new share", "operator rekey -verify -nonce={verification} -format=json {later2}", 0)
        .wants(&[Json("/complete", "true")]),
    step("cancel of no rekey", "operator rekey -cancel", 0),
    step("no recovery keys", "operator rotate-keys -target=recovery -init -key-shares=1 -key-threshold=1", 2)
        .arbitrary(&["stderr"])
        .wants(&[Warns("Code: 400"), Warns("not supported")]),
    // A root token.
    step("no root token", "operator generate-root -status -format=json", 0).arbitrary(&["/otp_length"]).wants(&[Json("/started", "false")]),
    step("a root token without a token", "operator generate-root -init", 2).by("").wants(&[Warns("Code: 403")]),
    step("a root token", "operator generate-root -init -format=json", 0)
        .keep(&[("nonce", "/nonce"), ("otp", "/otp")])
        .arbitrary(&["/otp_length"])
        .wants(&[Json("/started", "true"), Json("/complete", "false")]),
    step("another root token", "operator generate-root -init", 2).arbitrary(&["stderr"]).wants(&[Warns("Code: 400")]),
    step("a share for it", "operator generate-root -nonce={nonce} -format=json {later2}", 0)
        .arbitrary(&["/otp_length"])
        .wants(&[Json("/progress", "1"), Json("/complete", "false")]),
    step("the last share for it", "operator generate-root -nonce={nonce} -format=json {later1}", 0)
        .keep(&[("encoded", "/encoded_token")])
        .arbitrary(&["/otp_length"])
        .wants(&[Json("/progress", "2"), Json("/complete", "true")]),
    step("it is decoded", "operator generate-root -decode={encoded} -otp={otp}", 0).keep(&[("generated", "")]),
    step("it is a root token", "token lookup -format=json", 0)
        .by("generated")
        .arbitrary(&["/data/creation_time", "/data/issue_time", "/data/accessor"])
        .wants(&[Json("/data/policies", r#"["root"]"#), Json("/data/orphan", "true"), Json("/data/path", r#""auth/token/root""#)]),
    step("a one-time password", "operator generate-root -generate-otp -format=json", 0).arbitrary(&["", "stdout", "/otp", "/otp_length"]),
    step("a password that is too short", "operator generate-root -init -otp=short", 2).arbitrary(&["stderr"]).wants(&[Warns("Code: 400")]),
    step("cancel of no root token", "operator generate-root -cancel", 0),
];
