//! Words, numbers and lines as people read them.

use crate::units::Size;
use std::borrow::Cow;

/// What stands at the end of a text that was cut.
const CUT: &str = "…";

/// A duration: `0.4 s`, `12 s`, `4m 03s`, `1h 05m`.
pub fn duration(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0..10 => format!("{}.{} s", s, ms % 1000 / 100),
        10..60 => format!("{s} s"),
        60..3600 => format!("{}m {:02}s", s / 60, s % 60),
        3600..86_400 => format!("{}h {:02}m", s / 3600, s % 3600 / 60),
        _ => format!("{}d {:02}h", s / 86_400, s % 86_400 / 3600),
    }
}

/// A number of bytes: `4.2 MB`.
pub fn size(bytes: u64) -> String {
    Size(bytes).to_string()
}

/// A number with its word: `1 file`, `3 files`.
pub fn count(n: usize, one: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") }
}

/// Names in one phrase, the first two when they are many: `A, B and 28 more`.
pub fn names(all: &[&str]) -> String {
    match all {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [a, b] => format!("{a} and {b}"),
        [a, b, c] => format!("{a}, {b} and {c}"),
        [a, b, rest @ ..] => format!("{a}, {b} and {} more", rest.len()),
    }
}

/// One line without control characters and colours, whatever a program at the instrument wrote.
pub fn clean(line: &str) -> Cow<'_, str> {
    let bare = console::strip_ansi_codes(line);
    if bare.chars().any(acts_on_terminals) {
        let one_line = bare.trim_end().replace('\t', "    ").replace(['\r', '\n'], " ");
        Cow::Owned(one_line.chars().filter(|c| !acts_on_terminals(*c)).collect())
    } else {
        bare
    }
}

/// What our own colours consist of, behind the escape character.
const COLOURS: [&str; 8] = ["[0m", "[1m", "[2m", "[31m", "[32m", "[33m", "[1;31m", "[0;1m"];

/// Text of several lines as it may go to a terminal: whatever else it holds (names, output of programs, files of a kit)
/// can neither move the cursor nor hide or rewrite anything. Only line ends, tabs and our own colours stay.
pub fn safe(text: &str) -> Cow<'_, str> {
    if !text.chars().any(|c| acts_on_terminals(c) && c != '\n') {
        return Cow::Borrowed(text);
    }
    let stays = |(at, c): &(usize, char)| match c {
        '\n' | '\t' => true,
        '\u{1b}' => COLOURS.iter().any(|colour| text[at + 1..].starts_with(colour)),
        c => !acts_on_terminals(*c),
    };
    Cow::Owned(text.char_indices().filter(stays).map(|(_, c)| c).collect())
}

/// JSON in which such characters are written as numbers, as those below the blank are anyway.
pub fn safe_json(json: String) -> String {
    let acts = |c: char| acts_on_terminals(c) && c != '\n';
    if !json.chars().any(acts) {
        return json;
    }
    // Outside its texts JSON has none of them.
    json.chars().map(|c| if acts(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() }).collect()
}

/// Control characters, and those that change the direction of the text around them.
fn acts_on_terminals(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// How many columns of a terminal the text takes.
pub fn width(text: &str) -> usize {
    console::measure_text_width(text)
}

/// The text, cut to so many columns; colours in it stay whole.
pub fn cut(text: &str, columns: usize) -> Cow<'_, str> {
    console::truncate_str(text, columns, CUT)
}

/// The text with blanks up to so many columns.
pub fn pad(text: &str, columns: usize, right: bool) -> String {
    let blanks = " ".repeat(columns.saturating_sub(width(text)));
    if right { format!("{blanks}{text}") } else { format!("{text}{blanks}") }
}

/// The text in lines of at most so many columns, broken at blanks; the first begins with `first`, the others with `next`.
pub fn wrap(text: &str, columns: Option<usize>, first: &str, next: &str) -> String {
    let Some(columns) = columns else { return format!("{first}{text}") };
    let mut lines = String::from(first);
    let mut used = width(first);
    let mut empty = true;
    for word in text.split(' ') {
        let needed = width(word) + usize::from(!empty);
        if !empty && used + needed > columns {
            lines.push('\n');
            lines.push_str(next);
            used = width(next) + width(word);
        } else {
            if !empty {
                lines.push(' ');
            }
            used += needed;
        }
        lines.push_str(word);
        empty = false;
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_foreign_acts_on_a_terminal() {
        let foreign = "a\u{1b}[2Jb\u{9b}31mc\u{7}\u{202e}d\te\u{8}\r\n";
        assert_eq!(safe(foreign), "a[2Jb31mcd\te\n");
        assert_eq!(safe("\u{1b}[1;31mred\u{1b}[0m \u{1b}]0;title"), "\u{1b}[1;31mred\u{1b}[0m ]0;title");
        assert_eq!(clean("x\u{1b}[31my\u{202e}z\u{9b}"), "xyz");
        let json = safe_json(serde_json::to_string("\u{7f}\u{9b}\u{202e}\u{1b}é").expect("JSON"));
        assert_eq!(json, "\"\\u007f\\u009b\\u202e\\u001bé\"");
        assert_eq!(serde_json::from_str::<String>(&json).expect("JSON"), "\u{7f}\u{9b}\u{202e}\u{1b}é");
    }

    #[test]
    fn durations_are_short() {
        let read: Vec<String> =
            [0, 449, 9_999, 10_000, 59_999, 60_000, 243_000, 3_900_000, 90_000_000].into_iter().map(duration).collect();
        assert_eq!(read.join(", "), "0.0 s, 0.4 s, 9.9 s, 10 s, 59 s, 1m 00s, 4m 03s, 1h 05m, 1d 01h");
    }

    #[test]
    fn many_names_become_few() {
        assert_eq!(names(&["A"]), "A");
        assert_eq!(names(&["A", "B", "C"]), "A, B and C");
        assert_eq!(names(&["A", "B", "C", "D"]), "A, B and 2 more");
    }

    #[test]
    fn output_of_programs_is_tamed() {
        assert_eq!(clean("\u{1b}[31mred\u{1b}[0m\tand\u{7} \u{e9}t\u{e9}\r\n"), "red    and été");
        assert_eq!(clean("100 % 完成"), "100 % 完成");
    }

    #[test]
    fn cutting_counts_columns_not_characters() {
        assert_eq!(cut("完成完成", 5), "完成…");
        assert_eq!(width("完成"), 4);
        assert_eq!(pad("完成", 6, true), "  完成");
    }

    #[test]
    fn wrapping_breaks_at_blanks() {
        assert_eq!(wrap("one two three", Some(11), "- ", "  "), "- one two\n  three");
        assert_eq!(wrap("one two three", None, "- ", "  "), "- one two three");
        assert_eq!(wrap("averylongword x", Some(5), "", ""), "averylongword\nx");
    }
}
