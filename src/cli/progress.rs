//! The one live line that long work shows on a terminal, and nowhere else.

use std::io::{self, IsTerminal as _, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::value::printable;

/// A line on standard error that is rewritten in place. Clones show the same line.
#[derive(Clone, Debug)]
pub struct Progress(ProgressBar);

impl Progress {
    /// A line, hidden unless `wanted` and standard error is a terminal.
    pub fn new(wanted: bool) -> Self {
        let target = if wanted && io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(None, target);
        let style = ProgressStyle::with_template("{spinner} {wide_msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        Self(bar)
    }

    /// Shows a text until the next one.
    pub fn set(&self, text: &str) {
        if self.0.is_hidden() {
            return;
        }
        self.0.set_message(printable(text));
        // Ticks by itself, so that a line which does not change still shows that the tool lives.
        self.0.enable_steady_tick(Duration::from_millis(200));
    }

    /// Takes the line away.
    pub fn clear(&self) {
        self.0.finish_and_clear();
    }

    /// Standard error, with the line out of the way while something is written.
    pub fn writer(&self) -> ProgressWriter {
        ProgressWriter(self.clone())
    }
}

/// Writes to standard error above the progress line.
#[derive(Debug)]
pub struct ProgressWriter(Progress);

impl Write for ProgressWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.0.suspend(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(()) // Standard error has no buffer.
    }
}
