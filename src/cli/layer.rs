//! Where each setting comes from: the command line, then `P2PS_<FLAG>`, then a TOML file, then the default.
//!
//! Environment and file become clap's own defaults for one parse, so that a value means the same wherever it stands.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

use super::exit::{CliError, shown_path};
use super::usage::{Written, rewrite};
use super::value::{Shown, StoreUrl, Ticket, nearest};

/// Largest configuration file read, in bytes.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// Settings that ask for something once; they make no sense in a file or in the environment of a service.
const COMMAND_LINE_ONLY: [&str; 8] = [
    "help",
    "version",
    "config",
    "list",
    "print_config",
    "check_config",
    "verbose",
    "quiet",
];

/// Where a setting came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The command line.
    Flag,
    /// This environment variable.
    Environment(String),
    /// This configuration file.
    File(PathBuf),
    /// Nobody said anything.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("command line"),
            Self::Environment(name) => f.write_str(name),
            Self::File(path) => f.write_str(&shown_path(path).to_string()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// One setting as understood. Never holds a secret: the token of a ticket is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The long option without its dashes.
    pub name: String,
    /// Its values as written; empty when it is not set.
    pub values: Vec<String>,
    /// Whether it takes several.
    pub repeatable: bool,
    /// Whether it is a plain yes or no.
    pub is_flag: bool,
    /// Where the values came from.
    pub origin: Origin,
}

/// Every setting of a run, for `--print-config` and the `start` record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Understood {
    /// The settings, in the order of `--help`.
    pub settings: Vec<Setting>,
    /// The command line without secrets.
    pub command_line: Vec<String>,
}

impl fmt::Display for Understood {
    /// A TOML file that would ask for the same.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for setting in &self.settings {
            let quoted = |value: &String| toml::Value::String(value.clone()).to_string();
            let value = match setting.values.as_slice() {
                [] => {
                    writeln!(f, "# {} is not set", setting.name)?;
                    continue;
                }
                [value] if setting.is_flag => value.clone(),
                values if setting.repeatable => {
                    let values: Vec<String> = values.iter().map(quoted).collect();
                    format!("[{}]", values.join(", "))
                }
                [value, ..] => quoted(value),
            };
            let line = format!("{} = {value}", setting.name);
            writeln!(f, "{line:<40} # {}", setting.origin)?;
        }
        Ok(())
    }
}

/// Values of one argument from below the command line.
struct Layered {
    id: String,
    values: Vec<String>,
    origin: Origin,
}

/// What parsing came to.
pub(super) enum Parsed {
    /// Something to run.
    Run(ArgMatches, Understood),
    /// A text that was asked for: help or version.
    Print(String),
}

/// Parses `arguments` over environment and configuration file.
pub(super) fn parse(
    command: &Command,
    implied: &[(&str, &str)],
    arguments: &[OsString],
    environment: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Parsed, CliError> {
    let first = match command.clone().try_get_matches_from(arguments) {
        Ok(matches) => matches,
        Err(error) if !error.use_stderr() => return Ok(Parsed::Print(error.render().to_string())),
        Err(error) => return Err(rewrite(&error, Written::Flag)),
    };
    let (mut layered, mut full) = (Vec::new(), command.clone());
    match first.subcommand_name() {
        Some(name) => {
            let subcommand = command.find_subcommand(name).cloned().unwrap_or_default();
            from_environment(&subcommand, environment, &mut layered)?;
            full = full.mut_subcommand(name, |subcommand| lay_under(subcommand, &layered));
        }
        None => {
            let config = config_path(command, &first, environment);
            from_environment(command, environment, &mut layered)?;
            if let Some(path) = config {
                from_file(command, &path, &mut layered)?;
            }
            full = lay_under(full, &layered);
        }
    }
    let matches = full
        .try_get_matches_from(arguments)
        .map_err(|error| rewrite(&error, Written::Flag))?;
    let understood = Understood {
        settings: describe(command, &matches, &layered, implied),
        command_line: arguments
            .iter()
            .map(|argument| without_secrets(&argument.to_string_lossy()))
            .collect(),
    };
    Ok(Parsed::Run(matches, understood))
}

/// A text without the token or password it may hold.
fn without_secrets(text: &str) -> String {
    match text.parse::<Ticket>() {
        Ok(ticket) => ticket.without_token().to_string(),
        Err(_) if text.contains(Ticket::PREFIX) => format!("{}…", Ticket::PREFIX),
        Err(_) => match text.split_once('=') {
            Some((flag, value)) if flag.starts_with("--") => {
                format!("{flag}={}", StoreUrl::without_secrets(value))
            }
            _ => StoreUrl::without_secrets(text),
        },
    }
}

/// The configuration file asked for.
fn config_path(
    command: &Command,
    matches: &ArgMatches,
    environment: &dyn Fn(&str) -> Option<OsString>,
) -> Option<PathBuf> {
    if !command.get_arguments().any(|arg| arg.get_id() == "config") {
        return None;
    }
    matches.get_one::<PathBuf>("config").cloned().or_else(|| {
        let path = environment("P2PS_CONFIG").filter(|path| !path.is_empty());
        path.map(PathBuf::from)
    })
}

/// The arguments that environment and file may set.
fn settable(command: &Command) -> impl Iterator<Item = &Arg> {
    command
        .get_arguments()
        .filter(|arg| !COMMAND_LINE_ONLY.contains(&arg.get_id().as_str()))
}

/// The name of a setting: its long option, or what it is called in the file when it has none.
fn name_of(arg: &Arg) -> String {
    arg.get_long()
        .map_or_else(|| arg.get_id().to_string(), str::to_owned)
}

/// The environment variable of a setting.
pub(super) fn variable_of(name: &str) -> String {
    format!("P2PS_{}", name.replace('-', "_").to_ascii_uppercase())
}

fn is_flag(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::SetTrue)
}

