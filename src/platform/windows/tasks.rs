//! The machine's scheduler. Tasks are handed to `schtasks` as XML, and read where the scheduler keeps them: what `schtasks`
//! prints is in the console's code page and in the system's language.

use super::rights::{account_name, sid_of_account};
use super::system::text_of;
use super::{helper, quoting};
use crate::error::{Error, ErrorKind, Result};
use crate::files;
use crate::platform::ScheduledTask;
use quick_xml::escape::{escape, unescape};
use quick_xml::events::Event;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Who may do what with a task: everything for SYSTEM and administrators.
const ADMINISTRATORS_ONLY: &str = "D:P(A;;FA;;;SY)(A;;FA;;;BA)";

/// How long the scheduler may take.
const LIMIT: Duration = Duration::from_secs(60);

/// The day from which a daily task runs; any that is over.
const SINCE: &str = "2026-01-01";

/// Where the scheduler keeps a task.
fn file_of(name: &str) -> PathBuf {
    let windows = std::env::var_os("SystemRoot").unwrap_or_else(|| "C:\\Windows".into());
    Path::new(&windows).join("System32").join("Tasks").join(name.trim_start_matches('\\'))
}

/// A task by its whole name.
pub(super) fn find(name: &str) -> Result<Option<ScheduledTask>> {
    let file = file_of(name);
    let bytes = match std::fs::read(&file) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io(format!("read the task {}", file.display()), &e)),
    };
    read(name, &text_in(&bytes)).map(Some)
}

/// Registers a task, or replaces the one of its name. `folder` is one that only administrators may write to.
pub(super) fn register(task: &ScheduledTask, folder: &Path) -> Result<()> {
    let order = folder.join(format!("task-{}.xml", std::process::id()));
    let mut bytes = vec![0xff, 0xfe];
    bytes.extend(write(task)?.encode_utf16().flat_map(u16::to_le_bytes));
    files::write(&order, &bytes)?;
    let asked = schtasks(&["/create", "/tn", &task.name, "/f", "/xml"], Some(&order));
    files::remove(&order)?;
    asked.map_err(|e| e.context(format!("the scheduler does not take the task {}", task.name)))
}

/// Removes a task. One that is not there is no error.
pub(super) fn remove(name: &str) -> Result<()> {
    if !file_of(name).exists() {
        return Ok(());
    }
    schtasks(&["/delete", "/f", "/tn", name], None)
        .map_err(|e| e.context(format!("the scheduler does not remove the task {name}")))
}

fn schtasks(args: &[&str], file: Option<&Path>) -> Result<()> {
    let mut command = Command::new("schtasks.exe");
    command.args(args).args(file);
    let said = helper::run(command, Some(LIMIT))?;
    if said.success {
        return Ok(());
    }
    Err(Error::step_failed(format!("`schtasks {}` ended with exit code {}", args.join(" "), said.code))
        .with_output(said.output.lines().chain(said.errors.lines()).map(str::to_owned).collect()))
}

/// The text of a file that is UTF-16 or UTF-8.
fn text_in(bytes: &[u8]) -> String {
    match bytes.strip_prefix(&[0xff, 0xfe]) {
        Some(rest) => {
            let units: Vec<u16> = rest.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
            text_of(&units).to_string_lossy().into_owned()
        }
        None => String::from_utf8_lossy(bytes).trim_start_matches('\u{feff}').to_owned(),
    }
}

/// A task as the scheduler takes it (Task Scheduler Schema 1.2).
fn write(task: &ScheduledTask) -> Result<String> {
    let program = task.program.display().to_string();
    let arguments = quoting::arguments_of(&program, &task.args)?;
    // A batch file is what cmd.exe is told to run.
    let command = if quoting::is_batch(&program) { "cmd.exe".to_owned() } else { program };
    let mut rights = ADMINISTRATORS_ONLY.to_owned();
    if let Some(user) = &task.startable_by {
        // Read it, and start it.
        rights.push_str(&format!("(A;;GRGX;;;{})", sid_of_account(user)?));
    }
    let trigger = task.daily.as_ref().map_or_else(String::new, |time| {
        format!(
            "<CalendarTrigger><StartBoundary>{SINCE}T{time}:00</StartBoundary><Enabled>true</Enabled>\
             <ScheduleByDay><DaysInterval>1</DaysInterval></ScheduleByDay></CalendarTrigger>"
        )
    });
    Ok(format!(
        "<?xml version=\"1.0\" encoding=\"UTF-16\"?>\r\n\
         <Task version=\"1.2\" xmlns=\"http://schemas.microsoft.com/windows/2004/02/mit/task\">\
         <RegistrationInfo><Author>ibexdeploy</Author><SecurityDescriptor>{}</SecurityDescriptor></RegistrationInfo>\
         <Triggers>{trigger}</Triggers>\
         <Principals><Principal id=\"Author\"><UserId>S-1-5-18</UserId><RunLevel>HighestAvailable</RunLevel></Principal></Principals>\
         <Settings><MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>\
         <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries><StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>\
         <StartWhenAvailable>true</StartWhenAvailable><ExecutionTimeLimit>PT0S</ExecutionTimeLimit><Enabled>true</Enabled></Settings>\
         <Actions Context=\"Author\"><Exec><Command>{}</Command><Arguments>{}</Arguments></Exec></Actions></Task>\r\n",
        escape(rights),
        escape(command),
        escape(arguments),
    ))
}

