//! The tiers: memory, then shared.
