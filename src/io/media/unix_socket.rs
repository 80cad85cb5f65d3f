//! A socket in the file system that lasts as long as its owner.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

use super::error::OpenError;
use crate::io::value::Shown;

/// A socket file this process made; removed when dropped, unless another one stands there by then.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

impl SocketFile {
    /// Listens at `path`, where connecting has just failed with `refusal`.
    ///
    /// The socket of a process that is gone is replaced; a file that is no socket is not.
    pub(super) fn listen(
        path: &Path,
        refusal: io::Error,
    ) -> Result<(UnixListener, Self), OpenError> {
        let shown = format!("unix:{}", Shown::new(&path.to_string_lossy()));
        match refusal.kind() {
            io::ErrorKind::NotFound => {}
            io::ErrorKind::ConnectionRefused => {
                let kind = fs::symlink_metadata(path).map(|found| found.file_type());
                if !kind.is_ok_and(|kind| kind.is_socket()) {
                    let error = io::Error::new(io::ErrorKind::AlreadyExists, "not a socket");
                    return Err(OpenError::io("bind", shown)(error));
                }
                fs::remove_file(path).map_err(OpenError::io("replace", shown.clone()))?;
            }
            _ => return Err(OpenError::io("connect to", shown)(refusal)),
        }
        let listener = UnixListener::bind(path).map_err(OpenError::io("bind", shown.clone()))?;
        let inode = inode(path).map_err(OpenError::io("bind", shown))?;
        let path = path.to_owned();
        Ok((listener, Self { path, inode }))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if inode(&self.path).is_ok_and(|found| found == self.inode) {
            // Somebody may be faster; then there is nothing left to do.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}
