//! What several end-to-end tests share: policies, hand-written proxies, reading of span sets.
#![allow(dead_code, reason = "each test binary uses a part")]

pub(crate) mod plain;
