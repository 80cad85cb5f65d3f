//! Reading the body of a request within its limits.

use axum::body::Body;
use axum::http::Request;
use axum::http::header::CONTENT_LENGTH;
use http_body_util::BodyExt;
use tokio::time::{Instant as TokioInstant, timeout_at};

use super::Options;

/// How much of a body that is too long is read and thrown away, so that its sender reads our answer.
const DRAIN_BYTES_MAX: usize = 1 << 20;

/// Why there is no body.
pub(super) enum BodyError {
    TooLong,
    TooSlow,
    Broken,
}

/// Reads a body within its limits; of one that is too long, enough more for its sender to come to read our answer.
pub(super) async fn read_body(
    options: &Options,
    request: Request<Body>,
) -> Result<Vec<u8>, BodyError> {
    let announced: usize = request
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse().ok())
        .unwrap_or(0);
    if announced > DRAIN_BYTES_MAX {
        return Err(BodyError::TooLong);
    }
    let deadline = TokioInstant::now() + options.body_timeout;
    let mut body = request.into_body();
    let mut bytes = Vec::with_capacity(announced.min(options.body_bytes_max));
    let mut received = 0;
    loop {
        let is_too_long = received > options.body_bytes_max;
        match timeout_at(deadline, body.frame()).await {
            Ok(Some(Ok(frame))) => {
                let Ok(data) = frame.into_data() else {
                    continue;
                };
                received += data.len();
                if received <= options.body_bytes_max {
                    bytes.extend_from_slice(&data);
                } else if received > DRAIN_BYTES_MAX {
                    return Err(BodyError::TooLong);
                }
            }
            _ if is_too_long => return Err(BodyError::TooLong),
            Ok(None) => return Ok(bytes),
            Ok(Some(Err(_))) => return Err(BodyError::Broken),
            Err(_) => return Err(BodyError::TooSlow),
        }
    }
}
