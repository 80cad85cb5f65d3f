//! Manual pages (1), from the same definitions as `--help`.
//!
//! What clap cannot know (examples, files, notes) stands in `texts`, one [`Manual`] a tool; the rest is the same in all.

use std::fmt::Write as _;

use clap::{Arg, Command};
use clap_mangen::Man;

use super::exit::EXIT_TABLE;
use super::layer::variable_of;
use super::{Tool, command};

mod texts;

pub use texts::{PEER, QOS, RELAY, SOURCE, TRACKER};

/// The parts of a page that differ by tool and that its arguments do not tell.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manual {
    /// Exit codes of a tool that does not take the whole common table: code and meaning.
    pub exits: &'static [(u8, &'static str)],
    /// Files: name and meaning.
    pub files: &'static [(&'static str, &'static str)],
    /// Whether the tool runs until it is told to stop.
    pub is_daemon: bool,
    /// Examples: what it is for, and the commands.
    pub examples: &'static [(&'static str, &'static str)],
    /// Paragraphs worth knowing.
    pub notes: &'static [&'static str],
    /// What is known not to be as it should.
    pub bugs: &'static str,
    /// Other pages: name and section.
    pub see_also: &'static [(&'static str, u8)],
}

const SIGNALS: [(&str, &str); 4] = [
    (
        "TERM, INT",
        "say goodbye to neighbours and tracker, flush, and exit 0; a second INT exits 130 at once",
    ),
    (
        "HUP",
        "reopen the stats files and say what needs a restart to change",
    ),
    (
        "USR1",
        "write one interval record and a table of neighbours now",
    ),
    (
        "USR2",
        "take no new children, and exit when there are none left",
    ),
];

/// The page of a tool, in roff.
pub fn page<T: Tool>() -> String {
    let manual = T::MANUAL;
    let mut command = command::<T>();
    command.build();
    let mut out = Vec::new();
    let man = Man::new(command.clone()).manual("p2ps");
    let rendered = man
        .render_title(&mut out)
        .and_then(|()| man.render_name_section(&mut out));
    let (mut description, mut options) = (Vec::new(), Vec::new());
    let rendered = rendered
        .and_then(|()| man.render_description_section(&mut description))
        .and_then(|()| man.render_options_section(&mut options));
    rendered.expect("writing to memory does not fail");
    let text = |bytes| String::from_utf8(bytes).expect("clap's texts are UTF-8");
    let mut page = text(out);
    write_synopsis(&mut page, &command);
    page.push_str(&text(description));
    for line in text(options).lines() {
        // clap_mangen makes a section of each help heading; here they belong to one.
        match line
            .strip_prefix(".SH ")
            .filter(|title| *title != "OPTIONS")
        {
            Some(title) => {
                let (first, rest) = title.split_at_checked(1).unwrap_or((title, ""));
                let _ = writeln!(page, ".SS {first}{}", rest.to_ascii_lowercase());
            }
            None => {
                let _ = writeln!(page, "{line}");
            }
        }
    }
    let mut known = Vec::new();
    for subcommand in command.get_subcommands() {
        write_subcommand(&mut page, subcommand, &mut known);
    }
    section(&mut page, "EXIT STATUS");
    let common = EXIT_TABLE.map(|(exit, meaning)| (exit.code(), meaning));
    let exits = if manual.exits.is_empty() {
        &common
    } else {
        manual.exits
    };
    for (code, meaning) in exits {
        entry(&mut page, &code.to_string(), meaning);
    }
    section(&mut page, "ENVIRONMENT");
    entry(
        &mut page,
        "P2PS_<OPTION>",
        "A value for the long option of that name, in capitals and with _ for -, where the command line has none; for \
         example:",
    );
    let has_config = command.get_arguments().any(|arg| arg.get_id() == "config");
    let example = std::iter::once(&command)
        .chain(command.get_subcommands())
        .flat_map(Command::get_arguments)
        .find_map(|arg| arg.get_long().filter(|long| long.contains('-')));
    let _ = writeln!(
        page,
        "{}.",
        escape(&variable_of(example.unwrap_or("stats")))
    );
    paragraph(
        &mut page,
        "Options that can be repeated take several values, with spaces between. An empty variable is no value.",
    );
    if has_config {
        paragraph(
            &mut page,
            "The command line wins over the environment, the environment over --config, that over the default; \
             --print-config says where each value came from.",
        );
    }
    if command
        .get_arguments()
        .any(|arg| arg.get_id() == "state_dir")
    {
        entry(
            &mut page,
            "STATE_DIRECTORY, XDG_STATE_HOME, HOME",
            "The state directory is the first of $STATE_DIRECTORY, $XDG_STATE_HOME/p2ps, $HOME/.local/state/p2ps.",
        );
    }
    if manual.is_daemon {
        entry(
            &mut page,
            "NOTIFY_SOCKET, WATCHDOG_USEC",
            "As systemd sets them: the tool says READY=1 once everything is bound, and STOPPING=1 at the end.",
        );
    }
    if !manual.files.is_empty() {
        section(&mut page, "FILES");
        for (name, meaning) in manual.files {
            entry(&mut page, name, meaning);
        }
    }
    if manual.is_daemon {
        section(&mut page, "SIGNALS");
        for (name, meaning) in &SIGNALS {
            entry(&mut page, name, meaning);
        }
    }
    section(&mut page, "EXAMPLES");
    for (purpose, commands) in manual.examples {
        paragraph(&mut page, purpose);
        let _ = writeln!(page, ".RS 4\n.nf\n{}\n.fi\n.RE", escape(commands));
    }
    section(&mut page, "NOTES");
    for note in manual.notes {
        paragraph(&mut page, note);
    }
    paragraph(
        &mut page,
        "Errors are one line on standard error: the tool, what went wrong, and why.",
    );
    section(&mut page, "BUGS");
    paragraph(&mut page, manual.bugs);
    section(&mut page, "SEE ALSO");
    let pages: Vec<String> = manual
        .see_also
        .iter()
        .map(|(name, section)| format!("\\fB{}\\fR({section})", escape(name)))
        .collect();
    let _ = writeln!(page, "{}", pages.join(", "));
    page
}

