#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate::config::fuzzing::check(data));
