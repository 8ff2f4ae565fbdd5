//! Archives put in place.

use super::{FROZEN, NAME, START, archive, at, hotfix, ids, listed, look, put, read, said};
use crate::support::{Fleet, sandbox};
use ibexdeploy::rehearsal::KitShape;
use std::process::{Command, Stdio};

#[test]
fn a_hotfix_is_shown_put_in_place_listed_and_taken_back_beside_the_running_server() {
    let fleet = Fleet::running(&[NAME]);
    let head = format!("id: galil-timeout\ndescription: a longer timeout\nrequires: {{EPICS: 26.8.*}}\ndeletes: [{FROZEN}]\n");
    let zip = archive(
        &fleet,
        "patch.zip",
        &[
            ("hotfix.yaml", &head),
            (START, "new start\n"),
            ("EPICS/ioc/master/NEW/db/a.db", "new record\n"),
            ("Client/ibex-client.exe", "new client\n"),
        ],
    );
    let zip = zip.display().to_string();
    let (before, server) = (look(&fleet), fleet.ibex(NAME));

    let dry = fleet.run(&["hotfix", NAME, &zip, "--dry-run"]);
    assert_eq!(dry.code, 0, "{}", dry.story());
    for line in [format!("~ {START}"), format!("- {FROZEN}"), "+ EPICS/ioc/master/NEW/db/a.db".to_owned()] {
        assert!(dry.stdout.contains(&line), "{line}: {}", dry.story());
    }
    assert_eq!(look(&fleet), before, "a dry run changes nothing");

    let done = hotfix(&fleet, &[&zip]);
    assert_eq!((done.code, done.outcome(NAME).as_str()), (0, "changed"), "{}", done.story());
    assert_eq!(read(&fleet, START), "new start\n");
    assert_eq!(read(&fleet, "EPICS/ioc/master/NEW/db/a.db"), "new record\n");
    assert_eq!(read(&fleet, "Client/ibex-client.exe"), "new client\n");
    assert!(!at(&fleet, FROZEN).exists());
    assert_eq!(fleet.ibex(NAME), server, "IBEX was left alone");
    let all = listed(&fleet);
    assert_eq!((all.len(), all[0]["hotfix"]["files"].as_array().map(Vec::len)), (1, Some(4)), "{all:?}");
    assert_eq!(all[0]["hotfix"]["description"], "a longer timeout");
    let status = fleet.run(&["status", NAME]);
    assert!(status.stdout.contains("galil-timeout"), "{}", status.story());

    let again = hotfix(&fleet, &[&zip]);
    assert_eq!((again.code, again.outcome(NAME).as_str()), (0, "ok"), "{}", again.story());

    let back = hotfix(&fleet, &["--revert", "GALIL-timeout"]);
    assert_eq!((back.code, back.outcome(NAME).as_str()), (0, "changed"), "{}", back.story());
    assert_eq!(sandbox::differences(&before, &look(&fleet)), [""; 0]);
    assert_eq!(fleet.ibex(NAME), server);
    assert_eq!(ids(&fleet), [""; 0]);
    let none = hotfix(&fleet, &["--revert", "galil-timeout"]);
    assert_eq!((none.code, none.outcome(NAME).as_str()), (1, "failed"), "{}", none.story());
    assert!(none.stdout.contains("no hotfix galil-timeout is installed"), "{}", none.story());
}

