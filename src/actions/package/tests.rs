use super::*;
use crate::platform::testing::Bench;

const INSTALLER: &str = "C:\\kits\\setup.exe";

/// Registers what it installs, as an installer does.
const REGISTERS: &str = "mkdir -p \"$IBEX_ROOT/.ibexdeploy/programs\"; echo 2.44.0 >\"$IBEX_ROOT/.ibexdeploy/programs/Git\"";

fn bench(mut package: serde_json::Value, script: &str) -> Bench {
    package["installer"] = json!(INSTALLER);
    let bench = Bench::of(json!({ "package": package }));
    bench.script(INSTALLER, script);
    bench
}

#[test]
fn a_product_is_installed_once_and_found_afterwards() {
    let script = format!("echo run >>\"$IBEX_ROOT/runs\"; {REGISTERS}");
    let mut bench = bench(json!({"product": "git", "version": "2.43"}), &script);
    assert_eq!(bench.probe().unwrap().difference, Difference::Some);
    let applied = bench.apply().unwrap();
    assert_eq!((applied.outcome, applied.summary.as_str()), (Outcome::Changed, "C:\\kits\\setup.exe: installed (0)"));
    bench.step.id = "apply.02.package".into();
    assert_eq!(bench.probe().unwrap().difference, Difference::None);
    assert_eq!(bench.apply().unwrap().summary, "Git 2.44.0 is installed");
    assert_eq!(std::fs::read_to_string(bench.root.join("runs")).unwrap(), "run\n");
    // A later version is wanted, and the installer has none.
    bench.set(json!({"package": {"installer": INSTALLER, "product": "git", "version": "3.0"}}));
    bench.step.id = "apply.03.package".into();
    let error = bench.apply().unwrap_err();
    assert!(error.to_string().contains("`git` in version 3.0 or later is not installed"), "{error}");
}

#[test]
fn exit_codes_decide() {
    let of = |code: i32| bench(json!({}), &format!("exit {code}"));
    // A shell has no exit codes above 255: those of Windows are in the table's own test.
    assert_eq!(of(0).apply().unwrap().outcome, Outcome::Changed);
    let failing = of(5);
    let error = failing.apply().unwrap_err();
    assert_eq!(error.to_string().lines().next(), Some("C:\\kits\\setup.exe: access was denied (5)"));
    assert!(error.details().next.as_deref().unwrap_or_default().contains("AppLocker"), "{error}");
    // A retry is a new job.
    failing.script(INSTALLER, "exit 0");
    assert_eq!(failing.apply().unwrap().outcome, Outcome::Changed);
}

#[test]
fn an_installer_that_returns_early_is_done_when_its_log_says_so() {
    let log = json!({"log": "C:\\kits\\log.txt", "success": "Exit code: 0x0"});
    let slow = bench(log, "echo working >>\"$IBEX_ROOT/c/kits/log.txt\"");
    let path = slow.native("C:\\kits\\log.txt");
    *slow.told.at_first_wait.lock().unwrap() = Some(Box::new(move || {
        // Also told while the installer itself is waited for: what counts is the log's end.
        std::fs::write(path, "working\nExit code: 0x0, restarting: No\n").unwrap();
    }));
    assert_eq!(slow.apply().unwrap().outcome, Outcome::Changed);
    // The log of an earlier installation does not count, and one that says the same again does.
    let again = bench(
        json!({"log": "C:\\kits\\log.txt", "success": "Exit code: 0x0"}),
        "echo 'Exit code: 0x0' >>\"$IBEX_ROOT/c/kits/log.txt\"",
    );
    again.write("C:\\kits\\log.txt", "Exit code: 0x0\n");
    assert_eq!(again.apply().unwrap().outcome, Outcome::Changed);
    let mut never = bench(
        json!({"log": "C:\\kits\\log.txt", "success": "Exit code: 0x0"}),
        "echo 'Exit code: 0x643' >\"$IBEX_ROOT/c/kits/log.txt\"",
    );
    never.limit = Duration::from_secs(2);
    let error = never.apply().unwrap_err();
    assert!(error.to_string().contains("the log of C:\\kits\\setup.exe to say `Exit code: 0x0`"), "{error}");
    assert!(error.details().output.iter().any(|line| line.contains("0x643")), "{error:?}");
}

#[test]
fn what_is_missing_is_named_or_left_out() {
    let mut bench = Bench::of(json!({"package": {"installer": INSTALLER}}));
    let error = bench.apply().unwrap_err();
    assert!(error.to_string().contains("there is no installer C:\\kits\\setup.exe"), "{error}");
    bench.set(json!({"package": {"installer": INSTALLER, "if_exists": true}}));
    assert_eq!(bench.apply().unwrap().summary, "there is no C:\\kits\\setup.exe");
    bench.write("C:\\kits\\there.txt", "");
    bench.set(json!({"package": {"installer": INSTALLER, "creates": "C:\\kits\\there.txt"}}));
    assert_eq!(bench.apply().unwrap().summary, "C:\\kits\\there.txt exists");
}

#[test]
fn a_package_for_msiexec_is_given_to_it() {
    let bench = Bench::of(json!({"package": {"installer": "C:\\kits\\jdk.msi", "args": ["ADDLOCAL=all"]}}));
    bench.write("C:\\kits\\jdk.msi", "package");
    bench.script("C:\\kits\\msiexec.exe", "echo \"$@\" >\"$IBEX_ROOT/called\"");
    assert_eq!(bench.apply().unwrap().outcome, Outcome::Changed);
    let called = std::fs::read_to_string(bench.root.join("called")).unwrap();
    let file = bench.native("C:\\kits\\jdk.msi");
    assert_eq!(called.trim(), format!("/i {} /quiet /norestart ADDLOCAL=all", file.display()));
}

#[test]
fn an_undo_says_that_it_stays() {
    let bench = bench(json!({}), "exit 0");
    bench.apply().unwrap();
    let undone = bench.undo();
    assert_eq!(undone[0].summary, "stays: install C:\\kits\\setup.exe");
    assert!(bench.told.reminders.lock().unwrap()[0].contains("was not taken back"));
}

#[test]
fn versions_are_compared_by_their_numbers() {
    for (a, b, order) in [
        ("2.44.0", "2.9", Ordering::Greater),
        ("14.40.33810.0", "14.40.33810", Ordering::Equal),
        ("17.0.9+8", "17.0.10", Ordering::Less),
        ("", "1", Ordering::Less),
    ] {
        assert_eq!(compare_versions(a, b), order, "{a} {b}");
    }
}
