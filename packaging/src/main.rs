//! `package [filter|collector] ...`: writes images, digests and bills of materials.
//!
//!     package DIST [filter] [collector]
//!
//! reads `DIST/tracemeter.wasm` and `DIST/collector` and writes into `DIST/images` per artefact an
//! OCI image layout, `<name>.digest` with the digest of its manifest, and `<name>.cdx.json`. The
//! module's own digest goes to `tracemeter.wasm.sha256`.

use std::env;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use packaging::sbom::{self, Subject};
use packaging::{Image, collector, filter, hex_sha256, libraries};

/// The images carry the version of the workspace.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Where the workspace is: the bills are written from its lock file.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

const ARTEFACTS: [&str; 2] = ["filter", "collector"];

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("package: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result<()> {
    let Some((dist, wanted)) = arguments.split_first() else {
        bail!("usage: package DIST [filter] [collector]");
    };
    if let Some(name) = wanted
        .iter()
        .find(|name| !ARTEFACTS.contains(&name.as_str()))
    {
        bail!("unknown artefact `{name}`: filter or collector");
    }
    let places = Places::new(Path::new(dist))?;
    for name in ARTEFACTS {
        if wanted.is_empty() || wanted.iter().any(|one| one == name) {
            match name {
                "filter" => package_filter(&places)?,
                _ => package_collector(&places)?,
            }
        }
    }
    Ok(())
}

struct Places {
    dist: PathBuf,
    images: PathBuf,
}

impl Places {
    fn new(dist: &Path) -> Result<Self> {
        let images = dist.join("images");
        fs::create_dir_all(&images)
            .with_context(|| format!("cannot create `{}`", images.display()))?;
        Ok(Self {
            dist: dist.to_owned(),
            images,
        })
    }

    fn read(&self, name: &str) -> Result<Vec<u8>> {
        let file = self.dist.join(name);
        fs::read(&file).with_context(|| format!("no `{}`: run make build", file.display()))
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let file = self.images.join(name);
        fs::write(&file, text).with_context(|| format!("cannot write `{}`", file.display()))
    }

    /// Writes layout and digest, and says so.
    fn image(&self, name: &str, image: &Image) -> Result<()> {
        let folder = self.images.join(name);
        let digest = image.write(&folder)?;
        self.write(&format!("{name}.digest"), &format!("{digest}\n"))?;
        say(&format!("{name} {VERSION} {digest} {}", folder.display()))
    }
}

fn package_filter(places: &Places) -> Result<()> {
    let module = places.read("tracemeter.wasm")?;
    let bill = sbom::write(
        Path::new(ROOT),
        &Subject {
            name: "tracemeter.wasm",
            package: "filter",
            target: "wasm32-wasip1",
            bytes: &module,
            libraries: &[],
        },
    )?;
    places.write("filter.cdx.json", &bill)?;
    let sum = format!("{}  tracemeter.wasm\n", hex_sha256(&module));
    places.write("tracemeter.wasm.sha256", &sum)?;
    places.image("filter", &filter::image(module, VERSION)?)
}

fn package_collector(places: &Places) -> Result<()> {
    let program = places.read("collector")?;
    let libraries = libraries::of(&places.dist.join("collector"))?;
    let bill = sbom::write(
        Path::new(ROOT),
        &Subject {
            name: "collector",
            package: "collector",
            target: "x86_64-unknown-linux-gnu",
            bytes: &program,
            libraries: &libraries,
        },
    )?;
    places.write("collector.cdx.json", &bill)?;
    places.image(
        "collector",
        &collector::image(program, &libraries, VERSION)?,
    )
}

fn say(line: &str) -> Result<()> {
    writeln!(std::io::stdout().lock(), "{line}").context("cannot write to standard output")
}
