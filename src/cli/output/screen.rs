//! Lines at the bottom of a terminal that are redrawn in place.

/// The lines that were drawn last.
#[derive(Debug, Default)]
pub(crate) struct Block {
    /// Width of each.
    drawn: Vec<usize>,
}

impl Block {
    /// What to write so that `above` stands above the lines, and `lines` in place of those that were drawn
    /// last, on a terminal of so many columns. A terminal that has become narrower since has wrapped
    /// them: they fill more rows than they were drawn in.
    pub(crate) fn redraw(&mut self, above: &str, lines: &[String], columns: usize) -> String {
        let mut out = self.erase(columns);
        if !above.is_empty() {
            out.push_str(above);
            out.push('\n');
        }
        for line in lines {
            // A line that fills its row would leave the cursor in it on some terminals, and not on others.
            let line = cut(line, columns.saturating_sub(1));
            self.drawn.push(width(&line));
            out.push_str(&line);
            out.push('\n');
        }
        out
    }

    /// What to write so that nothing is left of the lines.
    pub(crate) fn erase(&mut self, columns: usize) -> String {
        let rows = |width: &usize| width.div_ceil(columns.max(1)).max(1);
        let rows: usize = self.drawn.iter().map(rows).sum();
        self.drawn.clear();
        if rows == 0 { String::new() } else { format!("\x1b[{rows}A\r\x1b[J") }
    }
}

/// Columns that a character takes: at most two, if it is not known.
fn columns_of(character: char) -> usize {
    if character.is_ascii() { 1 } else { 2 }
}

fn width(line: &str) -> usize {
    line.chars().map(columns_of).sum()
}

/// As much of a line as fits. What would move the cursor is replaced.
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
