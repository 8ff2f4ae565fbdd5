//! What the end of an SSH session leaves alone: the worker is in a session of its own, and holds nothing of the server's.

use crate::sandbox::{ibex, journal, outcome, wait_for};
use crate::support::{Line, Links, NEWER, Process, Sshd, agents, workers};
use rustix::process::{Pid, getpgid, getsid};
use std::collections::BTreeMap;
use std::path::PathBuf;

const NAME: &str = "NDXLARMOR";

/// Where the descriptors of a process lead.
fn descriptors(pid: i32) -> BTreeMap<u32, String> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors").flatten();
    let named = |e: std::fs::DirEntry| {
        let number = e.file_name().to_str()?.parse().ok()?;
        Some((number, std::fs::read_link(e.path()).ok()?.to_string_lossy().into_owned()))
    };
    entries.filter_map(named).collect()
}

/// Of a process: itself, its group and its session.
fn places(pid: i32) -> (i32, i32, i32) {
    let id = Pid::from_raw(pid).expect("a process number");
    let number = |found: rustix::io::Result<Pid>| found.expect("it is alive").as_raw_nonzero().get();
    (pid, number(getpgid(Some(id))), number(getsid(Some(id))))
}

/// The processes of the agent that are called so.
fn part_of(line: &Line, part: &str) -> Vec<Process> {
    agents(&line.root).into_iter().filter(|(p, _)| p == part).map(|(_, process)| process).collect()
}

/// A release that waits in the outage until the file is there.
fn waiting(links: &Links) -> (crate::command::Watched, PathBuf) {
    let go = links.fleet.dir().join("go");
    links.fleet.add_to_script("create_icp_binaries.bat", &format!("until [ -e {} ]; do sleep 0.05; done", go.display()));
    let mut controller = links.fleet.start(&["release", NAME, "--yes"]);
    let at_gate = |e: &serde_json::Value| e["event"] == "step_started" && e["step"]["name"] == "ISISICP of the server";
    controller.until(at_gate).expect("it comes to the script that waits");
    (controller, go)
}

/// Lets the run end, which the controller follows over another connection.
fn ends_well(links: &Links, mut controller: crate::command::Watched, go: &std::path::Path) {
    std::fs::write(go, "").expect("a file");
    let finished = controller.until(|e| e["event"] == "instrument_finished").expect("its end is told");
    assert_eq!(finished["outcome"], "changed");
    while controller.until(|_| true).is_some() {}
    assert_eq!(controller.child.wait().expect("its end").code(), Some(0));
    let line = &links.lines[0];
    assert_eq!(outcome(&journal(&line.root)).as_deref(), Some("changed"));
    assert_eq!(links.fleet.unlike(NAME, NEWER, &[]), [""; 0]);
    assert!(ibex(&line.root).is_some());
    line.ends_clean("a session that ended");
}

#[test]
fn the_worker_has_a_session_of_its_own_and_no_descriptor_of_the_servers() {
    let links = Links::one(NAME);
    let line = &links.lines[0];
    let (controller, go) = waiting(&links);

    let jobs = wait_for("the script", || Some(part_of(line, "job")).filter(|jobs| !jobs.is_empty()));
    let (workers, relays) = (part_of(line, "worker"), part_of(line, "attach"));
    assert_eq!((workers.len(), relays.len(), jobs.len()), (1, 1, 1));
    let servers = line.sshd.connections();
    assert!(!servers.is_empty());
    let held = |processes: &[Process]| {
        let all = processes.iter().flat_map(|p| descriptors(p.pid));
        all.map(|(_, to)| to).filter(|to| to.starts_with("pipe:") || to.starts_with("socket:")).collect::<Vec<_>>()
    };
    let of_the_session = [held(&servers), held(&relays)].concat();
    assert!(of_the_session.len() > 3, "{of_the_session:?}");
    for process in workers.iter().chain(&jobs) {
        let (pid, group, session) = places(process.pid);
        assert_eq!((group, session), (pid, pid), "{process:?} leads a session");
        let inherited: Vec<_> = descriptors(pid).into_iter().filter(|(_, to)| of_the_session.contains(to)).collect();
        assert_eq!(inherited, [], "{process:?}");
    }
    let worker = descriptors(workers[0].pid);
    let log = line.root.join(".ibexdeploy/worker.log").display().to_string();
    assert_eq!([&worker[&0], &worker[&1], &worker[&2]], ["/dev/null", "/dev/null", &log]);

    // The server ends all that the session was.
    line.sshd.drop_connections();
    wait_for("the relay's end", || (!relays.iter().any(|p| p.is_alive())).then_some(()));
    assert!(workers[0].is_alive() && jobs[0].is_alive());
    ends_well(&links, controller, &go);
}

#[test]
fn a_session_that_the_server_gives_up_leaves_the_worker() {
    let links = Links::through(&[NAME], || Sshd::builder().line("ClientAliveInterval 1").line("ClientAliveCountMax 2").start());
    links.fleet.put_agents(&[NAME]);
    crate::sandbox::start_ibex(&links.lines[0].root);
    let line = &links.lines[0];
    let (controller, go) = waiting(&links);
    let (worker, relays) = (workers(&line.root).pop().expect("a worker"), part_of(line, "attach"));
    assert_eq!(relays.len(), 1);
    // Half open: the server asks, and nobody answers.
    line.proxy.abandon();
    wait_for("the server's end of the session", || line.sshd.log().contains("Timeout, client not responding").then_some(()));
    wait_for("the relay's end", || (!relays[0].is_alive()).then_some(()));
    assert!(worker.is_alive());
    ends_well(&links, controller, &go);
}
