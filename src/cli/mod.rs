//! What the person asked for, and whether it is possible: arguments of the five tools, checked before anything starts.
//!
//! [`main`] is the whole of every binary: parse over environment and file ([`layer`]), check into settings that cannot
//! be wrong (a [`Tool`]'s `check`, which touches nothing), then [`run`]. Errors are one line ([`exit`]).

pub mod access;
mod api;
pub mod books;
pub mod certificate;
pub mod clone;
pub mod common;
pub mod deal;
pub mod exit;
pub mod layer;
pub mod listing;
pub mod log;
pub mod manual;
pub mod peer;
pub mod progress;
pub mod qos;
pub mod relay;
mod rendezvous;
pub mod run;
pub mod secret;
mod sharing;
pub mod source;
mod stream;
mod table;
pub mod tracker;
mod usage;
pub mod value;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{Arg, Command, CommandFactory, FromArgMatches};
use clap_complete::Shell;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use exit::{CliError, Exit};
use layer::{Parsed, Understood};
use manual::Manual;

/// One of the five programs.
pub trait Tool: CommandFactory + FromArgMatches {
    /// Name of the program, as errors begin with it.
    const NAME: &'static str;
    /// Defaults that `check` fills in because it must know whether the value was asked for: argument id and value.
    const IMPLIED: &'static [(&'static str, &'static str)] = &[];
    /// What the manual says beside the options.
    const MANUAL: Manual = Manual {
        exits: &[],
        files: &[],
        is_daemon: false,
        examples: &[],
        notes: &[],
        bugs: "",
        see_also: &[],
    };
    /// Checked arguments.
    type Job;

    /// Arguments that cannot be wrong any more. Touches nothing: no file, no socket.
    ///
    /// # Errors
    ///
    /// A usage error, exit 2.
    fn check(self) -> Result<Self::Job, CliError>;

    /// Does the job.
    ///
    /// # Errors
    ///
    /// Whatever ends the tool before its time; the error knows the exit code.
    fn run(job: Self::Job, understood: &Understood) -> Result<Exit, CliError>;
}

/// The whole of a binary: does what the command line says, and turns the end into an exit code.
pub fn main<T: Tool>() -> ExitCode {
    // A core file would hold keys and tokens (S-50).
    let no_core = Rlimit {
        current: Some(0),
        ..getrlimit(Resource::Core)
    };
    let _ = setrlimit(Resource::Core, no_core);
    let arguments: Vec<OsString> = std::env::args_os().collect();
    match start::<T>(&arguments, &|name| std::env::var_os(name)) {
        Ok(exit) => exit.into(),
        Err(error) => {
            // When even standard error is gone, the exit code still says it.
            let _ = writeln!(io::stderr(), "{}: {error}", T::NAME);
            error.exit.into()
        }
    }
}

/// Parses, answers what can be answered at once, else runs.
fn start<T: Tool>(
    arguments: &[OsString],
    environment: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Exit, CliError> {
    let command = command::<T>();
    let (matches, understood) = match layer::parse(&command, T::IMPLIED, arguments, environment)? {
        Parsed::Print(text) => return print(text.as_bytes()),
        Parsed::Run(matches, understood) => (matches, understood),
    };
    if let Some(("completions", sub)) = matches.subcommand() {
        let shell = sub.get_one::<Shell>("shell").copied();
        return print(&completions::<T>(shell.unwrap_or(Shell::Bash)));
    }
    let asked = |id| matches!(matches.try_get_one::<bool>(id), Ok(Some(true)));
    if asked("print_config") {
        return print(understood.to_string().as_bytes());
    }
    let arguments = T::from_arg_matches(&matches)
        .map_err(|error| usage::rewrite(&error, usage::Written::Flag))?;
    let job = arguments.check()?;
    if asked("check_config") {
        return Ok(Exit::Done);
    }
    T::run(job, &understood)
}

/// What `run` would get for a command line and an environment, or the error; nothing when help was asked for.
///
/// # Errors
///
/// A usage error.
pub fn check<T: Tool>(
    arguments: &[OsString],
    environment: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Option<T::Job>, CliError> {
    match layer::parse(&command::<T>(), T::IMPLIED, arguments, environment)? {
        Parsed::Print(_) => Ok(None),
        Parsed::Run(matches, _) => {
            let arguments = T::from_arg_matches(&matches);
            let arguments =
                arguments.map_err(|error| usage::rewrite(&error, usage::Written::Flag))?;
            arguments.check().map(Some)
        }
    }
}

/// Writes an answer to standard output. A reader that has enough is no error.
///
/// # Errors
///
/// When standard output fails in another way, for example on a full disk.
pub fn print(answer: &[u8]) -> Result<Exit, CliError> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(answer).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(CliError::write_output(&error))
        }
        _ => Ok(Exit::Done),
    }
}

