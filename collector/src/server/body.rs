//! Reading and decompressing bodies within caps.
//!
//! This is the only place that decompresses what a client sent.

use std::io::{self, Read};
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use http_body_util::BodyExt as _;

use super::budget::Share;
use super::ingest::IngestError;
use crate::metrics::RequestRefusal as Why;

/// Most bytes of a body as received.
pub(crate) const MAX_BODY: usize = 16 << 20;
/// Most bytes after decompression.
pub(crate) const MAX_RAW: usize = 64 << 20;
/// Most bytes after decompression per byte received. OTLP compresses 5 to 50 times.
const MAX_RATIO: usize = 200;
/// Below this size the ratio does not matter.
const RATIO_FREE: usize = 4 << 20;
/// Room made for a body before it has arrived.
const TRUSTED_HINT: usize = 1 << 20;
/// Time for a client to send its whole body.
const BODY_TIME: Duration = Duration::from_secs(30);
/// A zstd frame may ask for a window of at most 2^24 bytes (16 MiB).
const ZSTD_WINDOW_LOG: u32 = 24;

/// Content encodings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// As is.
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 8878.
    Zstd,
}

impl Encoding {
    /// Reads a header's value; absent and empty mean identity.
    pub(crate) fn parse(value: Option<&[u8]>) -> Option<Self> {
        match value.unwrap_or_default() {
            b"" | b"identity" => Some(Self::Identity),
            b"gzip" | b"x-gzip" => Some(Self::Gzip),
            b"zstd" => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// Reads a whole body.
pub(crate) async fn read(body: Body, share: &mut Share, cap: usize) -> Result<Bytes, IngestError> {
    tokio::time::timeout(BODY_TIME, read_frames(body, share, cap))
        .await
        .unwrap_or_else(|_| {
            Err(IngestError::refused(
                Why::Body,
                "the body did not arrive in time",
            ))
        })
}

async fn read_frames(mut body: Body, share: &mut Share, cap: usize) -> Result<Bytes, IngestError> {
    let mut whole = Vec::new();
    let mut single = None;
    // What a client announces is a hint, taken for true up to a size.
    let expected = usize::try_from(body.size_hint().lower()).map_or(0, |len| len.min(TRUSTED_HINT));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| IngestError::refused(Why::Body, "the body ended early"))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let held = whole.len() + single.as_ref().map_or(0, Bytes::len);
        if held + data.len() > cap {
            return Err(IngestError::refused(
                Why::TooLarge,
                format!("the body has more than `{cap}` bytes"),
            ));
        }
        if !share.grow(data.len()) {
            return Err(IngestError::refused(
                Why::InFlight,
                "too many bytes in flight",
            ));
        }
        // Most bodies are one frame: no copy then.
        if held == 0 {
            single = Some(data);
            continue;
        }
        if let Some(first) = single.take() {
            whole.reserve_exact(expected.max(first.len() + data.len()));
            whole.extend_from_slice(&first);
        }
        whole.extend_from_slice(&data);
    }
    Ok(single.unwrap_or_else(|| whole.into()))
}

/// Decompresses a body.
pub(crate) fn decompress(
    body: Bytes,
    encoding: Encoding,
    share: &mut Share,
) -> Result<Bytes, IngestError> {
    let cap = MAX_RAW.min(RATIO_FREE.max(body.len().saturating_mul(MAX_RATIO)));
    let raw = match encoding {
        Encoding::Identity => return Ok(body),
        Encoding::Gzip => inflate(MultiGzDecoder::new(body.as_ref()), cap, share),
        Encoding::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(body.as_ref()).map_err(damaged)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(damaged)?;
            inflate(decoder, cap, share)
        }
    }?;
    Ok(raw.into())
}

fn damaged(error: io::Error) -> IngestError {
    IngestError::refused(
        Why::Encoding,
        format!("the body does not decompress: {error}"),
    )
}

fn inflate(mut from: impl Read, cap: usize, share: &mut Share) -> Result<Vec<u8>, IngestError> {
    let mut raw = Vec::new();
    let mut chunk = vec![0u8; 64 << 10];
    loop {
        let len = from.read(&mut chunk).map_err(damaged)?;
        if len == 0 {
            return Ok(raw);
        }
        if raw.len() + len > cap {
            return Err(IngestError::refused(
                Why::TooLarge,
                format!("the body decompresses to more than `{cap}` bytes"),
            ));
        }
        if !share.grow(len) {
            return Err(IngestError::refused(
                Why::InFlight,
                "too many bytes in flight",
            ));
        }
        raw.extend_from_slice(chunk.get(..len).unwrap_or_default());
    }
}
