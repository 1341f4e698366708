//! Collapsing: one forward per key; followers read the growing body.