#[test]
fn another_version_or_another_hotfix_of_the_name_is_refused_and_nothing_changes() {
    let fleet = Fleet::running(&[NAME]);
    let before = look(&fleet);
    let other = archive(&fleet, "other.zip", &[("hotfix.yaml", "requires: {EPICS: 26.9.0}\n"), (START, "x")]);
    let refused = hotfix(&fleet, &[&other.display().to_string()]);
    assert_eq!((refused.code, refused.outcome(NAME).as_str()), (1, "failed"), "{}", refused.story());
    assert!(refused.stdout.contains("is for EPICS 26.9.0, and 26.8.0 is installed"), "{}", refused.story());
    assert!(refused.last(NAME, "outage_started").is_none(), "{}", refused.story());
    assert_eq!(look(&fleet), before);

    put(&fleet, &archive(&fleet, "same.zip", &[(START, "first")]));
    let second = archive(&fleet, "same.zip", &[(START, "second")]);
    let refused = hotfix(&fleet, &[&second.display().to_string()]);
    assert_eq!((refused.code, refused.outcome(NAME).as_str()), (1, "failed"), "{}", refused.story());
    assert!(refused.stdout.contains("a hotfix same is installed already, with other content"), "{}", refused.story());
    assert_eq!(read(&fleet, START), "first");
}

#[test]
fn a_restart_of_the_server_is_one_and_never_in_a_measurement() {
    let fleet = Fleet::running(&[NAME]);
    let zip = archive(&fleet, "patch.zip", &[("hotfix.yaml", "restart: server\n"), (START, "new\n")]);
    let pvs = fleet.root(NAME).join("c/Instrument/Var/sandbox_pvs.txt");
    std::fs::write(&pvs, "IN:LARMOR:DAE:RUNSTATE_STR=RUNNING\n").expect("PVs can be set");
    let (before, server) = (look(&fleet), fleet.ibex(NAME));
    let refused = hotfix(&fleet, &[&zip.display().to_string()]);
    assert_eq!((refused.code, refused.outcome(NAME).as_str()), (4, "failed"), "{}", refused.story());
    assert_eq!((look(&fleet), fleet.ibex(NAME)), (before, server.clone()), "nothing was stopped or changed");

    std::fs::remove_file(&pvs).expect("a file");
    put(&fleet, &zip);
    let restarted = fleet.ibex(NAME);
    assert!(restarted.is_some() && restarted != server, "IBEX runs anew");
    let back = hotfix(&fleet, &["--revert", "patch"]);
    assert_eq!((back.code, back.outcome(NAME).as_str()), (0, "changed"), "{}", back.story());
    assert!(fleet.ibex(NAME).is_some() && fleet.ibex(NAME) != restarted, "the way back restarts it as well");
}

#[test]
fn iocs_are_restarted_by_the_program_that_is_named_for_it() {
    let fleet = Fleet::new(&KitShape::small().without_git());
    fleet.make(&[NAME]);
    let told = fleet.dir().join("told.txt");
    let script = at(&fleet, "EPICS/restart_iocs.bat");
    std::fs::write(
        &script,
        format!("#!/bin/sh\necho \"$@\" >>'{}'\ncat '{}' >>'{0}'\n", told.display(), at(&fleet, START).display()),
    )
    .expect("a script");
    let program = Command::new("chmod").arg("+x").arg(&script).status().expect("chmod");
    assert!(program.success());
    fleet.start_ibex(NAME);
    let server = fleet.ibex(NAME);
    let head = "restart: {iocs: [GALIL_01, GALIL_02]}\n";
    let zip = archive(&fleet, "patch.zip", &[("hotfix.yaml", head), (START, "new\n")]).display().to_string();
    let done = hotfix(&fleet, &[&zip, "--set", "restart_iocs=restart_iocs.bat"]);
    assert_eq!((done.code, done.outcome(NAME).as_str()), (0, "changed"), "{}", done.story());
    assert_eq!(std::fs::read_to_string(&told).expect("it ran"), "GALIL_01 GALIL_02\nnew\n");
    assert_eq!(fleet.ibex(NAME), server, "the server goes on");

    // A hotfix whose check does not hold is undone, and its IOCs run with the old files again.
    std::fs::remove_file(&told).expect("a file");
    let head = format!("{head}checks:\n- file: {{path: server\\ioc\\missing.txt}}\n");
    let zip = archive(&fleet, "bad.zip", &[("hotfix.yaml", &head), (START, "bad\n")]).display().to_string();
    let undone = hotfix(&fleet, &[&zip, "--set", "restart_iocs=restart_iocs.bat"]);
    assert_eq!((undone.code, undone.outcome(NAME).as_str()), (1, "rolled_back"), "{}", undone.story());
    assert!(said(&undone).contains("a check of the hotfix bad does not hold"), "{}", undone.story());
    assert_eq!(read(&fleet, START), "new\n");
    assert_eq!(std::fs::read_to_string(&told).expect("it ran"), "GALIL_01 GALIL_02\nbad\nGALIL_01 GALIL_02\nnew\n");
    assert_eq!(ids(&fleet), ["patch"]);
}

