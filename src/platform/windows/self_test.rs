//! `agent self-test`: tries on scratch files, a scratch service and a scratch task whatever this platform does, on the
//! machine it is to work on. What the tests of the project cannot exercise is found out here.

use super::launch::{self, Launch};
use super::{
    Windows, disks, helper, in_use, machine, powershell, processes, programs, rights, services, tasks, updates, volumes,
};
use crate::busy;
use crate::error::{Error, IoContext, Result};
use crate::files;
use crate::platform::disks::DiskFile;
use crate::platform::{Platform, ScheduledTask, ServiceControl, ServiceDefinition, ServiceStart, ServiceStatus};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::os::windows::fs::OpenOptionsExt;
use std::os::windows::io::AsHandle;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The scratch service and task.
const NAME: &str = "ibexdeploy self-test";

/// How long the scratch service, a script or a program of the system may take.
const SERVICE: Duration = Duration::from_secs(60);

/// How one thing went: what was seen, or why it does not work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    pub what: String,
    pub result: Result<String>,
}

type Check = (&'static str, fn(&Path) -> Result<String>);

/// What any process with an administrator's rights can do.
const CHECKS: [Check; 18] = [
    ("the machine tells its name, memory and start", the_machine),
    ("files with long paths", long_paths),
    ("files that are marked read-only", read_only),
    ("a file that somebody has open is waited for", open_for_a_moment),
    ("who has a file open is named", who_has_it_open),
    ("a program that runs is moved aside and replaced", running_program),
    ("links to folders (junctions)", links),
    ("owner and access list are copied", copied_rights),
    ("a volume is flushed and tells its free space", volume),
    ("programs are seen with their folders, and ended", seen_programs),
    ("programs are started, with whole exit codes", started_programs),
    ("the registry tells the installed programs", installed_programs),
    ("services are registered, read back and removed", registered_service),
    ("tasks are registered, read back and removed", registered_task),
    ("PowerShell runs our scripts", scripts),
    ("a virtual disk is attached and detached", attached_disk),
    ("the sessions of the machine", sessions),
    ("a service starts, and runs a program in the session of who is logged on", as_the_system),
];

/// Tries everything; `updates` asks Windows Update as well, which takes minutes. What is tried lies in a folder of its own
/// below the system's temporary one, and is removed.
///
/// # Errors
/// When there is no place to try it.
pub fn run(updates: bool) -> Result<Vec<Finding>> {
    let scratch = tempfile::Builder::new().prefix("ibexdeploy self-test ").tempdir().cannot(|| "make a scratch folder")?;
    let folder = scratch.path().canonicalize().cannot(|| "find the scratch folder")?;
    let mut found: Vec<Finding> =
        CHECKS.iter().map(|(what, check)| Finding { what: (*what).to_owned(), result: check(&folder) }).collect();
    if updates {
        let result = updates::offered().map(|offered| format!("{} offered", offered.len()));
        found.push(Finding { what: "Windows Update answers".to_owned(), result });
    }
    Ok(found)
}

/// A broken promise of the machine.
fn failed(why: impl std::fmt::Display) -> Error {
    Error::step_failed(why.to_string())
}

fn expect(holds: bool, why: impl std::fmt::Display) -> Result<()> {
    if holds { Ok(()) } else { Err(failed(why)) }
}

fn the_machine(_: &Path) -> Result<String> {
    let (first, second) = (machine::boot_id()?, machine::boot_id()?);
    expect(first == second, "it tells another start each time")?;
    Ok(format!("{}, {} MB, start {first}", Windows::open().host_name(), machine::memory()? >> 20))
}

fn long_paths(scratch: &Path) -> Result<String> {
    let folder = (0..6).fold(scratch.join("long"), |folder, _| folder.join("x".repeat(60)));
    let (path, moved) = (folder.join("a.txt"), folder.join("b.txt"));
    files::write(&path, b"x")?;
    std::fs::rename(&path, &moved).cannot(|| "move a file with a long path")?;
    files::remove_folder(&scratch.join("long"))?;
    Ok(format!("{} characters", moved.as_os_str().len()))
}

fn read_only(scratch: &Path) -> Result<String> {
    let path = scratch.join("tree").join("read-only");
    files::write(&path, b"x")?;
    let mut marked = std::fs::metadata(&path).cannot(|| "look at a file")?.permissions();
    marked.set_readonly(true);
    std::fs::set_permissions(&path, marked).cannot(|| "mark a file")?;
    files::remove_folder(&scratch.join("tree"))?;
    Ok("removed".to_owned())
}

/// Opens a file so that nobody else may touch it.
fn held(path: &Path) -> Result<File> {
    OpenOptions::new().read(true).share_mode(0).open(path).cannot(|| format!("open {}", path.display()))
}

fn open_for_a_moment(scratch: &Path) -> Result<String> {
    let (path, moved) = (scratch.join("open"), scratch.join("moved"));
    files::write(&path, b"x")?;
    let file = held(&path)?;
    let refused = std::fs::rename(&path, &moved).err().ok_or_else(|| failed("it was moved although it is open"))?;
    expect(busy::is_busy(&refused), format!("it is refused for another reason: {refused}"))?;
    let closing = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        drop(file);
    });
    let begun = Instant::now();
    let done = busy::patiently(busy::PATIENCE, || std::fs::rename(&path, &moved)).cannot(|| "move a file that was open");
    let _ = closing.join();
    done.map(|()| format!("moved after {} ms", begun.elapsed().as_millis()))
}

