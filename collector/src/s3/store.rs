//! The client as an object store.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::{self, BoxStream};
use hyper::header::{CONTENT_LENGTH, CONTENT_RANGE, ETAG, HeaderMap};
use hyper::{Method, StatusCode};
use object_store::path::Path;
use object_store::{
    Attributes, CopyOptions, Error, GetOptions, GetRange, GetResult, GetResultPayload, ListResult,
    MultipartUpload, ObjectMeta, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result, UploadPart,
};

use super::address::{Address, AddressError, Credentials};
use super::client::{Call, Client, Failure};
use super::sign::encode;

const NAME: &str = "S3";

/// A bucket's prefix.
#[derive(Debug, Clone)]
pub(crate) struct S3(Arc<Client>);

impl S3 {
    /// Credentials come from `environment`. Does not connect.
    pub(crate) fn new(
        address: Address,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, AddressError> {
        let credentials = Credentials::from_environment(environment)?;
        let shown = address.to_string();
        let client = Client::new(address, credentials).map_err(|_| AddressError::Form(shown))?;
        Ok(Self(Arc::new(client)))
    }
}

impl fmt::Display for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.address.fmt(f)
    }
}

fn failed(path: &str, failure: Failure) -> Error {
    let (path, status) = match &failure {
        Failure::Status { status, .. } => (path.to_owned(), Some(*status)),
        Failure::Unreachable { .. } => (path.to_owned(), None),
    };
    let source = Box::new(failure);
    match status {
        Some(StatusCode::NOT_FOUND) => Error::NotFound { path, source },
        Some(StatusCode::FORBIDDEN) => Error::PermissionDenied { path, source },
        Some(StatusCode::UNAUTHORIZED) => Error::Unauthenticated { path, source },
        _ => Error::Generic {
            store: NAME,
            source,
        },
    }
}

fn not_here(operation: &str) -> Error {
    Error::NotImplemented {
        operation: operation.to_owned(),
        implementer: NAME.to_owned(),
    }
}

fn unexpected(text: &str) -> Error {
    Error::Generic {
        store: NAME,
        source: text.to_owned().into(),
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &hyper::header::HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The text between `<name>` and `</name>`; the answers that are read have it once.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(text, _)| text)
}

fn range_header(range: &GetRange) -> String {
    match range {
        GetRange::Bounded(range) => {
            format!("bytes={}-{}", range.start, range.end.saturating_sub(1))
        }
        GetRange::Offset(start) => format!("bytes={start}-"),
        GetRange::Suffix(len) => format!("bytes=-{len}"),
    }
}

/// First byte and size of the object, from `bytes 5-9/100`.
fn content_range(headers: &HeaderMap) -> Option<(u64, u64)> {
    let text = header(headers, &CONTENT_RANGE)?.strip_prefix("bytes ")?;
    let (range, size) = text.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    Some((start.parse().ok()?, size.parse().ok()?))
}

