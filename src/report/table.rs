//! Tables with aligned columns that keep to the width of the terminal.

use super::style::Screen;
use super::text;

/// The gap between columns.
const GAP: usize = 2;
/// A column that may be cut stays at least this wide, unless it says otherwise.
const LEAST: usize = 8;

/// A column of a [`Table`].
#[derive(Debug, Clone)]
pub struct Column {
    title: String,
    right: bool,
    /// May be cut down to this width.
    least: Option<usize>,
    /// 0: never left out; of the others the highest goes first.
    spare: u8,
}

impl Column {
    /// Text at the left, always shown in full.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), right: false, least: None, spare: 0 }
    }

    /// Numbers: at the right.
    #[must_use]
    pub fn right(mut self) -> Self {
        self.right = true;
        self
    }

    /// May be cut when the line is too long.
    #[must_use]
    pub fn cut(self) -> Self {
        self.cut_to(LEAST)
    }

    /// May be cut down to so many columns when the line is too long.
    #[must_use]
    pub fn cut_to(mut self, least: usize) -> Self {
        self.least = Some(least);
        self
    }

    /// May be left out when the line is too long even so; of several the highest number goes first.
    #[must_use]
    pub fn spare(mut self, order: u8) -> Self {
        self.spare = order;
        self
    }
}

/// Rows of cells under titles.
#[derive(Debug, Clone)]
pub struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(columns: Vec<Column>) -> Self {
        Self { columns, rows: Vec::new() }
    }

    /// Adds a row. Missing cells are empty, and what has no column is left out.
    pub fn row<C: Into<String>>(&mut self, cells: impl IntoIterator<Item = C>) {
        self.coloured_row(cells.into_iter().map(|cell| text::clean(&cell.into()).into_owned()));
    }

    /// The same for cells that have colours of ours and are clean already.
    pub(super) fn coloured_row<C: Into<String>>(&mut self, cells: impl IntoIterator<Item = C>) {
        let mut cells: Vec<String> = cells.into_iter().map(Into::into).collect();
        cells.resize(self.columns.len(), String::new());
        self.rows.push(cells);
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The table as lines, each ended. Columns that are empty in every row are left out.
    pub fn render(&self, screen: Screen) -> String {
        let (shown, widths) = self.layout(screen.width);
        let mut lines = String::new();
        let titles: Vec<String> = self.columns.iter().map(|c| c.title.clone()).collect();
        let title = self.line(&titles, &shown, &widths, screen.width);
        lines.push_str(&screen.bold(&title));
        lines.push('\n');
        for row in &self.rows {
            lines.push_str(&self.line(row, &shown, &widths, screen.width));
            lines.push('\n');
        }
        lines
    }

    /// The table in Markdown; nothing is cut.
    pub fn markdown(&self) -> String {
        let (shown, _) = self.layout(None);
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let mut lines = line(shown.iter().map(|&at| markdown_cell(&self.columns[at].title)).collect());
        lines.push_str(&line(shown.iter().map(|&at| if self.columns[at].right { "---:" } else { "---" }.to_owned()).collect()));
        for row in &self.rows {
            lines.push_str(&line(shown.iter().map(|&at| markdown_cell(&row[at])).collect()));
        }
        lines
    }

    /// Which columns are shown, and how wide each of all columns is.
    fn layout(&self, limit: Option<usize>) -> (Vec<usize>, Vec<usize>) {
        let natural = |at: usize| {
            let cells = self.rows.iter().map(|row| text::width(&row[at])).max().unwrap_or(0);
            cells.max(text::width(&self.columns[at].title))
        };
        let mut widths: Vec<usize> = (0..self.columns.len()).map(natural).collect();
        let mut shown: Vec<usize> = (0..self.columns.len())
            .filter(|&at| self.rows.is_empty() || self.columns[at].spare == 0 || self.rows.iter().any(|row| !row[at].is_empty()))
            .collect();
        let Some(limit) = limit else { return (shown, widths) };
        loop {
            let total = shown.iter().map(|&at| widths[at]).sum::<usize>() + GAP * shown.len().saturating_sub(1);
            let Some(excess) = total.checked_sub(limit).filter(|e| *e > 0) else { break };
            let give: usize = shown.iter().map(|&at| self.can_give(at, widths[at])).sum();
            if give >= excess {
                self.shrink(&shown, &mut widths, excess);
                break;
            }
            let least_wanted =
                shown.iter().copied().filter(|&at| self.columns[at].spare > 0).max_by_key(|&at| self.columns[at].spare);
            let Some(out) = least_wanted else {
                // Nothing may go: the lines are cut at their ends.
                self.shrink(&shown, &mut widths, give);
                break;
            };
            shown.retain(|&at| at != out);
        }
        (shown, widths)
    }

    fn can_give(&self, at: usize, width: usize) -> usize {
        self.columns[at].least.map_or(0, |least| width.saturating_sub(least))
    }

    /// Takes `excess` columns away, one after the other from the widest that can give.
    fn shrink(&self, shown: &[usize], widths: &mut [usize], excess: usize) {
        for _ in 0..excess {
            let widest = shown.iter().copied().filter(|&at| self.can_give(at, widths[at]) > 0).max_by_key(|&at| widths[at]);
            if let Some(at) = widest {
                widths[at] -= 1;
            }
        }
    }

    fn line(&self, cells: &[String], shown: &[usize], widths: &[usize], limit: Option<usize>) -> String {
        let parts: Vec<String> =
            shown.iter().map(|&at| text::pad(&text::cut(&cells[at], widths[at]), widths[at], self.columns[at].right)).collect();
        let line = parts.join(&" ".repeat(GAP));
        let line = line.trim_end();
        limit.map_or_else(|| line.to_owned(), |columns| text::cut(line, columns).into_owned())
    }
}

