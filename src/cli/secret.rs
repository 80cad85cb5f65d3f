//! Files that hold secrets: read only when nobody else can read them, written so that nobody else can.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::Path;

use super::exit::{CliError, Exit, reason, shown_path};
use super::source::{Algorithm, KeyPlace};
use crate::integrity::key::SigningKey;
use crate::wire::option::SignatureAlgorithm;

/// Largest secret read, in bytes.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// A key that is there but must not be used.
fn unusable(path: &Path, why: impl Into<String>) -> CliError {
    refused("use", Kind::Key, path, why)
}

/// What a secret is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Key,
    Token,
}

fn refused(verb: &str, kind: Kind, path: &Path, why: impl Into<String>) -> CliError {
    let kind = match kind {
        Kind::Key => "key",
        Kind::Token => "token",
    };
    CliError::usage(format!("cannot {verb} {kind} {}", shown_path(path)), why)
}

/// Reads a file that holds a key: a regular file, no link, mode 0600 or less, neither empty nor the public half.
///
/// # Errors
///
/// A usage error that says what to do about it.
pub fn read_secret_file(path: &Path) -> Result<String, CliError> {
    let text = read(Kind::Key, path)?;
    if text.contains("-----BEGIN PUBLIC KEY-----") || text.starts_with("ssh-") {
        return Err(unusable(path, "it is a public key"));
    }
    Ok(text)
}

/// Reads a file that holds a token in one line of printable characters, under the same conditions.
///
/// # Errors
///
/// A usage error that says what to do about it.
pub fn read_token_file(path: &Path) -> Result<String, CliError> {
    let text = read(Kind::Token, path)?;
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(refused("use", Kind::Token, path, "it is not one word"));
    }
    Ok(token.to_owned())
}

/// Reads what proves a user: from standard input for `-`, from an open descriptor for `/dev/fd/N`, else as
/// [`read_token_file`].
///
/// # Errors
///
/// A usage error that says what to do about it. What is no file is not shown: it may be the secret itself.
pub fn read_login(path: &Path) -> Result<String, CliError> {
    let failed = |error: &io::Error| CliError::usage("cannot read token", reason(error));
    let mut text = String::new();
    if path == Path::new("-") {
        io::stdin()
            .take(SECRET_BYTES_MAX)
            .read_to_string(&mut text)
            .map_err(|error| failed(&error))?;
        return Ok(text);
    }
    if path.starts_with("/dev/fd") {
        File::open(path)
            .and_then(|file| file.take(SECRET_BYTES_MAX).read_to_string(&mut text))
            .map_err(|error| failed(&error))?;
        return Ok(text);
    }
    let is_path = path.has_root() || path.starts_with(".") || path.starts_with("..");
    if !is_path && path.symlink_metadata().is_err() {
        return Err(CliError::usage(
            "bad --token-file",
            "give a file or -, secrets on the command line are visible to others",
        ));
    }
    read_token_file(path)
}

fn read(kind: Kind, path: &Path) -> Result<String, CliError> {
    let unreadable = |why: &str| refused("read", kind, path, why);
    let unusable = |why: &str| refused("use", kind, path, why);
    let file = OpenOptions::new()
        .read(true)
        // No link: whoever can write beside the key must not choose what we read. No wait: a pipe has no secrets.
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)
        .map_err(|error| {
            let is_link = path.is_symlink();
            match error.kind() {
                _ if is_link => unreadable("is a symbolic link"),
                _ => unreadable(&reason(&error)),
            }
        })?;
    let metadata = file
        .metadata()
        .map_err(|error| unreadable(&reason(&error)))?;
    if metadata.is_dir() {
        return Err(unreadable("is a directory"));
    }
    if !metadata.is_file() {
        return Err(unreadable("is not a plain file"));
    }
    let owner = metadata.uid();
    if owner != 0 && owner != rustix::process::geteuid().as_raw() {
        return Err(unusable("belongs to another user"));
    }
    if metadata.permissions().mode() & 0o177 != 0 {
        return Err(unusable("readable by others, chmod 600 it"));
    }
    let mut bytes = Vec::new();
    file.take(SECRET_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(&reason(&error)))?;
    if bytes.is_empty() {
        return Err(unreadable("is empty"));
    }
    if bytes.len() as u64 > SECRET_BYTES_MAX {
        return Err(unusable("too long for a secret"));
    }
    String::from_utf8(bytes).map_err(|_| match kind {
        Kind::Key => unusable("it is not a PEM file"),
        Kind::Token => unusable("it is not text"),
    })
}