#[async_trait]
impl ObjectStore for S3 {
    async fn put_opts(
        &self,
        location: &Path,
        payload: PutPayload,
        opts: PutOptions,
    ) -> Result<PutResult> {
        if opts.mode != PutMode::Overwrite {
            return Err(not_here("conditional put"));
        }
        let call = Call {
            method: Method::PUT,
            key: location.to_string(),
            body: payload.into(),
            ..Call::default()
        };
        let answer = self.0.send(&call).await;
        let answer = answer.map_err(|failure| failed(location.as_ref(), failure))?;
        Ok(PutResult {
            e_tag: header(&answer.headers, &ETAG).map(str::to_owned),
            version: None,
        })
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        _opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let call = Call {
            method: Method::POST,
            key: location.to_string(),
            query: "uploads=".to_owned(),
            ..Call::default()
        };
        let answer = self.0.send(&call).await;
        let answer = answer.map_err(|failure| failed(location.as_ref(), failure))?;
        let xml = String::from_utf8_lossy(&answer.body);
        let id =
            element(&xml, "UploadId").ok_or_else(|| unexpected("no upload id in the answer"))?;
        Ok(Box::new(Upload {
            client: self.0.clone(),
            key: location.to_string(),
            id: encode(id),
            next: 1,
            parts: Arc::default(),
        }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let call = Call {
            method: if options.head {
                Method::HEAD
            } else {
                Method::GET
            },
            key: location.to_string(),
            range: options.range.as_ref().map(range_header),
            ..Call::default()
        };
        let answer = self.0.send(&call).await;
        let answer = answer.map_err(|failure| failed(location.as_ref(), failure))?;
        let len = answer.body.len() as u64;
        let (start, size) = match content_range(&answer.headers) {
            Some(range) => range,
            None if options.head => {
                let size = header(&answer.headers, &CONTENT_LENGTH);
                (0, size.and_then(|size| size.parse().ok()).unwrap_or(0))
            }
            None => (0, len),
        };
        let meta = ObjectMeta {
            location: location.clone(),
            // Objects are written once and have names of their own.
            last_modified: Default::default(),
            size,
            e_tag: header(&answer.headers, &ETAG).map(str::to_owned),
            version: None,
        };
        options.check_preconditions(&meta)?;
        let body = answer.body;
        Ok(GetResult {
            payload: GetResultPayload::Stream(stream::once(async { Ok(body) }).boxed()),
            meta,
            range: start..start + len,
            attributes: Attributes::new(),
        })
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let client = self.0.clone();
        locations
            .then(move |location| {
                let client = client.clone();
                async move {
                    let location = location?;
                    let call = Call {
                        method: Method::DELETE,
                        key: location.to_string(),
                        ..Call::default()
                    };
                    match client.send(&call).await {
                        Ok(_) => Ok(location),
                        Err(failure) => match failed(location.as_ref(), failure) {
                            Error::NotFound { .. } => Ok(location),
                            error => Err(error),
                        },
                    }
                }
            })
            .boxed()
    }

    fn list(&self, _prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        stream::once(async { Err(not_here("list")) }).boxed()
    }

    async fn list_with_delimiter(&self, _prefix: Option<&Path>) -> Result<ListResult> {
        Err(not_here("list"))
    }

    async fn copy_opts(&self, _from: &Path, _to: &Path, _options: CopyOptions) -> Result<()> {
        Err(not_here("copy"))
    }
}

/// Part number and entity tag of what has been sent.
type Parts = Arc<Mutex<Vec<(usize, String)>>>;

#[derive(Debug)]
struct Upload {
    client: Arc<Client>,
    key: String,
    id: String,
    next: usize,
    parts: Parts,
}

async fn part(client: Arc<Client>, call: Call, number: usize, parts: Parts) -> Result<()> {
    let answer = client.send(&call).await;
    let answer = answer.map_err(|failure| failed(&call.key, failure))?;
    let tag = header(&answer.headers, &ETAG).ok_or_else(|| unexpected("a part has no etag"))?;
    let mut parts = parts.lock().unwrap_or_else(PoisonError::into_inner);
    parts.push((number, tag.to_owned()));
    Ok(())
}

#[async_trait]
impl MultipartUpload for Upload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let number = self.next;
        self.next += 1;
        let call = Call {
            method: Method::PUT,
            key: self.key.clone(),
            query: format!("partNumber={number}&uploadId={}", self.id),
            body: data.into(),
            ..Call::default()
        };
        Box::pin(part(self.client.clone(), call, number, self.parts.clone()))
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let mut parts = {
            let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
            parts.clone()
        };
        parts.sort_unstable();
        let mut xml = String::from("<CompleteMultipartUpload>");
        for (number, tag) in parts {
            let tag = tag.replace('"', "&quot;");
            xml.push_str(&format!(
                "<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>"
            ));
        }
        xml.push_str("</CompleteMultipartUpload>");
        let call = Call {
            method: Method::POST,
            key: self.key.clone(),
            query: format!("uploadId={}", self.id),
            body: Bytes::from(xml),
            ..Call::default()
        };
        let answer = self.client.send(&call).await;
        let answer = answer.map_err(|failure| failed(&self.key, failure))?;
        // S3 may find out after it has said 200.
        let xml = String::from_utf8_lossy(&answer.body);
        if xml.contains("<Error>") {
            return Err(unexpected(element(&xml, "Message").unwrap_or("refused")));
        }
        Ok(PutResult {
            e_tag: element(&xml, "ETag").map(str::to_owned),
            version: None,
        })
    }

    async fn abort(&mut self) -> Result<()> {
        let call = Call {
            method: Method::DELETE,
            key: self.key.clone(),
            query: format!("uploadId={}", self.id),
            ..Call::default()
        };
        let answer = self.client.send(&call).await;
        answer
            .map(drop)
            .map_err(|failure| failed(&self.key, failure))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let xml = "<?xml version=\"1.0\"?><R><UploadId>a b</UploadId></R>";
        assert_eq!(element(xml, "UploadId"), Some("a b"));
        assert_eq!(element(xml, "Key"), None);
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_RANGE, "bytes 5-9/100".parse().unwrap());
        assert_eq!(content_range(&headers), Some((5, 100)));
        assert_eq!(range_header(&GetRange::Bounded(5..10)), "bytes=5-9");
        assert_eq!(range_header(&GetRange::Suffix(8)), "bytes=-8");
    }
}
