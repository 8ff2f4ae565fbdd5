//! Names that git takes for branches and tags.

use crate::error::{Error, Result};

/// Refuses a name that git would refuse, after the rules of `git check-ref-format`. `what` is what it names.
///
/// # Errors
/// With the rule that it breaks.
pub fn expect_ref_name(what: &str, name: &str) -> Result<()> {
    match problem(name) {
        None => Ok(()),
        Some(why) => Err(Error::bad_input(format!("{name:?} cannot be the name of a {what}: {why}"))
            .next("write another name; where it comes from the release's name, rename the folder of the release")),
    }
}

fn problem(name: &str) -> Option<String> {
    let unfit = |c: &char| c.is_ascii_control() || matches!(c, ' ' | '~' | '^' | ':' | '?' | '*' | '[' | '\\');
    if name.is_empty() {
        return Some("it is empty".to_owned());
    }
    if let Some(c) = name.chars().find(unfit) {
        let c = if c == ' ' { "space".to_owned() } else { format!("{c:?}") };
        return Some(format!("git allows no {c} in it"));
    }
    for part in ["..", "@{", "//"] {
        if name.contains(part) {
            return Some(format!("git allows no `{part}` in it"));
        }
    }
    let bad_part = |part: &str| part.starts_with('.') || part.ends_with(".lock");
    if name.starts_with(['-', '/']) || name.ends_with(['/', '.']) || name.split('/').any(bad_part) {
        return Some("git allows no `-`, `/` or `.` at its beginning, and no `/`, `.` or `.lock` at its end".to_owned());
    }
    None
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;

    #[test]
    fn what_git_refuses_is_refused() {
        let names = [
            "NDXLARMOR_ibex_26.9.0",
            "a b",
            "a~1",
            "a^",
            "a:b",
            "a?",
            "a*",
            "a[",
            "a\\b",
            "a..b",
            "a@{b",
            "@",
            "a//b",
            "/a",
            "a/",
            "-a",
            "a.",
            ".a",
            "x/.a",
            "a.lock",
            "a.lock/b",
            "a\u{1b}[31m",
            "a\u{7f}",
            "",
            "\u{e9}\u{4e2d}",
            "x/y-z_1",
            "a@b",
            "lock",
        ];
        for name in names {
            // As a tag: `git tag` takes no leading dash either.
            let git = std::process::Command::new("git").args(["check-ref-format", &format!("refs/tags/{name}")]).status();
            let takes = git.expect("git").success() && !name.starts_with('-');
            assert_eq!(expect_ref_name("tag", name).is_ok(), takes, "{name:?}");
        }
    }
}
