//! Aligned tables.

use crate::output::{Style, printable};

/// Rows under a heading. The last column is not padded; numbers are put to the right by [`Table::right`].
#[derive(Debug)]
pub(crate) struct Table {
    heading: Vec<&'static str>,
    right: Vec<bool>,
    rows: Vec<Vec<(Style, String)>>,
}

impl Table {
    /// An empty table with these columns.
    pub(crate) fn new(heading: &[&'static str]) -> Self {
        Self { heading: heading.to_vec(), right: vec![false; heading.len()], rows: Vec::new() }
    }

    /// Puts these columns to the right.
    pub(crate) fn right(mut self, columns: &[usize]) -> Self {
        for (index, right) in self.right.iter_mut().enumerate() {
            *right = columns.contains(&index);
        }
        self
    }

    /// Adds a row, one cell a column.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = (Style, String)>) {
        self.rows.push(cells.into_iter().map(|(style, text)| (style, printable(&text))).collect());
    }

    /// Adds a row of plain cells.
    pub(crate) fn plain(&mut self, cells: impl IntoIterator<Item = String>) {
        self.row(cells.into_iter().map(|text| (Style::Plain, text)));
    }

    /// Whether there is no row.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The lines, each cell through `paint`.
    pub(crate) fn lines(&self, paint: impl Fn(Style, &str) -> String) -> Vec<String> {
        let heading: Vec<_> = self.heading.iter().map(|text| (Style::Faint, (*text).to_owned())).collect();
        let all: Vec<_> = std::iter::once(&heading).chain(&self.rows).collect();
        let width = |column: usize| {
            all.iter()
                .filter_map(|row| row.get(column))
                .map(|(_, text)| text.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.heading.len()).map(width).collect();
        let line = |row: &Vec<(Style, String)>| {
            let mut line = String::new();
            for ((cell, width), right) in row.iter().zip(&widths).zip(&self.right) {
                let (style, text) = cell;
                let pad = " ".repeat(width.saturating_sub(text.chars().count()));
                let shown = paint(*style, text);
                let (first, second) = if *right { (&pad, &shown) } else { (&shown, &pad) };
                line.extend([first, second, "  "]);
            }
            line.trim_end().to_owned()
        };
        all.into_iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["NAME", "N", "END"]).right(&[1]);
        table.plain(["a".into(), "10".into(), "x".into()]);
        table.plain(["longer".into(), "1".into(), String::new()]);
        let lines = table.lines(|_, text| text.to_owned());
        assert_eq!(lines, ["NAME     N  END", "a       10  x", "longer   1"]);
    }
}
