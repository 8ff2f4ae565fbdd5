//! What the machine's scheduler starts: a plan that the machine keeps and carries out by itself, with no controller.

use crate::machines::Machines;

const PLAYBOOK: &str = "playbook: note
apply:
  - file: {path: 'C:\\data\\note of the day.txt', content: 'written by {{ name }}'}
";

#[test]
fn a_machine_carries_out_the_plan_that_a_task_keeps() {
    let Some(machines) = Machines::up(1, "wine-ssh") else { return };
    let name = machines.names[0].as_str();
    let playbooks = machines.dir().join("playbooks");
    std::fs::create_dir(&playbooks).expect("a folder");
    std::fs::write(playbooks.join("note.yaml"), PLAYBOOK).expect("a playbook");
    machines.runs_well(&["run", "note", name, "--yes", "--playbooks", &playbooks.display().to_string()]);
    let note = machines.on_c(name, "data/note of the day.txt");
    std::fs::remove_file(&note).expect("the note was written");

    // As `task` keeps it. Wine's scheduler starts nothing, so its command line is run by hand.
    let home = machines.root(name).join(".ibexdeploy");
    let run = std::fs::read_dir(home.join("runs")).expect("runs").flatten().next().expect("the one that was made");
    let plan = std::fs::read_to_string(run.path().join("plan.json")).expect("its plan");
    std::fs::create_dir_all(home.join("tasks")).expect("a folder");
    std::fs::write(home.join("tasks/note.json"), format!("{{\"plan\": {plan}}}")).expect("a stored plan");
    let build = std::fs::read_dir(home.join("bin")).expect("builds").flatten().next().expect("the one that was brought");
    let program = format!(r"C:\ProgramData\ibexdeploy\bin\{}\ibexdeploy.exe", build.file_name().display());
    let play = format!(r"{program} agent play --report C:\data\report.txt C:\ProgramData\ibexdeploy\tasks\note.json");
    machines.console(name, "ProgramData", &play);

    assert_eq!(std::fs::read_to_string(&note).expect("it is written again"), format!("written by {name}"));
    let report = std::fs::read_to_string(machines.on_c(name, "data/report.txt")).expect("a report");
    assert!(report.contains(name) && report.contains("changed"), "{report}");
    machines.is_quiet(name);
}
