#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidegate::gateway::fuzzing::forwarded::check(data));
