//! The `tidegate` binary.

use std::process::ExitCode;

/// Small and short-lived allocations cost it less than the system's allocator, and what is stored for long does not
/// keep pages that only passing requests had used.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tidegate::cli::main()
}
