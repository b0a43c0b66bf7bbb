//! The image of the collector: the program, the libraries it is linked against, and the roots of
//! trust of the machine that built it (object storage is reached by TLS).
//!
//! There is no shell, no package manager and no root user in it. It runs as user 65532, may write
//! to `/var/lib/tracemeter` alone, and works with a read-only root.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::archive::Entry;
use crate::layout::Image;
use crate::libraries::Library;

/// User and group of the process: the number that images without root commonly use.
pub const USER: u32 = 65_532;

/// Where the program is.
pub const PROGRAM: &str = "/usr/local/bin/collector";

/// Where log and partitions are: mount a volume here.
pub const DATA: &str = "/var/lib/tracemeter";

/// Where the collector looks for roots of trust, on the build machine and in the image. Mount your
/// own over it where a private authority signs.
const ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The image with this program and its libraries.
///
/// # Errors
/// A library cannot be read.
pub fn image(program: Vec<u8>, libraries: &[Library], version: &str) -> Result<Image> {
    let users = format!("root:x:0:0:root:/:/none\ntracemeter:x:{USER}:{USER}::{DATA}:/none\n");
    let groups = format!("root:x:0:\ntracemeter:x:{USER}:\n");
    let mut entries = vec![
        Entry::program(PROGRAM, program),
        Entry::folder(DATA.trim_start_matches('/')).owned_by(USER),
        Entry::folder("tmp").with_mode(0o1777),
        Entry::file("etc/passwd", users.into_bytes()),
        Entry::file("etc/group", groups.into_bytes()),
        // Without it some resolvers ask the network before the file of hosts.
        Entry::file("etc/nsswitch.conf", b"hosts: files dns\n".to_vec()),
    ];
    for library in libraries {
        entries.push(Entry::program(
            &library.path.to_string_lossy(),
            read(&library.path)?,
        ));
    }
    if Path::new(ROOTS).is_file() {
        entries.push(Entry::file(ROOTS, read(Path::new(ROOTS))?));
    }
    entries.extend(licences(libraries)?);
    Ok(Image {
        tag: version.to_owned(),
        entries,
        run: json!({
            "User": format!("{USER}:{USER}"),
            "WorkingDir": DATA,
            "Entrypoint": [PROGRAM],
            "Cmd": ["serve", "--data", DATA],
            "ExposedPorts": { "4317/tcp": {}, "4318/tcp": {} },
            "Volumes": { DATA: {} },
            "StopSignal": "SIGTERM",
        }),
        annotations: [
            ("org.opencontainers.image.title", "tracemeter-collector"),
            ("org.opencontainers.image.version", version),
            ("org.opencontainers.image.licenses", "Apache-2.0"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec(),
    })
}

/// The licence texts of the distribution's packages whose libraries are inside.
fn licences(libraries: &[Library]) -> Result<Vec<Entry>> {
    let mut packages: Vec<&str> = libraries
        .iter()
        .filter_map(|library| library.package.as_ref().map(|(name, _)| name.as_str()))
        .collect();
    packages.sort_unstable();
    packages.dedup();
    let mut entries = Vec::new();
    for name in packages {
        let path = format!("/usr/share/doc/{name}/copyright");
        if Path::new(&path).is_file() {
            entries.push(Entry::file(&path, read(Path::new(&path))?));
        }
    }
    Ok(entries)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))
}
