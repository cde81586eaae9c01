//! Every decoder under mutated input: no panic, and memory in proportion to the input.
//!
//! Deterministic: the same inputs on every machine, `METER_FUZZ_ROUNDS` times as many where it is set. An input that
//! fails is named by its target and number, and written out. What it starts from are small fixtures, and the recorded
//! cases where they are. `fuzz/` holds the same entry points for `cargo fuzz`.

#[path = "../corpus/base64.rs"]
mod base64;
mod entry;
mod memory;
mod mutate;
mod seeds;

use std::panic::{AssertUnwindSafe, catch_unwind};

use self::{
    mutate::{Chance, INPUT_MAX, mutate},
    seeds::Seed,
};

/// Inputs of one target in one round.
const INPUTS: usize = 1_500;

/// What an input may take: a decoder's window and buffers, and so many bytes per byte of input. JSON that is kept as
/// values is the dearest: a `[` or a `0,` in a list is one of 32 bytes or more, and lists double as they grow.
const MEMORY_BASE: usize = 24 << 20;
const MEMORY_PER_BYTE: usize = 160;

#[test]
fn answers() {
    fuzz("answer");
}

#[test]
fn requests() {
    fuzz("request");
}

#[test]
fn sockets() {
    fuzz("socket");
}

#[test]
fn stripped_streams() {
    fuzz("strip");
}

#[test]
fn content_codings() {
    fuzz("coding");
}

#[test]
fn recordings() {
    fuzz("har");
}

#[test]
fn request_lines_and_hosts() {
    fuzz("head");
}

#[test]
fn web_socket_frames() {
    fuzz("websocket");
}

#[test]
fn payments() {
    fuzz("x402");
}

#[test]
fn price_lists() {
    fuzz("prices");
}

#[test]
fn configs() {
    fuzz("config");
}

#[test]
fn every_target_has_seeds() {
    let seeds = seeds::all();
    for (name, _) in entry::TARGETS {
        assert!(seeds.iter().any(|seed| seed.target == *name), "{name}");
    }
    let least = if seeds::has_cases() { 1_000 } else { 100 };
    assert!(seeds.len() > least, "only {} seeds", seeds.len());
}

fn fuzz(target: &str) {
    let run = |input: &[u8]| entry::run(target, input);
    let seeds: Vec<Seed> = seeds::all().into_iter().filter(|seed| seed.target == target).collect();
    // What is made once and kept (price lists, tokenizers) is not of one input.
    for seed in &seeds {
        check(run, &seed.name, &seed.bytes, usize::MAX);
    }
    let rounds: usize = std::env::var("METER_FUZZ_ROUNDS").map_or(1, |set| set.parse().expect("a number"));
    let mut largest = 0;
    for number in 0..INPUTS * rounds {
        let mut chance = Chance::new(number as u64);
        let seed = &seeds[chance.below(seeds.len())];
        let other = &seeds[chance.below(seeds.len())];
        let mut input = seed.bytes.clone();
        mutate(&mut input, &other.bytes, &mut chance);
        let limit = MEMORY_BASE + MEMORY_PER_BYTE * input.len();
        largest = largest.max(check(run, &format!("{target} {number}, from {}", seed.name), &input, limit));
    }
    println!("{target}: {} seeds, at most {} KiB for inputs up to {} KiB", seeds.len(), largest >> 10, INPUT_MAX >> 10);
}

/// Runs one input and gives its memory.
fn check(run: impl Fn(&[u8]), name: &str, input: &[u8], limit: usize) -> usize {
    let mut peak = 0;
    let done = catch_unwind(AssertUnwindSafe(|| peak = memory::peak_of(|| run(input))));
    if done.is_err() || peak > limit {
        let file = std::env::temp_dir().join(format!("meter-fuzz-{}", name.replace([' ', ',', '/'], "-")));
        std::fs::write(&file, input).unwrap();
        let why = if done.is_err() { "panics".to_owned() } else { format!("takes {peak} bytes of {limit}") };
        panic!("{name}: {why}; the input is in {}", file.display());
    }
    peak
}
