//! What clap found wrong, in the one-line form of every other error.

use std::error::Error as _;
use std::path::Path;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::exit::{CliError, shown_path};
use super::value::{ReferenceError, Shown, StoreUrl};

/// Where a wrong value was written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Written<'a> {
    /// On the command line.
    Flag,
    /// In this environment variable.
    Environment(&'a str),
    /// In this file, under this key.
    File(&'a Path, &'a str),
}

impl Written<'_> {
    /// `bad --listen "x"`, `bad P2PS_LISTEN "x"`, or `bad listen "x" in "p2ps.toml"`.
    pub(super) fn bad(&self, flag: &str, value: &str) -> String {
        let value = Shown::new(&StoreUrl::without_secrets(value));
        match self {
            Self::Flag => format!("bad {flag} {value}"),
            Self::Environment(name) => format!("bad {name} {value}"),
            Self::File(path, key) => format!("bad {key} {value} in {}", shown_path(path)),
        }
    }
}

/// A piece of an error's context, when it is one text.
fn text(error: &clap::Error, kind: ContextKind) -> Option<&str> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text),
        ContextValue::Strings(texts) => texts.first().map(String::as_str),
        _ => None,
    }
}

/// A piece of an error's context, when it is a list of texts.
fn texts(error: &clap::Error, kind: ContextKind) -> &[String] {
    match error.get(kind) {
        Some(ContextValue::Strings(texts)) => texts,
        _ => &[],
    }
}

/// An option's name as typed, cut to a length that a line can hold.
fn option_name(text: &str) -> String {
    let name = text.split([' ', '=']).next().unwrap_or(text);
    let shown = Shown::new(name).to_string();
    shown.trim_matches('"').to_owned()
}

/// `a, b or c`.
fn either(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [word] => word.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// An error of clap as an error of ours.
pub(super) fn rewrite(error: &clap::Error, written: Written<'_>) -> CliError {
    const SEE_HELP: &str = "see --help";
    let argument = text(error, ContextKind::InvalidArg).unwrap_or_default();
    let value = text(error, ContextKind::InvalidValue).unwrap_or_default();
    let meant = |kind| text(error, kind).map(|word| format!("did you mean {word}?"));
    match error.kind() {
        ErrorKind::ValueValidation => {
            let Some(source) = error.source() else {
                return CliError::usage(written.bad(&option_name(argument), value), SEE_HELP);
            };
            if let Some(reference) = source.downcast_ref::<ReferenceError>() {
                let line = reference.to_string();
                let (what, why) = reference_parts(reference, &line);
                return CliError::usage(what, why);
            }
            CliError::usage(
                written.bad(&option_name(argument), value),
                source.to_string(),
            )
        }
        ErrorKind::InvalidValue if value.is_empty() => CliError::usage(
            format!("no value for {}", option_name(argument)),
            argument.split_once(' ').map_or_else(
                || SEE_HELP.to_owned(),
                |(_, form)| format!("give {}", form.trim_matches(['<', '>', '[', ']', '.'])),
            ),
        ),
        ErrorKind::InvalidValue => CliError::usage(
            written.bad(&option_name(argument), value),
            meant(ContextKind::SuggestedValue).unwrap_or_else(|| {
                format!("need {}", either(texts(error, ContextKind::ValidValue)))
            }),
        ),
        ErrorKind::UnknownArgument if argument.starts_with('-') => CliError::usage(
            format!("unknown option {}", option_name(argument)),
            meant(ContextKind::SuggestedArg)
                .map_or_else(|| SEE_HELP.to_owned(), |text| option_words(&text)),
        ),
        ErrorKind::UnknownArgument => CliError::usage(
            format!("unexpected argument {}", Shown::new(argument)),
            meant(ContextKind::SuggestedSubcommand).unwrap_or_else(|| SEE_HELP.to_owned()),
        ),
        ErrorKind::InvalidSubcommand => CliError::usage(
            format!(
                "unexpected argument {}",
                Shown::new(text(error, ContextKind::InvalidSubcommand).unwrap_or_default())
            ),
            meant(ContextKind::SuggestedSubcommand).unwrap_or_else(|| SEE_HELP.to_owned()),
        ),
        ErrorKind::ArgumentConflict => {
            let other = text(error, ContextKind::PriorArg).unwrap_or("another argument");
            // A word too many is taken for a subcommand, which has no name then.
            if argument.is_empty() {
                let name = other.trim_matches(['[', ']', '<', '>', '.']);
                return CliError::usage(format!("more than one {name}"), SEE_HELP);
            }
            CliError::exclusive(&option_name(argument), &option_name(other))
        }
        ErrorKind::MissingRequiredArgument => {
            CliError::usage(format!("missing {}", option_name(argument)), SEE_HELP)
        }
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            CliError::usage("nothing to do", SEE_HELP)
        }
        ErrorKind::TooManyValues => CliError::usage(
            format!("{} takes no value", option_name(argument)),
            SEE_HELP,
        ),
        ErrorKind::InvalidUtf8 => CliError::usage("bad argument", "not UTF-8"),
        _ => CliError::usage("bad command line", SEE_HELP),
    }
}

/// `did you mean --parent <ADDR>?` without what follows the option's name.
fn option_words(text: &str) -> String {
    match text.split_once(" <") {
        Some((words, _)) => format!("{words}?"),
        None => text.to_owned(),
    }
}

/// An address that is none, in the form of every other error.
pub(super) fn bad_reference(error: &ReferenceError) -> CliError {
    let (what, why) = reference_parts(error, &error.to_string());
    CliError::usage(what, why)
}

/// What and why of an error about an address: it names its own subject.
fn reference_parts(error: &ReferenceError, line: &str) -> (String, String) {
    let why = match error {
        ReferenceError::Id { why, .. } | ReferenceError::IdLength { why } => why.to_string(),
        ReferenceError::Uri { why, .. } => why.to_string(),
        ReferenceError::Ticket(why) => why.to_string(),
        _ => String::new(),
    };
    let what = line.strip_suffix(&why).unwrap_or(line);
    (what.trim_end_matches([':', ' ']).to_owned(), why)
}
