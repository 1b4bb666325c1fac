//! What is checked: the operations on shares, tokens and tags, and the controls.

use std::hint::black_box;

use crypto::shamir::{self, ShareDigest, ShareTag};
use crypto::{AeadKey, MacKey, OsRng, Quorum, SealKey, Share, aead, constant_time_eq};

use super::{Check, Subject};

/// How many inputs of each class there are.
pub(super) const INPUTS: usize = 64;
/// Bytes that are compared where it takes many to see a difference.
const COMPARED: usize = 1024;

pub(super) fn all() -> Vec<Check> {
    let wrong = ["first byte wrong", "last byte wrong"];
    let zeros = ["all zero", "random"];
    let check = |name, classes, is_control, repetitions, subject| Check { name, classes, is_control, repetitions, subject };
    vec![
        check("shamir::combine, 3 of 5", zeros, false, 1, combine()),
        check("sharks::recover (control)", zeros, true, 1, tables()),
        check("shamir::split, 3 of 5", zeros, false, 1, split()),
        check("ShareDigest ==", wrong, false, 64, digest()),
        check("constant_time_eq, 1 KiB", wrong, false, 4, equal(constant_time_eq)),
        check("== on 1 KiB (control)", wrong, true, 64, equal(|a, b| a == b)),
        check("a token's tag, its key in the table", ["one token", "random"], false, 8, tag_of_token()),
        check("MacKey::verify", wrong, false, 8, verify()),
        check("aead::open, of the tag", wrong, false, 8, open()),
    ]
}

/// Inputs, one of which is copied to the place where the operation finds it: both classes use the same memory.
struct Of<Input, Copied, Run> {
    inputs: [Vec<Input>; 2],
    copy: fn(&Input) -> Copied,
    place: Copied,
    run: Run,
}

impl<Input, Copied, Run: Fn(&Copied)> Subject for Of<Input, Copied, Run> {
    fn prepare(&mut self, class: usize, input: usize) {
        self.place = (self.copy)(black_box(&self.inputs[class][input]));
    }

    fn run(&self) {
        (self.run)(black_box(&self.place));
    }
}

fn subject<Input: 'static, Copied: 'static>(
    mut make: impl FnMut(usize) -> Input,
    copy: fn(&Input) -> Copied,
    run: impl Fn(&Copied) + 'static,
) -> Box<dyn Subject> {
    let inputs = [0, 1].map(|class| (0..INPUTS).map(|_| make(class)).collect::<Vec<_>>());
    let place = copy(&inputs[0][0]);
    Box::new(Of { inputs, copy, place, run })
}

fn random<const N: usize>() -> [u8; N] {
    crypto::rng::generate_bytes(&OsRng::new())
}

fn quorum() -> Quorum {
    Quorum::new(5, 3).expect("3 of 5 is a quorum")
}

fn tag() -> ShareTag {
    ShareTag::of(b"timing")
}

/// Zeros, or any.
fn key_bytes(class: usize) -> [u8; 32] {
    if class == 0 { [0; 32] } else { random() }
}

fn key(bytes: &[u8; 32]) -> SealKey {
    SealKey::with_bytes(|key| key.copy_from_slice(bytes))
}

/// Three shares: of a key of zeros, whose polynomials are zero too, or of any.
fn shares(class: usize) -> Vec<Share> {
    struct Zeros;
    impl crypto::Rng for Zeros {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(0);
        }
    }
    let mut shares = match class {
        0 => shamir::split(&key(&key_bytes(0)), quorum(), tag(), &Zeros),
        _ => shamir::split(&key(&key_bytes(1)), quorum(), tag(), &OsRng::new()),
    };
    shares.truncate(3);
    shares
}

fn combine() -> Box<dyn Subject> {
    let copy = |shares: &Vec<Share>| -> Vec<Share> {
        // EXPOSE: a share is not cloned but for measurements.
        shares.iter().map(|share| Share::from_bytes(share.expose()).expect("a share's own bytes")).collect()
    };
    subject(shares, copy, |shares| drop(black_box(shamir::combine(shares, quorum()))))
}

/// What `shamir::combine` would be with the tables of the crate `sharks` (blahaj).
fn tables() -> Box<dyn Subject> {
    let make = |class| -> Vec<sharks::Share> {
        let of = |share: &Share| {
            // EXPOSE: into the other crate's own encoding: x, then y.
            let bytes = share.expose();
            sharks::Share::try_from(&[&bytes[1..2], &bytes[5..37]].concat()[..]).expect("x and y are a share")
        };
        shares(class).iter().map(of).collect()
    };
    subject(make, Vec::clone, |shares| drop(black_box(sharks::Sharks(3).recover(shares))))
}

fn split() -> Box<dyn Subject> {
    // No randomness: drawing it takes longer than all else, and not always the same.
    struct Ones;
    impl crypto::Rng for Ones {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(1);
        }
    }
    subject(key_bytes, key, |key| drop(black_box(shamir::split(key, quorum(), tag(), &Ones))))
}

/// `right` but for its first byte (class 0) or its last.
fn differing<const N: usize>(right: &[u8; N], class: usize) -> [u8; N] {
    let mut wrong = *right;
    wrong[class * (N - 1)] ^= 1;
    wrong
}

fn digest() -> Box<dyn Subject> {
    let right: [u8; 32] = random();
    let kept = ShareDigest(right);
    let make = move |class| ShareDigest(differing(&right, class));
    subject(
        make,
        |digest| *digest,
        move |digest| {
            black_box(*black_box(&kept) == *digest);
        },
    )
}

fn equal(compare: fn(&[u8], &[u8]) -> bool) -> Box<dyn Subject> {
    let right: [u8; COMPARED] = random();
    let make = move |class| differing(&right, class);
    subject(
        make,
        |bytes| *bytes,
        move |bytes| {
            black_box(compare(black_box(&right), bytes));
        },
    )
}

fn tag_of_token() -> Box<dyn Subject> {
    let key = MacKey::new(&random());
    let make = |class| if class == 0 { [b'A'; 28] } else { random() };
    subject(
        make,
        |token| *token,
        move |token| {
            black_box(key.tag(token));
        },
    )
}

fn verify() -> Box<dyn Subject> {
    let key = MacKey::new(&random());
    let right = key.tag(b"message");
    let make = move |class| differing(&right, class);
    subject(
        make,
        |tag| *tag,
        move |tag| {
            black_box(key.verify(b"message", tag));
        },
    )
}

fn open() -> Box<dyn Subject> {
    const SEALED: usize = 256 + aead::OVERHEAD_BYTES;
    let key = AeadKey::new(&random());
    let sealed: [u8; SEALED] = aead::seal(&key, &OsRng::new(), b"", &random::<256>()).try_into().expect("a sealed text's length");
    let tag: [u8; aead::TAG_BYTES] = sealed[SEALED - aead::TAG_BYTES..].try_into().expect("the tag is last");
    let make = move |class| {
        let mut wrong = sealed;
        wrong[SEALED - aead::TAG_BYTES..].copy_from_slice(&differing(&tag, class));
        wrong
    };
    subject(make, |sealed| *sealed, move |sealed| drop(black_box(aead::open(&key, b"", sealed))))
}