fn is_repeatable(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Append)
}

/// Takes what the environment says. An empty variable says nothing; a repeatable one is split at white space.
fn from_environment(
    command: &Command,
    environment: &dyn Fn(&str) -> Option<OsString>,
    layered: &mut Vec<Layered>,
) -> Result<(), CliError> {
    for arg in settable(command) {
        let variable = variable_of(&name_of(arg));
        let Some(value) = environment(&variable).filter(|value| !value.is_empty()) else {
            continue;
        };
        let value = value.into_string().map_err(|value| {
            let shown = Shown::new(&value.to_string_lossy());
            CliError::usage(format!("bad {variable} {shown}"), "not UTF-8")
        })?;
        let values: Vec<String> = if is_repeatable(arg) {
            value.split_whitespace().map(str::to_owned).collect()
        } else {
            vec![value]
        };
        let values = check(command, arg, values, Written::Environment(&variable))?;
        layered.push(Layered {
            id: arg.get_id().to_string(),
            values,
            origin: Origin::Environment(variable),
        });
    }
    Ok(())
}

/// Takes what the configuration file says about settings that the environment left alone.
fn from_file(command: &Command, path: &Path, layered: &mut Vec<Layered>) -> Result<(), CliError> {
    let failed = |error| CliError::read_file("config", path, &error);
    let size = std::fs::metadata(path).map_err(failed)?.len();
    if size > CONFIG_BYTES_MAX {
        return Err(CliError::usage(
            format!("cannot read config {}", shown_path(path)),
            format!("{size} bytes, limit {CONFIG_BYTES_MAX}"),
        ));
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let before = error
            .span()
            .and_then(|span| text.get(..span.start))
            .unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let message = error.message().lines().next().unwrap_or_default();
        CliError::usage(
            format!("cannot read config {}", shown_path(path)),
            format!("line {line}: {message}"),
        )
    })?;
    let known: Vec<String> = settable(command).map(name_of).collect();
    for (key, value) in &table {
        let Some(arg) = settable(command).find(|arg| name_of(arg) == *key) else {
            let meant = nearest(key, known.iter().map(String::as_str)).map_or_else(
                || "see --print-config".to_owned(),
                |word| format!("did you mean {word}?"),
            );
            return Err(CliError::usage(
                format!("unknown key {} in {}", Shown::new(key), shown_path(path)),
                meant,
            ));
        };
        let written = Written::File(path, key);
        let values = toml_texts(value).ok_or_else(|| {
            CliError::usage(written.bad(key, &value.to_string()), "need text or a list")
        })?;
        if !is_repeatable(arg) && value.is_array() {
            return Err(CliError::usage(
                written.bad(key, &value.to_string()),
                "takes one value",
            ));
        }
        let values = check(command, arg, values, written)?;
        if !layered
            .iter()
            .any(|other| other.id == arg.get_id().as_str())
        {
            layered.push(Layered {
                id: arg.get_id().to_string(),
                values,
                origin: Origin::File(path.to_owned()),
            });
        }
    }
    Ok(())
}

