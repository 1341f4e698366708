//! The corpus of raw messages in `tests/corpus/`: what passes the strict gate and with which bytes, what is
//! refused and why, each case alone, behind a good request and behind a hit, with a source that records what it
//! is sent byte for byte. Whatever the source has that the case does not say is a desync.

mod answers;
mod cases;
mod http1;
mod http2;
mod recorder;