/// The command line of a tool as clap knows it, with what all tools have.
pub fn command<T: Tool>() -> Command {
    let shell = Arg::new("shell")
        .value_name("SHELL")
        .help("Shell to write for")
        .required(true)
        .value_parser(clap::value_parser!(Shell));
    let completions = Command::new("completions")
        .about("Print completions for a shell")
        .arg(shell);
    let command = T::command()
        .args_override_self(true)
        .disable_help_subcommand(true)
        .subcommand_value_name("COMMAND")
        .subcommand(completions);
    // Not `mut_arg`, which would move the argument to the end of every list.
    command.mut_args(|arg| {
        let implied = T::IMPLIED.iter().find(|(id, _)| arg.get_id() == id);
        match implied {
            Some((_, value)) => {
                let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
                arg.help(format!("{help} [default: {value}]"))
            }
            None => arg,
        }
    })
}

/// The completions of a tool for a shell.
pub fn completions<T: Tool>(shell: Shell) -> Vec<u8> {
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut command::<T>(), T::NAME, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::error::ErrorKind;

    /// What `T` says to a command line: the error line, or the empty string.
    fn says<T: Tool>(arguments: &[&str]) -> String {
        let arguments: Vec<OsString> = std::iter::once(&T::NAME)
            .chain(arguments)
            .map(OsString::from)
            .collect();
        check::<T>(&arguments, &|_| None).map_or_else(|error| error.to_string(), |_| String::new())
    }

    #[test]
    fn definitions_are_sound() {
        command::<source::Args>().debug_assert();
        command::<relay::Args>().debug_assert();
        command::<peer::Args>().debug_assert();
        command::<tracker::Args>().debug_assert();
        command::<qos::Args>().debug_assert();
    }

    #[test]
    fn implied_defaults_are_the_checked_ones() {
        for (id, value) in peer::Args::IMPLIED {
            let with = format!("--{id}={value}");
            let job = |arguments: &[&str]| {
                let matches = command::<peer::Args>().try_get_matches_from(arguments);
                let arguments = peer::Args::from_arg_matches(&matches.unwrap()).unwrap();
                let peer::Job::Play(mut job) = arguments.check().unwrap() else {
                    panic!("something to play");
                };
                job.net.listen.asked = false;
                format!("{job:?}")
            };
            assert_eq!(
                job(&["p2ps-peer", "p2ps://t1/film"]),
                job(&["p2ps-peer", "p2ps://t1/film", &with])
            );
        }
    }

    #[test]
    fn errors_of_clap_are_one_line_of_ours() {
        for (arguments, expected) in [
            (
                &["--parnet", "x"][..],
                "unknown option --parnet: did you mean --parent?",
            ),
            (&["--zzzzzz"], "unknown option --zzzzzz: see --help"),
            (&["-x"], "unknown option -x: see --help"),
            (&["--listen"], "no value for --listen: give ADDR:PORT"),
            (
                &["--from", "oldst"],
                "bad --from \"oldst\": did you mean oldest?",
            ),
            (&["--from", "x"], "bad --from \"x\": need live or oldest"),
            (&["--dry-run=1"], "--dry-run takes no value: see --help"),
            (&["completions"], "missing <SHELL>: see --help"),
            (
                &["completions", "dos"],
                "bad <SHELL> \"dos\": need bash, elvish, fish, powershell or zsh",
            ),
            (
                &["--latency", "-1s"],
                "bad --latency \"-1s\": must be 0s to 10min",
            ),
            (
                &["--seed", "-1"],
                "bad --seed \"-1\": must be 0 to 18446744073709551615",
            ),
            (&["--latency", "1s", "--latency=2s", "p2ps://t/c"], ""),
        ] {
            assert_eq!(says::<relay::Args>(arguments), expected, "{arguments:?}");
        }
        assert_eq!(
            says::<source::Args>(&["keygne"]),
            "unexpected argument \"keygne\": did you mean keygen?"
        );
        assert_eq!(
            says::<tracker::Args>(&["foo"]),
            "unexpected argument \"foo\": see --help"
        );
    }

    #[test]
    fn settings_that_cannot_hold_together() {
        const URI: &str = "p2ps://t1/film";
        for (arguments, expected) in [
            (&[URI, "-4", "-6"][..], "-4 and -6 exclude each other"),
            (&[URI, URI], "more than one CHANNEL: see --help"),
            (
                &[URI, "-6", "--listen", "1.2.3.4:0"],
                "-6 and --listen 1.2.3.4:0 exclude each other",
            ),
            (&[URI, "-q", "-v"], "-q and -v exclude each other"),
            (
                &[URI, "--stats", "-"],
                "--stats - and --output - exclude each other",
            ),
            (&[URI, "--stats", "-", "-o", "x.ts"], ""),
            (
                &[URI, "-o", "a", "-o", "a"],
                "bad --output \"a\": given twice",
            ),
            (
                &[URI, "--channel", "x"],
                "an address and --channel exclude each other",
            ),
            (
                &["--channel", "x"],
                "no way to the channel: give --tracker or --parent",
            ),
            (&["--channel", "x", "--parent", "r"], ""),
            (
                &[URI, "--no-upload", "--upload-limit", "1Mbit"],
                "--no-upload and --upload-limit exclude each other",
            ),
        ] {
            assert_eq!(says::<peer::Args>(arguments), expected, "{arguments:?}");
        }
        assert_eq!(
            says::<tracker::Args>(&["--listen", ":7851"]),
            "will not serve plain http on [::]:7851: add --tls-cert and --tls-key, or --insecure-http"
        );
        assert_eq!(says::<tracker::Args>(&["-6"]), "");
        assert_eq!(
            says::<relay::Args>(&[URI, URI, "-o", "x"]),
            "2 channels: an output takes one"
        );
        for (arguments, expected) in [
            (
                &[URI, "--cluster", "east"][..],
                "--cluster without --capacity: say what the relay may send",
            ),
            (
                &[URI, "--capacity", "1Gbit"],
                "--capacity without --cluster: say which cluster it is for",
            ),
            (&[URI, "--cluster", "auto", "--capacity", "1Gbit"], ""),
        ] {
            assert_eq!(says::<relay::Args>(arguments), expected, "{arguments:?}");
        }
        for (arguments, expected) in [
            (
                &["--networks", "n.toml"][..],
                "--networks changes nothing: add --placement psp",
            ),
            (
                &["--placement", "star", "--hub-cap", "3"],
                "--hub-cap changes nothing: add --placement balanced",
            ),
            (&["--placement", "psp", "--networks", "n.toml"], ""),
            (&["--placement", "psp-strict", "--networks", "n.toml"], ""),
            (&["--placement", "balanced", "--hub-cap", "3"], ""),
            (
                &["--placement", "tree"],
                "bad --placement \"tree\": need list, psp, psp-strict, balanced or star",
            ),
        ] {
            assert_eq!(says::<tracker::Args>(arguments), expected, "{arguments:?}");
        }
    }

    #[test]
    fn help_goes_to_standard_output() {
        for flag in ["-h", "--help", "-V"] {
            let error = command::<peer::Args>()
                .try_get_matches_from(["p2ps-peer", flag])
                .unwrap_err();
            assert!(matches!(
                error.kind(),
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
            ));
        }
    }
}
