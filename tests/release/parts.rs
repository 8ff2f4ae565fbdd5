//! Parts of a release that depend on the instrument: ISISICP by its DAE, the old Galil driver, the runtime of Visual C++.

use crate::support::Fleet;
use ibexdeploy::rehearsal::KitShape;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

const NAME: &str = "NDXLARMOR";

fn write(file: &Path, text: &str) {
    std::fs::create_dir_all(file.parent().expect("a folder")).expect("folders can be made");
    std::fs::write(file, text).expect("files can be written");
}

fn git(folder: &Path, args: &[&str]) -> String {
    let output = Command::new("git").args(args).current_dir(folder).output().expect("git");
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn isisicp_comes_from_the_newest_build_for_the_dae_and_is_taken_back() {
    let fleet = Fleet::running(&[NAME]);
    let root = fleet.root(NAME);
    write(&root.join("c/LabVIEW Modules/dae/icp_config.xml"), "<I32>\n<Name>DAEType</Name>\n<Val>3</Val>\n</I32>");
    let kits = root.join("c/kits/ISISICP/DAE3");
    write(&kits.join("LATEST_BUILD.txt"), "1042\r\n");
    let script = kits.join("BUILD-1042/update_inst.cmd");
    let icp = "$IBEX_ROOT/c/Instrument/Apps/EPICS/ICP_Binaries";
    write(
        &script,
        &format!(
            "#!/bin/sh\necho \"$1 $(basename \"$PWD\")\" >\"{icp}/build.txt\"\necho new >\"$IBEX_ROOT/c/LabVIEW Modules/dae/isisicp.exe\"\n"
        ),
    );
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("a program");
    let dae = root.join("c/LabVIEW Modules/dae");
    let before = (fleet.apps(NAME), Fleet::tree(&dae));
    let kit = ["--set", "icp_kits=C:\\kits\\ISISICP", "--set", "icp_prefix=BUILD-"];

    let fails = ["release", NAME, "--yes", "--set", "icp_kits=C:\\kits\\ISISICP", "--set", "icp_prefix=OTHER-"];
    let ended = fleet.run(&fails);
    assert_eq!((ended.code, ended.outcome(NAME).as_str()), (1, "rolled_back"), "{}", ended.story());
    assert!(ended.stdout.contains("DAE3\\\\OTHER-1042 does not exist"), "{}", ended.story());

    let ended = fleet.run(&["release", NAME, "--yes", kit[0], kit[1], kit[2], kit[3]]);
    assert_eq!((ended.code, ended.outcome(NAME).as_str()), (0, "changed"), "{}", ended.story());
    let build = std::fs::read_to_string(fleet.server(NAME).join("ICP_Binaries/build.txt")).expect("it was run");
    assert_eq!(build, "NOINT BUILD-1042\n");
    assert!(dae.join("isisicp.exe").exists());
    assert!(root.join("c/Instrument/Var/logs/vc_redist.log").exists(), "the runtime was installed as well");
    let back = fleet.run(&["rollback", NAME, "--yes"]);
    assert_eq!((back.code, back.outcome(NAME).as_str()), (0, "rolled_back"), "{}", back.story());
    assert!((fleet.apps(NAME), Fleet::tree(&dae)) == before, "all is as before");
}

#[test]
fn the_old_galil_driver_is_brought_back_and_taken_back() {
    let fleet = Fleet::new(&KitShape::small());
    fleet.make(&[NAME]);
    let galil = fleet.server(NAME).join("ioc/master/GALIL");
    write(&galil.join("GALIL_OLD.txt"), "marked by hand");
    fleet.start_ibex(NAME);
    let before = fleet.apps(NAME);
    let script = fleet.kits().join("26.9.0/EPICS/create_icp_binaries.bat");
    let whole = std::fs::read_to_string(&script).expect("a script of the kit");
    fleet.add_to_script("26.9.0", "create_icp_binaries.bat", "exit 3");
    let fails = fleet.run(&["release", NAME, "--yes"]);
    assert_eq!((fails.code, fails.outcome(NAME).as_str()), (1, "rolled_back"), "{}", fails.story());
    assert!(fleet.apps(NAME) == before, "the server and its repository are as before");

    std::fs::write(&script, whole).expect("a script of the kit");
    let ended = fleet.run(&["release", NAME, "--yes"]);
    assert_eq!((ended.code, ended.outcome(NAME).as_str()), (0, "changed"), "{}", ended.story());
    assert_eq!(git(&fleet.server(NAME), &["branch", "--show-current"]), "galil-old");
    assert!(std::fs::read_to_string(galil.join("st.cmd")).expect("the driver's start").contains("galil_old.db"));
    assert_eq!(git(&fleet.server(NAME), &["status", "--porcelain", "--untracked-files=no"]), "");
    let back = fleet.run(&["rollback", NAME, "--yes"]);
    assert_eq!((back.code, back.outcome(NAME).as_str()), (0, "rolled_back"), "{}", back.story());
    assert!(fleet.apps(NAME) == before, "the server and its repository are as before");
}
