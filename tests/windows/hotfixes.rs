//! A hotfix put on and taken back, whatever leads to the machines.

use crate::command::Ended;
use crate::machines::{Machines, differences};
use std::io::Write as _;

/// Two files of the server are replaced and taken back; one of them is a program that runs. `run` is given the arguments of a
/// command, which must go well.
pub(crate) fn are_put_on_and_taken_back(machines: &Machines, names: &[String], run: impl Fn(&[&str]) -> Ended) {
    let before: Vec<_> = names.iter().map(|name| machines.installed(name)).collect();
    let archive = machines.dir().join("patch.zip");
    let mut zip = zip::ZipWriter::new(std::fs::File::create(&archive).expect("an archive"));
    let entries = [
        ("hotfix.yaml", "id: galil-timeout\ndescription: a longer timeout\nrequires: {EPICS: 26.9.*}\n"),
        ("EPICS/ioc/master/GALIL/st.cmd", "new start\r\n"),
        ("EPICS/ioc_tools/ibex_server.exe", "another server\r\n"),
    ];
    for (name, text) in entries {
        zip.start_file(name, zip::write::SimpleFileOptions::default()).expect("an entry");
        zip.write_all(text.as_bytes()).expect("its content");
    }
    zip.finish().expect("a whole archive");
    let servers: Vec<_> = names.iter().map(|name| machines.ibex(name)).collect();
    let put = run(&["hotfix", "--all", &archive.display().to_string(), "--yes"]);
    for (name, server) in names.iter().zip(&servers) {
        assert_eq!(put.outcome(name), "changed", "{}", put.story());
        let server_folder = machines.on_c(name, "Instrument/Apps/EPICS");
        let read = |below: &str| std::fs::read_to_string(server_folder.join(below)).expect("a file");
        assert_eq!(read("ioc/master/GALIL/st.cmd"), "new start\r\n");
        assert_eq!(read("ioc_tools/ibex_server.exe"), "another server\r\n", "an EXE in use is replaced");
        assert_eq!(machines.ibex(name), *server, "the one that runs goes on");
    }
    let back = run(&["hotfix", "--all", "--revert", "galil-timeout", "--yes"]);
    for (name, before) in names.iter().zip(&before) {
        assert_eq!(back.outcome(name), "changed", "{}", back.story());
        assert_eq!(differences(before, &machines.installed(name)), [""; 0], "{name}");
    }
}
