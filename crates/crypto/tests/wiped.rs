//! What was dropped is gone: looks for secrets in this process's own memory, through `/proc/self/mem`.
//!
//! One test, since a second one beside it would hold copies of the first one's secrets while it scans.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test panics")]

mod memory;

use crypto::{AeadKey, MacKey, NameCipher, NameKey, OsRng, Quorum, RootKey, SealKey, SecretBytes, Share, ValueKey, aead, kdf, shamir};
use memory::Needle;

#[test]
fn nothing_dropped_stays_in_memory() {
    let rng = OsRng::new();

    let key = RootKey::generate(&rng);
    let needle = Needle::of(key.expose());
    assert_eq!(needle.count(), 1, "a key is in memory once while it lives");
    let moved = Box::new(key);
    let moved = *moved;
    assert_eq!(needle.count(), 1, "moving a key does not copy it");
    let child = ValueKey::with_bytes(|bytes| kdf::derive_into(moved.expose(), kdf::label::VALUE, b"", bytes));
    let derived = Needle::of(child.expose());
    let sealing = moved.derive_aead_key(kdf::label::VALUE, b"");
    // The AES instructions' schedule begins with the key itself; ring's other schedules do not.
    #[cfg(target_arch = "x86_64")]
    let schedules = usize::from(std::arch::is_x86_feature_detected!("aes"));
    #[cfg(not(target_arch = "x86_64"))]
    let schedules = 0;
    assert_eq!(derived.count(), 1 + schedules, "a derived key is in memory, and so is its schedule");
    drop((child, sealing));
    assert_eq!(derived.count(), 0, "a derived key");
    drop(moved);
    assert_eq!(needle.count(), 0, "a key");

    let key = NameKey::generate(&rng);
    let needle = Needle::of(key.expose());
    // The half that encrypts, too.
    let second = Needle::of(&key.expose()[32..]);
    let cipher = NameCipher::new(&key);
    let sealed = cipher.seal(b"parent", b"name");
    assert!(cipher.open(b"parent", &sealed).is_ok());
    assert!(cipher.open(b"another", &sealed).is_err());
    assert_eq!((needle.count(), second.count()), (2, 2), "a name key and its cipher are the only copies");
    drop((key, cipher));
    assert_eq!((needle.count(), second.count()), (0, 0), "a name cipher");

    let key = SecretBytes::with_len(32, |bytes| crypto::Rng::fill(&rng, bytes));
    let needle = Needle::of(key.expose());
    let aead_key = AeadKey::new(key.expose().try_into().unwrap());
    let mac_key = MacKey::new(key.expose().try_into().unwrap());
    let mac_of_nothing = mac_key.tag(b"");
    let plaintext = SecretBytes::with_len(1000, |bytes| crypto::Rng::fill(&rng, bytes));
    let text_needle = Needle::of(plaintext.expose());
    let mut sealed = aead::seal(&aead_key, &rng, b"", plaintext.expose());
    drop(plaintext);
    assert_eq!(text_needle.count(), 0, "a sealed plaintext");
    let opened = aead::open(&aead_key, b"", &sealed).unwrap();
    assert_eq!(text_needle.count(), 1, "an opened plaintext is in memory once");
    drop(opened);
    assert_eq!(text_needle.count(), 0, "an opened plaintext");
    *sealed.last_mut().unwrap() ^= 1;
    assert!(aead::open(&aead_key, b"", &sealed).is_err());
    assert_eq!(text_needle.count(), 0, "an unauthentic plaintext");
    drop(key);
    drop((aead_key, mac_key));
    assert_eq!(needle.count(), 0, "an AEAD key, whose schedule begins with the key, and a MAC key");
    assert_ne!(mac_of_nothing, [0; 32]);

    let key = SealKey::generate(&rng);
    let needle = Needle::of(key.expose());
    let quorum = Quorum::new(5, 3).unwrap();
    let shares = shamir::split(&key, quorum, shamir::ShareTag::of(b"a cluster"), &rng);
    let share_needle = Needle::of(shares[1].expose());
    drop(key);
    assert_eq!(needle.count(), 0, "a key that was split");
    assert_eq!(share_needle.count(), 1, "a share is in memory once");
    let text = shares[1].to_base64();
    let text_needle = Needle::of(text.as_bytes());
    let hex = shares[1].to_hex();
    let hex_needle = Needle::of(hex.as_bytes());
    let parsed = [Share::parse_text(&text).unwrap(), Share::parse_text(&hex).unwrap()];
    assert_eq!(share_needle.count(), 3, "a share, and two copies that were parsed");
    drop((text, hex, parsed));
    assert_eq!((share_needle.count(), text_needle.count(), hex_needle.count()), (1, 0, 0), "a share as text");
    let combined = shamir::combine(&shares[..3], quorum).unwrap();
    assert_eq!(needle.count(), 1, "a combined key is in memory once");
    drop((combined, shares));
    assert_eq!((needle.count(), share_needle.count()), (0, 0), "a combined key and its shares");
}
