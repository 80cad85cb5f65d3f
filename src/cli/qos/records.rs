//! The subcommands that read records: `summary` and `check`.

use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;

use super::{FAILED, Format, NO_RECORD, OK};
use crate::cli::exit::{CliError, Exit};
use crate::cli::value::{DurationValue, duration};
use crate::io::lines::open_records;
use crate::stats::analyse::{Check, Limits, Metric, Reader, Sample, Summary, Violation, summary};

/// Shortest and longest span that an option takes.
const SPAN: (Duration, Duration) = (Duration::ZERO, Duration::from_secs(86_400));

/// Where the records are.
#[derive(Clone, Debug, clap::Args)]
pub struct Input {
    /// Files of records, also of SRT (JSON, CSV), librist and iperf3; - is standard input, the default.
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Stop with exit 1 at a line that is no record, instead of passing over it.
    #[arg(long)]
    pub strict: bool,
}

/// Arguments of `summary`.
#[derive(Clone, Debug, clap::Args)]
pub struct SummaryArgs {
    /// Where the records are.
    #[command(flatten)]
    pub input: Input,
    /// A table for people, or JSON lines; the default is a table on a terminal and JSON lines elsewhere.
    #[arg(long, value_enum, default_value_t = Format::Auto)]
    pub format: Format,
}

/// Arguments of `check`.
#[derive(Clone, Debug, clap::Args)]
pub struct CheckArgs {
    /// Where the records are.
    #[command(flatten)]
    pub input: Input,
    /// Largest loss before repair, such as 5% or 0.05.
    #[arg(long, value_name = "RATIO", value_parser = parse_ratio, allow_hyphen_values = true)]
    pub max_loss: Option<f64>,
    /// Largest latency from the source, such as 4s.
    #[arg(long, value_name = "DUR", value_parser = duration(SPAN.0, SPAN.1), allow_hyphen_values = true)]
    pub max_latency: Option<DurationValue>,
    /// Largest jitter, such as 50ms.
    #[arg(long, value_name = "DUR", value_parser = duration(SPAN.0, SPAN.1), allow_hyphen_values = true)]
    pub max_jitter: Option<DurationValue>,
    /// Longest time without output, such as 0s.
    #[arg(long, value_name = "DUR", value_parser = duration(SPAN.0, SPAN.1), allow_hyphen_values = true)]
    pub max_stall: Option<DurationValue>,
    /// Smallest share of chunks that were there when due, such as 0.99.
    #[arg(long, value_name = "RATIO", value_parser = parse_ratio, allow_hyphen_values = true)]
    pub min_continuity: Option<f64>,
    /// Longest time from start to first media, such as 2s.
    #[arg(long, value_name = "DUR", value_parser = duration(SPAN.0, SPAN.1), allow_hyphen_values = true)]
    pub max_join: Option<DurationValue>,
    /// Judge each node over the last DUR instead of record by record.
    #[arg(long, value_name = "DUR", value_parser = duration(SPAN.0, SPAN.1), allow_hyphen_values = true)]
    pub window: Option<DurationValue>,
    /// A published set of thresholds, for those not given; streamsmart: loss up to 5 %, latency up to 4 s.
    #[arg(long, value_enum)]
    pub standard: Option<Standard>,
    /// Answer as a Nagios plugin: one line, exit 0 ok, 1 warning, 2 critical, 3 unknown.
    #[arg(long)]
    pub nagios: bool,
}

/// A published set of thresholds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Standard {
    /// Loss up to 5 %, latency up to 4 s (critical from 5 s on with --nagios).
    Streamsmart,
}

/// Latency from which StreamSmart's standard is missed for good; from 4 s on it warns.
const STREAMSMART_CRITICAL_MS: f64 = 5000.0;

/// Nagios: within limits in the long run, not always.
const NAGIOS_WARNING: u8 = 1;
/// Nagios: a threshold was missed.
const NAGIOS_CRITICAL: u8 = 2;
/// Nagios: cannot say.
const NAGIOS_UNKNOWN: u8 = 3;

