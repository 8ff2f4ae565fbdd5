//! Over SSH, to servers that behave as Windows' own: commands as they came to cmd.exe, in a job that ends with the session.

use crate::hotfixes;
use crate::machines::{Machines, NEWER, OLDER, differences, wait_for};
use std::process::Command;

#[test]
fn three_machines_are_updated_hotfixed_backed_up_and_rolled_back() {
    let Some(machines) = Machines::up(3, "wine-ssh") else { return };
    let names = machines.names.clone();
    names.iter().for_each(|name| machines.start_ibex(name));
    let before: Vec<_> = names.iter().map(|name| machines.installed(name)).collect();

    let checked = machines.runs_well(&["check", "--all"]);
    let looked_at: Vec<serde_json::Value> = serde_json::from_str(&checked.stdout).expect("a list");
    for name in &names {
        let own = looked_at.iter().find(|one| one["instrument"] == name.as_str()).expect("each is in it");
        assert!(own["agent"].is_string(), "the agent was brought to {name}: {own}");
        machines.is_quiet(name);
    }
    let released = machines.runs_well(&["release", "--all", "--yes"]);
    for name in &names {
        assert_eq!(released.outcome(name), "changed", "{}", released.story());
        assert!(released.last(name, "link_lost").is_none(), "{}", released.story());
        assert_eq!(machines.unlike(name, NEWER), [""; 0], "{name}");
        assert!(machines.ibex(name).is_some(), "IBEX runs on {name} after the session's end");
        machines.is_quiet(name);
    }
    let again = machines.runs_well(&["release", "--all", "--yes"]);
    names.iter().for_each(|name| assert_eq!(again.outcome(name), "ok", "{}", again.story()));
    let status = machines.runs_well(&["status", "--all"]);
    assert!(status.stdout.contains(NEWER) && !status.stdout.contains(OLDER), "{}", status.stdout);

    hotfixes::are_put_on_and_taken_back(&machines, &names, |arguments| machines.runs_well(arguments));

    let saved = machines.runs_well(&["backup", "--all", "--yes"]);
    for name in &names {
        assert_eq!(saved.outcome(name), "ok", "{}", saved.story());
        assert_eq!(machines.zipped_version(name), Some(NEWER.to_owned()), "{name}");
    }

    let run = released.events[0]["run"].as_str().expect("a run");
    let back = machines.runs_well(&["rollback", "--all", "--yes", "--run", run]);
    for (name, before) in names.iter().zip(&before) {
        assert_eq!(back.outcome(name), "rolled_back", "{}", back.story());
        assert_eq!(differences(before, &machines.installed(name)), [""; 0], "{name}");
        assert_eq!(machines.unlike(name, OLDER), [""; 0], "{name}");
        assert!(machines.ibex(name).is_some(), "{name}");
        machines.is_quiet(name);
    }
}

#[test]
fn the_worker_survives_the_end_of_its_session() {
    let Some(machines) = Machines::up(1, "wine-ssh") else { return };
    let name = machines.names[0].as_str();
    machines.start_ibex(name);
    let go = waits_in_the_outage(&machines);
    let mut controller = machines.start(&["release", name, "--yes"]);
    let at_gate = |e: &serde_json::Value| e["event"] == "step_started" && e["step"]["name"] == "ISISICP of the server";
    controller.until(at_gate).unwrap_or_else(|| panic!("it comes to the script that waits{}", machines.logs()));
    let worker = machines.workers(name);
    assert_eq!(worker.len(), 1, "{worker:?}");

    // The server ends the session, and with it the job that all of the session is in.
    let relays: Vec<u32> = machines.agents(name).into_iter().filter(|pid| !worker.contains(pid)).collect();
    end_sessions(&machines, name);
    controller.until(|e| e["event"] == "link_lost").expect("the controller notices");
    wait_for("the relay ends with its session", || {
        let left = machines.agents(name);
        (!relays.iter().any(|pid| left.contains(pid) && is_relay(*pid))).then_some(())
    });
    // A relay that comes again may start another one, which finds the instrument led and leaves.
    let living = machines.workers(name);
    assert!(worker.iter().all(|pid| living.contains(pid)), "the worker lives on: {living:?}");

    std::fs::write(go, "").expect("a file");
    let finished = controller.until(|e| e["event"] == "instrument_finished").expect("its end is told");
    assert_eq!(finished["outcome"], "changed", "{}", machines.logs());
    while controller.until(|_| true).is_some() {}
    assert_eq!(controller.child.wait().expect("its end").code(), Some(0));
    assert_eq!(machines.unlike(name, NEWER), [""; 0]);
    assert!(machines.ibex(name).is_some());
    machines.is_quiet(name);
}

fn is_relay(pid: u32) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| String::from_utf8_lossy(&line).contains("attach"))
}

/// Makes the newer release wait for a file, which is returned.
fn waits_in_the_outage(machines: &Machines) -> std::path::PathBuf {
    let script = machines.kits().join(NEWER).join("EPICS/create_icp_binaries.bat");
    let text = std::fs::read_to_string(&script).expect("the script");
    let wait = "@echo off\r\n:again\r\nif not exist C:\\go (\r\nping -n 1 127.0.0.1 >nul\r\ngoto again\r\n)\r\n";
    std::fs::write(script, format!("{wait}{text}")).expect("the script can be changed");
    machines.on_c(&machines.names[0], "go")
}

/// Ends the processes of the SSH server that serve its connections, at once.
fn end_sessions(machines: &Machines, name: &str) {
    let file = machines.fleet().join("sshd").join(name).join("pid");
    let server = std::fs::read_to_string(file).expect("the server's process");
    let listed = Command::new("pkill").args(["-KILL", "-P", server.trim()]).status().expect("pkill runs");
    assert!(listed.success(), "the server has a session");
}