fn who_has_it_open(scratch: &Path) -> Result<String> {
    let path = scratch.join("held");
    files::write(&path, b"x")?;
    let file = held(&path)?;
    let holders = in_use::holders(&path);
    drop(file);
    let own = format!("({})", std::process::id());
    expect(
        holders.iter().any(|holder| holder.ends_with(&own)),
        "the Restart Manager does not know that this program has it open",
    )?;
    Ok(holders.join(", "))
}

/// A copy of the command interpreter that runs until its input ends.
fn waiting_program(at: &Path) -> Result<std::process::Child> {
    let interpreter = launch::system_folder().join("cmd.exe");
    std::fs::copy(&interpreter, at).cannot(|| format!("copy {}", interpreter.display()))?;
    let mut command = std::process::Command::new(at);
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    command.current_dir(volumes::plain(at.parent().unwrap_or(at)));
    command.spawn().cannot(|| format!("start {}", at.display()))
}

fn running_program(scratch: &Path) -> Result<String> {
    let (path, aside) = (scratch.join("ioc.exe"), scratch.join("ioc.old"));
    let mut child = waiting_program(&path)?;
    let replaced = std::fs::rename(&path, &aside)
        .cannot(|| "move a program that runs")
        .and_then(|()| files::write(&path, b"new"))
        .and_then(|()| expect(matches!(child.try_wait(), Ok(None)), "it ended"));
    let ended = processes::end(child.id());
    let _ = child.wait();
    replaced.and(ended)?;
    files::remove(&aside)?;
    Ok("it went on running".to_owned())
}

fn links(scratch: &Path) -> Result<String> {
    let [one, two, link, staged] = ["one", "two", "link", "staged"].map(|name| scratch.join(name));
    files::write(&one.join("version"), b"1")?;
    files::write(&two.join("version"), b"2")?;
    let reads = |wanted: &[u8]| std::fs::read(link.join("version")).is_ok_and(|text| text == wanted);
    volumes::make_link(&link, &one)?;
    expect(reads(b"1"), "the link does not lead to its folder")?;
    volumes::make_link(&staged, &two)?;
    files::remove(&link)?;
    expect(one.join("version").exists(), "removing the link removed what it leads to")?;
    std::fs::rename(&staged, &link).cannot(|| "move a link")?;
    expect(reads(b"2"), "a link that was moved does not lead to its folder")?;
    expect(link.canonicalize().is_ok_and(|real| real == processes::resolved(&two)), "the link is not followed")?;
    files::remove(&link)?;
    Ok("made, followed, moved, removed".to_owned())
}

fn copied_rights(scratch: &Path) -> Result<String> {
    let [like, path] = ["like", "path"].map(|name| scratch.join(name));
    files::write(&like, b"x")?;
    files::write(&path, b"x")?;
    rights::copy(&like, &path)?;
    rights::copy(scratch, &path)?;
    std::fs::write(&path, "y").cannot(|| "write a file whose rights were set")?;
    let owner = super::access_list::owner(&rights::of(&path)?).ok_or_else(|| failed("a file has no owner"))?;
    Ok(format!("owner {owner}"))
}

