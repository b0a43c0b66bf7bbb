//! The `collector` command; everything is in the library.

fn main() -> std::process::ExitCode {
    collector::run()
}