/// A task as the scheduler keeps it.
fn read(name: &str, xml: &str) -> Result<ScheduledTask> {
    let damaged = |why: &dyn std::fmt::Display| {
        Error::new(ErrorKind::Integrity, format!("the scheduler's task {name} is not understood")).because(why)
    };
    let mut found = Found::default();
    let mut path: Vec<String> = Vec::new();
    let mut reader = quick_xml::Reader::from_str(xml);
    loop {
        match reader.read_event().map_err(|e| damaged(&e))? {
            Event::Start(tag) => path.push(tag.local_name().as_ref().to_owned()),
            Event::End(_) => drop(path.pop()),
            Event::Eof => break,
            Event::Text(text) => found.take(&path, &text),
            Event::GeneralRef(entity) => {
                let text = format!("&{};", &*entity);
                found.take(&path, &unescape(&text).map_err(|e| damaged(&e))?);
            }
            _ => {}
        }
    }
    if found.command.is_empty() {
        return Err(damaged(&"it starts no program"));
    }
    let (program, args) = quoting::program_and_arguments(&found.command, &found.arguments);
    Ok(ScheduledTask {
        name: name.to_owned(),
        program: program.into(),
        args,
        startable_by: starter_in(&found.rights).map(|sid| account_name(&sid).unwrap_or(sid)),
        daily: found.start.split_once('T').and_then(|(_, time)| time.get(..5)).map(str::to_owned),
    })
}

/// What is read of a task; a text may come in pieces.
#[derive(Debug, Default)]
struct Found {
    command: String,
    arguments: String,
    rights: String,
    start: String,
}

impl Found {
    fn take(&mut self, path: &[String], text: &str) {
        let within: Vec<&str> = path.iter().map(String::as_str).collect();
        let place = match within[..] {
            [.., "Exec", "Command"] => &mut self.command,
            [.., "Exec", "Arguments"] => &mut self.arguments,
            [.., "RegistrationInfo", "SecurityDescriptor"] => &mut self.rights,
            [.., "CalendarTrigger", "StartBoundary"] => &mut self.start,
            _ => return,
        };
        place.push_str(text);
    }
}

/// The account that may start a task without being an administrator, by its identifier.
fn starter_in(rights: &str) -> Option<String> {
    let entries = rights.split('(').skip(1).filter_map(|entry| entry.split(')').next());
    let accounts = entries.filter_map(|entry| entry.rsplit(';').next());
    accounts.into_iter().find(|sid| sid.starts_with("S-1-") && *sid != "S-1-5-18" && *sid != "S-1-5-32-544").map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(program: &str, args: &[&str]) -> ScheduledTask {
        ScheduledTask {
            name: "ibexdeploy\\switch to SECI".to_owned(),
            program: program.into(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            startable_by: None,
            daily: None,
        }
    }

    #[test]
    fn a_task_is_read_as_it_was_written() {
        let player = task("C:\\ProgramData\\ibexdeploy\\bin\\x y\\ibexdeploy.exe", &["agent", "play", "C:\\a b & c\\<x>.json"]);
        let line = ScheduledTask { daily: Some("03:30".to_owned()), ..task("cmd.exe", &["/d", "/s", "/c", "a \"b c\" & d > e"]) };
        for task in [player, line] {
            let xml = write(&task).unwrap();
            assert!(!xml.contains("& "), "{xml}");
            assert_eq!(read(&task.name, &xml).unwrap(), task);
        }
    }

    #[test]
    fn the_scheduler_keeps_a_task_until_it_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let name = format!("ibexdeploy\\test {}", std::process::id());
        let line = ScheduledTask { name: name.clone(), ..task("cmd.exe", &["/d", "/s", "/c", "rem \"a b\" & rem"]) };
        assert_eq!(find(&name).unwrap(), None);
        for task in [line.clone(), ScheduledTask { daily: Some("03:30".to_owned()), ..line }] {
            register(&task, folder.path()).unwrap();
            assert!(file_of(&name).exists());
            match find(&name) {
                Ok(found) => assert_eq!(found, Some(task)),
                // Wine's scheduler keeps neither times nor programs.
                Err(error) => assert!(error.to_string().contains("it starts no program"), "{error}"),
            }
        }
        remove(&name).unwrap();
        remove(&name).unwrap();
        assert_eq!(find(&name).unwrap(), None);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn who_may_start_it_stands_in_its_access_list() {
        let user = account_name(&super::super::rights::own_account().unwrap().to_string()).unwrap();
        let task = ScheduledTask { startable_by: Some(user), ..task("x.exe", &[]) };
        assert_eq!(read(&task.name, &write(&task).unwrap()).unwrap(), task);
        assert_eq!(
            starter_in("D:P(A;;FA;;;SY)(A;;FA;;;S-1-5-32-544)(A;;GRGX;;;S-1-5-21-1-2-3-1001)").as_deref(),
            Some("S-1-5-21-1-2-3-1001")
        );
        assert_eq!(starter_in(ADMINISTRATORS_ONLY), None);
    }

    #[test]
    fn what_is_no_task_is_said_so() {
        assert_eq!(read("x", "<Task><Actions/></Task>").unwrap_err().kind(), ErrorKind::Integrity);
        assert_eq!(read("x", "<Task").unwrap_err().kind(), ErrorKind::Integrity);
        assert_eq!(text_in(&[0xff, 0xfe, b'a', 0, 0xe9, 0]), "a\u{e9}");
    }
}
