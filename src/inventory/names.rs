//! What an instrument, a group and a host may be called.

/// Names that patterns understand by themselves: every instrument.
pub(super) const EVERYTHING: [&str; 2] = ["all", "ndxes"];

/// Names that playbooks give a meaning of their own.
pub(super) const RESERVED: [&str; 11] =
    ["name", "inst", "host", "groups", "kit", "places", "rehearsal", "run", "item", "facts", "loop"];

/// The name without `NDX` in front.
pub(super) fn short(name: &str) -> &str {
    match name.get(..3) {
        Some(start) if start.eq_ignore_ascii_case("ndx") && name.len() > 3 => &name[3..],
        _ => name,
    }
}

/// Why a text cannot be a host name (or one label of it), or nothing when it can.
///
/// Windows allows an underscore in machine names, and some instruments have one (`NDXHRPD_SETUP`).
pub(super) fn host_problem(host: &str) -> Option<String> {
    if host.parse::<std::net::IpAddr>().is_ok() {
        return None;
    }
    if host.len() > 253 {
        return Some("it is longer than 253 characters".to_owned());
    }
    host.split('.').find_map(label_problem)
}

/// Why a text cannot be a machine's name, or nothing when it can.
pub(super) fn label_problem(label: &str) -> Option<String> {
    if label.is_empty() {
        return Some("a part of it is empty".to_owned());
    }
    if label.len() > 63 {
        return Some("a part of it is longer than 63 characters".to_owned());
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Some("a part of it begins or ends with `-`".to_owned());
    }
    let bad = label.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_')))?;
    Some(format!("it has the character {bad:?}: letters, digits, `-` and `_` are allowed"))
}

/// Why a text cannot name a group, place, secret or variable, or nothing when it can.
pub(super) fn word_problem(word: &str) -> Option<String> {
    let Some(first) = word.chars().next() else {
        return Some("it is empty".to_owned());
    };
    if !(first.is_ascii_alphabetic() || first == '_') {
        return Some("it must begin with a letter".to_owned());
    }
    let bad = word.chars().find(|c| !(c.is_ascii_alphanumeric() || *c == '_'))?;
    Some(format!("it has the character {bad:?}: letters, digits and `_` are allowed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_names_that_exist_are_fine() {
        for name in ["NDXEMMA-A", "NDXHRPD_SETUP", "NDEMUONFE", "NDXLARMOR.isis.cclrc.ac.uk", "10.0.0.1", "fe80::1"] {
            assert_eq!(host_problem(name), None, "{name}");
        }
        for name in ["", "NDX LOQ", "a..b", "-a", "a-", "NDXLOQ:22", "x\\y", "user@host", &"a".repeat(64)] {
            assert!(host_problem(name).is_some(), "{name}");
        }
    }

    #[test]
    fn the_short_name_has_no_ndx() {
        for (name, expected) in [("NDXLARMOR", "LARMOR"), ("ndxloq", "loq"), ("NDEMUONFE", "NDEMUONFE"), ("NDX", "NDX")] {
            assert_eq!(short(name), expected);
        }
    }
}
