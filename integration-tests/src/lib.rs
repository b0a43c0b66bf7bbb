//! Fixtures that start what Tracemeter ships (the module, the collector, the command) beside a
//! real Envoy and small applications, and look at them from the outside only.
//!
//! What it is: process, Envoy, collector and application fixtures, clients for HTTP/1.1, HTTP/2
//! and gRPC, and the topologies the tests and the demo share.
//! What it is not: a place for product code. It links nothing of the filter or the collector; the
//! only product crate in its manifest is the header parser, used to read what arrived on the wire.
//! Limits: Linux, loopback addresses, one machine. Every wait has a deadline, every recording a
//! capacity, and every process started here dies with the process that started it.
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

pub mod app;
pub mod artefacts;
pub mod client;
pub mod collector;
pub mod envoy;
pub mod grpc;
pub mod headers;
pub mod mesh;
pub mod ports;
pub mod process;
pub mod raw;
pub mod wait;
