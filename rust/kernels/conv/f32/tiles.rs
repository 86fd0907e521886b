//! The routines of a tier's tiles, one for each number of rows.

/// All instances of a routine: `tiles!(routine::<Tier>: Type)[m - 1]` is that of m rows, up to the tier's MR.
macro_rules! tiles {
    ($routine:ident::<Portable>: $type:ty) => {
        tiles!($routine, Portable, $type, 1 2 3 4)
    };
    ($routine:ident::<Avx2>: $type:ty) => {
        tiles!($routine, Avx2, $type, 1 2 3 4 5 6)
    };
    ($routine:ident::<Avx512>: $type:ty) => {
        tiles!($routine, Avx512, $type, 1 2 3 4 5 6 7 8 9 10 11 12 13 14)
    };
    ($routine:ident::<Avx512Bf16>: $type:ty) => {
        tiles!($routine, Avx512Bf16, $type, 1 2 3 4 5 6 7 8 9 10 11 12 13 14)
    };
    ($routine:ident, $tier:ty, $type:ty, $($m:literal)*) => {{
        const TILES: &[$type] = &[$($routine::<$tier, $m>),*];
        TILES
    }};
}

pub(in crate::kernels::conv) use tiles;
