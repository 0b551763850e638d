//! Numbers that look random and are the same again for the same seed.

use std::env;
use std::hash::{BuildHasher as _, RandomState};

/// Another seed than by chance, to do it again.
const SEED: &str = "PINSTREAM_TEST_SEED";

/// SplitMix64.
pub struct Random(u64);

impl Random {
    /// With the seed of the environment, else one by chance, which is printed.
    pub fn new() -> Self {
        let seed = env::var(SEED).map_or_else(|_| RandomState::new().hash_one(()), |seed| seed.parse().unwrap());
        eprintln!("{SEED}={seed}");
        Self(seed)
    }

    /// With that seed.
    pub fn with(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below that.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// An index into what is so long.
    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap()
    }

    /// So many bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let words = std::iter::repeat_with(|| self.next().to_le_bytes());
        words.take(count.div_ceil(8)).flatten().take(count).collect()
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
