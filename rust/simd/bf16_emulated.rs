use half::bf16;

use super::bf16::Bf16;
use super::vector::Simd;

/// The most lanes of a tier.
const MOST: usize = 16;

/// Pairs in plain Rust, with the sums of tier `S`: slow, and there wherever `S` is.
#[derive(Clone, Copy)]
pub struct Emulated<S>(S);

impl<S: Simd> Emulated<S> {
    /// The pairs beside a tier.
    pub fn new(proof: S) -> Self {
        Self(proof)
    }

    #[inline(always)]
    fn array(self, v: S::V) -> [f32; MOST] {
        const { assert!(S::LANES <= MOST) };
        let mut values = [0.0; MOST];
        // SAFETY: there are at least `LANES` values.
        unsafe { self.0.store(values.as_mut_ptr(), v) };
        values
    }
}

fn pair(first: f32, second: f32) -> u32 {
    let [first, second] = [first, second].map(|x| u32::from(bf16::from_f32(x).to_bits()));
    first | second << 16
}

// SAFETY: a value holds the tier's proof; loads and stores touch `LANES` pairs.
unsafe impl<S: Simd> Bf16 for Emulated<S> {
    type S = S;
    type P = [u32; MOST];

    fn detect() -> Option<Self> {
        S::detect().map(Self)
    }

    #[inline(always)]
    unsafe fn assume() -> Self {
        // SAFETY: the caller guarantees the tier.
        Self(unsafe { S::assume() })
    }

    #[inline(always)]
    fn simd(self) -> S {
        self.0
    }

    #[inline(always)]
    fn vectorize<R>(self, f: impl FnOnce() -> R) -> R {
        self.0.vectorize(f)
    }

    #[inline(always)]
    fn splat_pair(self, pair: u32) -> [u32; MOST] {
        [pair; MOST]
    }

    #[inline(always)]
    unsafe fn load_pairs(self, p: *const u32) -> [u32; MOST] {
        let mut pairs = [0; MOST];
        for (i, pair) in pairs[..S::LANES].iter_mut().enumerate() {
            // SAFETY: the caller guarantees `LANES` pairs.
            *pair = unsafe { p.add(i).read_unaligned() };
        }
        pairs
    }

    #[inline(always)]
    unsafe fn store_pairs(self, p: *mut u32, v: [u32; MOST]) {
        // SAFETY: the caller guarantees `LANES` pairs.
        unsafe { self.store_first_pairs(S::LANES, p, v) };
    }

    #[inline(always)]
    unsafe fn store_first_pairs(self, n: usize, p: *mut u32, v: [u32; MOST]) {
        for (i, &pair) in v[..n].iter().enumerate() {
            // SAFETY: the caller guarantees `n` pairs.
            unsafe { p.add(i).write_unaligned(pair) };
        }
    }

    #[inline(always)]
    fn values(self, bits: [u32; MOST]) -> S::V {
        // SAFETY: there are at least `LANES` values.
        unsafe { self.0.load(bits.map(f32::from_bits).as_ptr()) }
    }

    #[inline(always)]
    fn pairs(self, values: S::V) -> [u32; MOST] {
        self.array(values).map(f32::to_bits)
    }

    #[inline(always)]
    unsafe fn load_values(self, p: *const bf16) -> S::V {
        let mut values = [0.0; MOST];
        for (i, value) in values[..S::LANES].iter_mut().enumerate() {
            // SAFETY: the caller guarantees `LANES` values.
            *value = unsafe { p.add(i).read_unaligned() }.to_f32();
        }
        // SAFETY: there are at least `LANES` values.
        unsafe { self.0.load(values.as_ptr()) }
    }

    #[inline(always)]
    unsafe fn store_values(self, p: *mut bf16, v: S::V) {
        for (i, &value) in self.array(v)[..S::LANES].iter().enumerate() {
            // SAFETY: the caller guarantees room for `LANES` values.
            unsafe { p.add(i).write_unaligned(bf16::from_f32(value)) };
        }
    }

    #[inline(always)]
    fn round_row(self, a: S::V, b: S::V) -> [u32; MOST] {
        let (a, b) = (self.array(a), self.array(b));
        let both = |i: usize| if i < S::LANES { a[i] } else { b[i - S::LANES] };
        let mut pairs = [0; MOST];
        for (i, slot) in pairs[..S::LANES].iter_mut().enumerate() {
            *slot = pair(both(2 * i), both(2 * i + 1));
        }
        pairs
    }

    #[inline(always)]
    fn round_lanes(self, a: S::V, b: S::V) -> [u32; MOST] {
        let (a, b) = (self.array(a), self.array(b));
        std::array::from_fn(|i| pair(a[i], b[i]))
    }

    #[inline(always)]
    fn dot(self, a: [u32; MOST], b: [u32; MOST], c: S::V) -> S::V {
        let first = |pair: u32| f32::from_bits(pair << 16);
        let second = |pair: u32| f32::from_bits(pair & 0xffff_0000);
        let mut sums = self.array(c);
        for (i, sum) in sums[..S::LANES].iter_mut().enumerate() {
            *sum += second(a[i]) * second(b[i]);
            *sum += first(a[i]) * first(b[i]);
        }
        // SAFETY: there are at least `LANES` values.
        unsafe { self.0.load(sums.as_ptr()) }
    }
}
