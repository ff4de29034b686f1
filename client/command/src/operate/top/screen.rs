//! A terminal that is drawn again in place, and left as it was found, with the last picture of it.

use std::io;

use console::Term;

use super::frame::Frame;

/// The terminal's other page, where nothing scrolls away.
const OTHER_PAGE: &str = "\x1b[?1049h";
const FIRST_PAGE: &str = "\x1b[?1049l";

/// An open one; dropping it gives the terminal back.
pub(super) struct Screen {
    term: Term,
    last: Vec<String>,
}

impl Screen {
    /// `None` where nobody looks on, or nothing can be drawn.
    pub(super) fn open() -> io::Result<Option<Self>> {
        let term = Term::buffered_stdout();
        let dumb = std::env::var_os("TERM").is_none_or(|name| name == "dumb");
        if dumb || !term.is_term() {
            return Ok(None);
        }
        term.write_str(OTHER_PAGE)?;
        term.hide_cursor()?;
        Ok(Some(Self { term, last: Vec::new() }))
    }

    /// Draws all of it at once.
    pub(super) fn draw(&mut self, frame: &Frame) -> io::Result<()> {
        let (height, width) = self.term.size();
        self.last = frame.lines(Some(width.into()), Some(height.into()));
        self.term.move_cursor_to(0, 0)?;
        for (number, line) in self.last.iter().enumerate() {
            if number > 0 {
                self.term.write_str("\r\n")?;
            }
            self.term.clear_line()?;
            self.term.write_str(line)?;
        }
        self.term.clear_to_end_of_screen()?;
        self.term.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Where this fails there is no terminal any more.
        let restore = || {
            self.term.write_str(FIRST_PAGE)?;
            self.term.show_cursor()?;
            for line in &self.last {
                self.term.write_line(line)?;
            }
            self.term.flush()
        };
        _ = restore();
    }
}
