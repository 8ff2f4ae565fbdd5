use super::*;
use secrecy::ExposeSecret;

const NO_PROMPT: &dyn Fn(&str) -> Result<SecretString> = &|_| Err(Error::internal("nobody is asked here"));

/// The value of one secret.
fn value(source: SecretSource) -> Result<String> {
    let sources = BTreeMap::from([("key".to_owned(), source)]);
    let secrets = resolve(["key"], &sources, NO_PROMPT)?;
    Ok(secrets.get("key")?.expose_secret().to_owned())
}

#[cfg(unix)]
fn shell(script: &str) -> SecretSource {
    SecretSource::Command(["sh", "-c", script].map(str::to_owned).to_vec())
}

fn file(content: &[u8]) -> (tempfile::TempDir, SecretSource) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    std::fs::write(&path, content).unwrap();
    let source = SecretSource::File(path.display().to_string());
    (folder, source)
}

#[test]
fn one_newline_at_the_end_goes() -> Result<()> {
    for (content, expected) in [("a b\n", "a b"), ("x\r\n", "x"), ("x\n\n", "x\n"), ("x", "x"), (" x ", " x "), ("x\r", "x\r")] {
        let (_folder, source) = file(content.as_bytes());
        assert_eq!(value(source)?, expected, "{content:?}");
    }
    Ok(())
}

#[test]
fn the_environment_gives_a_value_or_says_what_is_missing() -> Result<()> {
    // Every process has this one.
    assert_eq!(value(SecretSource::Env("PATH".to_owned()))?, std::env::var("PATH").unwrap());
    let error = value(SecretSource::Env("IBEXDEPLOY_NOT_SET".to_owned())).unwrap_err();
    assert_eq!(error.to_string(), "the secret `key` comes from the environment variable IBEXDEPLOY_NOT_SET, which is not set");
    assert_eq!(error.details().next.as_deref(), Some("set IBEXDEPLOY_NOT_SET and run the command again"));
    Ok(())
}

#[test]
fn files_that_cannot_hold_a_secret() {
    let error = value(SecretSource::File("/nowhere/secret".to_owned())).unwrap_err();
    assert!(error.to_string().starts_with("the secret `key` comes from a file that cannot be read: cannot open"), "{error}");
    for (content, message) in
        [(b"\n".as_slice(), "is empty"), (b"\xff\xfe".as_slice(), "is not UTF-8"), (&[b'x'; 70_000], "longer")]
    {
        let (_folder, source) = file(content);
        let error = value(source).unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
    }
}

#[test]
fn the_operator_is_asked_once_for_one_source() -> Result<()> {
    let asked = std::cell::RefCell::new(Vec::new());
    let ask = |text: &str| {
        asked.borrow_mut().push(text.to_owned());
        Ok(SecretString::from("word"))
    };
    let source = SecretSource::Prompt("Password of gamekeeper".to_owned());
    let sources = BTreeMap::from([("a".to_owned(), source.clone()), ("b".to_owned(), source)]);
    let secrets = resolve(["a", "b"], &sources, &ask)?;
    assert_eq!(secrets.get("b")?.expose_secret(), "word");
    assert_eq!(asked.into_inner(), ["Password of gamekeeper"]);
    Ok(())
}

#[test]
fn a_name_without_source_names_the_nearest() {
    let sources = BTreeMap::from([("mysql_root".to_owned(), SecretSource::Env("X".to_owned()))]);
    let error = resolve(["mysql_rot"], &sources, NO_PROMPT).unwrap_err();
    assert_eq!(error.details().next.as_deref(), Some("did you mean `mysql_root`?"));
}

#[test]
#[cfg(unix)]
fn programs_give_secrets() -> Result<()> {
    assert_eq!(value(shell("echo 'a secret'"))?, "a secret");
    // Much on the other stream does not hold it up.
    assert_eq!(value(shell("head -c 300000 /dev/zero | tr '\\0' x >&2; echo y")).map_err(|e| e.to_string()), Ok("y".to_owned()));
    Ok(())
}

#[test]
#[cfg(unix)]
fn a_failing_program_shows_its_messages_and_never_its_output() {
    let error = value(shell("echo hunter2; echo 'no such record' >&2; exit 3")).unwrap_err();
    let whole = format!("{error} {:?}", error.details());
    assert!(!whole.contains("hunter2"), "{whole}");
    assert_eq!(error.to_string(), "the secret `key`: sh failed with exit status: 3");
    assert_eq!(error.details().output, ["no such record"]);
}

#[test]
fn a_program_that_is_not_there() {
    let error = value(SecretSource::Command(vec!["ibexdeploy-no-such-vault".to_owned()])).unwrap_err();
    assert!(error.to_string().starts_with("the secret `key` comes from a program that cannot be started"), "{error}");
    assert!(error.details().next.as_deref().is_some_and(|n| n.starts_with("install ibexdeploy-no-such-vault")));
}

#[test]
#[cfg(unix)]
fn a_program_that_never_answers_is_ended() {
    for script in ["exec sleep 1000", "exec >&-; exec sleep 1000"] {
        let error = fetch("key", &shell(script), NO_PROMPT, Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        assert_eq!(error.to_string(), "the secret `key`: sh gave no answer in 50ms");
    }
}
