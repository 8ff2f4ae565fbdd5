//! Command lines: Windows hands a program one text, and each program takes it apart by itself.

use crate::error::{Error, Result};
use std::path::Path;

/// The line that starts a program, as most programs take it apart (CommandLineToArgvW): the arguments in quotes where
/// they need them. What follows `/c` or `/k` of `cmd.exe` is handed over as it is, since that has rules of its own.
/// A batch file is given to `cmd.exe`.
///
/// # Errors
/// When an argument cannot be handed over: a zero in it; a line end, where a batch file is to take it.
pub(crate) fn line_of(program: &str, args: &[String]) -> Result<String> {
    if let Some(bad) = args.iter().chain([&program.to_owned()]).find(|text| text.contains('\0')) {
        return Err(Error::bad_input(format!("`{}` holds a zero, which no program can be given", bad.replace('\0', "\\0"))));
    }
    if program.contains('"') {
        return Err(Error::bad_input(format!("`{program}` cannot be a program: a path holds no quotes")));
    }
    if is_batch(program) {
        return batch_line(program, args);
    }
    // Quoted always: without, a path with blanks could start another program.
    let mut line = format!("\"{program}\"");
    let (plain, raw) = match is_cmd(program).then(|| args.iter().position(|arg| is_line_option(arg))).flatten() {
        Some(at) => args.split_at(at + 1),
        None => (args, &[][..]),
    };
    for arg in plain {
        line.push(' ');
        match property(program, arg) {
            Some((name, value)) => line.push_str(&format!("{name}=\"{}\"", value.replace('"', "\"\""))),
            None => push_quoted(&mut line, arg),
        }
    }
    if !raw.is_empty() {
        // With /s, cmd takes the first and the last quote away and leaves what is between.
        let quoted = plain.iter().any(|arg| arg.eq_ignore_ascii_case("/s"));
        let text = raw.join(" ");
        line.push_str(&if quoted { format!(" \"{text}\"") } else { format!(" {text}") });
    }
    Ok(line)
}

fn is_cmd(program: &str) -> bool {
    is_called(program, "cmd")
}

fn is_called(program: &str, name: &str) -> bool {
    let file = Path::new(program).file_name().map(|n| n.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    file.strip_suffix(".exe").unwrap_or(&file) == name
}

/// A property of the Windows Installer whose value has to be quoted: it takes quotes around the value only, doubled inside.
fn property<'a>(program: &str, arg: &'a str) -> Option<(&'a str, &'a str)> {
    let (name, value) = arg.split_once('=').filter(|_| is_called(program, "msiexec"))?;
    let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.".contains(c));
    (plain && value.contains([' ', '\t', '"'])).then_some((name, value))
}

fn is_line_option(arg: &str) -> bool {
    ["/c", "/k"].iter().any(|option| arg.eq_ignore_ascii_case(option))
}

/// True for a program that `cmd.exe` must run.
pub(crate) fn is_batch(program: &str) -> bool {
    let name = program.trim_end_matches([' ', '.']).to_ascii_lowercase();
    name.ends_with(".bat") || name.ends_with(".cmd")
}

/// As the standard library starts batch files since CVE-2024-24576: every argument that could mean something to `cmd.exe`
/// is quoted, quotes are doubled, and a per cent sign is written so that no variable is put in its place.
fn batch_line(program: &str, args: &[String]) -> Result<String> {
    let mut line = "cmd.exe /e:ON /v:OFF /d /c \"".to_owned();
    line.push('"');
    line.push_str(&program.replace('/', "\\"));
    line.push('"');
    for arg in args {
        if arg.contains(['\r', '\n']) {
            return Err(Error::bad_input(format!("a batch file cannot be given an argument with a line end: {arg:?}"))
                .next("give it through a file or the environment"));
        }
        line.push(' ');
        push_for_batch(&mut line, arg);
    }
    line.push('"');
    Ok(line)
}

fn push_for_batch(line: &mut String, arg: &str) {
    const PLAIN: &str = "#$*+-./:?@\\_";
    let plain = |c: char| c.is_ascii_alphanumeric() || PLAIN.contains(c) || (!c.is_ascii() && !c.is_control());
    let quoted = arg.is_empty() || arg.ends_with('\\') || !arg.chars().all(plain);
    if quoted {
        line.push('"');
    }
    let mut backslashes = 0;
    for c in arg.chars() {
        if c == '\\' {
            backslashes += 1;
        } else {
            if c == '"' {
                line.extend(std::iter::repeat_n('\\', backslashes));
                line.push('"');
            } else if c == '%' {
                // `%cd:~,%` is nothing: the first sign stands alone.
                line.push_str("%%cd:~,");
            }
            backslashes = 0;
        }
        line.push(c);
    }
    if quoted {
        line.extend(std::iter::repeat_n('\\', backslashes));
        line.push('"');
    }
}

fn push_quoted(line: &mut String, arg: &str) {
    let quoted = arg.is_empty() || arg.contains([' ', '\t']);
    if quoted {
        line.push('"');
    }
    let mut backslashes = 0;
    for c in arg.chars() {
        if c == '\\' {
            backslashes += 1;
        } else {
            if c == '"' {
                line.extend(std::iter::repeat_n('\\', backslashes + 1));
            }
            backslashes = 0;
        }
        line.push(c);
    }
    if quoted {
        line.extend(std::iter::repeat_n('\\', backslashes));
        line.push('"');
    }
}

/// The arguments of a program in one line, without the program: as the Task Scheduler has them.
///
/// # Errors
/// As [`line_of`].
pub(crate) fn arguments_of(program: &str, args: &[String]) -> Result<String> {
    let line = line_of(program, args)?;
    // What comes before is the quoted program; a batch file's line begins with that of cmd.exe.
    let end = match line.strip_prefix('"') {
        Some(quoted) => quoted.find('"').map_or(0, |at| at + 2),
        None => line.find(' ').unwrap_or(0),
    };
    Ok(line.get(end..).unwrap_or_default().trim_start().to_owned())
}

