//! SipHash-2-4 (J.-P. Aumasson, D. J. Bernstein, "SipHash: a fast short-input PRF", 2012), and its authors' variant of twice the length: a hash
//! that nobody can compute without the secret.
//!
//! Here and not from a library, since the key of every request is hashed: what takes a text in any pieces is several times the code to fetch.

use std::fmt;
use std::hash::{BuildHasher, Hasher};

/// Length of a secret in bytes.
pub const SECRET: usize = 16;

/// How maps hash their keys: with a secret of their own, so that nobody can choose keys that all meet in one place. The standard library's way is
/// a copy of its SipHash for each type of key.
#[derive(Clone, Debug)]
pub struct Hashing(Cascade);

/// Each piece of a key is hashed with the hash of those before it as the secret (M. Bellare, R. Canetti, H. Krawczyk, "Pseudorandom functions
/// revisited: the cascade construction", 1996).
#[derive(Clone)]
pub struct Cascade([u8; SECRET]);

/// 64 bits.
#[must_use]
pub fn hash(secret: &[u8; SECRET], text: &[u8]) -> u64 {
    hash_both(secret, text, false).0
}

/// 128 bits: so many that no two texts are met with the same.
#[must_use]
pub fn hash_128(secret: &[u8; SECRET], text: &[u8]) -> u128 {
    let (low, high) = hash_both(secret, text, true);
    u128::from(high) << 64 | u128::from(low)
}

/// 128 bits that anybody can compute: of what nobody gains from meeting something else.
#[must_use]
pub fn fingerprint(text: &[u8]) -> u128 {
    hash_128(&[0; SECRET], text)
}

/// The second half is 0 where it is not asked for. One function for both, so that both are one piece of code.
#[inline(never)]
fn hash_both(secret: &[u8; SECRET], text: &[u8], long: bool) -> (u64, u64) {
    let secret = u128::from_le_bytes(*secret);
    let (low, high) = (secret as u64, (secret >> 64) as u64);
    let mut state = State {
        a: low ^ 0x736f_6d65_7073_6575,
        b: high ^ 0x646f_7261_6e64_6f6d ^ if long { 0xee } else { 0 },
        c: low ^ 0x6c79_6765_6e65_7261,
        d: high ^ 0x7465_6462_7974_6573,
    };
    let (words, rest) = text.as_chunks::<8>();
    // What is left over, and the length's last byte behind it.
    let length = (text.len() as u64) << 56;
    let last = rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)) | length;
    let mut words = words.iter();
    loop {
        let next = words.next();
        let word = next.map_or(last, |eight| u64::from_le_bytes(*eight));
        state.d ^= word;
        state.mix();
        state.mix();
        state.a ^= word;
        if next.is_none() {
            break;
        }
    }
    state.c ^= if long { 0xee } else { 0xff };
    state.mix_four_times();
    let first = state.a ^ state.b ^ state.c ^ state.d;
    if !long {
        return (first, 0);
    }
    state.b ^= 0xdd;
    state.mix_four_times();
    (first, state.a ^ state.b ^ state.c ^ state.d)
}

// === impl Hashing ===

/// All zero where the host has no randomness: then it is only as good as any hash.
impl Default for Hashing {
    fn default() -> Self {
        let mut secret = [0; SECRET];
        let _ = getrandom::fill(&mut secret);
        Self(Cascade(secret))
    }
}

impl BuildHasher for Hashing {
    type Hasher = Cascade;

    fn build_hasher(&self) -> Cascade {
        self.0.clone()
    }
}

impl Hasher for Cascade {
    fn write(&mut self, piece: &[u8]) {
        self.0 = hash_128(&self.0, piece).to_le_bytes();
    }

    fn finish(&self) -> u64 {
        u128::from_le_bytes(self.0) as u64
    }
}

/// Hides the secret.
impl fmt::Debug for Cascade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cascade").finish_non_exhaustive()
    }
}

struct State {
    a: u64,
    b: u64,
    c: u64,
    d: u64,
}

impl State {
    #[inline(always)]
    fn mix(&mut self) {
        let Self { a, b, c, d } = self;
        *a = a.wrapping_add(*b);
        *b = b.rotate_left(13) ^ *a;
        *a = a.rotate_left(32);
        *c = c.wrapping_add(*d);
        *d = d.rotate_left(16) ^ *c;
        *a = a.wrapping_add(*d);
        *d = d.rotate_left(21) ^ *a;
        *c = c.wrapping_add(*b);
        *b = b.rotate_left(17) ^ *c;
        *c = c.rotate_left(32);
    }

    #[inline(always)]
    fn mix_four_times(&mut self) {
        self.mix();
        self.mix();
        self.mix();
        self.mix();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use siphasher::{sip, sip128};

    /// The first lines of the authors' `vectors.h`.
    #[test]
    fn gives_what_its_authors_published() {
        let secret = std::array::from_fn(|index| index as u8);
        let text: [u8; 15] = std::array::from_fn(|index| index as u8);
        assert_eq!(hash(&secret, &[]), 0x726f_db47_dd0e_0e31);
        assert_eq!(hash(&secret, &text), 0xa129_ca61_49be_45e5);
        assert_eq!(
            hash_128(&secret, &[]).to_le_bytes(),
            [0xa3, 0x81, 0x7f, 0x04, 0xba, 0x25, 0xa8, 0xe6, 0x6d, 0xf6, 0x72, 0x14, 0xc7, 0x55, 0x02, 0x93]
        );
    }

    proptest! {
        #[test]
        fn is_what_others_make_of_it(secret: [u8; 16], text in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(hash(&secret, &text), sip::SipHasher24::new_with_key(&secret).hash(&text));
            prop_assert_eq!(hash_128(&secret, &text), sip128::SipHasher24::new_with_key(&secret).hash(&text).as_u128());
        }
    }
}
