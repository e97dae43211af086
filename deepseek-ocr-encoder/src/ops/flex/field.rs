//! What attention reads: squares of tokens with their queries, keys and values.

use std::ops::Range;

/// Queries, keys and values of grids of tokens, and the windows within which each attends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field<'a> {
    /// Queries, keys and values: a row of `[heads, head]` for each token of `[views, grid.rows, grid.columns]`.
    pub(super) parts: [&'a [f32]; 3],
    /// Numbers from one row of a part to the next.
    pub(super) stride: usize,
    /// What stands for a token beyond the grid, `[heads, head]` for each part; empty if windows are grids.
    pub(super) overhang: [&'a [f32]; 3],
    pub(super) views: usize,
    /// Tokens of a view.
    pub(super) grid: Extent,
    /// Tokens that see each other.
    pub(super) window: Extent,
    pub(super) heads: usize,
    pub(super) head: usize,
    /// Where these heads stand among those of the output.
    pub(super) place: Place,
    /// Rows of vertical and of horizontal offsets, `[2 * side - 1, head]` each.
    pub(super) tables: Option<[&'a [f32]; 2]>,
}

/// A rectangle of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) rows: usize,
    pub(super) columns: usize,
}

/// Some of the output's heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The first one's number.
    pub(super) first: usize,
    /// Heads of a row of the output.
    pub(super) of: usize,
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

impl<'a> Field<'a> {
    /// The whole view as one window, without relative positions.
    ///
    /// # Shapes
    /// - `qkv`: `[views, tokens, 3, heads, head]`
    pub(super) fn line(qkv: &'a [f32], [views, tokens, heads, head]: [usize; 4]) -> Self {
        let (width, line) = (heads * head, Extent { rows: 1, columns: tokens });
        Self {
            parts: [0, 1, 2].map(|part| qkv.get(part * width..).unwrap_or_default()),
            stride: 3 * width,
            overhang: [&[]; 3],
            views,
            grid: line,
            window: line,
            heads,
            head,
            place: Place { first: 0, of: heads },
            tables: None,
        }
    }
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
        let (width, tokens) = (self.heads * self.head, self.views * self.grid.tokens());
        assert!(tokens * width > 0 && self.window.tokens() > 0, "attention over some tokens");
        let rows = (tokens - 1) * self.stride + width;
        assert!(self.stride >= width && self.parts.iter().all(|part| part.len() >= rows), "a row for each token");
        assert!(self.place.first + self.heads <= self.place.of, "heads are among those of the output");
        assert_eq!(output.len(), tokens * self.place.of * self.head, "a row of output for each token");
        let overhangs = self.overhang.iter().all(|part| part.len() == width);
        assert!(overhangs || self.window == self.grid, "a row for tokens beyond the grid");
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
        self.views * self.windows_per_view() * self.heads
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
        let Field { parts, stride, overhang, head, .. } = *self.field;
        let token = match self.token(row, column) {
            Some(token) => &parts[part as usize][token * stride..],
            None => overhang[part as usize],
        };
        &token[self.head * head..][..head]
    }

    /// Where the output of a query within the grid lies.
    pub(super) fn output(&self, index: usize) -> Range<usize> {
        let (row, column) = self.query(index);
        let Field { place, head, .. } = *self.field;
        let token = self.token(row, column).expect("queries are within the grid");
        let from = (token * place.of + place.first + self.head) * head;
        from..from + head
    }
}
