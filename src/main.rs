//! The thin end of the binary: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    ibexdeploy::cli::main()
}
