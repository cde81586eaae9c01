//! The binary `meter`: see [`meter_agent::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    meter_agent::cli::main()
}
