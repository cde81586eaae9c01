//! `bench SECONDS ROUNDS CONNECTIONS`: prints the tables of `cargo xtask bench`. `bench probe` is the streams'
//! client, `bench plain` the proxy that does not meter, `bench reader`, `bench exchange`, `bench admission` and `bench
//! ledger ROWS` the figures of one part alone.
//!
//! In each round every contender has its turn, alone on the machine: the meter's kernel programs are attached in its
//! own turns only. What is printed are medians over the rounds, so that a busy moment of the host spoils no number.

use std::{fs, path::Path, process::Command};

use anyhow::Context;
use meter_tests::{
    bench::{
        admission, exchange,
        kernel::Statistics,
        ledger, plain,
        process::{LOAD_CORE, PROXY_CORE, cpu_ns, on_core, peak_rss_kib},
        proxies::{self, Upstream},
        reader,
        stream::{self, Delays},
        table::{self, Row, Sample},
        wrk::{self, Load, Scripts},
    },
    harness::{Lab, LabOptions},
    simulator::{Config, PROVIDERS},
};

#[global_allocator]
static ALLOCATOR: reader::Counting = reader::Counting;

const HOST: &str = PROVIDERS[0];
const URL_PATH: &str = "v1/chat/completions";
/// More than any run spends, and less than the largest limit: every check is made and none refuses.
const BUDGET_USD: &str = "1000000";
/// A year and more of a busy host; some 5 GB for a minute or two.
const LEDGER_ROWS: u64 = 10_000_000;
/// The default, and the level at which no answer waits for the disk.
const DURABILITIES: [(&str, &str); 2] = [("meter", "full"), ("meter (relaxed)", "relaxed")];

struct Bench {
    lab: Lab,
    scripts: Scripts,
    seconds: u32,
    connections: u32,
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("probe") => return stream::probe(),
        Some("plain") => return plain::run(&arguments[1..]),
        Some("reader") => {
            reader::run();
            return Ok(());
        }
        Some("ledger") => {
            return ledger::run(arguments.get(1).map_or(Ok(LEDGER_ROWS), |text| text.parse())?);
        }
        Some("admission") => return admission::run(),
        Some("exchange") => return exchange::run(),
        _ => {}
    }
    let number = |index: usize, default: u32| arguments.get(index).map_or(Ok(default), |text| text.parse());
    let (seconds, rounds, connections) = (number(0, 3)?, number(1, 5)?, number(2, 16)?);
    let folder = tempfile::tempdir()?;
    let scripts = Scripts::write(folder.path())?;
    {
        let mut bench = Bench { lab: lab(true), scripts, seconds, connections };
        bench.compare(rounds, folder.path())?;
        bench.kernel_costs()?;
    }
    streams()?;
    reader::run();
    exchange::run()?;
    admission::run()?;
    ledger::run(LEDGER_ROWS)
}

fn lab(instant: bool) -> Lab {
    let options =
        LabOptions { simulator: Config { instant, ..Config::default() }, ipv4_only: true, ..LabOptions::default() };
    on_core(LOAD_CORE, || Lab::prepare(options.budget("bench", BUDGET_USD)))
}

impl Bench {
    fn compare(&mut self, rounds: u32, folder: &Path) -> anyhow::Result<()> {
        let (others, missing) = proxies::installed();
        let upstream = Upstream { address: self.lab.net.v4, name: HOST, ca: &self.lab.simulator.ca_file() };
        let mut rows: Vec<Row> = Vec::new();
        for round in 1..=rounds {
            eprintln!("round {round} of {rounds}");
            let mut samples = vec![("direct", self.outside("direct", HOST, None)?)];
            for (name, durability) in DURABILITIES {
                samples.push((name, self.metered(name, durability)?));
            }
            for other in &others {
                let proxy = other.start(folder, &upstream).with_context(|| format!("starting {}", other.name))?;
                let address = format!("localhost:{}", other.port);
                samples.push((other.name, self.outside(other.name, &address, Some(proxy.pid()))?));
            }
            rows.resize_with(samples.len(), || Row { name: String::new(), samples: Vec::new() });
            for (row, (name, sample)) in rows.iter_mut().zip(samples) {
                name.clone_into(&mut row.name);
                row.samples.push(sample);
            }
        }
        table::print(&rows);
        self.explain(rounds, &missing, &rows);
        Ok(())
    }

    fn explain(&self, rounds: u32, missing: &[&str], rows: &[Row]) {
        let Self { seconds, connections, .. } = self;
        println!(
            "\nMedians of {rounds} rounds of {seconds} s; p50 and p99 with one connection, the rest with {connections}. \
             The proxy has one core, load and upstream the other.\n\"plain\" is the meter's HTTP and TLS without the \
             meter. An answer of \"meter\" waits until its hold is on the disk, of \"meter (relaxed)\" it does not."
        );
        if !missing.is_empty() {
            println!("Not installed: {}.", missing.join(", "));
        }
        let cpu = |name: &str| rows.iter().find(|row| row.name == name)?.cpu_us();
        if let (Some(full), Some(relaxed), Some(plain)) = (cpu(DURABILITIES[0].0), cpu(DURABILITIES[1].0), cpu("plain"))
        {
            println!(
                "CPU of metering, us per request beyond plain: {:.1}; relaxed {:.1}.",
                full - plain,
                relaxed - plain
            );
        }
    }

