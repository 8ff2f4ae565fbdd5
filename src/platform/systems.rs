//! The control systems of an instrument: IBEX, in full or in mini mode, and the older SECI. Which of them runs is found by
//! [`Systems`](super::facts::Systems).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Programs of SECI, wherever they lie. LabVIEW is none: IBEX may have it running for devices of its own.
pub const SECI_PROGRAMS: [&str; 3] = ["SeciUserInterface.exe", "SECIStartup.exe", "SECI.exe"];

/// The program that talks to the DAE and counts the runs. It is registered once, out of the server's folder, and works
/// for whichever of the two systems asks it: that it runs says nothing of which that is.
pub const SHARED_PROGRAM: &str = "isisicp.exe";

/// The control system that an instrument is run with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ActiveSystem {
    /// All of IBEX.
    Ibex,
    /// IBEX with only the IOCs that `startup.txt` lists.
    Mini,
    /// The older system beside IBEX.
    Seci,
    /// Neither.
    None,
}

impl ActiveSystem {
    /// The word of facts and playbooks.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ibex => "ibex",
            Self::Mini => "mini",
            Self::Seci => "seci",
            Self::None => "none",
        }
    }

    /// For messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ibex => "IBEX",
            Self::Mini => "IBEX in mini mode",
            Self::Seci => "SECI",
            Self::None => "no control system",
        }
    }

    /// The one among facts that a run has kept.
    pub fn in_facts(facts: &BTreeMap<String, Value>) -> Option<Self> {
        Self::deserialize(facts.get("active_system")?).ok()
    }

    /// True when programs of IBEX run, in full or in mini mode.
    pub fn is_ibex(self) -> bool {
        matches!(self, Self::Ibex | Self::Mini)
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;
    use crate::platform::facts::Systems;
    use crate::platform::testing::Bench;

    /// The active one, and whether both run.
    fn systems(bench: &Bench) -> (ActiveSystem, bool) {
        let found = Systems::now(&*bench.platform, &bench.drives, &bench.plan.places).unwrap();
        (found.active(), found.both())
    }

    #[test]
    fn the_shared_program_speaks_for_neither() {
        let bench = Bench::new();
        let _icp = bench.program("C:\\Instrument\\Apps\\EPICS\\ICP_Binaries\\isisdae\\isisicp.exe");
        assert_eq!(systems(&bench), (ActiveSystem::None, false));
        let _seci = bench.program("D:\\elsewhere\\SeciUserInterface.exe");
        assert_eq!(systems(&bench), (ActiveSystem::Seci, false));
    }

    #[test]
    fn that_both_run_is_seen() {
        let bench = Bench::new();
        let _ioc = bench.program("C:\\Instrument\\Apps\\EPICS\\ioc.exe");
        let _seci = bench.program("D:\\elsewhere\\SECIStartup.exe");
        assert_eq!(systems(&bench), (ActiveSystem::Ibex, true));
    }
}
