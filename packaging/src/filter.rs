//! The image of the filter, in Istio's "compat" variant.
//!
//! Istio's agent takes the last layer, which has to be gzip, and in it the entry whose base name is
//! `plugin.wasm`. The platform is that of most proxies because tools that pull by platform want
//! one; a module runs on every platform, and Istio does not look at it.

use anyhow::{Result, bail};
use serde_json::json;

use crate::archive::Entry;
use crate::layout::Image;

/// How a WebAssembly module begins: magic and version 1.
const MODULE_START: [u8; 8] = [0, b'a', b's', b'm', 1, 0, 0, 0];

/// The image with this module.
///
/// # Errors
/// The bytes are not a WebAssembly module.
pub fn image(module: Vec<u8>, version: &str) -> Result<Image> {
    if !module.starts_with(&MODULE_START) {
        bail!("not a WebAssembly module: it does not begin with `\\0asm` and version 1");
    }
    Ok(Image {
        tag: version.to_owned(),
        entries: vec![Entry::file("plugin.wasm", module)],
        run: json!({}),
        annotations: [
            ("module.wasm.image/variant", "compat"),
            ("org.opencontainers.image.title", "tracemeter-filter"),
            ("org.opencontainers.image.version", version),
            ("org.opencontainers.image.licenses", "Apache-2.0"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec(),
    })
}
