//! The operator's way into a running tracker: a Unix socket that only its user and root may use.
//!
//! One JSON object on a line goes in, one comes out. Who may write to the socket is decided by the system, twice: by the
//! mode of the file, and by the user that the kernel says is at the other end.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Longest order, in bytes.
const ORDER_BYTES_MAX: u64 = 4096;

/// Longest answer, in bytes: a list of a hundred thousand users.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// How long an order and its answer may take.
const SPAN: Duration = Duration::from_secs(10);

/// Orders at a time.
const ORDERS_MAX: usize = 4;

/// Longest path of a Unix socket that Linux takes (`sun_path`, with its end).
const PATH_BYTES_MAX: usize = 107;

/// A socket that takes orders.
#[derive(Debug)]
pub struct Control {
    listener: UnixListener,
    path: PathBuf,
}

impl Control {
    /// Binds the socket; one that somebody left there who is gone makes room. Whoever holds what the socket belongs to
    /// may call this, nobody else.
    ///
    /// # Errors
    ///
    /// The system's; [`io::ErrorKind::InvalidInput`] for a path that is too long.
    pub fn bind(path: &Path) -> io::Result<Self> {
        if path.as_os_str().as_bytes().len() > PATH_BYTES_MAX {
            let why = format!("longer than {PATH_BYTES_MAX} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        if let Ok(metadata) = path.symlink_metadata()
            && metadata.file_type().is_socket()
        {
            std::fs::remove_file(path)?;
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self {
            listener,
            path: path.to_owned(),
        })
    }

    /// Answers orders for ever.
    pub async fn serve<F>(self, carry_out: impl Fn(Value) -> F + Clone + Send + 'static)
    where
        F: Future<Output = Value> + Send,
    {
        let places = Arc::new(Semaphore::new(ORDERS_MAX));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            let Ok((stream, _)) = self.listener.accept().await else {
                // No more files, for example: what is open will end.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let carry_out = carry_out.clone();
            tokio::spawn(async move {
                // Who goes away in the middle is not told anything.
                let _ = timeout(SPAN, converse(stream, carry_out)).await;
                drop(place);
            });
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn converse<F: Future<Output = Value>>(
    mut stream: UnixStream,
    carry_out: impl Fn(Value) -> F,
) -> io::Result<()> {
    let uid = stream.peer_cred()?.uid();
    let answer = if uid != 0 && uid != rustix::process::geteuid().as_raw() {
        refusal("for the user of the tracker only")
    } else {
        let mut line = Vec::new();
        let (reading, _) = stream.split();
        let mut reading = tokio::io::BufReader::new(reading.take(ORDER_BYTES_MAX));
        reading.read_until(b'\n', &mut line).await?;
        match serde_json::from_slice(&line) {
            Ok(order @ Value::Object(_)) if line.ends_with(b"\n") => carry_out(order).await,
            _ => refusal("need one line of JSON, an object"),
        }
    };
    stream.write_all(format!("{answer}\n").as_bytes()).await
}

fn refusal(why: &str) -> Value {
    serde_json::json!({ "status": 400, "body": { "error": why } })
}

/// Gives an order to whoever listens at `path`, and waits for the answer.
///
/// # Errors
///
/// The system's; [`io::ErrorKind::InvalidData`] for an answer that is none.
pub fn ask(path: &Path, order: &Value) -> io::Result<Value> {
    let mut stream = BlockingStream::connect(path)?;
    stream.set_read_timeout(Some(SPAN))?;
    stream.set_write_timeout(Some(SPAN))?;
    stream.write_all(format!("{order}\n").as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream.take(ANSWER_BYTES_MAX)).read_line(&mut line)?;
    serde_json::from_str(&line).map_err(|_| {
        let why = "the answer is no line of JSON";
        io::Error::new(io::ErrorKind::InvalidData, why)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    async fn asked(path: PathBuf, order: Value) -> Value {
        let asking = tokio::task::spawn_blocking(move || ask(&path, &order));
        asking.await.expect("no panic").expect("an answer")
    }

    #[tokio::test]
    async fn an_order_is_answered_and_garbage_too() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("control");
        let control = Control::bind(&path).expect("bound");
        let mode = std::fs::metadata(&path).expect("there").permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
        let serving = tokio::spawn(control.serve(async |order: Value| json!({ "had": order })));
        let answer = asked(path.clone(), json!({ "order": "x" })).await;
        assert_eq!(answer, json!({ "had": { "order": "x" } }));
        for garbage in [json!([1]), json!("x".repeat(5000)), json!(null)] {
            let answer = asked(path.clone(), garbage).await;
            assert_eq!(answer["status"], 400, "{answer}");
        }
        serving.abort();
        assert!(serving.await.is_err_and(|error| error.is_cancelled()));
        assert!(!path.exists(), "gone with its owner");
    }

    #[tokio::test]
    async fn a_socket_left_behind_makes_room_and_a_file_does_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("control");
        std::mem::forget(Control::bind(&path).expect("bound"));
        drop(Control::bind(&path).expect("bound again"));
        std::fs::write(&path, "a file").expect("written");
        assert!(Control::bind(&path).is_err());
        assert_eq!(
            std::fs::read_to_string(&path).expect("still there"),
            "a file"
        );
        let long = dir.path().join("x".repeat(PATH_BYTES_MAX));
        let why = Control::bind(&long).expect_err("too long").kind();
        assert_eq!(why, io::ErrorKind::InvalidInput);
    }
}