    /// Load from outside every account, to a proxy's address or the provider's name.
    fn outside(&self, name: &str, address: &str, pid: Option<u32>) -> anyhow::Result<Sample> {
        let url = format!("https://{address}/{URL_PATH}");
        measure(name, pid, self.connections, |connections| {
            let words = wrk::words(&url, &self.scripts.kept, connections, self.seconds);
            let mut command = Command::new(&words[0]);
            command.args(&words[1..]);
            self.lab.daemon.names().enter(&mut command);
            wrk::run(command)
        })
    }

    /// Load from an agent, to the provider's name.
    fn metered(&mut self, name: &str, durability: &str) -> anyhow::Result<Sample> {
        self.start_meter(durability)?;
        let run = |connections| self.load_in_an_account(&self.scripts.kept, connections);
        let sample = measure(name, Some(self.lab.daemon.pid()), self.connections, run);
        self.stop_meter();
        sample
    }

    fn load_in_an_account(&self, script: &str, connections: u32) -> anyhow::Result<Load> {
        let words = wrk::words(&format!("https://{HOST}/{URL_PATH}"), script, connections, self.seconds);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let outcome = self.lab.agent("bench").run(&words);
        wrk::parse(&format!("{}{}", outcome.stderr, outcome.stdout))
    }

    fn start_meter(&mut self, durability: &str) -> anyhow::Result<()> {
        let file = self.lab.daemon.config_file();
        let text = fs::read_to_string(&file)?;
        let kept: Vec<&str> = text.lines().filter(|line| !line.starts_with("durability")).collect();
        fs::write(&file, format!("durability = {durability:?}\n{}\n", kept.join("\n")))?;
        on_core(PROXY_CORE, || self.lab.daemon.launch());
        Ok(())
    }

    /// Detaches it too: what comes next is measured on a kernel without it.
    fn stop_meter(&mut self) {
        self.lab.daemon.stop();
        self.lab.daemon.call("uninstall", &[]);
    }

    fn kernel_costs(&mut self) -> anyhow::Result<()> {
        self.start_meter("full")?;
        let statistics = Statistics::enable()?;
        self.load_in_an_account(&self.scripts.kept, self.connections)?;
        self.load_in_an_account(&self.scripts.closed, self.connections)?;
        let costs = Statistics::read()?;
        drop(statistics);
        self.stop_meter();
        println!("\nKernel programs, by the kernel's own statistics:");
        for (name, cost) in costs {
            println!("  {name:<18} {:>6} ns per run, {:>8} runs", cost.per_run_ns(), cost.runs);
        }
        Ok(())
    }
}

fn measure(
    name: &str,
    pid: Option<u32>,
    connections: u32,
    run: impl Fn(u32) -> anyhow::Result<Load>,
) -> anyhow::Result<Sample> {
    let latency = run(1).with_context(|| format!("{name}, one connection"))?;
    let before = pid.map(cpu_ns);
    let load = run(connections).with_context(|| format!("{name}, {connections} connections"))?;
    let cpu_ns = pid.map(cpu_ns).zip(before).map(|(after, before)| after.saturating_sub(before));
    Ok(Sample { latency, load, cpu_ns, rss_kib: pid.map(peak_rss_kib) })
}

/// Added time to first byte and per event, of a stream with an event each millisecond.
fn streams() -> anyhow::Result<()> {
    let mut lab = lab(false);
    let program = std::env::current_exe()?.display().to_string();
    let mut command = Command::new(&program);
    command.arg("probe").env("SSL_CERT_FILE", lab.simulator.ca_file());
    lab.daemon.names().enter(&mut command);
    let output = on_core(LOAD_CORE, || command.output())?;
    let direct: Delays =
        serde_json::from_slice(&output.stdout).with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    on_core(PROXY_CORE, || lab.daemon.launch());
    let outcome = on_core(LOAD_CORE, || lab.agent("bench").run(&[&program, "probe"]));
    let metered: Delays = serde_json::from_str(outcome.stdout.trim()).with_context(|| outcome.stderr.clone())?;
    let line = |name: &str, pick: fn(&Delays) -> u64| {
        let (without, with) = (pick(&direct), pick(&metered));
        println!("  {name:<22} {without:>7} {with:>7} {:>7}", i128::from(with) - i128::from(without));
    };
    println!("\nStreams, us: {:>20} {:>7} {:>7}", "direct", "meter", "added");
    line("first byte, p50", |delays| delays.ttfb_p50_us);
    line("first byte, p99", |delays| delays.ttfb_p99_us);
    line("an event's delay, p50", |delays| delays.event_p50_us);
    line("an event's delay, p99", |delays| delays.event_p99_us);
    Ok(())
}