/// How the tool and each of its subcommands is called. Options stand below, with their values: a list of them all, as
/// clap_mangen makes it, hides what matters.
fn write_synopsis(page: &mut String, command: &Command) {
    section(page, "SYNOPSIS");
    let mut line = |words: &[&str], command: &Command| {
        let words: Vec<String> = words
            .iter()
            .map(|word| format!("\\fB{}\\fR", escape(word)))
            .collect();
        let _ = write!(page, "{} [\\fIOPTION\\fR]...", words.join(" "));
        for arg in command.get_positionals() {
            let name = escape(&value_name(arg));
            let several = if arg.get_action().takes_values()
                && arg.get_num_args().is_some_and(|n| n.max_values() > 1)
            {
                "..."
            } else {
                ""
            };
            let _ = if arg.is_required_set() {
                write!(page, " \\fI{name}\\fR{several}")
            } else {
                write!(page, " [\\fI{name}\\fR]{several}")
            };
        }
        page.push_str("\n.br\n");
    };
    let name = command.get_name();
    // A tool that only has subcommands is not called without.
    if !command.is_subcommand_required_set() {
        line(&[name], command);
    }
    for subcommand in command.get_subcommands() {
        line(&[name, subcommand.get_name()], subcommand);
    }
}

/// A subcommand under OPTIONS, with its own options; those that an earlier one explained are named. `known` are names
/// and explanations so far.
fn write_subcommand(page: &mut String, command: &Command, known: &mut Vec<(String, String)>) {
    let mut before = Vec::new();
    let _ = write!(page, ".SS {}", escape(command.get_name()));
    for arg in command.get_positionals() {
        let _ = write!(page, " {}", escape(&value_name(arg)));
    }
    page.push('\n');
    paragraph(
        page,
        &command
            .get_about()
            .map(ToString::to_string)
            .unwrap_or_default(),
    );
    for arg in command.get_arguments() {
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let Some(long) = arg.get_long().filter(|long| *long != "help") else {
            continue;
        };
        let mut name = String::new();
        if let Some(short) = arg.get_short() {
            let _ = write!(name, "-{short}, ");
        }
        let _ = write!(name, "--{long}");
        if arg.get_action().takes_values() {
            let _ = write!(name, " {}", value_name(arg));
        }
        let default: Vec<_> = arg
            .get_default_values()
            .iter()
            .map(|value| value.to_string_lossy())
            .collect();
        let default = match default.as_slice() {
            [] => String::new(),
            values if arg.get_action().takes_values() => {
                format!(" [default: {}]", values.join(" "))
            }
            _ => String::new(),
        };
        let explained = (name, format!("{help}{default}"));
        if known.contains(&explained) {
            before.push(format!("--{long}"));
            continue;
        }
        entry(page, &explained.0, &explained.1);
        known.push(explained);
    }
    if !before.is_empty() {
        paragraph(page, &format!("As above: {}.", before.join(", ")));
    }
}

/// How the value of an argument is called.
fn value_name(arg: &Arg) -> String {
    let name = arg.get_value_names().and_then(<[_]>::first);
    name.map_or_else(|| arg.get_id().to_string(), ToString::to_string)
}

fn section(page: &mut String, title: &str) {
    let _ = writeln!(page, ".SH \"{title}\"");
}

fn paragraph(page: &mut String, text: &str) {
    let _ = writeln!(page, ".PP\n{}", escape(text));
}

fn entry(page: &mut String, term: &str, meaning: &str) {
    let _ = writeln!(page, ".TP\n\\fB{}\\fR\n{}", escape(term), escape(meaning));
}

/// Text that roff takes for text.
fn escape(text: &str) -> String {
    let escaped = text.replace('\\', "\\e").replace('-', "\\-");
    let lines = escaped.lines().map(|line| match line.as_bytes().first() {
        Some(b'.' | b'\'') => format!("\\&{line}"),
        _ => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{peer, source};

    #[test]
    fn pages_have_their_sections_in_order() {
        for page in [page::<source::Args>(), page::<peer::Args>()] {
            let sections: Vec<&str> = page
                .lines()
                .filter_map(|line| line.strip_prefix(".SH "))
                .map(|title| title.trim_matches('"'))
                .collect();
            assert_eq!(
                sections,
                [
                    "NAME",
                    "SYNOPSIS",
                    "DESCRIPTION",
                    "OPTIONS",
                    "EXIT STATUS",
                    "ENVIRONMENT",
                    "FILES",
                    "SIGNALS",
                    "EXAMPLES",
                    "NOTES",
                    "BUGS",
                    "SEE ALSO"
                ]
            );
        }
    }

    #[test]
    fn texts_are_no_requests() {
        assert_eq!(escape(".a\n'b -c\\"), "\\&.a\n\\&'b \\-c\\e");
    }
}
