//! Tables as people see them on a terminal: columns under a heading, numbers to the right.

/// Space between two columns.
const GAP: &str = "  ";

/// A column: its heading, whether numbers stand in it, and its cells.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) heading: String,
    pub(super) is_number: bool,
    pub(super) cells: Vec<String>,
}

impl Column {
    /// A column of words.
    pub(super) fn text(heading: impl Into<String>, cells: Vec<String>) -> Self {
        Self {
            heading: heading.into(),
            is_number: false,
            cells,
        }
    }

    /// A column of numbers.
    pub(super) fn number(heading: impl Into<String>, cells: Vec<String>) -> Self {
        Self {
            is_number: true,
            ..Self::text(heading, cells)
        }
    }

    /// Whether nothing stands in it.
    pub(super) fn is_empty(&self) -> bool {
        self.cells.iter().all(String::is_empty)
    }
}

/// The lines of a table, the heading first; a word where there is no row.
pub(super) fn render(columns: &[Column]) -> String {
    if columns.iter().all(|column| column.cells.is_empty()) {
        let none = columns.iter().map(|column| column.heading.as_str());
        return format!("{}\n(none)\n", none.collect::<Vec<_>>().join(GAP));
    }
    let lines = columns.iter().map(|column| column.cells.len()).max();
    let widths: Vec<usize> = columns
        .iter()
        .map(|column| {
            let cells = column.cells.iter().chain([&column.heading]);
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let line = |cell: &dyn Fn(&Column) -> String| {
        let mut line = String::new();
        for (column, width) in columns.iter().zip(&widths) {
            if !line.is_empty() {
                line.push_str(GAP);
            }
            let text = cell(column);
            let blank = " ".repeat(width.saturating_sub(text.chars().count()));
            line += &if column.is_number {
                blank + &text
            } else {
                text + &blank
            };
        }
        line.trim_end().to_owned() + "\n"
    };
    let mut table = line(&|column| column.heading.clone());
    for row in 0..lines.unwrap_or(0) {
        table += &line(&|column| column.cells.get(row).cloned().unwrap_or_default());
    }
    table
}
