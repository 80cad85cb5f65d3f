//! Where a store is: `mem:` or `redb:PATH`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::io::value::ValueError;

/// Every form of [`StoreUrl`].
const FORMS: &str = "mem: or redb:PATH";

/// Where durable state is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// In memory; gone when the process ends.
    Memory,
    /// In a file of this machine, used by one process at a time.
    Redb(PathBuf),
}

impl StoreUrl {
    /// Name of the file below a state directory when none was named.
    pub const FILE_DEFAULT: &'static str = "tracker.redb";

    /// The socket at which whoever has the store takes orders; none of a store that nobody else can name.
    pub fn control(&self) -> Option<PathBuf> {
        match self {
            Self::Memory => None,
            Self::Redb(path) => {
                let mut path = path.clone().into_os_string();
                path.push(".control");
                Some(path.into())
            }
        }
    }

    /// The store of a state directory.
    pub fn within(state_dir: &Path) -> Self {
        Self::Redb(state_dir.join(Self::FILE_DEFAULT))
    }
}

impl FromStr for StoreUrl {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text.split_once(':') {
            Some(("mem", "")) => Ok(Self::Memory),
            Some(("redb", path)) if !path.is_empty() => Ok(Self::Redb(path.into())),
            _ => Err(ValueError::NeedOneOf { words: FORMS }),
        }
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("mem:"),
            Self::Redb(path) => write!(f, "redb:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        for (text, shown) in [
            ("mem:", "mem:"),
            ("redb:st", "redb:st"),
            ("redb:/var/lib/p2ps/a:b", "redb:/var/lib/p2ps/a:b"),
            ("", "need mem: or redb:PATH"),
            ("mem", "need mem: or redb:PATH"),
            ("mem:x", "need mem: or redb:PATH"),
            ("redb:", "need mem: or redb:PATH"),
            ("/var/lib/p2ps/st", "need mem: or redb:PATH"),
            ("sqlite:st", "need mem: or redb:PATH"),
            ("MEM:", "need mem: or redb:PATH"),
        ] {
            let found = text.parse::<StoreUrl>();
            let found = found.map_or_else(|error| error.to_string(), |url| url.to_string());
            assert_eq!(found, shown, "{text}");
        }
    }
}
