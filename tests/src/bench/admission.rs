//! Admission and settlement alone: the real cashier and the real ledger in `relaxed`, a kernel's book in memory, and
//! accounts four deep (host, agent, and two below it).
//!
//! What the caller's thread uses is measured apart from the ledger's writer, by the CPU clocks of thread and process.
//! The ledger's file is below the system's temporary folder: on a memory file system its syncs cost nothing.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use meter_agent::{
    accounts::{LimitRule, policy::Policy},
    cashier::{Asked, Cashier, Durability, Given, Hold, Plan, Refused},
    clock,
    exchange::Row,
    ids::{AccountPath, Process},
    kernel::Book,
    money::Pico,
    pricing::Quote,
};
use meter_common::{AccountRef, Balance, SLOTS};
use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};

use super::rows;

/// Pairs that are queued before the writer is waited for: half of the queue's bound, as each is two entries.
const BURST: u32 = 16_384;
/// Bursts of a measurement.
const BURSTS: u32 = 12;
/// Accounts that exist beside the four, in the second measurement.
const MANY: u32 = 10_000;

/// A book in memory.
struct Page(Mutex<Vec<Balance>>);

impl Book for Page {
    fn publish(&self, slot: u32, record: &Balance) {
        self.0.lock()[slot as usize] = *record;
    }

    fn read(&self, slot: u32) -> Balance {
        self.0.lock()[slot as usize]
    }
}

/// Prints the cashier's figures.
pub fn run() -> anyhow::Result<()> {
    println!("\nAdmission and settlement on a path of four accounts, relaxed, {BURSTS} bursts of {BURST}:");
    println!("  {:<22}{:>13}{:>15}{:>16}{:>16}", "", "us per pair", "pairs/s, core", "writer us/pair", "exchanges/s");
    for others in [0, MANY] {
        let figures = measure(others)?;
        println!(
            "  {:<22}{:>13.2}{:>15.0}{:>16.2}{:>16.0}",
            format!("{} accounts", others + 4),
            figures.caller_us,
            1e6 / figures.caller_us,
            figures.writer_us,
            figures.sustained
        );
    }
    println!(
        "The first three by CPU time: of the thread that admits and settles (a core's pairs are what it could do if it \
         did nothing else), and of the ledger's thread. The last by the clock, both at once, until all is durable."
    );
    Ok(())
}

struct Figures {
    /// CPU of a pair, in microseconds.
    caller_us: f64,
    writer_us: f64,
    /// Pairs per second that the ledger takes for good.
    sustained: f64,
}

fn measure(others: u32) -> anyhow::Result<Figures> {
    let folder = tempfile::tempdir()?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let book = Arc::new(Page(Mutex::new(vec![Balance::default(); SLOTS as usize])));
    let agent: AccountPath = "research".parse()?;
    let limits = vec![LimitRule::budget(Pico::new(1_000_000 * Pico::USD))];
    let budget = Policy { limits, ..Policy::default() };
    let plan = Plan { agents: vec![(agent, budget)], ..Plan::default() };
    let cashier = Cashier::open(folder.path(), book, &plan, Durability::Relaxed, false, clock::now())?;
    bind_many(&cashier, others)?;
    let account = cashier.bind(
        &"research/task/step".parse()?,
        &Given::budget(Some(Pico::new(100_000 * Pico::USD))),
        clock::now(),
    )?;
    let row = Row { cost_usd: Pico::new(140_000_000), stream: false, ..rows::row(AccountPath::host(), clock::now()) };
    let pairs = Pairs { cashier: &cashier, account, process: rows::process().into(), row };
    // The first ones make the tables' pages and the allocator's.
    pairs.burst(BURST / 8)?;
    runtime.block_on(cashier.flush());
    let (mut caller, all, start) = (Duration::ZERO, cpu(ClockId::ProcessCPUTime), Instant::now());
    for _ in 0..BURSTS {
        let before = cpu(ClockId::ThreadCPUTime);
        pairs.burst(BURST)?;
        caller += cpu(ClockId::ThreadCPUTime).saturating_sub(before);
        runtime.block_on(cashier.flush());
    }
    let (wall, all) = (start.elapsed(), cpu(ClockId::ProcessCPUTime).saturating_sub(all));
    runtime.block_on(cashier.close());
    let count = f64::from(BURST) * f64::from(BURSTS);
    Ok(Figures {
        caller_us: caller.as_secs_f64() * 1e6 / count,
        writer_us: all.saturating_sub(caller).as_secs_f64() * 1e6 / count,
        sustained: count / wall.as_secs_f64(),
    })
}

/// Accounts beside those that are measured, bound by several threads: each waits until its own are on the disk.
fn bind_many(cashier: &Arc<Cashier>, accounts: u32) -> anyhow::Result<()> {
    const THREADS: u32 = 32;
    let bind = |first: u32| -> anyhow::Result<()> {
        for n in (first..accounts).step_by(THREADS as usize) {
            let path: AccountPath = format!("research/t{}/s{n}", n % 100).parse()?;
            cashier.bind(&path, &Given::budget(Some(Pico::new(Pico::USD))), clock::now())?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|first| scope.spawn(move || bind(first))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("no thread panics"))
    })
}

struct Pairs<'a> {
    cashier: &'a Arc<Cashier>,
    account: AccountRef,
    process: Arc<Process>,
    row: Row,
}

impl Pairs<'_> {
    /// As many exchanges, one after the other. What the proxy makes anyway, a line and a row, is made here too.
    fn burst(&self, pairs: u32) -> anyhow::Result<()> {
        for _ in 0..pairs {
            let hold = self.admit().ok().context("a request was refused")?;
            hold.settle(self.row.clone());
        }
        Ok(())
    }

    #[expect(clippy::result_large_err, reason = "as for Cashier::admit")]
    fn admit(&self) -> Result<Hold, Refused> {
        let quote = Quote {
            input: Pico::new(100_000_000),
            per_output_token: Pico::new(10_000_000),
            input_tokens: 100,
            choices: 1,
            output_ceiling: 20,
            stated: true,
            can_clamp: true,
        };
        let asked = Asked {
            account: self.account,
            process: Arc::clone(&self.process),
            request: Arc::new(rows::line()),
            quote,
            fallbacks: Vec::new(),
            degraded: false,
            fingerprint: None,
        };
        self.cashier.admit_now(&asked, clock::now())
    }
}

fn cpu(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}
