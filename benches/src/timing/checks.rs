//! What is checked: the operations on shares, tokens and tags, and the controls.

use std::hint::black_box;

use crypto::shamir::{self, ShareTag};
use crypto::{AeadKey, MacKey, OsRng, Quorum, Rng as _, SealKey, Share, aead, constant_time_eq};

use super::Check;

/// How many inputs of each class there are, in places of their own, so that the caches see both classes alike.
pub(super) const INPUTS: usize = 64;
/// Bytes that are compared.
const COMPARED: usize = 32;

pub(super) fn all() -> Vec<Check> {
    vec![
        combine(),
        split(),
        digest(),
        equal("constant_time_eq", false),
        equal("== (control)", true),
        tag_of_token(),
        verify(),
        open(),
        tables(),
    ]
}

/// [`INPUTS`] of each class: all made alike.
fn inputs<T>(mut make: impl FnMut(usize) -> T) -> [Vec<T>; 2] {
    let mut classes = [Vec::with_capacity(INPUTS), Vec::with_capacity(INPUTS)];
    // In turn, so that neither class has memory of its own.
    for _ in 0..INPUTS {
        for (class, inputs) in classes.iter_mut().enumerate() {
            inputs.push(make(class));
        }
    }
    classes
}

fn random<const N: usize>() -> [u8; N] {
    crypto::rng::generate_bytes(&OsRng::new())
}

fn quorum() -> Quorum {
    Quorum::new(5, 3).expect("3 of 5 is a quorum")
}

/// Class 0: a key of zeros, each time. Class 1: any.
fn key(class: usize) -> SealKey {
    SealKey::with_bytes(|bytes| {
        if class == 1 {
            OsRng::new().fill(bytes);
        }
    })
}

/// Three shares: of a key of zeros, whose polynomials are zero too, or of any.
fn shares(class: usize) -> Vec<Share> {
    struct Zeros;
    impl crypto::Rng for Zeros {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(0);
        }
    }
    let tag = ShareTag::of(b"timing");
    let mut shares = match class {
        0 => shamir::split(&key(0), quorum(), tag, &Zeros),
        _ => shamir::split(&key(1), quorum(), tag, &OsRng::new()),
    };
    shares.truncate(3);
    shares
}

fn combine() -> Check {
    let inputs = inputs(shares);
    let run = move |class: usize, input: usize| drop(black_box(shamir::combine(&inputs[class][input], quorum())));
    Check { name: "shamir::combine, 3 of 5", classes: ["all zero", "random"], is_control: false, repetitions: 1, run: Box::new(run) }
}

fn split() -> Check {
    let keys = inputs(key);
    let run = move |class: usize, input: usize| {
        drop(black_box(shamir::split(&keys[class][input], quorum(), ShareTag::of(b""), &OsRng::new())));
    };
    Check { name: "shamir::split, 3 of 5", classes: ["key all zero", "random"], is_control: false, repetitions: 1, run: Box::new(run) }
}

fn digest() -> Check {
    let right: [u8; COMPARED] = random();
    let inputs = inputs(|class| shamir::ShareDigest(differing(&right, class)));
    let right = shamir::ShareDigest(right);
    let run = move |class: usize, input: usize| {
        black_box(black_box(&right) == black_box(&inputs[class][input]));
    };
    Check {
        name: "ShareDigest ==",
        classes: ["first byte wrong", "last byte wrong"],
        is_control: false,
        repetitions: 64,
        run: Box::new(run),
    }
}

/// `right` but for its first byte (class 0) or its last.
fn differing<const N: usize>(right: &[u8; N], class: usize) -> [u8; N] {
    let mut wrong = *right;
    wrong[class * (N - 1)] ^= 1;
    wrong
}

/// Tokens have 32 and more bytes; the control compares as many as it takes to see it.
fn equal(name: &'static str, is_control: bool) -> Check {
    const LONG: usize = 1024;
    let right: Box<[u8; LONG]> = Box::new(random());
    let inputs = inputs(|class| Box::new(differing(&right, class)));
    let run = move |class: usize, input: usize| {
        let (a, b) = (black_box(&right[..]), black_box(&inputs[class][input][..]));
        black_box(if is_control { a == b } else { constant_time_eq(a, b) });
    };
    Check { name, classes: ["first byte wrong", "last byte wrong"], is_control, repetitions: 64, run: Box::new(run) }
}

fn tag_of_token() -> Check {
    let key = MacKey::new(&random());
    let tokens = inputs(|class| if class == 0 { [b'A'; 28] } else { random() });
    let run = move |class: usize, input: usize| {
        black_box(key.tag(&tokens[class][input]));
    };
    Check {
        name: "a token's tag (how it is looked up)",
        classes: ["one token", "random"],
        is_control: false,
        repetitions: 8,
        run: Box::new(run),
    }
}

fn verify() -> Check {
    let key = MacKey::new(&random());
    let right = key.tag(b"message");
    let tags = inputs(|class| differing(&right, class));
    let run = move |class: usize, input: usize| {
        black_box(key.verify(b"message", &tags[class][input]));
    };
    Check {
        name: "MacKey::verify",
        classes: ["first byte wrong", "last byte wrong"],
        is_control: false,
        repetitions: 8,
        run: Box::new(run),
    }
}

fn open() -> Check {
    let key = AeadKey::new(&random());
    let sealed = aead::seal(&key, &OsRng::new(), b"", &random::<256>());
    let tag = sealed.len() - aead::TAG_BYTES;
    let wrong = inputs(|class| {
        let mut sealed = sealed.clone();
        sealed[tag + class * (aead::TAG_BYTES - 1)] ^= 1;
        sealed
    });
    let run = move |class: usize, input: usize| drop(black_box(aead::open(&key, b"", &wrong[class][input])));
    Check {
        name: "aead::open, a wrong tag",
        classes: ["its first byte wrong", "its last byte wrong"],
        is_control: false,
        repetitions: 4,
        run: Box::new(run),
    }
}

/// What `shamir::combine` would be with the tables of the crate `sharks` (blahaj).
fn tables() -> Check {
    let inputs = inputs(|class| -> Vec<sharks::Share> {
        let of = |share: &Share| {
            // EXPOSE: into the other crate's own encoding: x, then y.
            let bytes = share.expose();
            let (number, y) = (bytes[1], &bytes[5..37]);
            sharks::Share::try_from(&[&[number], y].concat()[..]).expect("x and y are a share")
        };
        shares(class).iter().map(of).collect()
    });
    let run = move |class: usize, input: usize| drop(black_box(sharks::Sharks(3).recover(&inputs[class][input])));
    Check { name: "sharks::recover (control)", classes: ["all zero", "random"], is_control: true, repetitions: 1, run: Box::new(run) }
}
