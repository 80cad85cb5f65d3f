//! What a tool tells: stats sinks, the metrics page, lines for people, and the `start` record.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::cli::common::Stats;
use crate::cli::exit::{CliError, Exit, reason};
use crate::cli::layer::Understood;
use crate::cli::progress::Progress;
use crate::cli::value::ListenAddr;
use crate::io::clock::Clock;
use crate::io::engine::{Reporter, Show, Teller};
use crate::io::lines::{Destination, Sink};
use crate::io::metrics::{self, Shared};
use crate::io::udp::Udp;
use crate::stats::{Recorder, Start, Tool as StatsTool};
use crate::time::Instant;

/// Where a tool tells, opened before it looks for anything: what cannot be used is said at once.
#[derive(Debug)]
pub(in crate::cli) struct Opened {
    tool: StatsTool,
    interval: Duration,
    sinks: Vec<Sink>,
    metrics: Option<Shared>,
    /// Whether a person looks at standard output.
    shows_lines: bool,
}

/// Opens stats sinks and serves the metrics page.
pub(in crate::cli) async fn open_records(
    tool: StatsTool,
    stats: &Stats,
    stdout_is_free: bool,
) -> Result<Opened, CliError> {
    let mut sinks = Vec::new();
    for dest in &stats.dests {
        sinks.push(open_sink(dest)?);
    }
    // Standard output carries the records of tools that put no media there, unless a person looks at it.
    let is_free = stdout_is_free && stats.dests.is_empty();
    let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stdout());
    if is_free && !is_terminal {
        sinks.push(open_sink(&Destination::Stdout)?);
    }
    let metrics = match stats.metrics {
        Some(listen) => Some(serve_metrics(tool, listen).await?),
        None => None,
    };
    Ok(Opened {
        tool,
        interval: stats.interval,
        sinks,
        metrics,
        shows_lines: is_free && is_terminal,
    })
}

impl Opened {
    /// Records, metrics and lines for people about these channels.
    pub(in crate::cli) fn reporter(
        self,
        clock: Clock,
        progress: &Progress,
        node: &str,
        channels: &[String],
    ) -> Reporter {
        let recorders = channels
            .iter()
            .map(|channel| Recorder::new(Instant::ZERO, clock.epoch(), self.tool, node, channel));
        if let Some(metrics) = &self.metrics {
            metrics.set_channels(node, channels);
        }
        let line: Option<Teller> = self.shows_lines.then(|| {
            let print: Teller = Box::new(|text: &str| {
                let _ = std::io::Write::write_fmt(&mut std::io::stdout(), format_args!("{text}\n"));
            });
            print
        });
        let progress = progress.clone();
        let live: Teller = Box::new(move |text: &str| {
            if text.is_empty() {
                progress.clear()
            } else {
                progress.set(text)
            }
        });
        let show = Show {
            live: Some(live),
            line,
        };
        Reporter::new(
            clock.now(),
            recorders.collect(),
            self.sinks,
            self.metrics,
            show,
            self.interval,
        )
    }
}

fn open_sink(destination: &Destination) -> Result<Sink, CliError> {
    Sink::open(destination).map_err(|error| {
        CliError::new(
            Exit::Output,
            format!("cannot write records to {destination}"),
            reason(&error),
        )
    })
}

/// Serves the metrics page in the background.
async fn serve_metrics(tool: StatsTool, listen: ListenAddr) -> Result<Shared, CliError> {
    let shared = Shared::new(tool);
    // The whole address left out means this machine only: metrics are nobody else's business.
    let addr = match listen.address {
        Some(ip) => SocketAddr::new(ip, listen.port),
        None => SocketAddr::from(([127, 0, 0, 1], listen.port)),
    };
    let listener = metrics::bind(addr)
        .await
        .map_err(|error| CliError::bind(addr, &error))?;
    if let Ok(addr) = listener.local_addr() {
        tracing::info!("metrics at http://{addr}/metrics");
    }
    let served = shared.clone();
    tokio::spawn(async move {
        if let Err(error) = metrics::serve(listener, served, std::future::pending()).await {
            tracing::warn!("metrics page ended: {error}");
        }
    });
    Ok(shared)
}

/// The `start` record, and the facts for hooks.
pub(in crate::cli) fn start_record(
    engine_addr: &Udp,
    interval: Duration,
    understood: &Understood,
) -> Start {
    let mut start = Start::new(interval);
    start.listen = vec![engine_addr.local().to_string()];
    let (recv, send) = engine_addr.granted();
    start.recv_buffer_bytes = Some(recv as u64);
    start.send_buffer_bytes = Some(send as u64);
    fill_start(&mut start, understood);
    start
}

/// What every `start` record says about machine, process and settings.
pub(in crate::cli) fn fill_start(start: &mut Start, understood: &Understood) {
    start.host = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .map(|name| name.trim().to_owned());
    start.pid = Some(std::process::id());
    start.settings = understood
        .settings
        .iter()
        .filter(|setting| !setting.values.is_empty())
        .map(|setting| (setting.name.clone(), setting.values.join(" ")))
        .collect::<BTreeMap<_, _>>();
    start.command = Some(understood.command_line.join(" "));
}