/// Text that Markdown shows as it is.
pub(super) fn markdown_cell(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '|' | '\\' | '`' | '*' | '<' | '[') {
            safe.push('\\');
        }
        safe.push(c);
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use insta::assert_snapshot;

    fn table() -> Table {
        let mut table = Table::new(vec![
            Column::new("INSTRUMENT"),
            Column::new("WHAT").cut(),
            Column::new("SENT").right().spare(1),
            Column::new("TIME").right().spare(2),
            Column::new("EMPTY").spare(3),
        ]);
        table.row(["NDXLARMOR", "a rather long text about what is done", "1.2 MB", "4m 03s"]);
        table.row(["NDXÉMU完", "short", "900 B", "9.1 s"]);
        table
    }

    #[test]
    fn columns_stand_in_line() {
        assert_snapshot!(table().render(Screen::PLAIN), @r"
        INSTRUMENT  WHAT                                     SENT    TIME
        NDXLARMOR   a rather long text about what is done  1.2 MB  4m 03s
        NDXÉMU完    short                                   900 B   9.1 s
        ");
    }

    #[test]
    fn a_narrow_terminal_cuts_then_drops() {
        assert_snapshot!(table().render(Screen { width: Some(50), colour: false }), @r"
        INSTRUMENT  WHAT                      SENT    TIME
        NDXLARMOR   a rather long text ab…  1.2 MB  4m 03s
        NDXÉMU完    short                    900 B   9.1 s
        ");
        assert_snapshot!(table().render(Screen { width: Some(30), colour: false }), @r"
        INSTRUMENT  WHAT          SENT
        NDXLARMOR   a rather …  1.2 MB
        NDXÉMU完    short        900 B
        ");
        assert_snapshot!(table().render(Screen { width: Some(12), colour: false }), @r"
        INSTRUMENT …
        NDXLARMOR  …
        NDXÉMU完   …
        ");
    }

    #[test]
    fn markdown_takes_any_text() {
        let mut table = Table::new(vec![Column::new("A"), Column::new("N").right()]);
        table.row(["a|b `c`", "1"]);
        assert_snapshot!(table.markdown(), @r"
        | A | N |
        | --- | ---: |
        | a\|b \`c\` | 1 |
        ");
    }

    proptest::proptest! {
        #[test]
        fn no_line_is_wider_than_the_terminal(cells in proptest::collection::vec(".{0,30}", 6), width in 1usize..90) {
            let mut table = Table::new(vec![Column::new("FIRST"), Column::new("SECOND").cut(), Column::new("THIRD").spare(1)]);
            let cells: Vec<String> = cells.iter().map(|c| text::clean(c).into_owned()).collect();
            table.row(cells[..3].to_vec());
            table.row(cells[3..].to_vec());
            for line in table.render(Screen { width: Some(width), colour: false }).lines() {
                proptest::prop_assert!(text::width(line) <= width, "{line:?}");
            }
        }
    }
}