/// What [`arguments_of`] put together: the program, and its arguments as they were given.
pub(crate) fn program_and_arguments(program: &str, arguments: &str) -> (String, Vec<String>) {
    let words = split(&format!("x {arguments}")).split_off(1);
    if !is_cmd(program) {
        return (program.to_owned(), words);
    }
    let Some(at) = words.iter().position(|word| is_line_option(word)) else { return (program.to_owned(), words) };
    let lower = arguments.to_ascii_lowercase();
    let Some(end) = ["/c ", "/k "].iter().filter_map(|option| lower.find(option)).min().map(|at| at + 3) else {
        return (program.to_owned(), words);
    };
    let (mut plain, mut line) = (words[..=at].to_vec(), &arguments[end..]);
    if plain.iter().any(|word| word.eq_ignore_ascii_case("/s")) {
        line = line.strip_prefix('"').and_then(|line| line.strip_suffix('"')).unwrap_or(line);
    }
    plain.push(line.to_owned());
    (program.to_owned(), plain)
}

/// Takes a command line apart as the C runtime does (`""` inside quotes is a quote).
pub(crate) fn split(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut chars = line.trim_start_matches([' ', '\t']).chars().peekable();
    // The program: quotes only group.
    let mut word = String::new();
    let mut in_quotes = false;
    if chars.peek().is_none() {
        return words;
    }
    for c in chars.by_ref() {
        match c {
            '"' => in_quotes = !in_quotes,
            ' ' | '\t' if !in_quotes => break,
            c => word.push(c),
        }
    }
    words.push(std::mem::take(&mut word));
    let (mut backslashes, mut begun) = (0_usize, false);
    in_quotes = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                backslashes += 1;
                begun = true;
                continue;
            }
            '"' => {
                word.extend(std::iter::repeat_n('\\', backslashes / 2));
                begun = true;
                if backslashes % 2 == 1 {
                    word.push('"');
                } else if in_quotes && chars.peek() == Some(&'"') {
                    word.push('"');
                    chars.next();
                } else {
                    in_quotes = !in_quotes;
                }
            }
            c => {
                word.extend(std::iter::repeat_n('\\', backslashes));
                if matches!(c, ' ' | '\t') && !in_quotes {
                    if begun {
                        words.push(std::mem::take(&mut word));
                    }
                    begun = false;
                } else {
                    word.push(c);
                    begun = true;
                }
            }
        }
        backslashes = 0;
    }
    word.extend(std::iter::repeat_n('\\', backslashes));
    if begun {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn arguments_come_apart_as_they_were_put_together() {
        let args =
            words(&["plain", "", "two words", "a\"b", "C:\\x\\", "C:\\a b\\", "\\\\srv\\x", "\\\"", "tab\there", "q\"\"q"]);
        let line = line_of("C:\\Program Files\\x.exe", &args).unwrap();
        let mut expected = words(&["C:\\Program Files\\x.exe"]);
        expected.extend(args.clone());
        assert_eq!(split(&line), expected);
        assert_eq!(split(&format!("x {}", arguments_of("C:\\Program Files\\x.exe", &args).unwrap()))[1..], args[..]);
    }

    #[test]
    fn a_line_for_the_interpreter_is_not_quoted_again() {
        let line = "copy \"C:\\a b\\x\" y && echo \"done\"";
        let args = words(&["/d", "/s", "/c", line]);
        assert_eq!(line_of("cmd.exe", &args).unwrap(), format!("\"cmd.exe\" /d /s /c \"{line}\""));
        assert_eq!(arguments_of("cmd.exe", &args).unwrap(), format!("/d /s /c \"{line}\""));
        let without = words(&["/c", "dir", "C:\\"]);
        assert_eq!(
            line_of("C:\\Windows\\System32\\CMD.EXE", &without).unwrap(),
            "\"C:\\Windows\\System32\\CMD.EXE\" /c dir C:\\"
        );
    }

    #[test]
    fn the_windows_installer_gets_its_properties_as_it_wants_them() {
        let args = words(&["/i", "C:\\a b\\x.msi", "DIR=C:\\a b", "NAME=x", "SAY=a \"b\"", "/l*v"]);
        let line = "\"msiexec.exe\" /i \"C:\\a b\\x.msi\" DIR=\"C:\\a b\" NAME=x SAY=\"a \"\"b\"\"\" /l*v";
        assert_eq!(line_of("msiexec.exe", &args).unwrap(), line);
    }

    #[test]
    fn a_batch_file_gets_its_arguments_and_nothing_runs_besides() {
        let args = words(&["NOINT", "a&calc", "%PATH%", "say \"x\"", "C:\\x y\\"]);
        assert_eq!(
            line_of("C:\\k\\install.bat", &args).unwrap(),
            "cmd.exe /e:ON /v:OFF /d /c \"\"C:\\k\\install.bat\" NOINT \"a&calc\" \"%%cd:~,%PATH%%cd:~,%\" \"say \"\"x\"\"\" \"C:\\x y\\\\\"\""
        );
        assert!(line_of("x.cmd", &words(&["a\nb"])).is_err());
        assert!(is_batch("X.BAT") && is_batch("x.cmd. ") && !is_batch("x.exe"));
    }

    #[test]
    fn what_no_program_can_be_given_is_refused() {
        assert!(line_of("x.exe", &words(&["a\0b"])).is_err());
        assert!(line_of("a\"b.exe", &[]).is_err());
        assert_eq!(split("  "), Vec::<String>::new());
    }
}
