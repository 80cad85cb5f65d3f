//! Certificates in files: whom to trust, and who we are.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::exit::{CliError, shown_path};
use super::secret;
use crate::io::http::{self, server};

/// Longest file of certificates: a whole list of authorities has a quarter of it.
const CERTIFICATE_BYTES_MAX: u64 = 1 << 20;

/// Files that say who a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityFiles {
    /// Certificate chain, PEM.
    pub certificate: PathBuf,
    /// Private key, PEM, mode 0600.
    pub key: PathBuf,
}

impl IdentityFiles {
    /// Reads both.
    ///
    /// # Errors
    ///
    /// A usage error that names the file and what is wrong with it.
    pub fn read(&self) -> Result<server::Identity, CliError> {
        let certificates = read(&self.certificate)?;
        let key = secret::read_secret_file(&self.key)?;
        server::Identity::from_pem(&certificates, key.as_bytes()).map_err(|error| {
            let (kind, path) = match error {
                server::TlsError::NoKey | server::TlsError::OtherKey => ("key", &self.key),
                _ => ("certificate", &self.certificate),
            };
            let what = format!("cannot use {kind} {}", shown_path(path));
            CliError::usage(what, error.to_string())
        })
    }
}

/// The authorities in a file, for a store to be trusted by.
///
/// # Errors
///
/// A usage error when there are none.
pub fn authorities(path: &Path) -> Result<Vec<u8>, CliError> {
    let bytes = read(path)?;
    match http::has_certificate(&bytes) {
        true => Ok(bytes),
        false => {
            let what = format!("cannot use certificate {}", shown_path(path));
            Err(CliError::usage(what, "no certificate in it"))
        }
    }
}

/// Trusts the authorities in a file beside those that everybody trusts.
///
/// # Errors
///
/// A usage error when there are none.
pub fn trust(path: Option<&Path>) -> Result<(), CliError> {
    let Some(path) = path else {
        return Ok(());
    };
    http::trust(&read(path)?).map_err(|_| {
        let what = format!("cannot use certificate {}", shown_path(path));
        CliError::usage(what, "no certificate in it")
    })
}

fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    let mut bytes = Vec::new();
    let read = File::open(path)
        .and_then(|file| file.take(CERTIFICATE_BYTES_MAX + 1).read_to_end(&mut bytes));
    match read {
        Err(error) => Err(CliError::read_file("certificate", path, &error)),
        Ok(_) if bytes.len() as u64 > CERTIFICATE_BYTES_MAX => Err(CliError::usage(
            format!("cannot use certificate {}", shown_path(path)),
            "too long for certificates",
        )),
        Ok(_) => Ok(bytes),
    }
}
