//! The entry point `websocket`: see `tests/fuzz/entry.rs`.
#![no_main]

#[path = "../../tests/fuzz/entry.rs"]
mod entry;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entry::run("websocket", data));
