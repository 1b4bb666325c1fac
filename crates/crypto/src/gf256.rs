//! Arithmetic in GF(2^8) modulo x^8 + x^4 + x^3 + x^2 + 1 (0x11d), for 32 secret elements at once.
//!
//! Always: what is done to [`Elements`] takes the same steps whatever they are: shifts, masks, XOR, and a product with a constant that every
//! processor computes in the same time; no table, no branch. Factors are numbers of shares, and what follows from them: they are public, and
//! the steps depend on them. Wiped on drop.
//! Knows nothing of shares.

use zeroize::{Zeroize, ZeroizeOnDrop};

/// The low byte of the field's polynomial.
const REDUCTION: u8 = 0x1d;
/// One in each of eight bytes.
const ONES: u64 = 0x0101_0101_0101_0101;
const WORDS: usize = 4;

/// 32 elements of the field, one a byte. Secret.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct Elements([u64; WORDS]);

impl Elements {
    /// How many.
    pub(crate) const LEN: usize = 8 * WORDS;

    /// All zero.
    pub(crate) fn zero() -> Elements {
        Elements([0; WORDS])
    }

    /// `self + other`, which is also `self - other`.
    pub(crate) fn add(&mut self, other: &[u8; Self::LEN]) {
        for (word, bytes) in self.0.iter_mut().zip(other.chunks_exact(8)) {
            *word ^= u64::from_le_bytes(bytes.try_into().expect("chunks of eight bytes"));
        }
    }

    /// `self + factor · other`. The factor is public.
    pub(crate) fn add_multiple(&mut self, factor: u8, other: &[u8; Self::LEN]) {
        let mut product = Elements::zero();
        product.add(other);
        product.scale(factor);
        for (word, more) in self.0.iter_mut().zip(&product.0) {
            *word ^= more;
        }
    }

    /// `factor · self`. The factor is public.
    pub(crate) fn scale(&mut self, factor: u8) {
        for word in &mut self.0 {
            // By Horner's rule over the factor's bits, the highest first.
            let mut product = 0;
            for bit in (0..8).rev() {
                product = double(product);
                if factor >> bit & 1 == 1 {
                    product ^= *word;
                }
            }
            *word = product;
        }
    }

    /// Copies all of them out.
    pub(crate) fn write_to(&self, bytes: &mut [u8; Self::LEN]) {
        for (bytes, word) in bytes.chunks_exact_mut(8).zip(&self.0) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
    }
}

/// Each of eight elements times x.
fn double(word: u64) -> u64 {
    let carries = (word >> 7) & ONES;
    ((word & !(ONES << 7)) << 1) ^ (carries * u64::from(REDUCTION))
}

/// `a · b`. Both are public.
pub(crate) fn multiply(a: u8, b: u8) -> u8 {
    (0..8).rev().fold(0, |product, bit| {
        let doubled = (product << 1) ^ (REDUCTION * (product >> 7));
        if b >> bit & 1 == 1 { doubled ^ a } else { doubled }
    })
}

/// What `a` must be multiplied with to give 1: a^254, since a^255 is 1. It is 0 for 0, which has none. Public.
pub(crate) fn inverse(a: u8) -> u8 {
    // 254 is 2 + 4 + … + 128.
    let (mut power, mut square) = (1, a);
    for _ in 1..8 {
        square = multiply(square, square);
        power = multiply(power, square);
    }
    power
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Multiplication by shifts, one bit after the other from the lowest: nothing shared with the code under test.
    fn times(mut a: u8, mut b: u8) -> u8 {
        let mut product = 0;
        while b != 0 {
            if b & 1 == 1 {
                product ^= a;
            }
            a = (a << 1) ^ if a & 0x80 == 0 { 0 } else { 0x1d };
            b >>= 1;
        }
        product
    }

    #[test]
    fn all_products_and_inverses_are_the_fields() {
        // By hand: x^7 · x is x^8, which is x^4 + x^3 + x^2 + 1.
        assert_eq!(multiply(0x80, 2), 0x1d);
        for a in 0..=255 {
            for b in 0..=255 {
                assert_eq!(multiply(a, b), times(a, b), "{a} · {b}");
            }
            assert_eq!(multiply(a, inverse(a)), u8::from(a != 0), "the inverse of {a}");
        }
    }

    #[test]
    fn thirty_two_elements_are_multiplied_and_added_each_by_itself() {
        for factor in 0..=255 {
            for offset in (0..256).step_by(32) {
                let elements: [u8; 32] = std::array::from_fn(|at| (offset + at) as u8);
                let mut scaled = Elements::zero();
                scaled.add(&elements);
                scaled.scale(factor);
                let mut sum = Elements::zero();
                sum.add(&[0xa5; 32]);
                sum.add_multiple(factor, &elements);
                let (mut product, mut total) = ([0; 32], [0; 32]);
                scaled.write_to(&mut product);
                sum.write_to(&mut total);
                for at in 0..32 {
                    assert_eq!(product[at], times(elements[at], factor), "{factor} · {}", elements[at]);
                    assert_eq!(total[at], 0xa5 ^ times(elements[at], factor), "0xa5 + {factor} · {}", elements[at]);
                }
            }
        }
    }
}
