//! Names of releases and their order.

use std::cmp::Ordering;

/// `26.8.0` or `26.8.0-rc1`: three numbers, and for special builds something behind them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseVersion {
    pub numbers: [u64; 3],
    /// What follows the numbers, with its separator; empty for a plain release.
    pub suffix: String,
}

impl ReleaseVersion {
    /// Reads a folder's name; nothing when it is no release's.
    pub fn parse(name: &str) -> Option<Self> {
        let mut numbers = [0; 3];
        let mut rest = name;
        for (i, number) in numbers.iter_mut().enumerate() {
            if i > 0 {
                rest = rest.strip_prefix('.')?;
            }
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            *number = rest[..end].parse().ok()?;
            rest = &rest[end..];
        }
        Some(Self { numbers, suffix: rest.to_owned() })
    }

    /// Only plain releases count as newest; all others are asked for by name.
    pub fn is_plain(&self) -> bool {
        self.suffix.is_empty()
    }
}

impl Ord for ReleaseVersion {
    /// By the numbers; with the same numbers, the plain release is the newest.
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |v: &Self| (v.numbers, v.is_plain(), v.suffix.clone());
        key(self).cmp(&key(other))
    }
}

impl PartialOrd for ReleaseVersion {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_decide_and_suffixes_stand_apart() {
        let v = |name: &str| ReleaseVersion::parse(name).unwrap();
        assert!(v("26.10.0") > v("26.9.1"));
        assert!(v("26.9.0") > v("26.9.0-rc1"));
        assert!(v("9.0.0") < v("26.0.0"));
        assert!(v("26.9.0").is_plain());
        for special in ["26.9.0-rc1", "26.9.0_fix", "26.9.0.1", "26.9.0m1"] {
            assert!(!v(special).is_plain(), "{special}");
        }
        for other in ["EPICS", "26.9", "26.9.", "v26.9.0", "26..0", "99999999999999999999.0.0", ""] {
            assert_eq!(ReleaseVersion::parse(other), None, "{other}");
        }
    }
}
