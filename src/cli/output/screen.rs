//! Status lines at the bottom of a terminal that are redrawn in place.

/// The lines that are on the screen.
#[derive(Debug, Default)]
pub(crate) struct Block {
    /// Width of each line, in columns.
    drawn: Vec<usize>,
}

impl Block {
    /// The output that replaces the lines on the screen with `lines` and puts the text `above` before them.
    /// `columns` is the current width of the terminal. A terminal that became narrower has wrapped the
    /// old lines, so that they fill more rows.
    pub(crate) fn redraw(&mut self, above: &str, lines: &[String], columns: usize) -> String {
        let mut out = self.erase(columns);
        if !above.is_empty() {
            out.push_str(above);
            out.push('\n');
        }
        for line in lines {
            // Terminals differ in where the cursor is after a line that fills its row.
            let line = cut(line, columns.saturating_sub(1));
            self.drawn.push(width(&line));
            out.push_str(&line);
            out.push('\n');
        }
        out
    }

    /// The output that erases the lines.
    pub(crate) fn erase(&mut self, columns: usize) -> String {
        let rows = |width: &usize| width.div_ceil(columns.max(1)).max(1);
        let rows: usize = self.drawn.iter().map(rows).sum();
        self.drawn.clear();
        if rows == 0 { String::new() } else { format!("\x1b[{rows}A\r\x1b[J") }
    }
}

/// Width of a character in columns; 2, the maximum, if it is not ASCII.
fn columns_of(character: char) -> usize {
    if character.is_ascii() { 1 } else { 2 }
}

fn width(line: &str) -> usize {
    line.chars().map(columns_of).sum()
}

/// The part of a line that fits into `most` columns. Control characters become spaces.
fn cut(line: &str, most: usize) -> String {
    let mut left = most;
    let mut out = String::new();
    for character in line.chars() {
        let character = if character.is_control() { ' ' } else { character };
        let Some(rest) = left.checked_sub(columns_of(character)) else { break };
        left = rest;
        out.push(character);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|line| (*line).to_owned()).collect()
    }

    #[test]
    fn lines_are_drawn_in_place_of_the_last_ones() {
        let mut block = Block::default();
        assert_eq!(block.redraw("begun", &lines(&["a", "b"]), 80), "begun\na\nb\n");
        assert_eq!(block.redraw("", &lines(&["c"]), 80), "\x1b[2A\r\x1b[Jc\n");
        assert_eq!(block.erase(80), "\x1b[1A\r\x1b[J");
        assert_eq!(block.erase(80), "", "what is gone is not erased again");
    }

    #[test]
    fn a_terminal_that_became_narrower_has_wrapped_the_lines() {
        let mut block = Block::default();
        block.redraw("", &lines(&["0123456789", "short"]), 80);
        assert_eq!(block.redraw("", &lines(&["0123456789"]), 5), "\x1b[3A\r\x1b[J0123\n");
        assert_eq!(block.erase(80), "\x1b[1A\r\x1b[J");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal_or_moves_the_cursor() {
        let mut block = Block::default();
        let drawn = block.redraw("", &lines(&["a\x1b[2J\nb", "ääää"]), 8);
        assert_eq!(drawn, "a [2J b\näää\n");
    }
}
