//! Machines that let us in and are of no use: no agent can be started there, and nothing half-brought stays.

use crate::refused::{hasty, site, told};
use crate::support::{BINARY, Disk, Home, LocalUser, Shell, Sshd, give};
use snapbox::{assert_data_eq, str};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// What lies in an agent's `bin` folder.
fn brought(root: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(root.join(".ibexdeploy/bin")) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn accounts_that_start_nothing() {
    let Some(user) = LocalUser::create(Shell::Program("/usr/sbin/nologin"), Home::Own) else { return };
    let well = Sshd::start();
    let mut site = site(&well);
    let nologin = Sshd::builder().user(&user).start();
    let forced = Sshd::builder().force_command("echo only backups are made here").start();
    let files_only = Sshd::builder().force_command("internal-sftp").start();
    let without_files = Sshd::builder().sftp(None).start();
    let Some(talker) = LocalUser::create(Shell::Noisy, Home::Own) else { return };
    let noisy = Sshd::builder().user(&talker).sftp(Some("/usr/lib/openssh/sftp-server")).start();
    site.add("NDXNOISY", hasty(&noisy));
    give(&site.root("NDXNOISY"), &talker);
    site.add("NDXNOLOGIN", hasty(&nologin));
    give(&site.root("NDXNOLOGIN"), &user);
    site.add("NDXFORCED", hasty(&forced));
    site.add("NDXFILESONLY", hasty(&files_only));
    site.add("NDXNOFILES", hasty(&without_files));
    site.add("NDXNOAGENT", hasty(&well).with("agent", "preinstalled"));
    assert_data_eq!(
        told(&site),
        str![[r#"
error: the agent that was brought does not run on that machine
  on NDXFILESONLY
  the last lines it wrote:
    | This service allows sftp connections only.
  next: its last words say why: a wrong architecture, a disk mounted `noexec`, antivirus or AppLocker, a shell that lets nothing run
error: the server has no SFTP, by which the agent would be brought
  on NDXFORCED
  because: Timeout waiting for response from SFTP subsystem
  next: switch the server's sftp subsystem on, see that the account may use it (ForceCommand) and that its login shell writes nothing, or put the agent there yourself and write `agent: preinstalled`
error: the agent does not start, and none may be brought (`agent: preinstalled`)
  on NDXNOAGENT
  the last lines it wrote:
    | bash: line 1: [SITE]/roots/NDXNOAGENT/.ibexdeploy/bin/ibexdeploy: No such file or directory
  next: put this build of ibexdeploy there as [SITE]/roots/NDXNOAGENT/.ibexdeploy/bin/ibexdeploy, or let it be brought
error: the server has no SFTP, by which the agent would be brought
  on NDXNOFILES
  because: Unable to request SFTP subsystem
  next: switch the server's sftp subsystem on, see that the account may use it (ForceCommand) and that its login shell writes nothing, or put the agent there yourself and write `agent: preinstalled`
error: the server has no SFTP, by which the agent would be brought
  on NDXNOISY
  because: Timeout waiting for response from SFTP subsystem
  next: switch the server's sftp subsystem on, see that the account may use it (ForceCommand) and that its login shell writes nothing, or put the agent there yourself and write `agent: preinstalled`
error: the agent that was brought does not run on that machine
  on NDXNOLOGIN
  the last lines it wrote:
    | This account is currently not available.
  next: its last words say why: a wrong architecture, a disk mounted `noexec`, antivirus or AppLocker, a shell that lets nothing run

"#]]
    );
    for name in ["NDXNOLOGIN", "NDXFORCED", "NDXFILESONLY", "NDXNOFILES", "NDXNOAGENT", "NDXNOISY"] {
        assert_eq!(brought(&site.root(name)), [""; 0], "{name}");
    }
}

#[test]
fn folders_and_disks_that_take_no_agent() {
    let well = Sshd::start();
    let mut site = site(&well);
    let (nowhere, file) = (site.dir().join("nowhere"), site.dir().join("file"));
    site.add("NDXNOROOT", hasty(&well).with("root", nowhere.display()));
    site.add("NDXFILE", hasty(&well).with("root", file.display()));
    std::fs::remove_dir_all(&nowhere).unwrap();
    std::fs::remove_dir_all(&file).unwrap();
    std::fs::write(&file, "").unwrap();
    let size = std::fs::metadata(BINARY).unwrap().len().div_ceil(1_000_000);
    site.hide(format!("{size} MB"), "[SIZE] MB");
    let mut disks = Vec::new();
    for (name, options) in [("NDXCLOSED", "size=1m"), ("NDXFULL", "size=20m"), ("NDXNOEXEC", "size=300m,noexec")] {
        let root = site.add(name, hasty(&well));
        let Some(disk) = Disk::at(&root, options) else { return };
        if name == "NDXCLOSED" {
            disk.close();
        }
        disks.push(disk);
    }
    assert_data_eq!(
        told(&site),
        str![[r#"
error: cannot make the folder [SITE]/roots/NDXCLOSED/.ibexdeploy on the machine
  on NDXCLOSED
  because: its SFTP server says no more than `failure`
  next: see that the account owns the agent's home, and that the disk is neither full nor read-only
error: the folder [SITE]/file cannot be used there: it is not a folder
  on NDXFILE
  next: `root:` in the inventory names the folder that stands for the instrument's drives: make it, or correct it
error: cannot write [SITE]/roots/NDXFULL/.ibexdeploy/bin/incoming-[..]
  on NDXFULL
  because: its SFTP server says no more than `failure`
  next: see whether [SIZE] MB are free there, and whether the account may write
error: the agent that was brought does not run on that machine
  on NDXNOEXEC
  the last lines it wrote:
    | bash: line 1: [SITE]/roots/NDXNOEXEC/.ibexdeploy/bin/incoming-[..]: Permission denied
  next: its last words say why: a wrong architecture, a disk mounted `noexec`, antivirus or AppLocker, a shell that lets nothing run
error: the folder [SITE]/nowhere cannot be used there: no such file
  on NDXNOROOT
  next: `root:` in the inventory names the folder that stands for the instrument's drives: make it, or correct it

"#]]
    );
    for name in ["NDXCLOSED", "NDXFULL", "NDXNOEXEC"] {
        assert_eq!(brought(&site.root(name)), [""; 0], "{name}");
    }
    assert!(!nowhere.exists());
}

#[test]
fn homes_of_somebody_else() {
    let Some(user) = LocalUser::create(Shell::Sh, Home::Own) else { return };
    let well = Sshd::start();
    let mut site = site(&well);
    let sshd = Sshd::builder().user(&user).start();
    site.hide(user.name(), "[USER]");
    site.hide(format!("user {}", user.uid()), "user [UID]");
    // Closed to the user, open to everybody, and the user's own for somebody who may do everything.
    for (name, sshd) in [("NDXCLOSED", &sshd), ("NDXOPEN", &sshd), ("NDXUSERS", &well)] {
        let root = site.add(name, hasty(sshd));
        let (home, bin) = (root.join(".ibexdeploy"), root.join(".ibexdeploy/bin"));
        std::fs::create_dir(&bin).unwrap();
        std::fs::set_permissions(&bin, Permissions::from_mode(0o777)).unwrap();
        let mode = if name == "NDXCLOSED" { 0o700 } else { 0o755 };
        std::fs::set_permissions(&home, Permissions::from_mode(mode)).unwrap();
        if name == "NDXUSERS" {
            give(&root, &user);
        }
    }
    assert_data_eq!(
        told(&site),
        str![[r#"
error: cannot make the folder [SITE]/roots/NDXCLOSED/.ibexdeploy/bin on the machine
  on NDXCLOSED
  because: permission denied
  next: see that the account owns the agent's home, and that the disk is neither full nor read-only
error: the agent that was brought cannot be at home on that machine
  on NDXOPEN
  the last lines it wrote:
    | error: cannot make the agent's folder [SITE]/roots/NDXOPEN/.ibexdeploy/runs
    |   because: Permission denied (os error 13)
  next: put right what it says about `root:` and the folder .ibexdeploy below it
error: the agent that was brought cannot be at home on that machine
  on NDXUSERS
  the last lines it wrote:
    | error: the agent's home [SITE]/roots/NDXUSERS/.ibexdeploy belongs to user [UID], not to user 0
    |   next: run as its owner, or remove the folder if nobody uses it
  next: put right what it says about `root:` and the folder .ibexdeploy below it

"#]]
    );
    for name in ["NDXCLOSED", "NDXOPEN", "NDXUSERS"] {
        assert_eq!(brought(&site.root(name)), [""; 0], "{name}");
    }
}
