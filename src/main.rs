//! Seawall's binary: one call into the library.

fn main() -> std::process::ExitCode {
    seawall::cli::run(std::env::args_os().collect())
}
