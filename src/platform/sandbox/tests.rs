use crate::platform::testing::{Bench, Running};
use crate::platform::{ServiceControl, ServiceStatus};
use rustix::process::{WaitId, WaitIdOptions};
use serde_json::json;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

#[test]
fn a_fresh_sandbox_has_sane_defaults() {
    let bench = Bench::new();
    let sandbox = &bench.platform;
    assert_eq!(sandbox.service("mysql80").unwrap(), Some(ServiceStatus::Running));
    assert_eq!(sandbox.service("MYSQL84").unwrap(), None);
    assert_eq!(sandbox.logged_on().unwrap(), ["spudulike"]);
    assert_eq!(sandbox.pending_reboot().unwrap(), None);
    let id = sandbox.boot_id().unwrap();
    assert!(!id.is_empty());
    assert_eq!(crate::platform::open(Some(&bench.root)).unwrap().boot_id().unwrap(), id, "made once");
}

#[test]
fn the_identity_says_the_host_else_the_folder_does() {
    let bench = Bench::new();
    assert_eq!(bench.platform.host_name(), bench.root.file_name().unwrap().to_str().unwrap());
    let identity = bench.root.join(".ibexdeploy/identity.json");
    std::fs::write(&identity, r#"{"name": "NDXLARMOR"}"#).unwrap();
    assert_eq!(bench.platform.host_name(), "NDXLARMOR");
    std::fs::write(&identity, r#"{"name": "NDXLARMOR", "host": "ndxlarmor.isis"}"#).unwrap();
    assert_eq!(bench.platform.host_name(), "ndxlarmor.isis");
}

#[test]
fn a_damaged_state_file_is_named() {
    let bench = Bench::new();
    std::fs::write(bench.root.join(".ibexdeploy/sandbox.json"), "{").unwrap();
    let error = bench.platform.boot_id().unwrap_err();
    assert!(error.to_string().contains("sandbox.json"), "{error}");
    assert!(error.details().next.is_some());
}

#[test]
fn many_writers_lose_no_change() {
    let bench = Bench::new();
    bench.sandbox_state(|s| {
        s["services"] = (0..8).map(|n| (format!("S{n}"), json!({"running": true}))).collect();
    });
    std::thread::scope(|scope| {
        for n in 0..8 {
            let root = &bench.root;
            scope.spawn(move || {
                let sandbox = crate::platform::open(Some(root)).unwrap();
                sandbox.control_service(&format!("S{n}"), ServiceControl::Stop).unwrap();
            });
        }
    });
    for n in 0..8 {
        assert_eq!(bench.platform.service(&format!("S{n}")).unwrap(), Some(ServiceStatus::Stopped), "S{n}");
    }
}

#[test]
fn programs_are_found_by_executable_and_folder() {
    let bench = Bench::new();
    let by_executable = bench.program("C:\\Instrument\\Apps\\EPICS\\ioc.exe");
    let by_folder = Running::start(Command::new("sleep").arg("1000").current_dir(bench.native("C:\\Instrument")));
    let elsewhere = Running::start(Command::new("sleep").arg("1000").current_dir("/"));

    let found = bench.platform.processes().unwrap();
    let of = |pid: u32| found.iter().find(|p| p.pid == pid);
    let program = of(by_executable.pid()).unwrap();
    assert_eq!((program.name.as_str(), program.parent), ("ioc.exe", std::process::id()));
    assert_eq!(of(by_folder.pid()).unwrap().folder.as_deref(), Some(bench.native("C:\\Instrument").as_path()));
    assert_eq!(of(elsewhere.pid()), None);
    assert!(of(std::process::id()).is_none(), "never the agent itself");
}

#[test]
fn a_script_stands_for_a_program() {
    let bench = Bench::new();
    let script = bench.native("C:\\Instrument\\Apps\\Client_E4\\ibex-client.exe");
    bench.script("C:\\Instrument\\Apps\\Client_E4\\ibex-client.exe", "read line");
    let mut child = Command::new(&script).current_dir("/").stdin(std::process::Stdio::piped()).spawn().unwrap();
    let found = bench.platform.processes().unwrap();
    let program = found.iter().find(|p| p.pid == child.id()).cloned();
    drop(child.stdin.take());
    child.wait().unwrap();
    let program = program.unwrap();
    assert_eq!(program.name, "ibex-client.exe");
    assert_eq!(program.scripts, [script]);
    assert!(!program.is_shell_standing());
}

#[test]
fn a_shell_that_runs_text_is_no_prompt() {
    let bench = Bench::new();
    let mut shell = Command::new("sh");
    let mut child =
        shell.args(["-ec", "read line; true"]).current_dir(&bench.root).stdin(std::process::Stdio::piped()).spawn().unwrap();
    let found = bench.platform.processes().unwrap();
    drop(child.stdin.take());
    child.wait().unwrap();
    assert!(found.iter().any(|p| p.pid == child.id() && !p.is_shell_standing()), "{found:?}");
}

#[test]
fn an_ended_program_is_gone_at_once() {
    let bench = Bench::new();
    let program = bench.program("C:\\x.exe");
    bench.platform.kill(program.pid()).unwrap();
    let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    rustix::process::waitid(WaitId::Pid(rustix::process::Pid::from_child(&program.0)), ended).unwrap();
    assert_eq!(bench.platform.processes().unwrap(), [], "ended, though its parent has not collected it");
    bench.platform.kill(program.pid()).unwrap();
}

#[test]
fn a_restart_ends_programs_spares_prompts_and_has_a_new_boot_id() {
    let bench = Bench::new();
    let mut program = bench.program("C:\\Instrument\\Apps\\EPICS\\ioc.exe");
    let mut prompt = Command::new("sh").stdin(std::process::Stdio::piped()).current_dir(bench.native("C:\\")).spawn().unwrap();
    bench.sandbox_state(|s| {
        s["pending_reboot"] = json!("patches");
        s["services"]["MYSQL80"]["running"] = json!(false);
        s["services"]["MANUAL"] = json!({"running": true, "automatic": false});
    });
    let before = bench.platform.boot_id().unwrap();
    bench.platform.reboot("test").unwrap();
    assert!(!program.0.wait().unwrap().success());
    assert!(prompt.try_wait().unwrap().is_none(), "the prompt is spared");
    drop(prompt.stdin.take());
    prompt.wait().unwrap();
    assert_ne!(bench.platform.boot_id().unwrap(), before);
    assert_eq!(bench.platform.pending_reboot().unwrap(), None);
    assert_eq!(bench.platform.service("MYSQL80").unwrap(), Some(ServiceStatus::Running));
    assert_eq!(bench.platform.service("MANUAL").unwrap(), Some(ServiceStatus::Stopped));
}

#[test]
fn an_unknown_service_names_the_nearest() {
    let bench = Bench::new();
    let error = bench.platform.control_service("MYSQL8", ServiceControl::Stop).unwrap_err();
    assert_eq!(error.details().next.as_deref(), Some("did you mean `MYSQL80`?"));
}

#[test]
fn space_and_volume_are_those_of_the_nearest_folder() {
    let bench = Bench::new();
    let deep = bench.native("C:\\not\\there\\yet");
    assert!(bench.platform.free_space(&deep).unwrap() > 0);
    assert_eq!(bench.platform.volume_of(&deep).unwrap(), std::fs::metadata(&bench.root).unwrap().dev());
    bench.platform.flush_volume(&deep).unwrap();
    let proc_volume = bench.platform.volume_of(std::path::Path::new("/proc/none")).unwrap();
    assert_ne!(proc_volume, bench.platform.volume_of(&deep).unwrap());
}

#[test]
fn links_and_rights() {
    let bench = Bench::new();
    bench.write("C:\\a\\x", "x");
    bench.write("C:\\b", "b");
    let (like, path, link) = (bench.native("C:\\a\\x"), bench.native("C:\\b"), bench.native("C:\\l"));
    std::fs::set_permissions(&like, std::fs::Permissions::from_mode(0o751)).unwrap();
    let root = rustix::process::geteuid().is_root();
    if root {
        std::os::unix::fs::chown(&like, Some(4321), Some(4322)).unwrap();
    }
    bench.platform.copy_rights(&like, &path).unwrap();
    let metadata = std::fs::metadata(&path).unwrap();
    assert_eq!(metadata.mode() & 0o7777, 0o751);
    if root {
        assert_eq!((metadata.uid(), metadata.gid()), (4321, 4322));
    }
    bench.platform.make_link(&link, &bench.native("C:\\a")).unwrap();
    assert_eq!(std::fs::read_to_string(link.join("x")).unwrap(), "x");
    assert!(bench.platform.make_link(&link, &like).is_err(), "a link never replaces anything");
}

#[test]
fn lines_run_by_the_shell_with_the_root_at_hand() {
    let bench = Bench::new();
    bench.script("C:\\app\\say.bat", "echo $IBEX_ROOT");
    let (program, args) = bench.platform.shell_line("say.bat");
    let folder = bench.native("C:\\app");
    let output = Command::new(program).args(args).envs(bench.platform.environment()).current_dir(folder).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), bench.root.to_str().unwrap());
}

#[test]
fn background_work_goes_back_to_the_usual_priority() {
    let bench = Bench::new();
    let before = rustix::process::getpriority_process(None).unwrap();
    bench.platform.background_priority(true);
    let lowered = rustix::process::getpriority_process(None).unwrap();
    assert_eq!(lowered > before, rustix::process::geteuid().is_root(), "only who can raise it again lowers it");
    bench.platform.background_priority(false);
    assert_eq!(rustix::process::getpriority_process(None).unwrap(), 0);
}

#[test]
fn only_a_folder_can_be_a_sandbox() {
    assert!(crate::platform::open(Some(std::path::Path::new("/none/such"))).is_err());
    assert!(crate::platform::open(None).is_err());
}
