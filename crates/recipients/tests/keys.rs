//! Keys that are refused, and why; the forms in which the same key is given.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use recipients::{AgeTextError, EncryptError, KEY_BYTES_MAX, Kind, Recipient, RecipientError, SECRET_BYTES_MAX, UnfitSubkeys};
use types::Timestamp;

/// The middle of 2026.
const NOW: Timestamp = Timestamp(1_782_000_000_000);
const CURVE: &str = include_str!("keys/curve.asc");
const RSA: &str = include_str!("keys/rsa.asc");
const CURVE_FINGERPRINT: &str = "44c67be63f10633a069df8805101041918f70ac4";
/// From the age specification's own test vectors: the public half of an identity that everybody knows.
const AGE: &str = "age1t7rxyev2z3rw82stdlrrepyc39nvn86l5078zqkf5uasdy86jp6svpy7pa";

/// The bytes inside an armored text.
fn binary(armored: &str) -> Vec<u8> {
    let body = armored.split("\n\n").nth(1).unwrap();
    let lines = body.lines().take_while(|line| !line.starts_with(['=', '-']));
    STANDARD.decode(lines.collect::<String>()).unwrap()
}

fn refused(key: impl AsRef<[u8]>) -> RecipientError {
    Recipient::openpgp(key.as_ref(), NOW).expect_err("refused")
}

#[test]
fn a_key_is_the_same_in_each_form() {
    let bytes = binary(CURVE);
    let base64 = STANDARD.encode(&bytes);
    let wrapped: String = base64.as_bytes().chunks(40).map(|line| format!("{}\r\n", std::str::from_utf8(line).unwrap())).collect();
    let want = Recipient::openpgp(&bytes, NOW).unwrap();
    assert_eq!((want.kind(), want.fingerprint().as_str()), (Kind::OpenPgp, CURVE_FINGERPRINT));
    for form in [
        base64.clone(),
        base64.trim_end_matches('=').to_owned(),
        wrapped,
        CURVE.to_owned(),
        CURVE.replace('\n', "\r\n"),
        format!("\n  {CURVE}"),
        STANDARD.encode(CURVE),
    ] {
        assert!(Recipient::openpgp(form.as_bytes(), NOW).unwrap() == want, "{form}");
        assert!(Recipient::parse(form.as_bytes(), NOW).unwrap() == want, "{form}");
    }
    assert_eq!(format!("{want:?}"), format!("Recipient(openpgp {CURVE_FINGERPRINT})"));
}

#[test]
fn a_key_that_cannot_be_used_is_refused_with_its_reason() {
    let unfit = UnfitSubkeys::default();
    let cannot = |fingerprint: &str, why| RecipientError::CannotEncrypt { fingerprint: fingerprint.to_owned(), why };
    for (name, key, want) in [
        ("signs", include_str!("keys/signs.asc"), cannot("327c7c940e5a865cb117a7f8964f8a01afafd6d6", unfit)),
        (
            "lapsed",
            include_str!("keys/lapsed.asc"),
            cannot("b81b49a5dac3b0f61c1ac59d6028bb133892c461", UnfitSubkeys { expired: 1, ..unfit }),
        ),
        ("taken", include_str!("keys/taken.asc"), cannot("6a9b14daffe0feee75721f1e4c7f5e787108b0ce", UnfitSubkeys { revoked: 1, ..unfit })),
        ("weak", include_str!("keys/weak.asc"), cannot("c39efb09fab8b226a8b6720505b31d98fb9c4022", UnfitSubkeys { weak: 1, ..unfit })),
        (
            "brainpool",
            include_str!("keys/brainpool.asc"),
            cannot("1d71255bf21ae19893c4de607b4b40a02bce0e06", UnfitSubkeys { unsupported: 1, ..unfit }),
        ),
        (
            "revoked",
            include_str!("keys/revoked.asc"),
            RecipientError::Revoked { fingerprint: "d850fdf51bb4657f4e41918230c952a1aac77b6c".to_owned() },
        ),
        (
            "expired",
            include_str!("keys/expired.asc"),
            RecipientError::Expired {
                fingerprint: "cbdf140b1aa23782ea471ca5b79180512eb68593".to_owned(),
                expired: "2020-12-31T00:00:00Z".to_owned(),
            },
        ),
    ] {
        assert_eq!(refused(key), want, "{name}");
    }
    // What has an end was good before it.
    let then = Timestamp(1_590_000_000_000);
    for key in [include_str!("keys/expired.asc"), include_str!("keys/lapsed.asc")] {
        Recipient::openpgp(key.as_bytes(), then).unwrap();
    }
}

