//! Where the artefacts under test are: the module, the two commands and Envoy.
//!
//! Not a builder: a missing artefact is an error that names the command which makes it, so that
//! no test can pass by quietly testing nothing.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// Overrides the folder with `tracemeter.wasm`, `collector` and `mesh-config`.
/// Defaults to `dist` in the root of the repository.
pub const DIST_VARIABLE: &str = "TRACEMETER_DIST";

/// Overrides the Envoy binary. Defaults to the one `make setup` installs.
pub const ENVOY_VARIABLE: &str = "TRACEMETER_ENVOY";

/// Overrides the folder for downloads that outlive a clean build.
/// Defaults to `tracemeter` in `$XDG_CACHE_HOME`, else in `$HOME/.cache`.
pub const CACHE_VARIABLE: &str = "TRACEMETER_CACHE";

/// The compiled filter, `tracemeter.wasm`.
pub fn module() -> Result<PathBuf> {
    dist("tracemeter.wasm")
}

/// The `collector` binary.
pub fn collector() -> Result<PathBuf> {
    dist("collector")
}

/// The `mesh-config` binary.
pub fn mesh_config() -> Result<PathBuf> {
    dist("mesh-config")
}

/// The folder of images, digests and bills of materials that `make image` writes.
pub fn images() -> Result<PathBuf> {
    let digest = dist_path("images/collector.digest");
    if !digest.is_file() {
        bail!("no images at `{}`: run make image", digest.display());
    }
    Ok(dist_path("images"))
}

/// A program that `make setup` unpacked from a Debian package: `prometheus`, `promtool`,
/// `docker-registry`.
pub fn debian_tool(name: &str) -> Result<PathBuf> {
    existing(
        cache()?.join("tools/debian/usr/bin").join(name),
        CACHE_VARIABLE,
    )
}

/// The folder of what `make setup` got to check manifests with: `node_modules`, `python`, `helm`.
pub fn manifest_tools() -> Result<PathBuf> {
    let folder = cache()?.join("tools/manifests");
    existing(folder.join("helm/libhelm.so"), CACHE_VARIABLE)?;
    Ok(folder)
}

/// The folder of the npm packages that `make setup` installed.
pub fn node_modules() -> Result<PathBuf> {
    let folder = cache()?.join("tools/npm/node_modules");
    if !folder.is_dir() {
        bail!("no npm packages at `{}`: run make setup", folder.display());
    }
    Ok(folder)
}

/// A browser.
pub fn chromium() -> Result<PathBuf> {
    existing(PathBuf::from("/usr/bin/chromium"), "PATH")
}

/// The Python that `make setup` gave its packages to.
pub fn python() -> Result<PathBuf> {
    existing(cache()?.join("py-venv/bin/python"), CACHE_VARIABLE)
}

/// The Envoy binary.
pub fn envoy() -> Result<PathBuf> {
    if let Some(path) = env::var_os(ENVOY_VARIABLE) {
        return existing(PathBuf::from(path), ENVOY_VARIABLE);
    }
    existing(cache()?.join("envoy-venv/bin/envoy"), ENVOY_VARIABLE)
}

/// Major and minor version of the Envoy binary: older lines lack some options.
pub fn envoy_version() -> Result<(u32, u32)> {
    let output = Command::new(envoy()?).arg("--version").output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    // `.. version: <commit>/1.40.0/Clean/RELEASE/BoringSSL`
    let mut numbers = text.split('/').filter_map(|part| {
        let (major, rest) = part.split_once('.')?;
        Some((major.parse().ok()?, rest.split('.').next()?.parse().ok()?))
    });
    numbers
        .next()
        .with_context(|| format!("no version in `{}`", text.trim()))
}

/// The folder of tools that outlive a clean build.
fn cache() -> Result<PathBuf> {
    match (env::var_os(CACHE_VARIABLE), env::var_os("XDG_CACHE_HOME")) {
        (Some(path), _) => Ok(PathBuf::from(path)),
        (None, Some(caches)) => Ok(Path::new(&caches).join("tracemeter")),
        (None, None) => {
            let home = env::var_os("HOME").context("`HOME` is not set, so no cache folder")?;
            Ok(Path::new(&home).join(".cache/tracemeter"))
        }
    }
}

fn dist(name: &str) -> Result<PathBuf> {
    existing(dist_path(name), DIST_VARIABLE)
}

fn dist_path(name: &str) -> PathBuf {
    let folder = env::var_os(DIST_VARIABLE).map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../dist"),
        PathBuf::from,
    );
    folder.join(name)
}

fn existing(path: PathBuf, variable: &str) -> Result<PathBuf> {
    if !path.is_file() {
        bail!(
            "no artefact at `{}`: run make build (or set {variable})",
            path.display()
        );
    }
    Ok(path)
}
