//! `bench SECONDS CONNECTIONS`: prints the table of `cargo xtask bench`; `bench probe` is the stream's client.
//!
//! Latency is measured with one connection, so that nothing waits for anything else; requests per second, CPU and
//! memory with many.

use std::process::Command;

use anyhow::Context;
use meter_tests::{
    bench::{
        kernel::Statistics,
        process::{LOAD_CORE, PROXY_CORE, cpu_ns, peak_rss_kib, pin},
        proxies::{self, Upstream},
        stream::{self, Delays},
        wrk::{self, Load},
    },
    harness::{Lab, LabOptions, Names},
    simulator::{Config, PROVIDERS},
};

const URL_PATH: &str = "v1/chat/completions";

/// One row of the table.
struct Measured {
    name: &'static str,
    latency: Load,
    load: Load,
    cpu_ns_per_request: Option<u64>,
    rss_kib: Option<u64>,
}

struct Bench {
    seconds: u32,
    connections: u32,
    script: String,
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|argument| argument == "probe") {
        return stream::probe();
    }
    let number = |index: usize, default: u32| arguments.get(index).map_or(Ok(default), |text| text.parse());
    let folder = tempfile::tempdir()?;
    let bench =
        Bench { seconds: number(0, 10)?, connections: number(1, 16)?, script: wrk::write_script(folder.path())? };
    bench.throughput(folder.path())?;
    streams()
}

impl Bench {
    fn throughput(&self, folder: &std::path::Path) -> anyhow::Result<()> {
        let lab = Lab::start(LabOptions {
            simulator: Config { instant: true, ..Config::default() },
            ipv4_only: true,
            ..LabOptions::default()
        });
        pin(lab.simulator.pid(), LOAD_CORE);
        pin(lab.daemon.pid(), PROXY_CORE);
        let statistics = Statistics::enable()?;
        let direct = self.outside("direct", lab.daemon.names(), "api.openai.com", &[])?;
        let metered = self.metered(&lab)?;
        let costs = Statistics::read()?;
        drop(statistics);

        let mut rows = vec![direct, metered];
        let upstream = Upstream { address: lab.net.v4, name: PROVIDERS[0], ca: &lab.simulator.ca_file() };
        for (name, start) in proxies::installed() {
            let proxy = start(folder, &upstream).with_context(|| format!("starting {name}"))?;
            let address = format!("127.0.0.1:{}", proxy.port);
            rows.push(self.outside(name, lab.daemon.names(), &address, &proxy.pids())?);
        }
        print_table(&rows, self.connections);
        println!("\nkernel programs, by the kernel's own statistics:");
        for (name, cost) in costs {
            println!("  {name:<18} {:>6} ns per run, {} runs", cost.per_run_ns(), cost.runs);
        }
        Ok(())
    }

    /// Load from outside every account, to a proxy's address or the provider's name.
    fn outside(&self, name: &'static str, names: &Names, address: &str, pids: &[u32]) -> anyhow::Result<Measured> {
        self.measure(name, pids, |connections| {
            let words = wrk::words(&format!("https://{address}/{URL_PATH}"), &self.script, connections, self.seconds);
            let mut command = Command::new(&words[0]);
            command.args(&words[1..]);
            names.enter(&mut command);
            wrk::run(command)
        })
    }

    /// Load from an agent, to the provider's name.
    fn metered(&self, lab: &Lab) -> anyhow::Result<Measured> {
        self.measure("meter", &[lab.daemon.pid()], |connections| {
            let url = format!("https://api.openai.com/{URL_PATH}");
            let words = wrk::words(&url, &self.script, connections, self.seconds);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let outcome = lab.agent("bench").run(&words);
            wrk::parse(&format!("{}{}", outcome.stderr, outcome.stdout))
        })
    }

    fn measure(
        &self,
        name: &'static str,
        pids: &[u32],
        run: impl Fn(u32) -> anyhow::Result<Load>,
    ) -> anyhow::Result<Measured> {
        eprintln!("measuring {name}");
        let latency = run(1).with_context(|| format!("{name}, one connection"))?;
        let before = cpu_ns(pids);
        let load = run(self.connections).with_context(|| format!("{name}, {} connections", self.connections))?;
        let used = cpu_ns(pids) - before;
        let measured = !pids.is_empty();
        Ok(Measured {
            name,
            latency,
            load,
            cpu_ns_per_request: measured.then(|| used / load.requests.max(1)),
            rss_kib: measured.then(|| peak_rss_kib(pids)),
        })
    }
}

fn print_table(rows: &[Measured], connections: u32) {
    println!(
        "{:<10} {:>9} {:>9} {:>10} {:>9} {:>9} {:>12} {:>10} {:>8}",
        "", "p50 us", "p99 us", "p50 added", "x direct", "req/s", "CPU us/req", "RSS MiB", "x meter"
    );
    let direct = rows[0].latency.p50_us;
    let meter = rows[1].load.per_second();
    for row in rows {
        let cpu =
            row.cpu_ns_per_request.map_or_else(|| "-".to_owned(), |ns| format!("{}.{}", ns / 1000, ns % 1000 / 100));
        let rss = row.rss_kib.map_or_else(|| "-".to_owned(), |kib| (kib / 1024).to_string());
        let Load { p50_us, p99_us, .. } = row.latency;
        let rate = row.load.per_second();
        println!(
            "{:<10} {p50_us:>9.0} {p99_us:>9.0} {:>10.0} {:>9.2} {rate:>9.0} {cpu:>12} {rss:>10} {:>8.2}",
            row.name,
            p50_us - direct,
            p50_us / direct,
            rate / meter,
        );
    }
    println!("(latency with one connection; requests per second, CPU and peak memory with {connections})");
}

/// Added time to first byte and per event, of a stream with an event each millisecond.
fn streams() -> anyhow::Result<()> {
    let lab = Lab::start(LabOptions { ipv4_only: true, ..LabOptions::default() });
    pin(lab.simulator.pid(), LOAD_CORE);
    pin(lab.daemon.pid(), PROXY_CORE);
    let program = std::env::current_exe()?.display().to_string();
    let mut command = Command::new(&program);
    command.arg("probe").env("SSL_CERT_FILE", lab.simulator.ca_file());
    lab.daemon.names().enter(&mut command);
    let output = command.output()?;
    let direct: Delays =
        serde_json::from_slice(&output.stdout).with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    let outcome = lab.agent("bench").run(&[&program, "probe"]);
    let metered: Delays = serde_json::from_str(outcome.stdout.trim()).with_context(|| outcome.stderr.clone())?;
    let line = |name: &str, pick: fn(&Delays) -> u64| {
        let (without, with) = (pick(&direct), pick(&metered));
        println!("  {name:<22} {without:>7} {with:>7} {:>7}", i128::from(with) - i128::from(without));
    };
    println!("\nstreams, us: {:>20} {:>7} {:>7}", "direct", "meter", "added");
    line("first byte, p50", |delays| delays.ttfb_p50_us);
    line("first byte, p99", |delays| delays.ttfb_p99_us);
    line("an event's delay, p50", |delays| delays.event_p50_us);
    line("an event's delay, p99", |delays| delays.event_p99_us);
    Ok(())
}
