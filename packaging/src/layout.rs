//! The OCI image layout: a folder with blobs named by their digest, and an index of one image.
//!
//! The index names one plain image manifest, not a list of platforms: Istio resolves a list to
//! linux/amd64 and its digest is another one than the list's. The digest of the manifest is the
//! digest of the image.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Map, Value, json};

use crate::archive::{Entry, tar};
use crate::digest::sha256;
use crate::gzip::gzip;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// What an image is made of.
#[derive(Debug, Clone)]
pub struct Image {
    /// The reference inside the layout (`skopeo copy oci:folder:TAG`).
    pub tag: String,
    /// The only layer.
    pub entries: Vec<Entry>,
    /// The `config` object of the image configuration: user, command, ports.
    pub run: Value,
    /// Annotations of the manifest.
    pub annotations: Vec<(String, String)>,
}

impl Image {
    /// Writes the layout into `folder`, which is emptied first. Returns the image's digest.
    ///
    /// # Errors
    /// An entry does not fit into a layer, or a file cannot be written.
    pub fn write(&self, folder: &Path) -> Result<String> {
        if folder.exists() {
            fs::remove_dir_all(folder)
                .with_context(|| format!("cannot empty `{}`", folder.display()))?;
        }
        let blobs = folder.join("blobs/sha256");
        fs::create_dir_all(&blobs)
            .with_context(|| format!("cannot create `{}`", blobs.display()))?;
        let archive = tar(&self.entries)?;
        let layer = blob(&blobs, LAYER, &gzip(&archive))?;
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "config": self.run,
            "rootfs": { "type": "layers", "diff_ids": [sha256(&archive)] },
        });
        let config = blob(&blobs, CONFIG, config.to_string().as_bytes())?;
        let annotations: Map<String, Value> = self
            .annotations
            .iter()
            .map(|(name, value)| (name.clone(), Value::from(value.as_str())))
            .collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config,
            "layers": [layer],
            "annotations": annotations,
        });
        let manifest = manifest.to_string();
        let mut descriptor = blob(&blobs, MANIFEST, manifest.as_bytes())?;
        if let Some(fields) = descriptor.as_object_mut() {
            let name = json!({ "org.opencontainers.image.ref.name": self.tag });
            fields.insert("annotations".to_owned(), name);
        }
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor] });
        write(&folder.join("index.json"), index.to_string().as_bytes())?;
        write(
            &folder.join("oci-layout"),
            br#"{"imageLayoutVersion":"1.0.0"}"#,
        )?;
        Ok(sha256(manifest.as_bytes()))
    }
}

/// Writes a blob; its descriptor.
fn blob(folder: &Path, media_type: &str, bytes: &[u8]) -> Result<Value> {
    let digest = sha256(bytes);
    let name = digest.trim_start_matches("sha256:");
    write(&folder.join(name), bytes)?;
    Ok(json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() }))
}

fn write(file: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(file, bytes).with_context(|| format!("cannot write `{}`", file.display()))
}
