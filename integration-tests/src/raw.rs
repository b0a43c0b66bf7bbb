//! An HTTP/1.1 client that puts exactly the given bytes on the wire.
//!
//! For what no library sends: header values that are not UTF-8, pipelined requests, broken lines.
//! Its reader understands responses with `content-length` or chunked bodies, no more.
//! Limits: a response head of [`HEAD_LIMIT`] bytes, a deadline of [`READ_LIMIT`] per response.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::headers::HeaderLines;

/// The longest response head that is read.
pub const HEAD_LIMIT: usize = 1 << 20;

/// The deadline for one response.
pub const READ_LIMIT: Duration = Duration::from_secs(20);

/// One connection.
#[derive(Debug)]
pub struct RawConnection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// A response: status, header lines, length of the body.
#[derive(Debug, Clone)]
pub struct RawReply {
    /// The status code.
    pub status: u16,
    /// The header lines.
    pub headers: HeaderLines,
    /// The body.
    pub body: Vec<u8>,
}

impl RawConnection {
    /// Connects.
    pub async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: Vec::new(),
        })
    }

    /// Sends bytes as they are.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes).await?)
    }

    /// Reads the next response; `None` when the peer closed before the first byte of one.
    pub async fn reply(&mut self) -> Result<Option<RawReply>> {
        tokio::time::timeout(READ_LIMIT, self.read_reply())
            .await
            .context("no reply in time")?
    }

    /// Sends one request and reads its response.
    pub async fn exchange(&mut self, request: &[u8]) -> Result<RawReply> {
        self.send(request).await?;
        self.reply()
            .await?
            .context("the peer closed instead of answering")
    }

    async fn read_reply(&mut self) -> Result<Option<RawReply>> {
        let head_end = loop {
            if let Some(position) = find(&self.buffer, b"\r\n\r\n") {
                break position;
            }
            if self.buffer.len() > HEAD_LIMIT {
                bail!("response head of more than {HEAD_LIMIT} bytes");
            }
            if !self.fill().await? {
                if self.buffer.is_empty() {
                    return Ok(None);
                }
                bail!("the peer closed inside a response head");
            }
        };
        let head: Vec<u8> = self.buffer.drain(..head_end + 4).collect();
        let (status, headers) = parse_head(&head)?;
        let body = if status == 204 || status == 304 || status < 200 {
            Vec::new()
        } else if headers
            .text("transfer-encoding")
            .eq_ignore_ascii_case("chunked")
        {
            self.chunked_body().await?
        } else {
            let length = headers.text("content-length").parse().unwrap_or(0);
            self.take(length).await?
        };
        Ok(Some(RawReply {
            status,
            headers,
            body,
        }))
    }

    async fn chunked_body(&mut self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line_end = loop {
                match find(&self.buffer, b"\r\n") {
                    Some(position) => break position,
                    None if self.fill().await? => {}
                    None => bail!("the peer closed inside a chunk"),
                }
            };
            let line = self.take(line_end + 2).await?;
            let text = String::from_utf8_lossy(&line);
            let length = usize::from_str_radix(text.trim(), 16).context("chunk length")?;
            let chunk = self.take(length + 2).await?;
            if length == 0 {
                return Ok(body);
            }
            body.extend_from_slice(chunk.get(..length).unwrap_or_default());
        }
    }

    async fn take(&mut self, length: usize) -> Result<Vec<u8>> {
        while self.buffer.len() < length {
            if !self.fill().await? {
                bail!("the peer closed inside a response body");
            }
        }
        Ok(self.buffer.drain(..length).collect())
    }

    async fn fill(&mut self) -> Result<bool> {
        let mut chunk = [0_u8; 16 * 1024];
        let count = self.stream.read(&mut chunk).await?;
        self.buffer
            .extend_from_slice(chunk.get(..count).unwrap_or_default());
        Ok(count > 0)
    }
}

/// A GET request with the given header lines, byte for byte.
#[must_use]
pub fn get(authority: &str, path: &str, headers: &HeaderLines) -> Vec<u8> {
    let mut bytes = format!("GET {path} HTTP/1.1\r\nhost: {authority}\r\n").into_bytes();
    for (name, value) in headers.iter() {
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

fn parse_head(head: &[u8]) -> Result<(u16, HeaderLines)> {
    let mut lines = head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let first = lines.next().unwrap_or_default();
    let status = String::from_utf8_lossy(first)
        .split_ascii_whitespace()
        .nth(1)
        .and_then(|code| code.parse().ok())
        .with_context(|| format!("not a status line: `{}`", first.escape_ascii()))?;
    let mut headers = HeaderLines::new();
    for line in lines.filter(|line| !line.is_empty()) {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let name = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
        headers.push(&name, parts.next().unwrap_or_default().trim_ascii());
    }
    Ok((status, headers))
}