impl CheckArgs {
    /// Refuses a check of nothing.
    pub(super) fn check(&self) -> Result<(), CliError> {
        if !limits(self).is_empty() {
            return Ok(());
        }
        let exit = if self.nagios {
            Exit::Answer(NAGIOS_UNKNOWN)
        } else {
            Exit::Usage
        };
        let why = "give --max-loss, --max-latency, --max-jitter, --max-stall, --min-continuity, --max-join or \
                   --standard";
        Err(CliError::new(exit, "no threshold", why))
    }
}

/// Percentiles of records.
pub(super) fn summarise(
    args: &SummaryArgs,
    stdin: &mut dyn BufRead,
    terminal: bool,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<u8> {
    let mut summary = Summary::default();
    let read = read_all(&args.input, stdin, err, |sample| {
        summary.on_sample(&sample);
        false
    });
    if let Err(code) = read {
        return Ok(code);
    }
    if summary.is_empty() {
        let _ = writeln!(err, "p2ps-qos: no records");
        return Ok(NO_RECORD);
    }
    let rows = summary.rows();
    if args.format == Format::Table || (args.format == Format::Auto && terminal) {
        out.write_all(summary::table(&rows).as_bytes())?;
    } else {
        for row in &rows {
            serde_json::to_writer(&mut *out, row)?;
            out.write_all(b"\n")?;
        }
    }
    Ok(OK)
}

/// Holds records against thresholds.
pub(super) fn check(
    args: &CheckArgs,
    stdin: &mut dyn BufRead,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<u8> {
    let limits = limits(args);
    // With --nagios what the standard only warns of does not fail, and neither does one record within a good window.
    let mut failing = limits;
    if args.nagios && args.standard.is_some() && args.max_latency.is_none() {
        failing.max_latency_ms = Some(STREAMSMART_CRITICAL_MS);
    }
    let mut check = Check::new(failing, args.window.map(DurationValue::get));
    let mut warn = args.nagios.then(|| Check::new(limits, None));
    let mut missed: Option<Violation> = None;
    let mut warning: Option<Violation> = None;
    let read = read_all(&args.input, stdin, err, |sample| {
        missed = check.on_sample(&sample);
        if let Some(warn) = &mut warn {
            let found = warn.on_sample(&sample);
            warning = warning.take().or(found);
        }
        missed.is_some()
    });
    if let Err(code) = read {
        return Ok(if args.nagios { NAGIOS_UNKNOWN } else { code });
    }
    if let Some(violation) = missed.or_else(|| check.finish()) {
        let code = if args.nagios { NAGIOS_CRITICAL } else { FAILED };
        return answer(args, out, err, "CRITICAL", &violation.to_string(), code);
    }
    if check.records() == 0 {
        return answer(args, out, err, "UNKNOWN", "no records", NO_RECORD);
    }
    if let Some(metric) = check.unseen() {
        return answer(
            args,
            out,
            err,
            "UNKNOWN",
            &format!("no record has {}", field(metric)),
            NO_RECORD,
        );
    }
    if let Some(violation) = warning {
        return answer(
            args,
            out,
            err,
            "WARNING",
            &violation.to_string(),
            NAGIOS_WARNING,
        );
    }
    if args.nagios {
        let text = format!("{} records within limits", check.records());
        return answer(args, out, err, "OK", &text, OK);
    }
    Ok(OK)
}

/// The record field in which a metric is looked for.
const fn field(metric: Metric) -> &'static str {
    match metric {
        Metric::Loss => "loss_ratio",
        Metric::Latency => "latency_ms",
        Metric::Jitter => "jitter_ms",
        Metric::Stall => "stall_ms",
        Metric::Continuity => "continuity_ratio",
        Metric::Join => "join_ms",
    }
}

/// Says the outcome where it belongs: one line on standard output for Nagios, standard error otherwise.
fn answer(
    args: &CheckArgs,
    out: &mut dyn Write,
    err: &mut dyn Write,
    status: &str,
    text: &str,
    code: u8,
) -> io::Result<u8> {
    if args.nagios {
        writeln!(out, "P2PS {status} - {text}")?;
    } else {
        let _ = writeln!(err, "p2ps-qos: {text}");
    }
    Ok(code)
}

fn limits(args: &CheckArgs) -> Limits {
    let ms = |span: Option<DurationValue>| span.map(|span| span.get().as_secs_f64() * 1000.0);
    let given = Limits {
        max_loss: args.max_loss,
        max_latency_ms: ms(args.max_latency),
        max_jitter_ms: ms(args.max_jitter),
        max_stall_ms: ms(args.max_stall),
        min_continuity: args.min_continuity,
        max_join_ms: ms(args.max_join),
    };
    match args.standard {
        Some(Standard::Streamsmart) => given.or(Limits::STREAMSMART),
        None => given,
    }
}

/// Hands every sample of every input to `take` until it returns true. The error is the exit status; its line is said.
fn read_all(
    input: &Input,
    stdin: &mut dyn BufRead,
    err: &mut dyn Write,
    mut take: impl FnMut(Sample) -> bool,
) -> Result<(), u8> {
    let standard = [PathBuf::from("-")];
    let files = if input.files.is_empty() {
        &standard[..]
    } else {
        &input.files[..]
    };
    // With several inputs a line's number alone does not say where it is.
    let several = files.len() > 1;
    let mut passed_over: u64 = 0;
    for path in files {
        let place = if several {
            format!("{}: ", path.display())
        } else {
            String::new()
        };
        let mut opened;
        let lines: &mut dyn BufRead = if path == Path::new("-") {
            &mut *stdin
        } else {
            opened = open_records(path).map_err(|error| {
                let why = reason(&error);
                let _ = writeln!(
                    err,
                    "p2ps-qos: cannot open {:?}: {why}",
                    path.display().to_string()
                );
                NO_RECORD
            })?;
            &mut *opened
        };
        let mut reader = Reader::new(lines);
        loop {
            match reader.next_sample() {
                Ok(Some(Ok(sample))) => {
                    if take(sample) {
                        return Ok(());
                    }
                }
                Ok(Some(Err(bad))) if input.strict => {
                    let _ = writeln!(err, "p2ps-qos: {place}{bad}");
                    return Err(FAILED);
                }
                Ok(Some(Err(_))) => passed_over += 1,
                Ok(None) => break,
                Err(error) => {
                    let _ = writeln!(
                        err,
                        "p2ps-qos: cannot read {:?}: {}",
                        path.display().to_string(),
                        reason(&error)
                    );
                    return Err(FAILED);
                }
            }
        }
    }
    if passed_over > 0 {
        let lines = if passed_over == 1 {
            "line is no record"
        } else {
            "lines are no records"
        };
        let _ = writeln!(
            err,
            "p2ps-qos: {passed_over} {lines}, passed over (--strict says which)"
        );
    }
    Ok(())
}

/// What the system said, without the number behind it.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file".into(),
        io::ErrorKind::PermissionDenied => "permission denied".into(),
        io::ErrorKind::IsADirectory => "is a directory".into(),
        _ => error.to_string().to_lowercase(),
    }
}

/// `5%` or `0.05`, from 0 to 1.
fn parse_ratio(text: &str) -> Result<f64, String> {
    let (number, unit) = text
        .strip_suffix('%')
        .map_or((text, 1.0), |number| (number, 100.0));
    let ratio = number
        .trim()
        .parse::<f64>()
        .map_err(|_| "need a share, for example 5% or 0.05")?
        / unit;
    if (0.0..=1.0).contains(&ratio) {
        Ok(ratio)
    } else {
        Err("must be 0 to 1, or 0% to 100%".into())
    }
}
