//! Who may have the media, and who we are: the flags about keys and users, and what they come to.

use std::path::PathBuf;

use bytes::Bytes;
use clap::Args;
use data_encoding::BASE64;

use super::common::state_dir;
use super::exit::{CliError, shown_path};
use super::secret;
use super::source::KeyPlace;
use crate::integrity::key::SigningKey;
use crate::io::allow;
use crate::node::Auth;
use crate::tracker::announce::Credentials;
use crate::tracker::message::{Secret, is_channel_name};
use crate::tracker::ticket::Claims;

/// Name of a node's own key in the state directory.
const PEER_KEY: &str = "peer.key";

/// What the manual says of that key.
pub(super) const PEER_KEY_FILE: (&str, &str) = (
    "peer.key in $STATE_DIRECTORY, $XDG_STATE_HOME/p2ps or $HOME/.local/state/p2ps",
    "secret key of the node, mode 0600, made when --allow, --token-file, --ask or --answer first needs one.",
);

/// What the manual says of relays and those who may have media.
pub(super) const NOTE_RELAY: &str = "A relay needs no key of the channel and cannot forge media: every chunk is signed by \
    its source. With --allow, and in a channel that its tracker closed, others learn that the channel exists and get no \
    media; but whoever gets it can pass it on, unless started with the same list or with --no-upload.";

/// Whom media is given to.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Serving")]
pub struct AllowArgs {
    /// Give media only to those who prove a key of this list, one a line as p2ps-source keygen prints it. SIGHUP reads it
    /// again.
    #[arg(long, value_name = "FILE")]
    pub allow: Option<PathBuf>,
}

/// Who we are to neighbours that ask for it.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Channel")]
pub struct KeyArgs {
    /// Secret key to prove to parents that ask for one; mode 0600, made by p2ps-source keygen [default with --allow,
    /// --token-file, --ask or --answer: peer.key in the state directory, made when missing].
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
}

/// Who we are to trackers.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Channel")]
pub struct LoginArgs {
    /// File with NAME:SECRET of a user in one line, or with a ticket of his; mode 0600. - for standard input, /dev/fd/N for
    /// an open descriptor.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

/// Checked [`AllowArgs`], [`KeyArgs`] and [`LoginArgs`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// List of keys; none gives media to all.
    pub allow: Option<PathBuf>,
    /// Our own key, where one is needed that is not the channel's.
    pub key: Option<KeyPlace>,
    /// File with name and secret of a user.
    pub token_file: Option<PathBuf>,
}

/// What a token file holds: name and secret of a user, or a ticket of his.
struct Login {
    named: Option<(String, Secret)>,
    ticket: Option<Bytes>,
}

/// What the files said.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    /// For the node.
    pub(super) auth: Option<Auth>,
    /// For trackers.
    pub(super) credentials: Option<Credentials>,
}

impl Access {
    /// Settings of a tool that has no other key.
    pub(super) fn check(
        allow: AllowArgs,
        key: KeyArgs,
        login: LoginArgs,
    ) -> Result<Self, CliError> {
        let key = match key.key {
            Some(path) => Some(KeyPlace::Given(path)),
            // Nobody can be asked for a key without one of our own, and tickets are bound to one.
            None if allow.allow.is_some() || login.token_file.is_some() => {
                Some(KeyPlace::State(state_dir(None)?.join(PEER_KEY)))
            }
            None => None,
        };
        Ok(Self {
            key,
            ..Self::of_source(allow, login)
        })
    }

    /// Has a key in any case: those that we ask, or that ask us, go by keys.
    pub(super) fn need_key(&mut self) -> Result<(), CliError> {
        if self.key.is_none() {
            self.key = Some(KeyPlace::State(state_dir(None)?.join(PEER_KEY)));
        }
        Ok(())
    }

    /// Settings of a tool whose key is that of its channel.
    pub(super) fn of_source(allow: AllowArgs, login: LoginArgs) -> Self {
        Self {
            allow: allow.allow,
            key: None,
            token_file: login.token_file,
        }
    }

    /// Whether standard input is where the token comes from.
    pub(super) fn reads_stdin(&self) -> bool {
        self.token_file.as_deref() == Some("-".as_ref())
    }

    /// Reads list, token and our own key. A dry run leaves nothing behind, so it makes no key.
    pub(super) fn load_own(&self, dry_run: bool) -> Result<Loaded, CliError> {
        let made_later = matches!(&self.key, Some(KeyPlace::State(path)) if !path.exists());
        if dry_run && made_later {
            return Ok(Loaded::default());
        }
        self.load(None)
    }

    /// Reads list, token and key; `key` is the one of a source.
    pub(super) fn load(&self, key: Option<&SigningKey>) -> Result<Loaded, CliError> {
        let login = self.login()?;
        let friends = match &self.allow {
            Some(path) => Some(allow::read(path).map_err(|why| {
                CliError::usage(format!("cannot read {}", shown_path(path)), why)
            })?),
            None => None,
        };
        let key = match (&self.key, key) {
            (_, Some(key)) => key.clone(),
            (Some(place), None) => secret::signing_key(place)?,
            (None, None) => return Ok(Loaded::default()),
        };
        let is_needed = friends.is_some() || login.is_some() || self.key.is_some();
        let Some(public) = key.peer_key() else {
            return if is_needed {
                let why = "keys of neighbours are Ed25519, and it is not";
                Err(CliError::usage("cannot use key", why))
            } else {
                Ok(Loaded::default())
            };
        };
        if self.key.is_some() {
            tracing::info!("our key is {public}");
        }
        Ok(Loaded {
            auth: Some(Auth {
                key,
                closed: friends.is_some(),
                friends: friends.unwrap_or_default(),
                issuers: Vec::new(),
            }),
            credentials: login.map(|login| Credentials {
                key: public,
                login: login.named,
                ticket: login.ticket,
            }),
        })
    }

    /// Name and secret, or a ticket, from the token file.
    fn login(&self) -> Result<Option<Login>, CliError> {
        let Some(path) = &self.token_file else {
            return Ok(None);
        };
        let text = secret::read_login(path)?;
        let line = text.lines().next().unwrap_or_default().trim();
        let bad = || CliError::usage("cannot use token", "need NAME:SECRET in one line");
        let Some((user, secret)) = line.split_once(':') else {
            let ticket = BASE64.decode(line.as_bytes()).ok();
            return match ticket.filter(|ticket| Claims::read(ticket).is_ok()) {
                Some(ticket) => Ok(Some(Login {
                    named: None,
                    ticket: Some(ticket.into()),
                })),
                None => Err(bad()),
            };
        };
        match Secret::new(secret).filter(|_| is_channel_name(user)) {
            Some(secret) => Ok(Some(Login {
                named: Some((user.to_owned(), secret)),
                ticket: None,
            })),
            None => Err(bad()),
        }
    }
}
