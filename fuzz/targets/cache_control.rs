#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate::cache::fuzzing::cache_control::check(data));
