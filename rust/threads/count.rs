//! The number of threads to use.

use std::path::Path;

use super::quota::cgroup_quota;
use crate::error::Error;
use crate::knobs::{self, Knob};

/// The most threads: far more than a forward has work for.
pub const MAX_THREADS: usize = 1024;

/// The number of threads to use: `wanted`, else [`default_threads`].
///
/// # Errors
/// `wanted` is not a number from 1 to [`MAX_THREADS`]; also as for [`default_threads`].
pub fn resolve_threads(wanted: Option<usize>) -> Result<usize, Error> {
    wanted.map_or_else(default_threads, check_threads)
}

/// Checks a number of threads; reads no environment variable.
///
/// # Errors
/// It is not a number from 1 to [`MAX_THREADS`].
pub fn check_threads(threads: usize) -> Result<usize, Error> {
    match threads {
        1..=MAX_THREADS => Ok(threads),
        0 => Err(Error::Argument(
            "threads: expected at least 1, found 0".into(),
        )),
        n => Err(Error::Argument(format!(
            "threads: expected at most {MAX_THREADS}, found {n}"
        ))),
    }
}

/// The default number of threads: that of `RESNET_RS_NUM_THREADS`, else of `RAYON_NUM_THREADS`, else of
/// `OMP_NUM_THREADS`, else the number of cores that this process may use.
///
/// # Errors
/// `RESNET_RS_NUM_THREADS` is not a number from 1 to [`MAX_THREADS`]. The other two variables belong
/// to other programs: invalid values are ignored.
pub fn default_threads() -> Result<usize, Error> {
    let ours = knobs::NUM_THREADS.read();
    let others = [&knobs::RAYON_NUM_THREADS, &knobs::OMP_NUM_THREADS].map(Knob::read);
    let number = from_variables(ours.as_deref(), &others)?;
    Ok(number.unwrap_or_else(usable_cores))
}

fn from_variables(ours: Option<&str>, others: &[Option<String>]) -> Result<Option<usize>, Error> {
    if let Some(text) = ours {
        let number = parse(text).filter(|&n| n <= MAX_THREADS);
        return number.map(Some).ok_or_else(|| {
            Error::Argument(format!(
                "{}: expected a number of threads from 1 up to {MAX_THREADS}, found {text:?}",
                knobs::NUM_THREADS.name
            ))
        });
    }
    // OMP_NUM_THREADS may be a list, one number for each level of nesting; the first one counts.
    Ok(others
        .iter()
        .flatten()
        .find_map(|text| parse(text.split(',').next()?))
        .map(|n| n.min(MAX_THREADS)))
}

fn parse(text: &str) -> Option<usize> {
    text.trim().parse().ok().filter(|&n| n > 0)
}

/// The cores that this process may use: the smaller of the affinity mask and the quota of its control
/// groups, rounded up. With a thread less, a part of the quota would be lost: of 1.5 cores a third.
/// `num_cpus` reads the mask, but of the quotas only that of the innermost group.
fn usable_cores() -> usize {
    let quota = cgroup_quota(Path::new("/")).map_or(MAX_THREADS, |quota| quota.ceil() as usize);
    num_cpus::get().min(quota).clamp(1, MAX_THREADS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn others(rayon: Option<&str>, omp: Option<&str>) -> [Option<String>; 2] {
        [rayon, omp].map(|text| text.map(str::to_owned))
    }

    #[test]
    fn the_argument_comes_first_and_zero_is_refused() {
        assert_eq!(resolve_threads(Some(3)).unwrap(), 3);
        assert!(
            resolve_threads(Some(0))
                .unwrap_err()
                .to_string()
                .contains("at least 1")
        );
    }

    #[test]
    fn variables_are_taken_in_order() {
        let all = others(Some("5"), Some("7"));
        assert_eq!(from_variables(Some("3"), &all).unwrap(), Some(3));
        assert_eq!(from_variables(None, &all).unwrap(), Some(5));
        assert_eq!(
            from_variables(None, &others(None, Some("7,2"))).unwrap(),
            Some(7)
        );
        assert_eq!(
            from_variables(None, &others(Some("0"), Some("7"))).unwrap(),
            Some(7)
        );
        assert_eq!(from_variables(None, &others(None, None)).unwrap(), None);
    }

    #[test]
    fn the_librarys_own_variable_must_be_valid() {
        for text in ["0", "-1", "many", "2.5"] {
            let error = from_variables(Some(text), &others(None, None)).unwrap_err();
            assert!(
                error.to_string().contains("RESNET_RS_NUM_THREADS"),
                "{error}"
            );
        }
    }
}
