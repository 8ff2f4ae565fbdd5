//! Links that are cut at every phase of a release: every instrument ends on the new release, proven, or on the old one.

mod round;
mod scene;
mod stage;

use round::{Hit, play};
use scene::{Kind, Phase, Scene};
use std::collections::BTreeMap;

/// Rounds of one command.
const AT_ONCE: usize = 10;

/// Plays the rounds of these seeds, many at once.
fn rounds(seeds: impl Iterator<Item = u64>) -> Vec<Hit> {
    let scenes: Vec<Scene> = seeds.map(Scene::of).collect();
    // Those that wait for a dead link to be noticed wait together.
    let hits = std::thread::scope(|scope| {
        let commands: Vec<_> = scenes.chunks(AT_ONCE).map(|some| scope.spawn(|| play(some))).collect();
        commands.into_iter().map(std::thread::ScopedJoinHandle::join).collect::<Vec<_>>()
    });
    let mut all = Vec::new();
    for hits in hits {
        all.extend(hits.unwrap_or_else(|problem| std::panic::resume_unwind(problem)));
    }
    for hit in &all {
        println!("{}: hit {:?}, ended {}; lost: {}", hit.scene, hit.phase, hit.outcome, hit.lost.join("; "));
    }
    all
}

#[test]
fn fifty_links_are_cut_and_every_instrument_ends_right() {
    let hits = rounds(1..=50);
    let mut table: BTreeMap<(Phase, Kind), usize> = BTreeMap::new();
    for hit in &hits {
        if let Some(phase) = hit.phase {
            *table.entry((phase, hit.scene.kind)).or_default() += 1;
            // A cut in the last moment may come when there is nothing more to be told.
            assert!(!hit.lost.is_empty() || matches!(phase, Phase::Close | Phase::Ended), "{}: nobody noticed", hit.scene);
        }
    }
    println!("{:12}{}", "", Kind::ALL.map(|kind| format!("{:>8}", format!("{kind:?}"))).concat());
    for phase in Phase::ALL {
        let counts = Kind::ALL.map(|kind| format!("{:>8}", table.get(&(phase, kind)).unwrap_or(&0)));
        println!("{:12}{}", format!("{phase:?}"), counts.concat());
    }
    for phase in Phase::ALL {
        assert!(table.keys().any(|(hit, _)| *hit == phase), "no link was cut in {phase:?}");
    }
    for kind in Kind::ALL {
        assert!(table.keys().any(|(_, hit)| *hit == kind), "no link was cut by {kind:?}");
    }
}

/// For `scripts/chaos N SEED --ssh`.
#[test]
#[ignore = "as many rounds as asked for: scripts/chaos N SEED --ssh"]
fn chaos() {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    let count = number("CHAOS_ROUNDS").expect("CHAOS_ROUNDS is a number");
    let first = number("CHAOS_SEED").expect("CHAOS_SEED is a number");
    let last = first + count;
    for seed in (first..last).step_by(5 * AT_ONCE) {
        rounds(seed..last.min(seed + 5 * AT_ONCE as u64));
    }
}
