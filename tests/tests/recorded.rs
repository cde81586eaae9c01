//! Every recorded exchange through the live sidecar: the agent gets the recorded bytes, the ledger the recorded truth.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::{IpAddr, Ipv4Addr},
};

use meter_tests::{
    harness::{Lab, LabOptions, binary},
    recorded::{Case, cases, folder},
    simulator::Config,
};
use serde_json::Value;

/// The simulator's address.
const PROVIDER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 88, 1, 2));

/// Servers of a user's own, which the config lists; here by a name, since the recordings have them on loopback.
const LISTED: [(&str, &str, &str); 9] = [
    ("localhost:8080", "llama.recorded.test", "openai"),
    ("localhost:8000", "vllm.recorded.test", "openai"),
    ("localhost:1234", "mistralrs.recorded.test", "openai"),
    ("localhost:3000", "router.recorded.test", "openai"),
    ("localhost:8787", "gateway.recorded.test", "openai"),
    ("0.0.0.0:4000", "proxy.recorded.test", "openai"),
    ("127.0.0.1:11434", "ollama.recorded.test", "ollama"),
    ("localhost:11434", "ollama.recorded.test", "ollama"),
    ("gpustack.local", "gpustack.recorded.test", "openai"),
];

/// Cases whose truth is in doubt, with the reason.
const EXCEPTIONS: [(&str, &str); 2] = [
    ("bedrock-agent.invoke_agent.stream.200.05d7df26", "its traces name two models, the truth only one of them"),
    ("bedrock-agent.invoke_agent.stream.200.d4e64915", "its traces name two models, the truth only one of them"),
];

#[test]
fn every_recorded_exchange_is_metered_as_it_was_billed() {
    let cases: Vec<Case> = cases(&folder()).into_iter().filter(|case| case.transport != "websocket").collect();
    let hosts: BTreeSet<String> = cases.iter().map(host).collect();
    let mut options = LabOptions {
        simulator: Config { names: hosts.iter().cloned().collect(), ..Config::default() },
        ..LabOptions::default()
    };
    for (_, name, dialect) in LISTED {
        if !options.daemon.hosts.iter().any(|(listed, _)| listed == name) {
            options.daemon.hosts.push((name.to_owned(), dialect.to_owned()));
        }
    }
    for name in &hosts {
        options = options.name(name, PROVIDER);
    }
    let lab = Lab::start(options);
    let list: Vec<(String, &str)> = cases.iter().map(|case| (host(case), case.id.as_str())).collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), serde_json::to_vec(&list).unwrap()).unwrap();
    let outcome =
        lab.agent("recorded").run(&[&binary("recorded").display().to_string(), &file.path().display().to_string()]);
    outcome.expect_code(0);

    let rows = lab.daemon.ledger_json("recorded");
    let rows: BTreeMap<&str, &Value> = rows.iter().filter_map(|row| Some((row["request_id"].as_str()?, row))).collect();
    let is_excepted = |case: &&Case| EXCEPTIONS.iter().any(|(id, _)| *id == case.id);
    let mut failures: Vec<String> = cases
        .iter()
        .filter(|case| !is_excepted(case))
        .filter_map(|case| {
            check(case, rows.get(case.id.as_str()).copied()).err().map(|why| format!("{}: {why}", case.id))
        })
        .collect();
    // Only where usage was asked for on the agent's behalf may an answer differ, and none of these was recorded so.
    failures.extend(outcome.stdout.lines().filter(|line| !line.ends_with(" same")).map(str::to_owned));
    assert!(failures.is_empty(), "{} of {} fail:\n{}", failures.len(), cases.len(), failures.join("\n"));
}

fn host(case: &Case) -> String {
    let listed = LISTED.iter().find(|(recorded, ..)| *recorded == case.host);
    listed.map_or_else(|| case.host.to_ascii_lowercase(), |(_, name, _)| (*name).to_owned())
}

fn check(case: &Case, row: Option<&Value>) -> Result<(), String> {
    let expected = &case.expected;
    let Some(row) = row else {
        // What is pending has its row when its result is known.
        return if expected.kind == "pending" { Ok(()) } else { Err("no row".to_owned()) };
    };
    let exact = row["usage_quality"] == "exact";
    let used = row["usage"].as_object().is_some_and(|usage| usage.values().any(|n| n.as_u64() != Some(0)));
    match expected.kind.as_str() {
        "usage" => {
            let want = expected.usage.as_ref().ok_or("no usage in the case")?;
            if !exact || &row["usage"] != want {
                return Err(format!("{} {}, want {want}", row["usage_quality"], row["usage"]));
            }
            if expected.model.is_some() && row["model"].as_str() != expected.model.as_deref() {
                return Err(format!("model {}, want {:?}", row["model"], expected.model));
            }
            if row["server_tools"] != serde_json::json!(expected.server_tools) {
                return Err(format!("server tools {}, want {:?}", row["server_tools"], expected.server_tools));
            }
            Ok(())
        }
        "zero" if used || !exact || row["cost_usd"] != "0" => {
            Err(format!("{} {} {}, want nothing", row["usage_quality"], row["usage"], row["cost_usd"]))
        }
        "zero" if row["reason"].is_null() => Err("nothing, and no reason".to_owned()),
        "absent" if exact => Err("exact, but nothing is known".to_owned()),
        "zero" | "absent" | "pending" => Ok(()),
        other => Err(format!("a kind that this test does not know: {other}")),
    }
}
