use crate::platform::testing::Bench;
use serde_json::json;

/// `caget` of a sandbox: prints the file named like the variable.
const CAGET: &str = "for name; do case $name in IN:*) if [ -f \"pv/$name\" ]; then echo \"$name $(cat pv/$name)\"; \
    else echo \"$name *** Not connected (PV not found)\"; fi ;; esac; done";

fn bench(snapshot: serde_json::Value) -> Bench {
    let bench = Bench::of(json!({ "snapshot": snapshot }));
    bench.write("C:\\Instrument\\Settings\\config\\NDXTEST\\a.txt", "one\ntwo\n");
    bench.script("C:\\Instrument\\Apps\\EPICS\\caget", CAGET);
    set(&bench, "IN:X:A", "4.2");
    bench
}

fn set(bench: &Bench, name: &str, value: &str) {
    bench.write(&format!("C:\\Instrument\\Apps\\EPICS\\pv\\{name}"), value);
}

fn hex(text: &str) -> String {
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut zlib, text.as_bytes()).unwrap();
    zlib.finish().unwrap().iter().map(|b| format!("{b:02x}")).collect()
}

fn plain() -> Bench {
    bench(json!({"services": ["MYSQL80"], "files": ["settings\\a.txt"], "pvs": ["IN:X:A"]}))
}

#[test]
fn the_second_one_says_what_differs() {
    let mut bench = plain();
    assert_eq!(bench.apply().unwrap().summary, "3 values kept as `state`");
    bench.step.id = "prove.01.snapshot".into();
    assert_eq!(bench.apply().unwrap().summary, "all 3 values are as before");
    bench.write("C:\\Instrument\\Settings\\config\\NDXTEST\\a.txt", "one\nthree\nfour\n");
    set(&bench, "IN:X:A", "5");
    let applied = bench.apply().unwrap();
    assert_eq!(applied.summary, "2 of 3 values differ from before");
    assert_eq!(applied.result["differences"]["IN:X:A"], json!({"before": "4.2", "after": "5"}));
    let notes = bench.told.notes.lock().unwrap().join("\n");
    assert!(notes.contains("IN:X:A: 4.2 before, 5 now"), "{notes}");
    assert!(notes.contains("a.txt: 1 lines gone, 2 lines new"), "{notes}");
}

#[test]
fn taken_again_by_the_same_step_it_is_still_the_first() {
    let bench = plain();
    bench.apply().unwrap();
    set(&bench, "IN:X:A", "5");
    assert_eq!(bench.apply().unwrap().summary, "3 values kept as `state`");
}

#[test]
fn an_unreadable_variable_is_a_value_too() {
    let bench = bench(json!({"pvs": ["IN:X:A", "IN:X:B"]}));
    let values = bench.apply().unwrap().result["values"].clone();
    assert_eq!(values["IN:X:A"], "4.2");
    assert_eq!(values["IN:X:B"], "(cannot be read: *** Not connected (PV not found))");
}

#[test]
fn listed_blocks_are_read_and_told_as_what_they_are() {
    let list = json!({"by": "IN:X:NAMES", "prefix": "IN:X:SB:"});
    let mut bench = bench(json!({"named": "blocks", "listed": list, "tolerance": 0.01, "save": "server\\backups"}));
    set(&bench, "IN:X:NAMES", &hex(r#"["TEMP","FIELD"]"#));
    set(&bench, "IN:X:SB:TEMP", "1.500");
    set(&bench, "IN:X:SB:FIELD", "0");
    let first = bench.apply().unwrap();
    assert_eq!(first.summary, "3 values kept as `blocks`, and in C:\\Instrument\\Apps\\EPICS\\backups\\r_blocks_apply.txt");
    let saved = bench.native("C:\\Instrument\\Apps\\EPICS\\backups\\r_blocks_apply.txt");
    let text = std::fs::read_to_string(saved).unwrap();
    assert!(text.contains("IN:X:NAMES = [\"TEMP\",\"FIELD\"]\r\n") && text.contains("IN:X:SB:TEMP = 1.500\r\n"), "{text}");

    bench.step.id = "prove.01.snapshot".into();
    set(&bench, "IN:X:NAMES", &hex(r#"["TEMP","FLUX"]"#));
    set(&bench, "IN:X:SB:TEMP", "1.501");
    set(&bench, "IN:X:SB:FLUX", "7");
    let second = bench.apply().unwrap();
    assert!(second.summary.starts_with("1 of 3 values differ from before"), "{}", second.summary);
    assert_eq!(bench.told.notes.lock().unwrap().join("\n"), "IN:X:NAMES: gone: FIELD; new: FLUX");
}

#[test]
fn of_a_range_only_those_that_are_there_are_saved_and_one_that_vanished_is_told() {
    let mut bench = bench(json!({"named": "motors", "pvs": ["IN:X:MTR{01..03}"], "save": "server\\backups"}));
    set(&bench, "IN:X:MTR02", "12");
    bench.apply().unwrap();
    let saved = bench.native("C:\\Instrument\\Apps\\EPICS\\backups\\r_motors_apply.txt");
    assert_eq!(std::fs::read_to_string(saved).unwrap().matches("MTR").count(), 1);
    bench.step.id = "prove.01.snapshot".into();
    std::fs::remove_file(bench.native("C:\\Instrument\\Apps\\EPICS\\pv\\IN:X:MTR02")).unwrap();
    bench.apply().unwrap();
    assert_eq!(bench.told.notes.lock().unwrap().join("\n"), "IN:X:MTR02: 12 before, (not there) now");
}

#[test]
fn what_must_be_the_same_is_compared_file_by_file() {
    let mut bench = Bench::of(json!({"snapshot": {"files": ["settings"], "except": ["**/*.log"], "same": true}}));
    let at = |name: &str| format!("C:\\Instrument\\Settings\\config\\NDXTEST\\{name}");
    bench.write(&at("run\\number.txt"), "1234");
    bench.write(&at("icp.log"), "begun");
    bench.apply().unwrap();
    bench.step.id = "prove.01.snapshot".into();
    bench.write(&at("icp.log"), "ended");
    assert_eq!(bench.apply().unwrap().summary, "all 1 values are as before");
    bench.write(&at("run\\number.txt"), "1235");
    bench.write(&at("more.txt"), "");
    let error = bench.apply().unwrap_err();
    assert!(error.to_string().contains("is not the same as before: C:\\Instrument\\Settings"), "{error}");
    let lines = error.details().output.join("\n");
    assert!(lines.contains("- C:\\Instrument\\Settings\\config\\NDXTEST: run/number.txt"), "{lines}");
    assert!(lines.contains("+ C:\\Instrument\\Settings\\config\\NDXTEST: more.txt"), "{lines}");
}
