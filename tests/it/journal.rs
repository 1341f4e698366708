//! The journal's folder: disks that fail and fill up (I2, I11), journals at rest, copies of them.

mod at_rest;
mod faults;
mod full;
