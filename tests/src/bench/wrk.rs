//! Load by wrk: a chat completion, again and again, and what it measured.

use std::{fs, path::Path, process::Command};

use serde::Deserialize;

/// One measurement.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Load {
    pub requests: u64,
    pub duration_us: u64,
    pub p50_us: f64,
    pub p99_us: f64,
    pub errors: u64,
}

impl Load {
    #[expect(clippy::cast_precision_loss, reason = "a rate for people to read")]
    pub fn per_second(&self) -> f64 {
        self.requests as f64 * 1e6 / self.duration_us as f64
    }
}

/// The scripts that make wrk post, and print one line of JSON.
pub struct Scripts {
    /// Requests on connections that are kept.
    pub kept: String,
    /// A connection for each request.
    pub closed: String,
}

impl Scripts {
    pub fn write(folder: &Path) -> std::io::Result<Self> {
        let write = |name: &str, more: &str| {
            let path = folder.join(name);
            fs::write(&path, format!("{SCRIPT}{more}"))?;
            Ok::<_, std::io::Error>(path.display().to_string())
        };
        Ok(Self {
            kept: write("kept.lua", "")?,
            closed: write("closed.lua", "wrk.headers[\"connection\"] = \"close\"\n")?,
        })
    }
}

const SCRIPT: &str = r#"
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
wrk.headers["authorization"] = "Bearer test-key"
wrk.headers["Host"] = "api.openai.com"
wrk.body = '{"model":"gpt-4o","max_completion_tokens":20,"messages":[{"role":"user","content":"Hello!"}]}'
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('{"requests":%d,"duration_us":%d,"p50_us":%f,"p99_us":%f,"errors":%d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
"#;

/// wrk's command line.
pub fn words(url: &str, script: &str, connections: u32, seconds: u32) -> Vec<String> {
    let core = super::process::LOAD_CORE.to_string();
    let (connections, seconds) = (connections.to_string(), format!("{seconds}s"));
    ["taskset", "-c", &core, "wrk", "-t1", "-c", &connections, "-d", &seconds, "-s", script, url]
        .map(str::to_owned)
        .to_vec()
}

/// Reads what the script printed.
///
/// # Errors
/// With everything that was printed, when the line is not there or requests failed.
pub fn parse(printed: &str) -> anyhow::Result<Load> {
    let line = printed.lines().rfind(|line| line.starts_with('{'));
    let load: Load = serde_json::from_str(line.ok_or_else(|| anyhow::anyhow!("wrk printed:\n{printed}"))?)?;
    anyhow::ensure!(load.errors == 0 && load.requests > 0, "wrk met {} errors:\n{printed}", load.errors);
    Ok(load)
}

/// Runs wrk outside every account.
pub fn run(mut command: Command) -> anyhow::Result<Load> {
    let output = command.output()?;
    parse(&format!("{}{}", String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout)))
}
