//! Glob patterns over paths inside a folder.

use super::RelPath;
use crate::error::{Error, Result};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// Patterns relative to a folder, case ignored: `*` and `?` stay within a name, `**` crosses folders, and a pattern
/// that matches a folder covers everything inside it.
#[derive(Debug, Clone, Default)]
pub struct PathPatterns {
    set: GlobSet,
}

impl PathPatterns {
    /// Compiles the patterns; either kind of slash will do.
    ///
    /// # Errors
    /// When a pattern is not a glob.
    pub fn new<S: AsRef<str>>(patterns: &[S]) -> Result<Self> {
        let mut set = GlobSetBuilder::new();
        for pattern in patterns {
            let text = pattern.as_ref().replace('\\', "/");
            let text = text.trim_matches('/');
            for form in [text.to_owned(), format!("{text}/**")] {
                let glob = GlobBuilder::new(&form)
                    .literal_separator(true)
                    .case_insensitive(true)
                    .build()
                    .map_err(|e| Error::bad_input(format!("`{}` is not a pattern", pattern.as_ref())).because(e.kind()))?;
                set.add(glob);
            }
        }
        let set = set.build().map_err(|e| Error::bad_input("the patterns are too many or too large").because(e))?;
        Ok(Self { set })
    }

    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// True when the path, or a folder it lies in, matches.
    pub fn covers(&self, path: &RelPath) -> bool {
        self.set.is_match(path.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_cover_their_content_and_stars_stay_in_a_name() -> Result<()> {
        let p = PathPatterns::new(&["workspace", "**\\*.*dmp", "Server/*.ini"])?;
        for hit in ["workspace", "Workspace/a/b", "core.1dmp", "a/b/x.mdmp", "server/x.INI"] {
            assert!(p.covers(&RelPath::parse(hit)?), "{hit}");
        }
        for miss in ["a/workspace", "dmp", "server/a/x.ini"] {
            assert!(!p.covers(&RelPath::parse(miss)?), "{miss}");
        }
        Ok(())
    }
}