/// A TOML value as the texts that a command line would hold.
fn toml_texts(value: &toml::Value) -> Option<Vec<String>> {
    match value {
        toml::Value::String(text) => Some(vec![text.clone()]),
        toml::Value::Integer(number) => Some(vec![number.to_string()]),
        toml::Value::Boolean(yes) => Some(vec![yes.to_string()]),
        toml::Value::Array(items) => {
            let texts = items.iter().map(|item| match item {
                toml::Value::Array(_) => None,
                _ => toml_texts(item)?.pop(),
            });
            texts.collect()
        }
        _ => None,
    }
}

/// Parses the values of one argument alone, to say where a wrong one was written.
fn check(
    command: &Command,
    arg: &Arg,
    values: Vec<String>,
    written: Written<'_>,
) -> Result<Vec<String>, CliError> {
    let name = name_of(arg);
    if is_flag(arg) {
        return match values.first().map(String::as_str) {
            Some("true" | "1" | "yes" | "on") => Ok(vec!["true".to_owned()]),
            Some("false" | "0" | "no" | "off") => Ok(vec!["false".to_owned()]),
            value => Err(CliError::usage(
                written.bad(&name, value.unwrap_or_default()),
                "need true or false",
            )),
        };
    }
    // Alone with this argument, so that nothing else can be what is wrong.
    let alone = Command::new(command.get_name().to_owned())
        .no_binary_name(true)
        .disable_help_flag(true)
        .arg(arg.clone());
    for value in &values {
        let words: [OsString; 2] = match arg.get_long() {
            Some(long) => [format!("--{long}={value}").into(), "--".into()],
            None => ["--".into(), value.into()],
        };
        if let Err(error) = alone.clone().try_get_matches_from(words) {
            let mut error = rewrite(&error, written);
            // An empty value is to clap a missing one; here it was written down.
            if value.is_empty() {
                error = CliError::usage(written.bad(&name, value), "empty");
            }
            return Err(error);
        }
    }
    Ok(values)
}

/// The command with what environment and file say as its defaults.
fn lay_under(command: Command, layered: &[Layered]) -> Command {
    command.mut_args(|arg| {
        let layer = layered
            .iter()
            .find(|layer| arg.get_id() == layer.id.as_str());
        match layer {
            Some(layer) if !layer.values.is_empty() => arg.default_values(layer.values.clone()),
            _ => arg,
        }
    })
}

