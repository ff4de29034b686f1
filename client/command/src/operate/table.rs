//! Aligned columns that leave out the least needed of them where the terminal is narrow.

use console::{Alignment, measure_text_width, pad_str, truncate_str};

const GAP: &str = "  ";

/// What a column is, whatever stands in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    title: &'static str,
    alignment: Alignment,
    /// In narrow tables those with the least go first.
    worth: u8,
}

impl Column {
    /// Of words.
    pub(super) const fn words(title: &'static str, worth: u8) -> Self {
        Self { title, alignment: Alignment::Left, worth }
    }

    /// Of numbers.
    pub(super) const fn numbers(title: &'static str, worth: u8) -> Self {
        Self { title, alignment: Alignment::Right, worth }
    }
}

/// Columns with their cells, which may be coloured.
#[derive(Debug)]
pub(super) struct Table {
    columns: Vec<(Column, Vec<String>)>,
}

impl Table {
    pub(super) fn new(columns: impl IntoIterator<Item = (Column, Vec<String>)>) -> Self {
        Self { columns: columns.into_iter().collect() }
    }

    /// The lines, titles first, `width` characters at most where there is a bound. Columns with nothing in them are left out.
    pub(super) fn lines(&self, width: Option<usize>) -> Vec<String> {
        let mut shown: Vec<(&Column, &Vec<String>, usize)> = self
            .columns
            .iter()
            .filter(|(_, cells)| cells.iter().any(|cell| !cell.is_empty()))
            .map(|(column, cells)| (column, cells, widest(column, cells)))
            .collect();
        while width.is_some_and(|most| total(&shown) > most)
            && shown.len() > 1
            && let Some(least) = (0..shown.len()).min_by_key(|at| shown[*at].0.worth)
        {
            shown.remove(least);
        }
        let rows = shown.iter().map(|(_, cells, _)| cells.len()).max().unwrap_or(0);
        let line = |cell: &dyn Fn(&Column, &Vec<String>) -> String| {
            let cells = shown.iter().map(|(column, cells, width)| {
                let text = cell(column, cells);
                pad_str(&text, *width, column.alignment, None).into_owned()
            });
            let line = cells.collect::<Vec<_>>().join(GAP);
            let line = line.trim_end();
            width.map_or_else(|| line.to_owned(), |most| truncate_str(line, most, "…").into_owned())
        };
        let titles = line(&|column, _| column.title.to_owned());
        let cells = (0..rows).map(|row| line(&|_, cells| cells.get(row).cloned().unwrap_or_default()));
        std::iter::once(titles).chain(cells).collect()
    }
}

fn widest(column: &Column, cells: &[String]) -> usize {
    let widths = cells.iter().map(|cell| measure_text_width(cell));
    widths.max().unwrap_or(0).max(column.title.len())
}

fn total(shown: &[(&Column, &Vec<String>, usize)]) -> usize {
    shown.iter().map(|(.., width)| width).sum::<usize>() + GAP.len() * shown.len().saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let cells = |cells: [&str; 2]| cells.map(String::from).to_vec();
        Table::new([
            (Column::words("STAGE", 9), cells(["vae", "denoiser"])),
            (Column::numbers("RUN", 5), cells(["3", "12"])),
            (Column::words("EMPTY", 9), cells(["", ""])),
            (Column::words("DEVICE", 1), cells(["cpu", "cuda:10"])),
        ])
    }

    #[test]
    fn columns_are_aligned_and_empty_ones_left_out() {
        assert_eq!(table().lines(None), ["STAGE     RUN  DEVICE", "vae         3  cpu", "denoiser   12  cuda:10"]);
    }

    #[test]
    fn what_is_worth_least_goes_first() {
        assert_eq!(table().lines(Some(22))[2], "denoiser   12  cuda:10");
        assert_eq!(table().lines(Some(21))[2], "denoiser   12");
        assert_eq!(table().lines(Some(12)), ["STAGE", "vae", "denoiser"]);
        assert_eq!(table().lines(Some(4)), ["STA…", "vae", "den…"]);
    }

    #[test]
    fn colours_take_no_room() {
        let red = console::Style::new().red().force_styling(true).apply_to("12").to_string();
        let table =
            Table::new([(Column::words("N", 1), vec![red, "1".into()]), (Column::words("X", 1), vec!["a".into(); 2])]);
        assert_eq!(table.lines(None)[2], "1   a");
        assert!(table.lines(None)[1].ends_with("  a"), "{:?}", table.lines(None));
    }
}
