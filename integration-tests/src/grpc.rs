//! The one gRPC method of the demo applications, without a protobuf compiler.
//!
//! `service Echo { rpc Call(EchoMessage) returns (EchoMessage); }` in package `tracemeter.demo`.
//! Unary only; streaming is the filter's business, not that of these fixtures.

use std::future::Future;
use std::pin::Pin;

use anyhow::Result;
use bytes::Bytes;
use http::Uri;
use http::uri::PathAndQuery;
use hyper_util::client::legacy;
use tonic::metadata::MetadataMap;
use tonic_prost::ProstCodec;

use crate::client::{Call, Reply, ToAddress};
use crate::headers::HeaderLines;

/// The path of the method on the wire.
pub const METHOD_PATH: &str = "/tracemeter.demo.Echo/Call";

/// Request and response of the method.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EchoMessage {
    /// Who wrote the message.
    #[prost(string, tag = "1")]
    pub sender: String,
    /// Anything; its length is what tests vary.
    #[prost(bytes = "bytes", tag = "2")]
    pub payload: Bytes,
}

/// Sends a unary call over a client whose connections are HTTP/2.
pub(crate) async fn call(
    client: legacy::Client<ToAddress, tonic::body::Body>,
    call: Call,
) -> Result<Reply> {
    let origin = Uri::builder()
        .scheme("http")
        .authority(call.authority.as_str())
        .path_and_query("/")
        .build()?;
    let mut grpc = tonic::client::Grpc::with_origin(client, origin);
    let message = EchoMessage {
        sender: call.authority,
        payload: call.body,
    };
    let request = tonic::Request::from_parts(
        MetadataMap::from_headers(call.headers.to_map()?),
        tonic::Extensions::default(),
        message,
    );
    grpc.ready().await?;
    let codec = ProstCodec::<EchoMessage, EchoMessage>::default();
    let path: PathAndQuery = call.path.parse()?;
    Ok(match grpc.unary(request, path, codec).await {
        Ok(response) => {
            let (metadata, message, _) = response.into_parts();
            Reply {
                status: 200,
                grpc_status: Some(0),
                headers: HeaderLines::from_map(&metadata.into_headers()),
                body: message.payload,
            }
        }
        Err(status) => Reply {
            status: 200,
            grpc_status: Some(i32::from(status.code())),
            headers: HeaderLines::from_map(status.metadata().as_ref()),
            body: Bytes::from(status.message().to_owned()),
        },
    })
}

/// What a server does with the decoded message.
pub(crate) type Work =
    Pin<Box<dyn Future<Output = Result<tonic::Response<EchoMessage>, tonic::Status>> + Send>>;

/// Serves one unary call: `work` gets the decoded message.
pub(crate) async fn serve<B>(
    request: http::Request<B>,
    work: Box<dyn FnOnce(EchoMessage) -> Work + Send>,
) -> http::Response<tonic::body::Body>
where
    B: http_body::Body + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    let codec = ProstCodec::<EchoMessage, EchoMessage>::default();
    tonic::server::Grpc::new(codec)
        .unary(Once(Some(work)), request)
        .await
}

struct Once(Option<Box<dyn FnOnce(EchoMessage) -> Work + Send>>);

impl tonic::server::UnaryService<EchoMessage> for Once {
    type Response = EchoMessage;
    type Future = Work;

    fn call(&mut self, request: tonic::Request<EchoMessage>) -> Work {
        match self.0.take() {
            Some(work) => work(request.into_inner()),
            None => Box::pin(async { Err(tonic::Status::internal("called twice")) }),
        }
    }
}
