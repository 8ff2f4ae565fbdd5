//! How large the rehearsal's kits are.

/// Files and bytes of one component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeShape {
    /// Files, apart from the few with a meaning (scripts, `VERSION.txt`) and `.git`.
    pub files: u32,
    /// Bytes of these files together, within a few per cent.
    pub bytes: u64,
    /// How many of them are binaries, which take half of the bytes.
    pub binaries: u32,
}

/// Two releases, the second made from the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KitShape {
    /// Names of the older and the newer release.
    pub versions: [String; 2],
    /// The component `EPICS`.
    pub server: TreeShape,
    /// The component `Client`.
    pub client: TreeShape,
    /// The component `genie_python_3`.
    pub python: TreeShape,
    /// Files that the newer release changes, in thousandths; it adds and removes half as many each.
    pub changed_per_mille: u32,
    /// Whether `EPICS` is a git work tree; without the git program on the machine it is none.
    pub git: bool,
    /// Whether the newer release brings a server of MySQL; without MariaDB on the machine it brings none.
    pub mysql: bool,
    /// The same seed gives the same files.
    pub seed: u64,
}

impl KitShape {
    /// About 300 files and 1 MB in all: for tests.
    pub fn small() -> Self {
        Self {
            server: TreeShape { files: 160, bytes: 600_000, binaries: 4 },
            client: TreeShape { files: 70, bytes: 250_000, binaries: 2 },
            python: TreeShape { files: 60, bytes: 150_000, binaries: 1 },
            mysql: false,
            ..Self::realistic()
        }
    }

    /// About 2,200 files and 22 MB in all, shaped like the real thing at a small scale.
    pub fn realistic() -> Self {
        Self {
            versions: ["26.8.0".to_owned(), "26.9.0".to_owned()],
            server: TreeShape { files: 1_180, bytes: 12_000_000, binaries: 24 },
            client: TreeShape { files: 500, bytes: 6_000_000, binaries: 14 },
            python: TreeShape { files: 500, bytes: 4_000_000, binaries: 8 },
            changed_per_mille: 20,
            git: true,
            mysql: true,
            seed: 20_260_101,
        }
    }

    /// 6,000 files and 250 MB in all: for benches.
    pub fn large() -> Self {
        Self {
            server: TreeShape { files: 4_000, bytes: 170_000_000, binaries: 50 },
            client: TreeShape { files: 1_000, bytes: 50_000_000, binaries: 15 },
            python: TreeShape { files: 1_000, bytes: 30_000_000, binaries: 10 },
            mysql: false,
            ..Self::realistic()
        }
    }

    /// The same shape without `.git`, which takes the longest to make.
    #[must_use]
    pub fn without_git(self) -> Self {
        Self { git: false, ..self }
    }

    pub fn older(&self) -> &str {
        &self.versions[0]
    }

    pub fn newer(&self) -> &str {
        &self.versions[1]
    }
}
