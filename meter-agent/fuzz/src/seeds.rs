//! Writes the seeds of every target to `corpus/TARGET/`, where `cargo fuzz` looks for them: the small fixtures, and the
//! recorded cases where they are (`METER_CORPUS`). They are no part of the project.
//!
//! `cargo run --bin seeds` in this folder, then `cargo +nightly fuzz run answer`.

#[path = "../../tests/corpus/base64.rs"]
mod base64;
#[path = "../../tests/fuzz/entry.rs"]
mod entry;
#[path = "../../tests/fuzz/seeds.rs"]
mod seeds;

use std::{fs, io, path::Path};

fn main() -> io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let seeds = seeds::all();
    for seed in &seeds {
        let folder = corpus.join(seed.target);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(seed.name.replace('/', "-")), &seed.bytes)?;
    }
    let recorded = if seeds::has_cases() { "with" } else { "without" };
    println!("{} seeds for {} targets, {recorded} recorded cases", seeds.len(), entry::TARGETS.len());
    Ok(())
}
