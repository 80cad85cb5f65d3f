//! Messages for people on standard error: one line each, `TOOL: message`, or one JSON object.

use std::fmt;
use std::io::{self, IsTerminal as _};

use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::common::{Log, LogFormat};
use super::progress::Progress;
use super::value::printable;

/// Starts the messages of this process; a second call changes nothing.
pub fn start(tool: &'static str, log: &Log, progress: &Progress) {
    // What libraries say below a warning is of no use to whoever runs the tool.
    let filter = Targets::new()
        .with_target("p2ps", log.level)
        .with_default(log.level.min(LevelFilter::WARN));
    let progress = progress.clone();
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(move || progress.writer())
        .with_ansi(false)
        // A full disk below standard error must not end the stream, and there is nobody left to tell.
        .log_internal_errors(false);
    let registry = tracing_subscriber::registry().with(filter);
    let started = match log.format {
        LogFormat::Text => {
            let with_time =
                !io::stderr().is_terminal() && std::env::var_os("JOURNAL_STREAM").is_none();
            let layer = layer.event_format(Lines { tool, with_time });
            registry.with(layer).try_init()
        }
        LogFormat::Json => registry
            .with(layer.json().flatten_event(true).with_target(false))
            .try_init(),
    };
    // Only a test that runs two tools in one process gets here twice.
    drop(started);
}

/// `[TIME ]TOOL: [warning: ]message`, escaped: what a remote sent must not move the cursor.
struct Lines {
    tool: &'static str,
    with_time: bool,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut message = String::new();
        context
            .field_format()
            .format_fields(Writer::new(&mut message), event)?;
        if self.with_time {
            SystemTime.format_time(&mut writer)?;
            writer.write_char(' ')?;
        }
        let kind = match *event.metadata().level() {
            Level::ERROR => "error: ",
            Level::WARN => "warning: ",
            Level::INFO => "",
            Level::DEBUG => "debug: ",
            Level::TRACE => "trace: ",
        };
        writeln!(writer, "{}: {kind}{}", self.tool, printable(&message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn one_line_each_and_nothing_moves_the_cursor() {
        let sink = Sink::default();
        let writer = sink.clone();
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .event_format(Lines {
                tool: "p2ps-peer",
                with_time: false,
            });
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::info!("joined {} by {}", "film", "[::1]:7850");
            tracing::warn!(parent = "a\u{1b}[2Jb\nc", "lost");
        });
        let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0], "p2ps-peer: joined film by [::1]:7850");
        assert!(lines[1].starts_with("p2ps-peer: warning: lost"));
        assert!(!text.contains('\u{1b}'));
    }
}
