use super::*;

/// `[lane index of the result] = f(a[i], b[i])`, for one tier, through `vectorize`.
fn check<S: Simd>() {
    let Some(s) = S::detect() else { return };
    let a: Vec<f32> = (0..S::LANES).map(|i| i as f32 - 2.5).collect();
    let b: Vec<f32> = (0..S::LANES).map(|i| 1.5 - 0.25 * (i * i) as f32).collect();
    let mut out = vec![0.0_f32; S::LANES];
    let expect = |out: &[f32], f: &dyn Fn(f32, f32) -> f32| {
        for i in 0..S::LANES {
            let want = f(a[i], b[i]);
            assert!(out[i] == want || (out[i].is_nan() && want.is_nan()));
        }
    };
    s.vectorize(|| {
        // SAFETY: `a`, `b` and `out` hold LANES values each.
        unsafe {
            let (va, vb) = (s.load(a.as_ptr()), s.load(b.as_ptr()));
            s.store(out.as_mut_ptr(), s.add(va, vb));
            expect(&out, &|a, b| a + b);
            s.store(out.as_mut_ptr(), s.sub(va, vb));
            expect(&out, &|a, b| a - b);
            s.store(out.as_mut_ptr(), s.mul(va, vb));
            expect(&out, &|a, b| a * b);
            s.store(out.as_mut_ptr(), s.div(va, vb));
            expect(&out, &|a, b| a / b);
            s.store(out.as_mut_ptr(), s.sqrt(va));
            expect(&out, &|a, _| a.sqrt());
            // These products are exact, so one rounding or two give the same.
            s.store(out.as_mut_ptr(), s.mul_add(va, vb, s.splat(3.0)));
            expect(&out, &|a, b| a * b + 3.0);
            s.store(out.as_mut_ptr(), s.max(va, vb));
            expect(&out, &|a, b| if a > b { a } else { b });

            let nan = s.splat(f32::NAN);
            s.store(out.as_mut_ptr(), s.max(nan, va));
            expect(&out, &|a, _| a);
            s.store(out.as_mut_ptr(), s.max_or_nan(nan, va));
            expect(&out, &|_, _| f32::NAN);
            s.store(out.as_mut_ptr(), s.max_or_nan(va, nan));
            expect(&out, &|_, _| f32::NAN);
            s.store(out.as_mut_ptr(), s.max_or_nan(va, vb));
            expect(&out, &|a, b| a.max(b));

            // Of equal values, which the signs of zeros tell apart, every tier gives the second.
            for (first, second) in [(0.0, -0.0), (-0.0, 0.0)] {
                s.store(
                    out.as_mut_ptr(),
                    s.max_or_nan(s.splat(first), s.splat(second)),
                );
                assert!(
                    out.iter()
                        .all(|&value| f32::to_bits(value) == f32::to_bits(second))
                );
            }

            let (x, y, nan) = (s.splat(1.0), s.splat(2.0), s.splat(f32::NAN));
            s.store(out.as_mut_ptr(), s.if_above_or_nan(va, vb, x, y));
            expect(&out, &|a, b| if a > b { 1.0 } else { 2.0 });
            for (a, b, expected) in [
                (va, va, 2.0),
                (nan, va, 1.0),
                (va, nan, 2.0),
                (nan, nan, 1.0),
            ] {
                s.store(out.as_mut_ptr(), s.if_above_or_nan(a, b, x, y));
                expect(&out, &|_, _| expected);
            }
            s.store(out.as_mut_ptr(), s.if_equal(va, s.splat(-1.5), x, y));
            expect(&out, &|a, _| if a == -1.5 { 1.0 } else { 2.0 });
            s.store(out.as_mut_ptr(), s.if_equal(nan, nan, x, y));
            expect(&out, &|_, _| 2.0);

            let (rows, across) = (S::LANES + 3, S::LANES + 1);
            let block: Vec<f32> = (0..S::LANES * rows).map(|i| i as f32).collect();
            let mut turned = vec![-1.0; S::LANES * across];
            s.transpose(block.as_ptr(), rows, turned.as_mut_ptr(), across);
            for i in 0..S::LANES {
                for j in 0..S::LANES {
                    assert_eq!(turned[j * across + i], block[i * rows + j]);
                }
                assert_eq!(turned[i * across + S::LANES], -1.0);
            }

            for n in 0..=S::LANES {
                s.store(out.as_mut_ptr(), s.load_first(n, a.as_ptr()));
                for i in 0..S::LANES {
                    assert_eq!(out[i], if i < n { a[i] } else { 0.0 });
                }
                s.store(out.as_mut_ptr(), s.load_up_to(n, a.as_ptr()));
                for i in 0..S::LANES {
                    assert_eq!(out[i], if i < n { a[i] } else { 0.0 });
                }
                out.fill(7.0);
                s.store_first(n, out.as_mut_ptr(), vb);
                for i in 0..S::LANES {
                    assert_eq!(out[i], if i < n { b[i] } else { 7.0 });
                }
                out.fill(7.0);
                s.store_up_to(n, out.as_mut_ptr(), va);
                for i in 0..S::LANES {
                    assert_eq!(out[i], if i < n { a[i] } else { 7.0 });
                }
            }
        }
    });
}

#[test]
fn portable_vectors_compute_lane_by_lane() {
    check::<Portable>();
}

#[cfg(target_arch = "x86_64")]
#[test]
fn avx2_vectors_compute_lane_by_lane() {
    check::<Avx2>();
}

#[cfg(target_arch = "x86_64")]
#[test]
fn avx512_vectors_compute_lane_by_lane() {
    check::<Avx512>();
}