fn volume(scratch: &Path) -> Result<String> {
    files::write(&scratch.join("flushed"), b"x")?;
    volumes::flush(scratch)?;
    expect(volumes::volume_of(scratch)? == volumes::volume_of(&scratch.join("not there"))?, "one volume has two names")?;
    Ok(format!("{} MB free", volumes::free_space(scratch)? >> 20))
}

fn seen_programs(scratch: &Path) -> Result<String> {
    let folder = scratch.join("programs");
    std::fs::create_dir_all(&folder).cannot(|| "make a folder")?;
    let mut child = waiting_program(&folder.join("ioc.exe"))?;
    let pid = child.id();
    let all = processes::programs(&scratch.join("builds"));
    let ended = processes::end(pid);
    let _ = child.wait();
    ended?;
    let all = all?;
    let seen = all.iter().find(|program| program.pid == pid).ok_or_else(|| failed("a program is not in the list"))?;
    let folder = processes::resolved(&folder);
    expect(seen.executable.as_deref().is_some_and(|path| path.starts_with(&folder)), "its executable is not known")?;
    expect(seen.stands_below(&folder), "its working folder is not known")?;
    Ok(format!("{} programs", all.len()))
}

fn started_programs(scratch: &Path) -> Result<String> {
    let batch = scratch.join("a b.bat");
    files::write(&batch, b"@if not \"%~1\"==\"x & y\" exit /b 1\r\n@exit /b -1073741510\r\n")?;
    let code = exit_code(&volumes::plain(&batch).to_string_lossy(), &["x & y"], None)?;
    expect(code == -1_073_741_510, format!("a batch file ended with {code}"))?;
    Ok("batch files get their arguments".to_owned())
}

fn exit_code(program: &str, args: &[&str], token: Option<&std::os::windows::io::OwnedHandle>) -> Result<i32> {
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let none = launch::nowhere()?;
    let streams = [none.as_handle(), none.as_handle(), none.as_handle()];
    Launch { program, args: &args, folder: None, env: &[], streams, token }.start()?.wait()
}

fn installed_programs(_: &Path) -> Result<String> {
    let waits = programs::pending_reboot()?
        .map_or_else(|| "no restart is pending".to_owned(), |why| format!("a restart is pending: {why}"));
    Ok(format!("{} installed; {waits}", programs::installed()?.len()))
}

fn registered_service(scratch: &Path) -> Result<String> {
    let definition = ServiceDefinition {
        name: NAME.to_owned(),
        program: volumes::plain(&scratch.join("no such.exe")),
        arguments: vec!["a b".to_owned()],
        start: ServiceStart::Delayed,
        restarts: true,
    };
    let tried = services::register(&definition).and_then(|()| {
        expect(services::definition(NAME)?.as_ref() == Some(&definition), "it is not as it was registered")?;
        expect(services::status(NAME)? == Some(ServiceStatus::Stopped), "it is not stopped")
    });
    services::remove(NAME)?;
    tried?;
    Ok("as they were registered".to_owned())
}

fn registered_task(scratch: &Path) -> Result<String> {
    let task = ScheduledTask {
        name: format!("ibexdeploy\\{NAME}"),
        program: "cmd.exe".into(),
        args: ["/d", "/s", "/c", "rem \"a b\" & rem"].map(str::to_owned).to_vec(),
        startable_by: rights::account_name(&rights::own_account()?.to_string()),
        daily: Some("03:30".to_owned()),
    };
    let tried = tasks::register(&task, scratch).and_then(|()| {
        let found = tasks::find(&task.name)?;
        expect(found.as_ref() == Some(&task), format!("it is not as it was registered: {found:?}"))
    });
    tasks::remove(&task.name)?;
    tried?;
    expect(tasks::find(&task.name)?.is_none(), "it is still there")?;
    Ok("as they were registered".to_owned())
}

fn scripts(_: &Path) -> Result<String> {
    let script = "[Console]::Out.WriteLine($env:IBEXDEPLOY_UPDATE + ' ' + $PSVersionTable.PSVersion)";
    let said = powershell::run("run a script", script, &[("IBEXDEPLOY_UPDATE", "\u{e9}'\"")], Some(SERVICE))?;
    let version = said.trim().strip_prefix("\u{e9}'\" ").ok_or_else(|| failed(format!("it said `{}`", said.trim())))?;
    Ok(format!("version {version}"))
}

