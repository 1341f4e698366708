//! The tiers: memory, then shared.

pub(super) mod codec;
mod keys;
pub(super) mod large;
pub(super) mod lease;
pub(super) mod memory;
pub(super) mod packing;
mod reads;
pub(super) mod shared;
pub(super) mod warm;
mod writer;

#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;