#[test]
fn of_several_subkeys_the_newest_encrypts() {
    let twice = Recipient::openpgp(include_bytes!("keys/twice.asc"), NOW).unwrap();
    let message = twice.encrypt(b"secret", &crypto::OsRng::new()).unwrap();
    // Tag, length, version 3, key id, algorithm 18 (ECDH): the ephemeral point of P-384 alone has 97 bytes.
    assert_eq!((message[0], message[2], message[11]), (0xc1, 3, 18));
    assert!(message[1] > 140, "{}", message[1]);
}

#[test]
fn a_private_key_is_refused_loudly_in_each_form() {
    // The tag alone makes it one: what follows is not looked at.
    let mut bytes = binary(CURVE);
    bytes[0] = 0x80 | 5 << 2;
    let armored = CURVE.replace("PUBLIC", "PRIVATE");
    // Behind a public key, too.
    let behind = [binary(RSA), bytes.clone()].concat();
    for key in
        [bytes.clone(), STANDARD.encode(&bytes).into_bytes(), armored.clone().into_bytes(), STANDARD.encode(armored).into_bytes(), behind]
    {
        assert_eq!(refused(key), RecipientError::PrivateKey);
    }
    assert!(RecipientError::PrivateKey.to_string().contains("PRIVATE"));
    for text in [
        "AGE-SECRET-KEY-1GQ9778VQXMMJVE8SK7J6VT8UJ4HDQAJUVSFCWCM02D8GEWQ72PVQ2Y5J33",
        "age-secret-key-1gq9778vqxmmjve8sk7j6vt8uj4hdqajuvsfcwcm02d8gewq72pvq2y5j33",
        "AGE-PLUGIN-YUBIKEY-1XYZ",
    ] {
        assert_eq!(Recipient::age(text).unwrap_err(), RecipientError::PrivateKey, "{text}");
        assert_eq!(Recipient::parse(text.as_bytes(), NOW).unwrap_err(), RecipientError::PrivateKey, "{text}");
    }
}

