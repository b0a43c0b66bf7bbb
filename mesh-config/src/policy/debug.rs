//! Section `debug`: help for finding lost context.

use crate::rule::Condition;
use crate::section::section;

section! {
    /// Help for finding lost context.
    Debug {
        /// Whether a response may carry a header that says what was parsed, decided and why.
        explain: bool = false;
        /// Name of that header.
        explain_header: String = "x-tracemeter-explain".to_owned();
        /// Which requests may have it; the default is to ask with a request header.
        explain_when: Condition = Condition::constant("request.header[\"x-tracemeter-debug\"] = 1");
    }
}
