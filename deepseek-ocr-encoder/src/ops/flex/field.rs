//! What attention reads: squares of tokens with their queries, keys and values.

use std::ops::Range;

/// Queries, keys and values of grids of tokens, and the windows within which each attends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field<'a> {
    /// `[views, grid.rows, grid.columns, 3, heads, head]`.
    pub(super) qkv: &'a [f32],
    /// What stands for a token beyond the grid, `[3, heads, head]`; empty if windows are grids.
    pub(super) overhang: &'a [f32],
    /// Tokens of a view.
    pub(super) grid: Extent,
    /// Tokens that see each other.
    pub(super) window: Extent,
    pub(super) heads: usize,
    pub(super) head: usize,
    /// Rows of vertical and of horizontal offsets, `[2 * side - 1, head]` each.
    pub(super) tables: Option<[&'a [f32]; 2]>,
}

/// A rectangle of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) rows: usize,
    pub(super) columns: usize,
}

/// One head of one window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window<'a> {
    pub(super) field: &'a Field<'a>,
    view: usize,
    row: usize,
    column: usize,
    head: usize,
}

/// Place of a part in a token's row.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    Query = 0,
    Key = 1,
    Value = 2,
}

impl Extent {
    pub(super) fn tokens(self) -> usize {
        self.rows * self.columns
    }
}

impl<'a> Field<'a> {
    /// # Panics
    /// If lengths do not fit: the kernels read through pointers.
    pub(super) fn check(&self, output: &[f32]) {
        let (width, tokens) = (self.heads * self.head, self.grid.tokens());
        assert!(tokens * width > 0 && self.window.tokens() > 0, "attention over some tokens");
        assert!(
            output.len().is_multiple_of(tokens * width) && self.qkv.len() == 3 * output.len(),
            "a row for each token"
        );
        assert!(self.overhang.len() == 3 * width || self.window == self.grid, "a row for tokens beyond the grid");
        if let Some([rows, columns]) = self.tables {
            let offsets = |side: usize| (2 * side - 1) * self.head;
            assert_eq!([rows.len(), columns.len()], [self.window.rows, self.window.columns].map(offsets), "offsets");
        }
    }

    fn across(&self) -> usize {
        self.grid.columns.div_ceil(self.window.columns)
    }

    fn windows_per_view(&self) -> usize {
        self.grid.rows.div_ceil(self.window.rows) * self.across()
    }

    /// Heads of all windows of all views.
    pub(super) fn windows(&self) -> usize {
        let views = self.qkv.len() / (3 * self.heads * self.head * self.grid.tokens());
        views * self.windows_per_view() * self.heads
    }

    pub(super) fn window(&'a self, index: usize) -> Window<'a> {
        let (window, head) = (index / self.heads, index % self.heads);
        let (view, window) = (window / self.windows_per_view(), window % self.windows_per_view());
        let (row, column) = (window / self.across() * self.window.rows, window % self.across() * self.window.columns);
        Window { field: self, view, row, column, head }
    }
}

impl<'a> Window<'a> {
    /// Tokens within the grid: what is beyond has no queries.
    pub(super) fn inside(&self) -> Extent {
        let Field { grid, window, .. } = self.field;
        Extent { rows: window.rows.min(grid.rows - self.row), columns: window.columns.min(grid.columns - self.column) }
    }

    /// Row and column of the query in the window.
    pub(super) fn query(&self, index: usize) -> (usize, usize) {
        let columns = self.inside().columns;
        (index / columns, index % columns)
    }

    /// The token's number among all of the field, if it is within the grid.
    fn token(&self, row: usize, column: usize) -> Option<usize> {
        let (row, column, grid) = (self.row + row, self.column + column, self.field.grid);
        (row < grid.rows && column < grid.columns).then(|| (self.view * grid.rows + row) * grid.columns + column)
    }

    /// A token's query, key or value of this head.
    #[inline(always)]
    pub(super) fn numbers(&self, part: Part, row: usize, column: usize) -> &'a [f32] {
        let Field { qkv, overhang, heads, head, .. } = *self.field;
        let token = match self.token(row, column) {
            Some(token) => &qkv[token * 3 * heads * head..],
            None => overhang,
        };
        &token[(part as usize * heads + self.head) * head..][..head]
    }

    /// Where the output of a query within the grid lies.
    pub(super) fn output(&self, index: usize) -> Range<usize> {
        let (row, column) = self.query(index);
        let Field { heads, head, .. } = *self.field;
        let token = self.token(row, column).expect("queries are within the grid");
        let from = (token * heads + self.head) * head;
        from..from + head
    }
}
