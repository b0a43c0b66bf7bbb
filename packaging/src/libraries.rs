//! The shared libraries a program needs, found by asking the machine's own loader (`ldd`).
//!
//! The collector is linked against glibc, so its image carries the loader and the few libraries of
//! the machine that built it, at the paths where that loader looks. Equal libraries give an equal
//! image; another release of the distribution gives another one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// A library as the loader names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Library {
    /// Where the loader finds it.
    pub path: PathBuf,
    /// The distribution's package and its version, where the package manager knows.
    pub package: Option<(String, String)>,
}

/// Every library `program` needs, the loader included, sorted by path.
///
/// # Errors
/// `ldd` cannot be run or does not find a library.
pub fn of(program: &Path) -> Result<Vec<Library>> {
    let output = Command::new("ldd").arg(program).output();
    let output = output.context("cannot run `ldd`")?;
    let text = String::from_utf8_lossy(&output.stdout);
    if text.contains("statically linked") || text.contains("not a dynamic executable") {
        return Ok(Vec::new());
    }
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("`ldd {}` failed: {}", program.display(), error.trim());
    }
    let mut libraries = paths(&text)?
        .into_iter()
        .map(|path| Library {
            package: package(&path),
            path,
        })
        .collect::<Vec<_>>();
    libraries.sort();
    Ok(libraries)
}

/// The paths in the output of `ldd`. The kernel's own page (`linux-vdso`) has none.
fn paths(text: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.contains("not found") {
            bail!("a library is missing: `{line}`");
        }
        let target = line.split(" => ").last().unwrap_or(line);
        let path = target.split(" (").next().unwrap_or_default();
        if path.starts_with('/') {
            found.push(PathBuf::from(path));
        }
    }
    Ok(found)
}

/// The package that owns a file; none where there is no dpkg. Old databases know a file by its path
/// before `/usr` was merged, new ones by its path after it.
fn package(path: &Path) -> Option<(String, String)> {
    let merged = fs::canonicalize(path).ok()?;
    let unmerged = merged
        .strip_prefix("/usr")
        .ok()
        .map(|rest| Path::new("/").join(rest));
    [Some(path.to_owned()), Some(merged), unmerged]
        .into_iter()
        .flatten()
        .find_map(|path| owner(&path))
}

fn owner(path: &Path) -> Option<(String, String)> {
    let owner = ask("dpkg-query", &["--search", &path.to_string_lossy()])?;
    let name = owner.split(": ").next()?.split(',').next()?.trim();
    let version = ask("dpkg-query", &["--show", "--showformat=${Version}", name])?;
    let name = name.split(':').next()?;
    Some((name.to_owned(), version.trim().to_owned()))
}

fn ask(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_of_ldd_gives_libraries_and_loader() {
        let text = "\tlinux-vdso.so.1 (0x00007f0)\n\tlibc.so.6 => /lib/x/libc.so.6 (0x00007f1)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f2)\n";
        let expected = ["/lib/x/libc.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from);
        assert_eq!(paths(text).unwrap(), expected);
    }

    #[test]
    fn a_missing_library_is_an_error() {
        let error = paths("\tlibm.so.6 => not found\n").unwrap_err();
        assert!(error.to_string().contains("libm.so.6"), "{error}");
    }
}
