//! The project's own tasks, run as `cargo xtask TASK`. Composition only: each task is a file.

mod bench;
mod build_ebpf;
mod demo;
mod packages;
mod rust_src;
mod strip;
mod test;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "meter's own tasks")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build the kernel programs and write the object that is committed
    BuildEbpf(build_ebpf::Arguments),
    /// Install what the tests need, build, and run every test, those of the kernel as root
    Test(test::Arguments),
    /// Show an agent that spends $0.02 and is stopped by the kernel
    Demo,
    /// Measure what meter adds, beside other proxies
    Bench(bench::Arguments),
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().task {
        Task::BuildEbpf(arguments) => build_ebpf::run(&arguments),
        Task::Test(arguments) => test::run(&arguments),
        Task::Demo => demo::run(),
        Task::Bench(arguments) => bench::run(&arguments),
    }
}

/// The workspace's folder.
fn root() -> &'static std::path::Path {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace")
}
