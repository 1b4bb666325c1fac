//! The one binary, `conclave`: everything is in the library, where it can be tested.

use std::process::ExitCode;

/// Shares, tokens and secrets pass through buffers of libraries that do not wipe them (docs/adr/0014).
#[global_allocator]
static HEAP: crypto::WipingAllocator = crypto::WipingAllocator;

fn main() -> ExitCode {
    cli::main()
}