/// Reads the signing key in a file.
///
/// # Errors
///
/// As [`read_secret_file`], and when the file holds no key that can sign.
pub fn read_signing_key(path: &Path) -> Result<SigningKey, CliError> {
    let text = read_secret_file(path).map_err(|mut error| {
        if !path.exists() && !path.is_symlink() {
            error.why += ", make one with p2ps-source keygen";
        }
        error
    })?;
    SigningKey::from_pem(text).map_err(|error| unusable(path, error.to_string()))
}

/// The key of a source: as given, or made in the state directory when it is not there yet.
///
/// # Errors
///
/// As [`read_signing_key`], and when the state directory cannot be written.
pub fn signing_key(place: &KeyPlace) -> Result<SigningKey, CliError> {
    match place {
        KeyPlace::State(path) if !path.exists() && !path.is_symlink() => {
            let key = generate(Algorithm::Ed25519)?;
            if let Some(dir) = path.parent() {
                let mut builder = DirBuilder::new();
                builder.recursive(true).mode(0o700);
                builder.create(dir).map_err(|error| {
                    let what = format!("cannot make state directory {}", shown_path(dir));
                    CliError::usage(what, reason(&error))
                })?;
            }
            write_secret_file(path, &key.to_pem())?;
            Ok(key)
        }
        place => read_signing_key(place.path()),
    }
}

/// A fresh key.
///
/// # Errors
///
/// When the system has no random numbers.
pub fn generate(algorithm: Algorithm) -> Result<SigningKey, CliError> {
    let algorithm = match algorithm {
        Algorithm::Ed25519 => SignatureAlgorithm::Ed25519,
        Algorithm::P256 => SignatureAlgorithm::EcdsaP256,
        Algorithm::P384 => SignatureAlgorithm::EcdsaP384,
    };
    SigningKey::generate(algorithm)
        .map_err(|error| CliError::new(Exit::Failed, "cannot make a key", error.to_string()))
}

/// Writes a secret to a new file of mode 0600, and to the disk below it.
///
/// # Errors
///
/// Exit 8 when the file exists or cannot be written; what was begun is removed.
pub fn write_secret_file(path: &Path, text: &str) -> Result<(), CliError> {
    let failed = |error: &io::Error| {
        let what = format!("cannot write key {}", shown_path(path));
        CliError::new(Exit::Output, what, reason(error))
    };
    let mut file: File = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| failed(&error))?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all());
    written.map_err(|error| {
        // Half a key would be in the way of the next attempt.
        let _ = std::fs::remove_file(path);
        failed(&error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::symlink;

    #[test]
    fn secrets_are_read_only_when_they_are_secret() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        write_secret_file(&path("good"), "secret").unwrap();
        fs::create_dir(path("dir")).unwrap();
        symlink(path("good"), path("link")).unwrap();
        symlink(path("loop"), path("loop")).unwrap();
        for (name, contents, mode) in [
            ("open", &b"secret"[..], 0o644),
            ("group", b"secret", 0o640),
            ("empty", b"", 0o600),
            ("public", b"-----BEGIN PUBLIC KEY-----\n", 0o600),
            ("binary", b"\xff\xfe", 0o600),
            ("readonly", b"secret", 0o400),
        ] {
            fs::write(path(name), contents).unwrap();
            fs::set_permissions(path(name), Permissions::from_mode(mode)).unwrap();
        }
        let said = |name: &str| match read_secret_file(&path(name)) {
            Ok(text) => text,
            Err(error) => error.to_string().replace(path("").to_str().unwrap(), ""),
        };
        for (name, expected) in [
            ("good", "secret"),
            ("readonly", "secret"),
            (
                "open",
                "cannot use key \"open\": readable by others, chmod 600 it",
            ),
            (
                "group",
                "cannot use key \"group\": readable by others, chmod 600 it",
            ),
            ("empty", "cannot read key \"empty\": is empty"),
            ("public", "cannot use key \"public\": it is a public key"),
            ("binary", "cannot use key \"binary\": it is not a PEM file"),
            ("dir", "cannot read key \"dir\": is a directory"),
            ("link", "cannot read key \"link\": is a symbolic link"),
            ("loop", "cannot read key \"loop\": is a symbolic link"),
            ("none", "cannot read key \"none\": no such file"),
        ] {
            assert_eq!(said(name), expected);
        }
    }

    #[test]
    fn keys_are_made_once_and_never_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state/film.key");
        let place = KeyPlace::State(path.clone());
        let made = signing_key(&place).unwrap().swarm_id();
        assert_eq!(signing_key(&place).unwrap().swarm_id(), made);
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let error = write_secret_file(&path, "x").unwrap_err();
        assert_eq!((error.exit.code(), error.why.as_str()), (8, "file exists"));
    }
}
