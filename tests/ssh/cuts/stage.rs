//! The playbook and the scripts of a round: phases with gates, which a file holds shut.

use crate::sandbox::start_ibex;
use crate::support::{Fleet, Links};
use std::path::{Path, PathBuf};

use super::scene::{Phase, Scene};

/// Instruments of one command; the canary comes first, and its own link is well.
pub(crate) const NAMES: [&str; 11] = [
    "NDXLARMOR",
    "NDXZOOM",
    "NDXARGUS",
    "NDXCHRONUS",
    "NDXEMU",
    "NDXHIFI",
    "NDXMUSR",
    "NDXALF",
    "NDXCRISP",
    "NDXENGINX",
    "NDXGEM",
];

/// The instrument that all others are in hold for.
pub(crate) const CANARY: &str = NAMES[0];

/// A step that waits while a gate is shut.
fn gate(phase: Phase) -> String {
    let word = phase.word();
    format!("  - name: gate of {word}\n    command: {{run: '{}', read_only: true}}\n    timeout: 5m\n", waiting(phase))
}

fn waiting(phase: Phase) -> String {
    format!("while [ -e \"$IBEX_ROOT/gate-{}\" ]; do sleep 0.02; done", phase.word())
}

/// The shipped playbooks, with gates in `release`.
pub(crate) fn write_playbooks(fleet: &Fleet) -> PathBuf {
    let folder = fleet.dir().join("playbooks");
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("playbooks");
    let copied = std::process::Command::new("cp").arg("-a").arg(shipped).arg(&folder).status().expect("cp");
    assert!(copied.success());
    let file = folder.join("release.yaml");
    let mut text = std::fs::read_to_string(&file).expect("the playbook");
    let undone = format!(
        "  - name: gate of rollback\n    command: {{run: 'true'}}\n    undo: {{command: {{run: '{}'}}}}\n",
        waiting(Phase::Rollback)
    );
    for (before, added, after) in [
        ("\nstage:\n", gate(Phase::Stage), ""),
        ("", format!("{undone}{}", gate(Phase::Apply)), "  - name: ISISICP of the server\n"),
        ("", format!("{}\n", gate(Phase::Prove)), "close:\n"),
        ("\nclose:\n", gate(Phase::Close), ""),
    ] {
        let place = format!("{before}{after}");
        assert_eq!(text.matches(&place).count(), 1, "`{place}` in the shipped playbook");
        text = text.replace(&place, &format!("{before}{added}{after}"));
    }
    std::fs::write(&file, text).expect("the playbook");
    folder
}

/// The file that holds a gate shut.
pub(crate) fn bar(root: &Path, phase: Phase) -> PathBuf {
    root.join(format!("gate-{}", phase.word()))
}

/// Makes everything ready for some scenes, the first of which belongs to the second name.
pub(crate) fn prepare(scenes: &[Scene]) -> Links {
    let links = Links::to(&NAMES[..=scenes.len()]);
    links.fleet.add_to_script(
        "create_icp_binaries.bat",
        "if [ -e \"$IBEX_ROOT/fails\" ]; then echo half done >\"$here/ICP_Binaries/isisicp.exe\"; echo it fails >&2; exit 3; fi",
    );
    let (canary, others) = links.lines.split_first().expect("a canary");
    links.fleet.put_agents(&[CANARY]);
    std::fs::write(bar(&canary.root, Phase::Apply), "").expect("a file");
    for (line, scene) in others.iter().zip(scenes) {
        if scene.phase != Phase::Bring {
            links.fleet.put_agents(&[&line.name]);
        }
        if scene.has_gate() {
            std::fs::write(bar(&line.root, scene.phase), "").expect("a file");
        }
        if scene.fails() {
            std::fs::write(line.root.join("fails"), "").expect("a file");
        }
        if scene.runs {
            start_ibex(&line.root);
        }
    }
    links
}
