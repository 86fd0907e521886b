//! The quota of CPU time that control groups of Linux set, by which containers limit a process.

use std::fs;
use std::path::{Path, PathBuf};

/// The CPU time that this process's control groups allow in each second, in seconds; none for any. The directories
/// `proc` and `sys` are those in `root`.
pub fn cgroup_quota(root: &Path) -> Option<f64> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let mount = root.join("sys/fs/cgroup");
    let quotas = groups.lines().flat_map(|line| quotas(&mount, line));
    quotas.min_by(f64::total_cmp)
}

/// The quotas of a group and of those that it is in, by its line: a number, the controllers and the group.
fn quotas(mount: &Path, line: &str) -> Vec<f64> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else {
        return Vec::new();
    };
    // Version 2 has one hierarchy for all controllers.
    let (mount, read): (PathBuf, fn(&Path) -> Option<f64>) = match controllers {
        "" => (mount.to_owned(), version_2),
        _ if controllers.split(',').any(|name| name == "cpu") => {
            let places = [controllers, "cpu"].map(|name| mount.join(name));
            let place = places.into_iter().find(|place| place.is_dir());
            (place.unwrap_or_else(|| mount.to_owned()), version_1)
        }
        _ => return Vec::new(),
    };
    Path::new(group.trim_start_matches('/'))
        .ancestors()
        .filter_map(|group| read(&mount.join(group)))
        .collect()
}

fn version_1(group: &Path) -> Option<f64> {
    let number = |name| fs::read_to_string(group.join(name)).ok();
    quota(&number("cpu.cfs_quota_us")?, &number("cpu.cfs_period_us")?)
}

fn version_2(group: &Path) -> Option<f64> {
    let text = fs::read_to_string(group.join("cpu.max")).ok()?;
    let (limit, period) = text.trim().split_once(' ')?;
    quota(limit, period)
}

/// A limit of 0 or -1 and the word `max` are none.
fn quota(limit: &str, period: &str) -> Option<f64> {
    let [limit, period] = [limit, period].map(|text| text.trim().parse::<u32>().ok());
    match (limit?, period?) {
        (0, _) | (_, 0) => None,
        (limit, period) => Some(f64::from(limit) / f64::from(period)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_the_limit_by_the_period() {
        assert_eq!(quota("150000", "100000\n"), Some(1.5));
        assert_eq!(quota("50000\n", "100000"), Some(0.5));
        for (limit, period) in [
            ("max", "100000"),
            ("-1", "100000"),
            ("0", "100000"),
            ("1", "0"),
            ("", ""),
        ] {
            assert_eq!(quota(limit, period), None, "{limit} {period}");
        }
    }
}
