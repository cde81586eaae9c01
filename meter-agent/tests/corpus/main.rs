//! Recorded provider traffic with an expected truth, read through the public dialects and through `meter replay`.
//!
//! The cases are no part of the project. They are found by `METER_CORPUS`, else in `../shared/corpus` beside the
//! workspace; where neither is there the tests fail and say so. `METER_CORPUS_ONLY` looks at cases whose id holds one
//! of its parts, `METER_EXHAUSTIVE=1` at every split and every truncation instead of a sample.
//!
//! One file per property; `case` is what they share.

mod base64;
mod bounds;
mod case;
mod check;
mod costs;
mod exceptions;
mod har;
mod perturbed;
mod readings;
mod report;
mod rewrite;
mod so_far;
mod splits;
mod stated;
mod strip;
mod truncation;
