//! Attribute keys that mean something to the collector.

/// What a key means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    /// Nothing to the collector: it is kept as it is.
    Other,
    /// `data_tag`
    DataTag,
    /// `cost_usd`
    Cost,
    /// `cost_usd.path`
    CostPath,
    /// `cost.source`
    CostSource,
    /// `cost.price_version`
    PriceVersion,
    /// `operation_type`
    OperationType,
    /// `sampling.reason`
    SamplingReason,
    /// `retention_days`
    RetentionDays,
    /// HTTP response status.
    HttpStatus,
    /// gRPC status.
    GrpcStatus,
    /// `data_size_bytes`
    DataBytes,
    /// Size of the request's body.
    RequestBytes,
    /// Size of the response's body.
    ResponseBytes,
    /// The span is a database's client.
    Database,
    /// Who runs the language model.
    Provider,
    /// The language model.
    Model,
    /// Tokens in.
    InputTokens,
    /// Tokens out.
    OutputTokens,
    /// Tokens in that were known.
    CachedTokens,
    /// The route of a server's span.
    Route,
    /// The address that a client calls.
    ServerAddress,
    /// The service that a client calls, by its older name.
    PeerService,
}

impl Key {
    /// The meaning of a key.
    pub(crate) fn of(key: &str) -> Self {
        match key {
            "data_tag" => Self::DataTag,
            "cost_usd" => Self::Cost,
            "cost_usd.path" => Self::CostPath,
            "cost.source" => Self::CostSource,
            "cost.price_version" => Self::PriceVersion,
            "operation_type" => Self::OperationType,
            "sampling.reason" => Self::SamplingReason,
            "retention_days" => Self::RetentionDays,
            "http.response.status_code" | "http.status_code" => Self::HttpStatus,
            "rpc.grpc.status_code" => Self::GrpcStatus,
            "data_size_bytes" => Self::DataBytes,
            "http.request.body.size" | "http.request_content_length" => Self::RequestBytes,
            "http.response.body.size" | "http.response_content_length" => Self::ResponseBytes,
            "db.system" | "db.system.name" => Self::Database,
            "gen_ai.provider.name" | "gen_ai.system" | "provider" => Self::Provider,
            "gen_ai.response.model" | "gen_ai.request.model" | "model" => Self::Model,
            "gen_ai.usage.input_tokens" | "gen_ai.usage.prompt_tokens" | "input_tokens" => {
                Self::InputTokens
            }
            "gen_ai.usage.output_tokens" | "gen_ai.usage.completion_tokens" | "output_tokens" => {
                Self::OutputTokens
            }
            "gen_ai.usage.cached_tokens"
            | "gen_ai.usage.cache_read.input_tokens"
            | "cached_tokens" => Self::CachedTokens,
            "http.route" => Self::Route,
            "server.address" => Self::ServerAddress,
            "peer.service" => Self::PeerService,
            _ => Self::Other,
        }
    }
}
