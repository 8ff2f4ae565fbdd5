//! Draws the lines around a place in a text.

use crate::error::SourcePosition;

/// How many lines stand before the one that matters.
const BEFORE: usize = 2;
/// Longer lines are cut around the marker.
const WIDTH: usize = 110;

/// The line at `line` with up to two lines before it and a marker under `column` (both count from 1), or nothing when
/// the text has no such line. Tabs are drawn as `→`, so that they can be seen.
pub(crate) fn excerpt(text: &str, line: usize, column: usize) -> Option<String> {
    let lines: Vec<&str> = text.lines().collect();
    let last = line.checked_sub(1)?;
    lines.get(last)?;
    let digits = line.to_string().len();
    // All lines are cut at the same place, so that their columns stay in line.
    let cut = column.saturating_sub(WIDTH * 3 / 4);
    let mut drawn = String::new();
    for (number, content) in lines.iter().enumerate().take(line).skip(last.saturating_sub(BEFORE)) {
        let content: String = content.chars().skip(cut).take(WIDTH).map(visible).collect();
        drawn.push_str(format!("{:>digits$} | {content}", number + 1).trim_end());
        drawn.push('\n');
    }
    let indent = column.saturating_sub(1 + cut);
    drawn.push_str(&format!("{:>digits$} | {:>indent$}^", "", ""));
    Some(drawn)
}

/// The position of a byte of a text, drawn with the lines before it.
pub(crate) fn position_at(file: &str, text: &str, byte: usize) -> SourcePosition {
    let before = &text[..byte];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    let excerpt = excerpt(text, line, column);
    SourcePosition { file: file.to_owned(), line: line as u64, column: column as u64, excerpt }
}

fn visible(c: char) -> char {
    match c {
        '\t' => '→',
        c if c.is_control() => '\u{fffd}',
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_marker_stands_under_its_column() {
        let text = "one\ntwo\n\n  three: x\nfour\n";
        assert_eq!(excerpt(text, 4, 3).as_deref(), Some("2 | two\n3 |\n4 |   three: x\n  |   ^"));
        assert_eq!(excerpt(text, 1, 1).as_deref(), Some("1 | one\n  | ^"));
        assert_eq!(excerpt("a\tb", 1, 2).as_deref(), Some("1 | a→b\n  |  ^"));
        assert_eq!(excerpt(text, 6, 1), None);
        assert_eq!(excerpt(text, 0, 1), None);
    }

    #[test]
    fn long_lines_are_cut_around_the_marker() {
        let text = format!("{}X{}", "a".repeat(300), "b".repeat(300));
        let drawn = excerpt(&text, 1, 301).unwrap();
        let (line, marker) = drawn.split_once('\n').unwrap();
        assert_eq!(line.chars().position(|c| c == 'X'), marker.chars().position(|c| c == '^'));
        assert!(line.len() < 130);
    }
}
