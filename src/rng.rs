//! A small seedable generator for every choice the core makes.
//!
//! Not for secrets: keys, channel identifiers and cookies of a running program
//! are seeded by the shell from the system's generator through [`Seed`].

/// Where the randomness of one machine comes from: 32 bytes, drawn by the shell or by a test.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Seed([u8; 32]);

impl Seed {
    /// A seed from bytes of the system's generator.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// A seed from a number, for `--seed` and for tests.
    pub fn from_number(number: u64) -> Self {
        let mut rng = Rng {
            state: [
                number,
                0x9e37_79b9_7f4a_7c15,
                !number,
                0xd1b5_4a32_d192_ed03,
            ],
        };
        for _ in 0..16 {
            rng.next_u64();
        }
        Self(rng.bytes())
    }

    /// The 32 bytes, as key material for keyed hashes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Debug for Seed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seed(***)")
    }
}

/// xoshiro256++: four words of state, passes every practical test, never allocates.
#[derive(Clone, Debug)]
pub struct Rng {
    state: [u64; 4],
}

impl Rng {
    /// A generator that gives the same numbers for the same seed.
    pub fn new(seed: Seed) -> Self {
        let mut state = [0u64; 4];
        for (word, bytes) in state.iter_mut().zip(seed.0.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        if state == [0; 4] {
            state[0] = 1; // The all-zero state is the one fixed point.
        }
        Self { state }
    }

    /// A generator of its own for a sub-machine, so that one more draw there moves nobody else.
    pub fn child(&mut self) -> Self {
        Self::new(Seed(self.bytes()))
    }

    /// Puts a list into random order.
    pub fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            let other = self.below(last as u64 + 1) as usize;
            list.swap(last, other);
        }
    }

    /// 64 uniform bits.
    pub const fn next_u64(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// 32 uniform bits.
    pub const fn next_u32(&mut self) -> u32 {
        (self.next_u64() >> 32) as u32
    }

    /// A uniform number in `0..bound`; 0 when `bound` is 0.
    pub const fn below(&mut self, bound: u64) -> u64 {
        // Multiply-shift: the bias is under 2^-32 for every bound used here.
        ((self.next_u64() as u128 * bound as u128) >> 64) as u64
    }

    /// True with the given probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// A uniform number in `[0, 1)`.
    pub const fn unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// 32 uniform bytes.
    pub fn bytes(&mut self) -> [u8; 32] {
        let mut out = [0; 32];
        for chunk in out.as_chunks_mut::<8>().0 {
            *chunk = self.next_u64().to_le_bytes();
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_same_numbers() {
        let mut a = Rng::new(Seed::from_number(7));
        let mut b = Rng::new(Seed::from_number(7));
        let mut c = Rng::new(Seed::from_number(8));
        let first: Vec<u64> = (0..4).map(|_| a.next_u64()).collect();
        assert_eq!(first, (0..4).map(|_| b.next_u64()).collect::<Vec<_>>());
        assert_ne!(first, (0..4).map(|_| c.next_u64()).collect::<Vec<_>>());
    }

    #[test]
    fn a_draw_in_a_child_leaves_the_parent_alone() {
        let mut a = Rng::new(Seed::from_number(1));
        let mut b = Rng::new(Seed::from_number(1));
        let mut child = a.child();
        child.next_u64();
        b.child();
        assert_eq!(a.next_u64(), b.next_u64());
    }

    #[test]
    fn below_stays_below_and_reaches_everything() {
        let mut rng = Rng::new(Seed::from_number(3));
        let mut seen = [false; 10];
        for _ in 0..1000 {
            seen[rng.below(10) as usize] = true;
        }
        assert_eq!(seen, [true; 10]);
        assert_eq!(rng.below(0), 0);
    }
}
