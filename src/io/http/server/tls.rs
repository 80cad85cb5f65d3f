//! TLS of the server: who it is, and connections that begin with a handshake.
//!
//! The handshake is made by whoever reads first, and that is hyper when it waits for the header of the first request:
//! so its time counts as time of the header, and every limit below TLS stays where it was (S-40).

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{Accept, TlsAcceptor};

use super::traffic::Watched;

/// How long a last word may take to be written.
const WORD_TIMEOUT: Duration = Duration::from_millis(100);

/// The only protocol spoken behind TLS.
const PROTOCOL: &[u8] = b"http/1.1";

/// Why a certificate and a key are of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// Nothing in the file is a certificate in PEM.
    #[error("no certificate in it")]
    NoCertificate,
    /// Nothing in the file is a private key in PEM.
    #[error("no private key in it")]
    NoKey,
    /// The key is not that of the certificate.
    #[error("it is the key of another certificate")]
    OtherKey,
    /// They are of a kind that is not spoken.
    #[error("not usable for tls: {0}")]
    Unusable(String),
}

/// Certificate and key of a server, which can be changed while it runs. Clones are the same identity.
#[derive(Clone)]
pub struct Identity(Arc<RwLock<Arc<ServerConfig>>>);

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

impl Identity {
    /// An identity of a certificate chain, the server's own first, and its private key, both in PEM.
    ///
    /// # Errors
    ///
    /// [`TlsError`] when they are none, or not of each other.
    pub fn from_pem(certificates: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        Ok(Self(Arc::new(RwLock::new(config(certificates, key)?))))
    }

    /// Takes the place of another identity; connections that are open go on as they are.
    pub fn replace(&self, with: &Self) {
        let config = with.config();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    fn config(&self) -> Arc<ServerConfig> {
        let config = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&config)
    }
}

fn config(certificates: &[u8], key: &[u8]) -> Result<Arc<ServerConfig>, TlsError> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificates)
        .collect::<Result<_, _>>()
        .map_err(|_| TlsError::NoCertificate)?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate);
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::NoKey)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(unusable)?;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(Arc::new(config))
}

fn unusable(error: rustls::Error) -> TlsError {
    match error {
        rustls::Error::InconsistentKeys(_) => TlsError::OtherKey,
        other => TlsError::Unusable(other.to_string().to_lowercase()),
    }
}

/// A connection as hyper sees it.
pub(super) struct Conversation {
    layer: Layer,
}

enum Layer {
    Plain(Watched),
    Handshake(Box<Accept<Watched>>),
    Tls(Box<TlsStream<Watched>>),
}

impl Conversation {
    pub(super) fn new(watched: Watched, identity: Option<&Identity>) -> Self {
        let layer = match identity {
            None => Layer::Plain(watched),
            Some(identity) => {
                let acceptor = TlsAcceptor::from(identity.config());
                Layer::Handshake(Box::new(acceptor.accept(watched)))
            }
        };
        Self { layer }
    }

    /// Whether nothing of HTTP can have been said yet.
    pub(super) fn is_handshaking(&self) -> bool {
        matches!(self.layer, Layer::Handshake(_))
    }

    /// Writes a last word, as far as the socket takes it.
    pub(super) async fn say(&mut self, bytes: &[u8]) {
        let _ = match &mut self.layer {
            Layer::Plain(watched) => watched.stream.try_write(bytes).map(|_| ()),
            Layer::Handshake(_) => Ok(()),
            Layer::Tls(stream) => {
                let written = async {
                    stream.write_all(bytes).await?;
                    stream.shutdown().await
                };
                timeout(WORD_TIMEOUT, written).await.unwrap_or(Ok(()))
            }
        };
    }

    /// Goes on with the handshake, if there is one, until it is done.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Layer::Handshake(accept) = &mut self.layer {
            let stream = ready!(Pin::new(&mut **accept).poll(cx))?;
            self.layer = Layer::Tls(Box::new(stream));
        }
        Poll::Ready(Ok(()))
    }

    fn watched(&self) -> Option<&Watched> {
        match &self.layer {
            Layer::Plain(watched) => Some(watched),
            Layer::Handshake(_) => None,
            Layer::Tls(stream) => Some(stream.get_ref().0),
        }
    }
}

impl AsyncRead for Conversation {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_ready(cx))?;
        let before = buf.filled().len();
        let result = match &mut self.layer {
            Layer::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Layer::Tls(stream) => Pin::new(&mut **stream).poll_read(cx, buf),
            Layer::Handshake(_) => Poll::Pending,
        };
        if result.is_ready()
            && buf.filled().len() > before
            && let Some(watched) = self.watched()
        {
            watched.traffic.request_begins();
        }
        result
    }
}

impl AsyncWrite for Conversation {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_ready(cx))?;
        match &mut self.layer {
            Layer::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Layer::Tls(stream) => Pin::new(&mut **stream).poll_write(cx, bytes),
            Layer::Handshake(_) => Poll::Pending,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.layer {
            Layer::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Layer::Tls(stream) => Pin::new(&mut **stream).poll_flush(cx),
            // Nothing was written yet.
            Layer::Handshake(_) => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.layer {
            Layer::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Layer::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
            Layer::Handshake(_) => Poll::Ready(Ok(())),
        }
    }
}
