//! What listens there is no WinRM service, or what is needed on this side is not there.

use crate::logon::refused;
use crate::support::{Service, Settings, Site, USER};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

const NAME: &str = "NDXLOQ";
const OTHER: &str = "NDXZOOM";

/// Answers whoever connects, and gives the port; it ends with the test's process.
fn stranger(answer: impl Fn(&mut TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    std::thread::spawn(move || {
        for link in listener.incoming() {
            let mut link = link.expect("a connection");
            // What was not read when a connection is closed makes it a reset one, which answers may not survive.
            let _ = link.read(&mut [0; 4096]);
            answer(&mut link);
        }
    });
    port
}

/// Settings that reach a port of this machine.
fn settings(port: u16) -> Settings {
    let settings = Settings::default().with("user", USER).with("password", "word").with("auth", "ntlm");
    settings.with("address", "127.0.0.1").with("port", port)
}

#[test]
fn a_port_that_closes_without_a_word_may_be_that_of_https() {
    let told = refused(&Site::of(&[NAME], &settings(stranger(|_| {}))));
    assert!(told.contains("the connection to the WinRM service on 127.0.0.1:"), "{told}");
    assert!(told.contains("add `https: true`"), "{told}");
}

#[test]
fn a_web_server_is_not_a_matter_of_the_password() {
    let page = "<html>welcome</html>";
    let port = stranger(move |link| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n", page.len());
        let _ = link.write_all(format!("{head}{page}").as_bytes());
    });
    let told = refused(&Site::of(&[NAME], &settings(port)));
    assert!(told.contains(&format!("what listens on 127.0.0.1:{port} is no WinRM service")), "{told}");
    assert!(!told.contains("password"), "{told}");
}

#[test]
fn an_answer_without_end_is_cut_and_says_what_next() {
    let port = stranger(|link| {
        let _ = link.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n");
        while link.write_all(&[b'x'; 1 << 16]).is_ok() {}
    });
    let told = refused(&Site::of(&[NAME], &settings(port)));
    assert!(told.contains("is longer than 4 MiB") && told.contains("see `port`"), "{told}");
}

#[test]
fn a_file_that_is_not_there_is_named_and_nothing_is_said_to_be_tried() {
    let there = settings(1).with("https", true);
    let site = Site::of(&[NAME], &there.clone().with("ca", "/nowhere/ca.pem"));
    for (key, settings) in [
        ("ca", there.clone().with("ca", "/nowhere/ca.pem")),
        (
            "certificate",
            there
                .clone()
                .without("user")
                .without("password")
                .with("pin", "0".repeat(64))
                .with("auth", "certificate")
                .with("certificate", "/nowhere/one.pem")
                .with("key", "/nowhere/one.key"),
        ),
    ] {
        site.reach(&[NAME], &settings);
        let told = refused(&site);
        assert!(told.contains(&format!("`{key}`: cannot read /nowhere/")) && !told.contains("PEM"), "{told}");
    }
    let checked = site.run(&["check", NAME]);
    let rows: serde_json::Value = serde_json::from_str(&checked.stdout).expect("its rows as JSON");
    for claim in ["reached", "host_key", "logon", "agent"] {
        assert!(rows[0].get(claim).is_none(), "{claim}: {rows}");
    }
    let text = site.command(&["check", NAME, "--output", "plain"]).output().expect("the binary runs");
    let table = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(table.lines().any(|line| line.trim() == NAME), "nothing is claimed: {table}");
}

#[test]
fn a_secret_that_cannot_be_had_concerns_its_instrument_alone() {
    let Some(service) = Service::start(&["--auth", "negotiate"]) else { return };
    let site = Site::of(&[NAME, OTHER], &service.settings());
    let file = site.dir().join("inventory.yaml");
    let text = std::fs::read_to_string(&file).expect("the inventory");
    let source = "{env: IBEXDEPLOY_TEST_WORD}";
    std::fs::write(&file, text.replacen(source, "{file: /nowhere/word}", 1)).expect("the inventory can be written");
    for command in ["status", "check"] {
        let ended = site.run(&[command, "--all"]);
        assert_eq!(ended.code, 1, "{}", ended.story());
        let rows: serde_json::Value = serde_json::from_str(&ended.stdout).expect("its rows as JSON");
        let row = |name: &str| rows.as_array().and_then(|rows| rows.iter().find(|row| row["instrument"] == name)).expect("a row");
        assert!(row(NAME)["error"].to_string().contains("/nowhere/word"), "{rows}");
        assert!(row(NAME)["status"].is_null() && row(OTHER)["status"].is_object(), "{rows}");
    }
    // What changes instruments does not begin where one of them cannot be logged on to.
    let refused = site.run(&["release", "--all", "--yes"]);
    assert_ne!(refused.code, 0, "{}", refused.story());
    assert!(refused.story().contains("/nowhere/word") && refused.outcome(OTHER).is_empty(), "{}", refused.story());
}

#[test]
fn only_winrm_leaves_trust_nothing_to_do() {
    let site = Site::of(&[NAME, OTHER], &settings(1));
    let text = site.command(&["trust", "--all", "--output", "plain"]).output().expect("the binary runs");
    let told = String::from_utf8_lossy(&text.stdout).into_owned();
    assert_eq!(text.status.code(), Some(0), "{told}{}", String::from_utf8_lossy(&text.stderr));
    assert_eq!(told, format!("passed over, as only SSH has host keys: {NAME}, {OTHER}\n"));
}