#[test]
fn thirty_instruments_get_a_hotfix_at_once() {
    let fleet = Fleet::new(&KitShape::small().without_git());
    let zip = archive(&fleet, "patch.zip", &[(START, "new\n"), ("EPICS/added.txt", "added\n")]).display().to_string();
    let ended = fleet.run(&["hotfix", "--all", &zip, "--yes"]);
    assert_eq!(ended.code, 0, "{}", ended.story());
    let finished = ended.events.iter().filter(|e| e["event"] == "instrument_finished" && e["outcome"] == "changed");
    let names: Vec<String> = finished.map(|e| e["instrument"].as_str().unwrap_or_default().to_owned()).collect();
    assert_eq!(names.len(), 30, "{}", ended.story());
    for name in &names {
        let server = fleet.server(name);
        let text = |path: &str| std::fs::read_to_string(server.join(path)).unwrap_or_default();
        assert_eq!((text("ioc/master/GALIL/st.cmd"), text("added.txt")), ("new\n".to_owned(), "added\n".to_owned()), "{name}");
    }
}

#[test]
fn a_program_that_runs_from_a_replaced_file_goes_on() {
    let fleet = Fleet::running(&[NAME]);
    let program = at(&fleet, "EPICS/ioc/master/GALIL/bin/galil.exe");
    std::fs::create_dir_all(program.parent().expect("a folder")).expect("folders");
    std::fs::copy("/bin/sleep", &program).expect("a program");
    let mut running = Command::new(&program).arg("600").stdin(Stdio::null()).spawn().expect("it runs");
    let zip = archive(&fleet, "patch.zip", &[("EPICS/ioc/master/GALIL/bin/galil.exe", "a newer one")]);
    let done = hotfix(&fleet, &[&zip.display().to_string()]);
    let alive = running.try_wait().expect("its state").is_none();
    let uses = std::fs::read_link(format!("/proc/{}/exe", running.id()));
    let _ = running.kill();
    let _ = running.wait();
    assert_eq!((done.code, done.outcome(NAME).as_str()), (0, "changed"), "{}", done.story());
    assert!(alive, "it still runs");
    assert_eq!(read(&fleet, "EPICS/ioc/master/GALIL/bin/galil.exe"), "a newer one");
    if let Ok(aside) = uses {
        assert!(aside.to_string_lossy().contains("undo"), "the old program was moved aside: {}", aside.display());
    }
}

#[test]
fn a_link_in_the_way_is_not_followed() {
    let fleet = Fleet::running(&[NAME]);
    let elsewhere = fleet.dir().join("elsewhere");
    std::fs::create_dir(&elsewhere).expect("a folder");
    std::os::unix::fs::symlink(&elsewhere, at(&fleet, "EPICS/linked")).expect("a link");
    let zip = archive(&fleet, "patch.zip", &[("EPICS/linked/x.txt", "x")]);
    let refused = hotfix(&fleet, &[&zip.display().to_string()]);
    assert_eq!((refused.code, refused.outcome(NAME).as_str()), (1, "failed"), "{}", refused.story());
    assert!(refused.stdout.contains("is a link, and the hotfix has files behind it"), "{}", refused.story());
    assert_eq!(std::fs::read_dir(&elsewhere).expect("a folder").count(), 0);
}