/// Every setting of the whole command, with its origin.
fn describe(
    command: &Command,
    matches: &ArgMatches,
    layered: &[Layered],
    implied: &[(&str, &str)],
) -> Vec<Setting> {
    settable(command)
        .map(|arg| {
            let id = arg.get_id().as_str();
            let name = name_of(arg);
            let layer = layered.iter().find(|layer| layer.id == id);
            let origin = match matches.value_source(id) {
                Some(ValueSource::CommandLine) => Origin::Flag,
                _ => layer.map_or(Origin::Default, |layer| layer.origin.clone()),
            };
            let mut values: Vec<String> = if is_flag(arg) {
                vec![matches.get_flag(id).to_string()]
            } else {
                let raw = matches.get_raw(id).into_iter().flatten();
                raw.map(|value: &OsStr| without_secrets(&value.to_string_lossy()))
                    .collect()
            };
            if values.is_empty()
                && let Some((_, value)) = implied.iter().find(|(other, _)| *other == id)
            {
                values.push((*value).to_owned());
            }
            Setting {
                name,
                values,
                repeatable: is_repeatable(arg),
                is_flag: is_flag(arg),
                origin,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Tool as _, command, peer, relay};

    /// Settings of a peer that differ from the default, with their origin; or the error.
    fn peer(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Vec<String>, String> {
        let arguments: Vec<OsString> = std::iter::once(&"p2ps-peer")
            .chain(arguments)
            .map(OsString::from)
            .collect();
        let lookup = |name: &str| {
            let found = environment.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| OsString::from(value))
        };
        let parsed = parse(
            &command::<peer::Args>(),
            peer::Args::IMPLIED,
            &arguments,
            &lookup,
        );
        match parsed {
            Ok(Parsed::Run(_, understood)) => Ok(understood
                .settings
                .iter()
                .filter(|setting| setting.origin != Origin::Default)
                .map(|setting| {
                    let origin = match &setting.origin {
                        Origin::File(_) => "file".to_owned(),
                        other => other.to_string(),
                    };
                    format!("{}={} {origin}", setting.name, setting.values.join(","))
                })
                .collect()),
            Ok(Parsed::Print(text)) => Err(text),
            Err(error) => Err(error.to_string()),
        }
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn the_nearest_layer_wins() {
        let config = file(
            "latency = \"3s\"\nwindow = \"30s\"\ntracker = [\"t3\"]\nno-skip = true\nmax-children = 4\n",
        );
        let config = config.path().to_str().unwrap();
        let environment = [
            ("P2PS_LATENCY", "2s"),
            ("P2PS_WINDOW", "20s"),
            ("P2PS_TIMEOUT", ""),
            ("P2PS_TRACKER", " t1 t2:80 "),
            ("P2PS_BLOCKING", "yes"),
        ];
        assert_eq!(
            peer(&["--config", config, "--latency", "1s"], &environment).unwrap(),
            [
                "tracker=t1,t2:80 P2PS_TRACKER",
                "latency=1s command line",
                "no-skip=true file",
                "blocking=true P2PS_BLOCKING",
                "window=20s P2PS_WINDOW",
                "max-children=4 file",
            ]
        );
        assert_eq!(
            peer(&[], &[("P2PS_CONFIG", config), ("P2PS_NO_SKIP", "0")]).unwrap(),
            [
                "tracker=t3 file",
                "latency=3s file",
                "no-skip=false P2PS_NO_SKIP",
                "window=30s file",
                "max-children=4 file",
            ]
        );
    }

    #[test]
    fn errors_say_where_the_value_was_written() {
        for (text, expected) in [
            (
                "latency = 3",
                "bad latency \"3\" in FILE: unit missing, for example 250ms",
            ),
            (
                "latncy = \"3s\"",
                "unknown key \"latncy\" in FILE: did you mean latency?",
            ),
            (
                "latency = [\"3s\"]",
                "bad latency \"[\\\"3s\\\"]\" in FILE: takes one value",
            ),
            (
                "latency = 1.5",
                "bad latency \"1.5\" in FILE: need text or a list",
            ),
            (
                "no-skip = \"maybe\"",
                "bad no-skip \"maybe\" in FILE: need true or false",
            ),
            (
                "from = \"start\"",
                "bad from \"start\" in FILE: need live or oldest",
            ),
            ("listen = \"\"", "bad listen \"\" in FILE: empty"),
            (
                "uri = \"p2ps://zz@h\"",
                "bad channel id \"zz\": not hexadecimal at character 1",
            ),
            (
                "config = \"x\"",
                "unknown key \"config\" in FILE: see --print-config",
            ),
            ("a = 1\n= 2", "cannot read config FILE: line 2: "),
        ] {
            let config = file(text);
            let path = config.path().to_str().unwrap();
            let error = peer(&["--config", path], &[]).unwrap_err();
            let error = error.replace(&format!("\"{path}\""), "FILE");
            assert!(error.starts_with(expected), "{text}: {error}");
        }
        assert_eq!(
            peer(&[], &[("P2PS_LATENCY", "10h")]).unwrap_err(),
            "bad P2PS_LATENCY \"10h\": must be 0s to 10min"
        );
        assert_eq!(
            peer(&["--config", "/nonexistent"], &[]).unwrap_err(),
            "cannot read config \"/nonexistent\": no such file"
        );
    }

    #[test]
    fn printed_settings_are_a_file_that_asks_for_the_same() {
        let arguments: Vec<OsString> = ["p2ps-relay", "p2ps://t1/film", "--parent", "r1"]
            .map(OsString::from)
            .to_vec();
        let command = command::<relay::Args>();
        let understood =
            |arguments: &[OsString]| match parse(&command, relay::Args::IMPLIED, arguments, &|_| {
                None
            }) {
                Ok(Parsed::Run(_, understood)) => understood,
                _ => panic!("these arguments are good"),
            };
        let printed = understood(&arguments);
        let config = file(&printed.to_string());
        let again = understood(&["p2ps-relay".into(), "--config".into(), config.path().into()]);
        let values = |understood: &Understood| -> Vec<(String, Vec<String>)> {
            let settings = understood.settings.iter();
            settings
                .map(|setting| (setting.name.clone(), setting.values.clone()))
                .collect()
        };
        assert_eq!(values(&again), values(&printed));
    }

    #[test]
    fn no_token_is_kept() {
        let ticket = "p2ps-ticketqqqq";
        assert_eq!(without_secrets(ticket), "p2ps-ticket…");
        assert_eq!(without_secrets("p2ps://t1/film"), "p2ps://t1/film");
        for (text, kept) in [
            ("redis://:pw@cache/1", "redis://…@cache/1"),
            ("--store=redis://:pw@cache", "--store=redis://…@cache"),
        ] {
            assert_eq!(without_secrets(text), kept);
        }
    }
}
