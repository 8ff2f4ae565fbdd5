//! The rounds of the suite, which every place and every victim have at least one of, and any number more by `scripts/chaos`.

use super::moments::{Moment, Place, Scene, Victim};
use super::round::{Hit, play, play_linked};
use std::collections::BTreeMap;

/// How often a place is tried again when the run was faster than the kill.
const TRIES: u64 = 5;

/// Rounds at every place, `least` of them each; asserts that every place was hit.
fn everywhere(victim: Victim, least: u64) {
    let mut table: BTreeMap<Place, Vec<Hit>> = BTreeMap::new();
    for (number, place) in (1..).zip(Place::ALL) {
        for round in 0..least + TRIES {
            if round >= least && table.contains_key(&place) {
                break;
            }
            let scene = Scene::told(victim, place, 1000 * number + round);
            let hit = play(scene);
            println!("{scene}: hit {:?}, ended {}", hit.place, hit.outcomes.join(", "));
            table.entry(hit.place).or_default().push(hit);
        }
    }
    print_table(victim, &table);
    for place in Place::ALL {
        assert!(table.contains_key(&place), "{victim:?} was never killed in {place:?}");
    }
}

fn print_table(victim: Victim, table: &BTreeMap<Place, Vec<Hit>>) {
    println!("{:12}{:12}{:>6}  {}", "killed", "in", "runs", "between intent and last rename");
    for (place, hits) in table {
        let between = hits.iter().filter(|h| h.between_renames).count();
        println!("{:12}{:12}{:>6}  {between}", format!("{victim:?}"), format!("{place:?}"), hits.len());
    }
}

#[test]
fn a_killed_controller_leaves_the_new_release_or_the_old_one() {
    everywhere(Victim::Controller, 1);
}

#[test]
fn a_killed_worker_leaves_the_new_release_or_the_old_one() {
    everywhere(Victim::Worker, 2);
}

#[test]
fn both_killed_leave_the_new_release_or_the_old_one() {
    everywhere(Victim::Both, 1);
}

/// Kills at every so many-th rename of a worker; asserts that files of both releases were there at some.
fn between_renames(failing: bool, counts: impl Iterator<Item = u64>, wanted: Place) {
    let mut table: BTreeMap<Place, Vec<Hit>> = BTreeMap::new();
    for count in counts {
        let victim = if count % 2 == 0 { Victim::Worker } else { Victim::Both };
        let scene = Scene { seed: 100_000 + count, victim, moment: Moment::Rename { count }, failing };
        let hit = play(scene);
        println!("{scene}: hit {:?}, between renames: {}, ended {}", hit.place, hit.between_renames, hit.outcomes.join(", "));
        table.entry(hit.place).or_default().push(hit);
    }
    print_table(Victim::Worker, &table);
    let hits = table.get(&wanted).map_or(&[][..], Vec::as_slice);
    assert!(hits.iter().any(|h| h.between_renames), "never killed between intent and last rename in {wanted:?}");
}

#[test]
fn a_worker_killed_between_intent_and_last_rename_goes_on() {
    between_renames(false, (13..).step_by(13).take(7), Place::InSync);
}

#[test]
fn a_worker_killed_between_renames_of_a_rollback_goes_on_with_it() {
    between_renames(true, (103..).step_by(15).take(7), Place::Rollback);
}

/// A version comes by two renames; the others that are met are of the journal's neighbours. What counts is how it ends.
#[test]
fn a_worker_killed_at_any_rename_of_a_linked_release_leaves_one_version_or_the_other() {
    for (count, failing) in (13..).step_by(13).take(5).flat_map(|count| [(count, false), (count + 40, true)]) {
        let scene = Scene { seed: 200_000 + count, victim: Victim::Worker, moment: Moment::Rename { count }, failing };
        let hit = play_linked(scene);
        println!("{scene}: hit {:?}, ended {}", hit.place, hit.outcomes.join(", "));
    }
}

/// For `scripts/chaos N SEED`.
#[test]
#[ignore = "as many rounds as asked for: scripts/chaos N SEED"]
fn chaos() {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u64>().ok());
    let rounds = number("CHAOS_ROUNDS").expect("CHAOS_ROUNDS is a number");
    let first = number("CHAOS_SEED").expect("CHAOS_SEED is a number");
    for seed in first..first + rounds {
        let scene = Scene::any(seed);
        println!("{scene}");
        let hit = play(scene);
        println!(
            "   hit {:?}{}, ended {}",
            hit.place,
            if hit.between_renames { " between renames" } else { "" },
            hit.outcomes.join(", ")
        );
    }
}
