//! Arguments -> command -> exit code; one file per command.

pub mod demo;
