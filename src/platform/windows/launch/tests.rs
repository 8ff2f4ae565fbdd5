use super::*;
use crate::platform::windows::processes;
use std::io::{PipeReader, Read, Write};
use std::os::windows::io::AsHandle;
use std::time::{Duration, Instant};
use windows_sys::Win32::System::JobObjects::AssignProcessToJobObject;

/// Starts a program and gives it with what it writes and a way to feed it.
fn start(program: &str, args: &[&str], folder: Option<&Path>) -> (Launched, PipeReader, std::io::PipeWriter) {
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let (input, feed) = std::io::pipe().unwrap();
    let (output, out) = std::io::pipe().unwrap();
    let errors = nowhere().unwrap();
    let env = [("IBEX_TEST".to_owned(), "from here".to_owned())];
    let streams = [input.as_handle(), out.as_handle(), errors.as_handle()];
    let launch = Launch { program, args: &args, folder, env: &env, streams, token: None };
    (launch.start().unwrap(), output, feed)
}

fn said(program: &str, args: &[&str], folder: Option<&Path>) -> (String, i32) {
    let (started, mut output, feed) = start(program, args, folder);
    drop(feed);
    let code = started.wait().unwrap();
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    (text, code)
}

/// Waits for the end of a process that nobody here may wait for otherwise.
fn ends(pid: u32) -> bool {
    let begun = Instant::now();
    while processes::is_running(pid) && begun.elapsed() < Duration::from_secs(20) {
        std::thread::yield_now();
    }
    !processes::is_running(pid)
}

impl Launched {
    fn pid(&self) -> u32 {
        // SAFETY: the process is open.
        unsafe { windows_sys::Win32::System::Threading::GetProcessId(raw(&self.process)) }
    }
}

#[test]
fn a_line_of_the_interpreter_is_run_as_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let line = "echo \"a b\" %IBEX_TEST%& cd";
    let (text, code) = said("cmd.exe", &["/d", "/s", "/c", line], Some(&folder.path().canonicalize().unwrap()));
    let here = folder.path().file_name().unwrap().to_string_lossy().into_owned();
    assert!(text.starts_with("\"a b\" from here"), "{text}");
    assert!(text.trim_end().ends_with(&here), "{text}");
    assert_eq!(code, 0);
}

#[test]
fn exit_codes_are_whole() {
    for code in [0, 7, 3010, -1_073_741_510] {
        assert_eq!(said("cmd", &["/d", "/s", "/c", &format!("exit {code}")], None).1, code);
    }
}

#[test]
fn a_batch_file_gets_its_arguments_and_runs_nothing_besides() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("x y.bat"), "@echo [%~1] [%2]\r\n@exit /b 5\r\n").unwrap();
    let program = folder.path().join("x y.bat").display().to_string();
    let (text, code) = said(&program, &["a b", "c&echo evil"], None);
    assert_eq!((text.lines().next(), code), (Some("[a b] [\"c&echo evil\"]"), 5), "{text}");
    // Found in the working folder, and without its extension.
    assert_eq!(said("x y", &[], Some(folder.path())).1, 5);
}

#[test]
fn a_program_that_is_nowhere_is_named() {
    let none = nowhere().unwrap();
    let streams = [none.as_handle(), none.as_handle(), none.as_handle()];
    let launch = Launch { program: "no such program", args: &[], folder: None, env: &[], streams, token: None };
    assert!(launch.start().unwrap_err().to_string().contains("no such program"));
}

#[test]
fn what_a_program_started_ends_with_us_unless_it_was_let_go() {
    let (held, _output, _feed) = start("cmd.exe", &[], None);
    let pid = held.pid();
    assert!(processes::is_running(pid));
    drop(held);
    assert!(ends(pid));
    let (free, _output, feed) = start("cmd.exe", &[], None);
    let pid = free.pid();
    free.let_go().unwrap();
    drop(free);
    assert!(processes::is_running(pid));
    drop(feed);
    assert!(ends(pid));
}

#[test]
fn a_program_gets_no_handle_but_its_streams() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let leaking = inheritable(writer.as_handle()).unwrap();
    let (started, _output, feed) = start("cmd.exe", &[], None);
    drop((leaking, writer));
    let mut rest = Vec::new();
    // The end comes although the program runs: it does not hold the other end.
    reader.read_to_end(&mut rest).unwrap();
    assert!(processes::is_running(started.pid()));
    drop(feed);
    started.wait().unwrap();
}

#[test]
fn what_is_detached_leaves_the_job_of_whoever_starts_it() {
    let job = new_job(JOB_OBJECT_LIMIT_BREAKAWAY_OK).unwrap();
    // SAFETY: a pseudo handle, always valid.
    let this = unsafe { GetCurrentProcess() };
    // SAFETY: both handles are valid. There is no way out of it: the job has no limits.
    assert_ne!(unsafe { AssignProcessToJobObject(raw(&job), this) }, 0);
    assert!(in_job());
    let inside = |pid: u32| {
        let process = system::open_process(pid, windows_sys::Win32::System::Threading::PROCESS_QUERY_INFORMATION).unwrap();
        let mut answer = 0;
        // SAFETY: both handles are open, and the answer is written to a place of ours.
        assert_ne!(unsafe { IsProcessInJob(raw(&process), raw(&job), &raw mut answer) }, 0);
        answer != 0
    };
    // It counts for ever: without a console there is nothing that it could wait for.
    let forever = ["/d", "/c", "for /l %i in (1,0,2) do @rem"].map(str::to_owned);
    let pid = detached(&system_folder().join("cmd.exe"), &forever).unwrap();
    let (held, _output, mut feed) = start("cmd.exe", &[], None);
    assert!(inside(held.pid()));
    assert!(processes::is_running(pid));
    assert!(!inside(pid));
    processes::end(pid).unwrap();
    feed.write_all(b"exit 3\r\n").unwrap();
    assert_eq!(held.wait().unwrap(), 3);
}

#[test]
fn a_program_is_found_in_the_working_folder_and_in_path_and_the_interpreter_is_the_systems() {
    let folder = tempfile::tempdir().unwrap();
    let other = tempfile::tempdir().unwrap();
    for path in [folder.path().join("a.exe"), folder.path().join("cmd.exe"), other.path().join("b.c.cmd")] {
        std::fs::write(path, "x").unwrap();
    }
    let path = std::env::join_paths([other.path()]).unwrap();
    let found = |name: &str| find(name, Some(&path), Some(folder.path()));
    assert_eq!(found("a"), Some(folder.path().join("a.exe")));
    assert_eq!(found("b.c"), Some(other.path().join("b.c.cmd")));
    assert_eq!(found("cmd.exe"), Some(system_folder().join("cmd.exe")));
    assert_eq!(found("sub\\a"), None);
    assert_eq!(found("nothing"), None);
    assert!(token_for("nobody of this name").is_err());
}