#[test]
fn what_is_no_key_is_refused_with_its_reason() {
    let (curve, rsa) = (binary(CURVE), binary(RSA));
    let several = RecipientError::SeveralKeys { keys: 2 };
    assert_eq!(refused([curve.clone(), rsa.clone()].concat()), several);
    assert_eq!(refused(STANDARD.encode([curve.clone(), rsa].concat())), several);
    assert_eq!(refused(format!("{CURVE}\n{RSA}")), several);
    for empty in ["", " \n\t"] {
        assert_eq!(refused(empty), RecipientError::Empty);
    }
    assert_eq!(refused("keybase:ada"), RecipientError::Base64 { position: 8 });
    assert_eq!(refused("keys/ada.asc"), RecipientError::Base64 { position: 9 });
    assert_eq!(refused("AAAAA"), RecipientError::Base64 { position: 5 });
    assert_eq!(refused(STANDARD.encode(b"these are other bytes")), RecipientError::NotAKey);
    assert_eq!(refused(CURVE.replace("PUBLIC KEY BLOCK", "MESSAGE")), RecipientError::Armor);
    assert_eq!(refused("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), RecipientError::Armor);
    for end in [1, 2, curve.len() / 2, curve.len() - 1] {
        assert_eq!(refused(&curve[..end]), RecipientError::NotAKey, "{end}");
    }
    let mut of_version_6 = curve.clone();
    of_version_6[2] = 6;
    assert_eq!(refused(of_version_6), RecipientError::Version { version: 6 });
    let large = vec![0x99; KEY_BYTES_MAX + 1];
    assert_eq!(refused(&large), RecipientError::TooLarge { bytes: KEY_BYTES_MAX + 1, bytes_max: KEY_BYTES_MAX });
    assert!(matches!(refused(STANDARD.encode(vec![0x99; 2 * KEY_BYTES_MAX])), RecipientError::TooLarge { .. }));
}

/// Whoever can change a key on its way must not be able to have a share encrypted to themselves.
#[test]
fn a_subkey_that_the_key_did_not_sign_is_none() {
    let (curve, twice) = (binary(CURVE), binary(include_str!("keys/twice.asc")));
    // The first subkey packet of GnuPG's format, and all that follows it.
    let subkeys = |key: &[u8]| key.windows(3).position(|window| window[0] == 0xb8 && window[2] == 4).unwrap();
    let grafted = [&binary(include_str!("keys/signs.asc"))[..], &curve[subkeys(&curve)..]].concat();
    assert!(matches!(refused(grafted), RecipientError::CannotEncrypt { .. }));
    let grafted = [&curve[..], &twice[subkeys(&twice)..]].concat();
    let key = Recipient::openpgp(&grafted, NOW).unwrap();
    assert!(key == Recipient::openpgp(&curve, NOW).unwrap(), "the newer, foreign subkeys are passed over");
    // A name's signature is worth nothing once the name is another.
    let at = curve.windows(3).position(|window| window == b"Ada").unwrap();
    let mut renamed = curve;
    renamed[at] = b'E';
    assert_eq!(refused(renamed), RecipientError::Uncertified { fingerprint: CURVE_FINGERPRINT.to_owned() });
}

#[test]
fn an_age_recipient_is_read_or_refused_with_its_reason() {
    for text in [AGE.to_owned(), format!(" {AGE}\n")] {
        let key = Recipient::age(&text).unwrap();
        assert_eq!((key.kind(), key.fingerprint().as_str()), (Kind::Age, AGE));
        assert!(Recipient::parse(text.as_bytes(), NOW).unwrap() == key);
    }
    let why = |text: &str| match Recipient::age(text).unwrap_err() {
        RecipientError::Age { why } => why,
        other => panic!("{text}: {other}"),
    };
    assert_eq!(why(&AGE[..61]), AgeTextError::Length { chars: 61 });
    assert_eq!(why(&format!("{AGE}q")), AgeTextError::Length { chars: 63 });
    assert_eq!(why("age1"), AgeTextError::Length { chars: 4 });
    assert_eq!(why(&AGE.to_uppercase()), AgeTextError::Prefix);
    assert_eq!(why("ada@example.org"), AgeTextError::Prefix);
    assert_eq!(why(&AGE.replacen('7', "b", 1)), AgeTextError::Character { position: 6 });
    assert_eq!(why(&AGE.replacen('7', "é", 1)), AgeTextError::Character { position: 6 });
    assert_eq!(Recipient::age(" ").unwrap_err(), RecipientError::Empty);
    for (text, kind) in [
        ("age1yubikey1qwt50d05nh5vutpdzmlg5wn80xq5negm4uj9ghv0snvdd3yysf5yw3rhl3t", "yubikey"),
        ("age1pq1qqqqqq", "pq"),
        ("age1tag1qqqqqq", "tag"),
        ("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN ada", "ssh-ed25519"),
    ] {
        assert_eq!(Recipient::age(text).unwrap_err(), RecipientError::AgeKind { kind: kind.to_owned() });
    }
}

#[test]
fn each_mistyped_character_of_an_age_recipient_is_noticed() {
    for at in 4..AGE.len() {
        for other in "qz7l".chars().filter(|other| !AGE[at..].starts_with(*other)) {
            let text = format!("{}{other}{}", &AGE[..at], &AGE[at + 1..]);
            assert_eq!(Recipient::age(&text).unwrap_err(), RecipientError::Age { why: AgeTextError::Checksum }, "{text}");
        }
    }
}

#[test]
fn messages_differ_and_have_a_limit() {
    let rng = crypto::OsRng::new();
    for key in
        [Recipient::openpgp(CURVE.as_bytes(), NOW).unwrap(), Recipient::openpgp(RSA.as_bytes(), NOW).unwrap(), Recipient::age(AGE).unwrap()]
    {
        assert_ne!(key.encrypt(b"secret", &rng).unwrap(), key.encrypt(b"secret", &rng).unwrap());
        for bytes in [0, SECRET_BYTES_MAX] {
            assert!(key.encrypt(&vec![7; bytes], &rng).unwrap().len() > bytes);
        }
        let too_large = EncryptError::TooLarge { bytes: SECRET_BYTES_MAX + 1 };
        assert_eq!(key.encrypt(&vec![7; SECRET_BYTES_MAX + 1], &rng).unwrap_err(), too_large);
    }
}
