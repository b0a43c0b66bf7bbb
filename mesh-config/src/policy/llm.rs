//! Section `attributes.llm`: which calls go to language models.

use crate::section::section;

section! {
    /// Calls to language models: their tokens are read from the response's `usage` object (JSON or
    /// server-sent events) while it passes, priced by `cost.llm`, and charged at the caller.
    Llm {
        /// Where the models are; empty switches this off.
        upstreams: Vec<LlmUpstream> = Vec::new();
        /// Whether `accept-encoding` is removed from these requests, so that the response is not
        /// compressed and can be read.
        plain_responses: bool = true;
    }
}

section! {
    /// The host of a provider's models.
    LlmUpstream {
        /// Host of the request; `*` matches any text.
        host: String = String::new(), @required;
        /// Provider, as in `gen_ai.provider.name`.
        provider: String = String::new(), @required;
    }
}
