//! What the programs cost.

use super::*;

/// Prints what each program costs; the bounds are far above the aims, for machines that are busy.
#[test]
fn a_connect_and_a_packet_cost_little() {
    let edge = Edge::new();
    let measuring = meter_agent::kernel::stats::Measuring::start().unwrap();
    let client = edge.spawn_python(
        "for _ in range(2000): dial('198.51.100.7', 443).close()\n\
         s = dial('198.51.100.7', 443)\ns.sendall(b'x' * 50000000)",
    );
    let mut received = 0;
    for _ in 0..=2000 {
        received += std::io::copy(&mut edge.accept().stream, &mut std::io::sink()).unwrap();
    }
    assert_eq!(received, 50_000_000);
    finish(client);
    drop(measuring);
    for stats in meter_agent::kernel::stats::read() {
        let mean = stats.nanos.checked_div(stats.runs).unwrap_or(0);
        println!("{:16} {:>8} runs {:>6} ns each", stats.program, stats.runs, mean);
        let bound = if stats.program.ends_with("gress") { 2_000 } else { 20_000 };
        assert!(mean < bound, "{stats:?}");
    }
}
