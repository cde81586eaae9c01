//! The comparison: what each contender showed in each round, and the table of medians.

use super::wrk::Load;

/// One contender in one round.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// One connection: nothing waits for anything else.
    pub latency: Load,
    /// Many connections.
    pub load: Load,
    /// CPU of the proxy's process alone, under `load`; `None` where there is no proxy.
    pub cpu_ns: Option<u64>,
    pub rss_kib: Option<u64>,
}

/// A contender's line.
#[derive(Clone, Debug)]
pub struct Row {
    pub name: String,
    pub samples: Vec<Sample>,
}

impl Row {
    pub fn p50_us(&self) -> f64 {
        self.median(|sample| Some(sample.latency.p50_us)).unwrap_or(f64::NAN)
    }

    pub fn per_second(&self) -> f64 {
        self.median(|sample| Some(sample.load.per_second())).unwrap_or(f64::NAN)
    }

    /// Microseconds of CPU per request.
    #[expect(clippy::cast_precision_loss, reason = "numbers for people to read")]
    pub fn cpu_us(&self) -> Option<f64> {
        self.median(|sample| Some(sample.cpu_ns? as f64 / 1e3 / sample.load.requests as f64))
    }

    #[expect(clippy::cast_precision_loss, reason = "numbers for people to read")]
    fn rss_mib(&self) -> Option<f64> {
        self.median(|sample| Some(sample.rss_kib? as f64 / 1024.0))
    }

    /// The median round; rounds that have no such number are none.
    fn median(&self, pick: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
        let mut values: Vec<f64> = self.samples.iter().filter_map(pick).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    }
}

/// Prints the table; the first row is the one without a proxy.
pub fn print(rows: &[Row]) {
    let titles = ["p50 us", "p99 us", "added us", "p50 ratio", "req/s", "ratio", "CPU us/req", "RSS MiB"];
    println!("{:<16}{}", "", titles.map(|title| format!("{title:>11}")).concat());
    let Some(direct) = rows.first() else { return };
    for row in rows {
        let p99 = row.median(|sample| Some(sample.latency.p99_us));
        let columns = [
            number(Some(row.p50_us()), 0),
            number(p99, 0),
            number(Some(row.p50_us() - direct.p50_us()), 0),
            number(Some(row.p50_us() / direct.p50_us()), 2),
            number(Some(row.per_second()), 0),
            number(Some(row.per_second() / direct.per_second()), 3),
            number(row.cpu_us(), 1),
            number(row.rss_mib(), 0),
        ];
        println!("{:<16}{}", row.name, columns.concat());
    }
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| format!("{:>11}", "-"), |value| format!("{value:>11.digits$}"))
}