/// A new disk of 16 MB without any volume.
fn attached_disk(scratch: &Path) -> Result<String> {
    let path = volumes::plain(&scratch.join("disk.vhdx"));
    let orders = volumes::plain(&scratch.join("diskpart.txt"));
    let order = format!("create vdisk file=\"{}\" maximum=16 type=expandable\r\n", path.display());
    std::fs::write(&orders, order).cannot(|| "write what diskpart is to do")?;
    let mut diskpart = std::process::Command::new("diskpart.exe");
    diskpart.arg("/s").arg(&orders);
    let said = helper::run(diskpart, Some(SERVICE))?;
    expect(said.success, format!("diskpart cannot make a disk: {}", said.output.trim()))?;
    let disk = DiskFile::Here(path);
    disks::attach(&disk, None)?;
    let attached = disks::look(&disk);
    disks::detach(&disk)?;
    expect(attached?.attached, "it is not attached")?;
    expect(!disks::look(&disk)?.attached, "it is still attached")?;
    Ok("as it was before".to_owned())
}

fn sessions(_: &Path) -> Result<String> {
    let found: Vec<String> = machine::sessions()?.into_iter().map(|session| session.user).collect();
    Ok(if found.is_empty() { "nobody is logged on".to_owned() } else { found.join(", ") })
}

/// The service manager starts this executable with the system's rights, which writes what it found to a file.
fn as_the_system(scratch: &Path) -> Result<String> {
    let report = volumes::plain(&scratch.join("report.json"));
    let definition = ServiceDefinition {
        name: NAME.to_owned(),
        program: std::env::current_exe().cannot(|| "find this executable")?,
        arguments: vec!["agent".to_owned(), "self-test".to_owned(), "--service".to_owned(), report.display().to_string()],
        start: ServiceStart::Manual,
        restarts: false,
    };
    services::register(&definition)?;
    let found = services::control(NAME, ServiceControl::Start).and_then(|()| wait_for(&report));
    let removed = services::remove(NAME);
    let found = found?;
    removed?;
    found.result
}

fn wait_for(report: &Path) -> Result<Finding> {
    let begun = Instant::now();
    loop {
        let found = files::read_json::<Finding>(report)?;
        if let Some(found) = found.filter(|_| matches!(services::status(NAME), Ok(Some(ServiceStatus::Stopped)))) {
            return Ok(found);
        }
        if begun.elapsed() > SERVICE {
            return Err(failed(format!("the service did not report within {} s", SERVICE.as_secs())));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// What the scratch service does: as the system, and for each session in it.
fn inside_the_service() -> Result<String> {
    let mut seen = vec![format!("ran as {}", rights::own_account()?)];
    for session in machine::sessions()? {
        let name = session.user.rsplit('\\').next().unwrap_or(&session.user);
        let token = launch::token_for(name)?;
        let code = exit_code("cmd.exe", &["/d", "/s", "/c", "exit 7"], token.as_ref())?;
        expect(code == 7, format!("a program in the session of {name} ended with {code}"))?;
        seen.push(format!("a program ran in the session of {name}"));
    }
    Ok(seen.join("; "))
}

/// Is the scratch service: writes what it found to `report`.
///
/// # Errors
/// When it was not the service manager who started this process.
pub fn serve(report: PathBuf) -> Result<()> {
    super::service_process::run(NAME, move || {
        let finding = Finding { what: NAME.to_owned(), result: inside_the_service() };
        files::write_json(&report, &finding)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What only Windows can show: Wine has no more than the names of it, or less of it than is asked for. The last one starts this
    /// executable, which must be ibexdeploy.
    const ON_WINDOWS_ONLY: [&str; 7] = [
        "who has a file open is named",
        "links to folders (junctions)",
        "services are registered, read back and removed",
        "tasks are registered, read back and removed",
        "PowerShell runs our scripts",
        "a virtual disk is attached and detached",
        "a service starts, and runs a program in the session of who is logged on",
    ];

    #[test]
    fn all_works_that_wine_has() {
        assert!(ON_WINDOWS_ONLY.iter().all(|name| CHECKS.iter().any(|(what, _)| what == name)));
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        for (what, check) in CHECKS.iter().filter(|(what, _)| !ON_WINDOWS_ONLY.contains(what)) {
            let found = check(&folder);
            assert!(found.is_ok(), "{what}: {found:?}");
        }
    }
}
